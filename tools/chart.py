"""The schema of the Helm chart's values, and the page about them.

``python -m tools.chart`` writes ``helm/mlmp/values.schema.json``. What the values may hold is in
``helm/values.schema.yaml``; of the catalog, its own schema says it, so that Helm refuses a typo in a profile with its
path.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from mlmp_spawner.rules.catalog_yaml import json_schema

HELM = Path(__file__).parents[1] / "helm"
SCHEMA = HELM / "mlmp" / "values.schema.json"


def schema() -> dict[str, Any]:
    """The schema of all values."""
    own = yaml.safe_load((HELM / "values.schema.yaml").read_text(encoding="utf-8"))
    catalog = json_schema()
    sections = catalog["properties"]
    for section in ("nodes", "images", "profiles"):
        sections[section]["additionalProperties"] = False
    own["properties"]["catalog"] = {
        "type": "object",
        "additionalProperties": False,
        "description": "What can be booked, as in the files of a catalog.",
        "properties": {
            **sections,
            "order": {
                "type": "array",
                "items": {"type": "string"},
                "description": "Names of profiles in the order in which they are offered, since Helm keeps no order "
                "of keys. Those not named follow, by name.",
            },
            "existingConfigMap": {
                "type": "string",
                "description": "Instead of all this: a ConfigMap whose keys are files of a catalog.",
            },
        },
    }
    return {"$schema": catalog["$schema"], "title": "Values of the Helm chart of MLMP", **own,
            "$defs": {**own["$defs"], **catalog["$defs"]}}  # fmt: skip


def text() -> str:
    """The schema as its file has it."""
    # Go's regular expressions know no \\u2028: the character itself stands there then, written as JSON writes it.
    return json.dumps(schema(), indent=1).replace(r"\\u20", r"\u20") + "\n"


def page() -> str:
    """The page of the values, with what each is where it is not set."""
    found = schema()
    defaults = yaml.safe_load((HELM / "mlmp" / "values.yaml").read_text(encoding="utf-8"))
    parts = [
        "# Values of the Helm chart",
        "*Written by `make docs` from the chart's schema and its defaults.*",
        "[Run it on Kubernetes](../how-to/kubernetes.md) says how to go about it. A value that is not listed here is "
        "refused\nby its path. `catalog` holds what the [catalog's files](catalog.md) hold.",
    ]
    for name, part in found["properties"].items():
        if name == "global":
            continue
        rows = [
            f"| `{path}` | {_cell(value)} | {_text(member)} |"
            for path, member, value in _members(name, part, defaults.get(name), found)
        ]
        parts += [f"## {name}", "\n".join(["| value | default | meaning |", "|---|---|---|", *rows])]
    return "\n\n".join(parts) + "\n"


def _members(path: str, member: dict[str, Any], value: Any, whole: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """All below a value that can be set by itself."""
    target = member
    if reference := member.get("$ref"):
        target = {**whole["$defs"][reference.rsplit("/", 1)[1]], **member}
    inner = target.get("properties")
    if not inner or path in ("catalog.limits", "global") or reference == "#/$defs/resources":
        yield path, target, value
        return
    for name, below in inner.items():
        yield from _members(f"{path}.{name}", below, (value or {}).get(name), whole)


def _text(member: dict[str, Any]) -> str:
    said = member.get("description", "")
    if "enum" in member:
        said = f"{said} One of {', '.join(f'`{each}`' for each in member['enum'])}.".strip()
    return said.replace("|", "\\|").replace("{", "&#123;")


def _cell(value: Any) -> str:
    return "" if value is None or value == "" else f"`{json.dumps(value)}`"


if __name__ == "__main__":
    SCHEMA.write_text(text(), encoding="utf-8")
