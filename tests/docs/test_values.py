"""The values of the chart that the how-tos show are valid."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest
import yaml

from tools import chart

HOW_TO = Path(__file__).parents[2] / "docs" / "how-to"
_BLOCK = re.compile(r"^```yaml\n(.*?)^```", re.DOTALL | re.MULTILINE)


def shown() -> Iterator[tuple[str, dict[str, object]]]:
    """Every piece of values, by its page."""
    for page in sorted(HOW_TO.glob("*.md")):
        for number, block in enumerate(_BLOCK.findall(page.read_text(encoding="utf-8")), 1):
            content = yaml.safe_load(block)
            if isinstance(content, dict) and {"users", "hub", "networkPolicies"} & content.keys():
                yield f"{page.name} {number}", content


def test_there_are_values_to_look_at() -> None:
    assert len(list(shown())) > 5


@pytest.mark.parametrize(("where", "values"), list(shown()), ids=[where for where, _ in shown()])
def test_values_that_a_page_shows_are_what_the_schema_allows(where: str, values: dict[str, object]) -> None:
    jsonschema.validate(values, chart.schema(), jsonschema.Draft202012Validator)
