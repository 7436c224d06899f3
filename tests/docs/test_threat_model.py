"""What the threat model says is tried, is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "explanation" / "threat-model.md"
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py(?:::\w+)?)`", PAGE.read_text(encoding="utf-8"))))


def test_every_row_of_an_attack_names_its_test() -> None:
    tables = re.findall(r"\| tried \|.*?(?=\n\n)", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    rows = [row for table in tables for row in table.splitlines()[2:]]
    assert len(rows) > 25
    assert [row for row in rows if "`tests/" not in row] == []


@pytest.mark.parametrize("named", NAMED)
def test_each_test_that_it_names_is_there(named: str) -> None:
    path, _, function = named.partition("::")
    assert (ROOT / path).exists()
    assert not function or f"def {function}(" in (ROOT / path).read_text(encoding="utf-8")
