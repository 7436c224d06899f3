"""The reference pages say what the code does."""

from __future__ import annotations

import pytest

from tools import reference


@pytest.mark.parametrize("name", reference.PAGES)
def test_a_reference_page_is_as_the_code_says(name: str) -> None:
    page = (reference.REFERENCE / name).read_text(encoding="utf-8")
    assert page == reference.PAGES[name](), "stale: run `make docs`"


def test_commands_for_people_are_listed_and_those_of_mlmp_itself_are_not() -> None:
    heads = [line for line in reference.commands().splitlines() if line.startswith("## ")]
    assert "## mlmp job run" in heads and "## mlmp run" not in heads
