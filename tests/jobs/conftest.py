"""The contract's assertions say what they saw, as those of a test module do."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("tests.jobs.contract")
