"""One bill of materials (CycloneDX) of what is in an image: Debian's packages, Python's, npm's.

Runs while an image is built: ``python3 sbom.py NAME DPKG-STATUS [CYCLONEDX.json …]`` writes it to stdout. The parts of
Python and npm come from those worlds' own tools, ``cyclonedx-py`` and ``npm sbom``; dpkg's list needs none.
Without serial number and time: the same image has the same bill.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote


def debian(status: str) -> Iterator[dict[str, Any]]:
    """The installed packages that dpkg's status file tells of, as components."""
    for entry in status.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in entry.splitlines() if ": " in line and line[0] != " ")
        if fields.get("Status", "").endswith(" installed"):
            name, version = fields["Package"], fields["Version"]
            url = f"pkg:deb/debian/{quote(name)}@{quote(version, safe='')}?arch={fields['Architecture']}"
            yield {"type": "library", "name": name, "version": version, "purl": url, "bom-ref": url}


def bill(name: str, status: str, parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One document of all parts; what a part says of dependencies is kept."""
    components = list(debian(status))
    dependencies: list[dict[str, Any]] = []
    for part in parts:
        components += part.get("components", [])
        dependencies += part.get("dependencies", [])
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {"type": "container", "name": name, "bom-ref": name}},
        "components": components,
        "dependencies": [entry for entry in dependencies if _known(entry, components)],
    }


def _known(entry: dict[str, Any], components: Sequence[dict[str, Any]]) -> bool:
    """Whether a dependency belongs to a component: a part's own root is none here."""
    return any(component.get("bom-ref") == entry["ref"] for component in components)


if __name__ == "__main__":
    _, name, status, *parts = sys.argv
    document = bill(name, Path(status).read_text(), [json.loads(Path(part).read_text()) for part in parts])
    json.dump(document, sys.stdout, indent=1)
