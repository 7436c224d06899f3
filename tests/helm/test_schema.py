"""The schema of the chart's values is as its sources say."""

from __future__ import annotations

import json

import jsonschema
import pytest
import yaml

from tests.helm.chart import CHART, VALUES
from tools import chart


def test_the_schema_is_as_its_sources_say() -> None:
    assert chart.SCHEMA.read_text(encoding="utf-8") == chart.text(), "stale: run `make docs`"


def test_the_defaults_are_what_the_schema_allows() -> None:
    defaults = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    jsonschema.validate(defaults, chart.schema(), jsonschema.Draft202012Validator)


def test_each_value_of_the_schema_has_a_default() -> None:
    """So that `helm show values` shows all that can be set."""
    defaults = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    assert _missing(chart.schema()["properties"], defaults, chart.schema()["$defs"]) == ["global"]


def _missing(properties: dict, defaults: dict, shared: dict, path: str = "") -> list[str]:
    found = []
    for name, member in properties.items():
        if name not in defaults:
            found.append(path + name)
        elif path + name != "catalog.limits" and member.get("$ref") != "#/$defs/resources":
            target = shared[member["$ref"].rsplit("/", 1)[1]] if "$ref" in member else member
            found += _missing(target.get("properties", {}), defaults[name] or {}, shared, f"{path}{name}.")
    return found


@pytest.mark.parametrize("path", VALUES, ids=lambda path: path.stem)
def test_a_values_file_is_what_the_schema_allows(path: object) -> None:
    values = yaml.safe_load(path.read_text())  # type: ignore[attr-defined]
    jsonschema.validate(values, json.loads(chart.SCHEMA.read_text()), jsonschema.Draft202012Validator)
