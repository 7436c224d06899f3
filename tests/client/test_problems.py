"""From an HTTP answer to the error that the command line shows."""

from __future__ import annotations

import subprocess
import sys

import pytest

SAYS = """
from mlmp_spawner.client import problems
print(problems.exit_status(problems.error_from(401, {"code": "not_signed_in"})))
"""


@pytest.mark.parametrize("before", ["", "import mlmp_spawner.web.problems"], ids=["alone", "where the server is"])
def test_an_error_is_the_clients_own_whatever_is_loaded_before(before: str) -> None:
    ran = subprocess.run([sys.executable, "-c", before + SAYS], capture_output=True, text=True, check=True)
    assert ran.stdout == "3\n"
