"""The reference pages say what the code does."""

from __future__ import annotations

import pytest

from tools import reference


@pytest.mark.parametrize("name", reference.PAGES)
def test_a_reference_page_is_as_the_code_says(name: str) -> None:
    page = (reference.REFERENCE / name).read_text(encoding="utf-8")
    assert page == reference.PAGES[name](), "stale: run `make docs`"
