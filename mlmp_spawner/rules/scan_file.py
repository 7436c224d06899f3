"""A scan in a file: a job's manifest with a part ``scan``, which says with which parameters it is run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, ValidationError

from mlmp_spawner.errors import Invalid
from mlmp_spawner.rules import job_manifest
from mlmp_spawner.rules.mistakes import Mistake, mistakes
from mlmp_spawner.rules.scan_parameters import MOST_ROWS, Kind
from mlmp_spawner.rules.values import AS_WRITTEN, Model

KEY = "scan"

_EXPONENT = re.compile(r"-?[0-9]{1,20}[eE][+-]?[0-9]{1,3}")


class Part(Model):
    """With which parameters the rest of the file, a job's manifest, is run."""

    parameters: dict[str, Any] | list[dict[str, Any]]
    """Of each name a list of values, or a range: `{from: 1e-5, to: 0.1, steps: 5, scale: log}`. Each combination is
    run. Or a list with the rows themselves."""
    samples: Annotated[int, Field(strict=True, ge=1, le=MOST_ROWS)] | None = None
    """So many rows by chance, not each combination; ranges need no steps then."""
    seed: Annotated[int, Field(strict=True, ge=0, le=2**53)] = 0
    """The same one gives the same rows."""
    out: Annotated[str, Field(min_length=1, max_length=1000)] | None = None
    """A directory below the home for what each row makes, with its values: `runs/lr={lr}`. Left out: `outputs`."""
    at_once: Annotated[int, Field(strict=True, ge=1, le=MOST_ROWS)] | None = None
    """How many may run at a time. Left out: all that find room."""

    @property
    def kind(self) -> Kind:
        """What its parameters are."""
        if isinstance(self.parameters, list):
            return "list"
        return "grid" if self.samples is None else "random"


def part_of(source: str | Mapping[str, Any]) -> Part | None:
    """The part of a file; None where it is the manifest of one job.

    :raises Invalid: with every mistake in the part, each with its line where it came as text.
    """
    as_text = isinstance(source, str)
    data = job_manifest.read(source, lambda data: _mistakes(data, as_text))
    if KEY not in data:
        return None
    found = _read(data, as_text)
    if isinstance(found.parameters, list) and found.samples is not None:
        raise Invalid.field(f"{KEY}.samples", "is for names with their values; a list has the rows themselves")
    return found


def _mistakes(data: Mapping[str, Any], as_text: bool) -> list[Mistake]:
    try:
        if KEY in data:
            _read(data, as_text)
    except ValidationError as error:
        return list(mistakes(error, (KEY,), lambda path: Part.model_fields))
    return []


def _read(data: Mapping[str, Any], as_text: bool) -> Part:
    return Part.model_validate(_numbers(data[KEY]) if as_text else data[KEY], context=AS_WRITTEN)


def _numbers(said: Any) -> Any:
    """With ``1e-5`` as the number that everybody means, and YAML 1.2 too; to PyYAML it is a text without a point."""
    if isinstance(said, dict):
        return {key: _numbers(value) for key, value in said.items()}
    if isinstance(said, list):
        return [_numbers(value) for value in said]
    return float(said) if isinstance(said, str) and _EXPONENT.fullmatch(said) else said


def schema() -> dict[str, Any]:
    """The JSON Schema of such a file, for editors and other programs."""
    found, part = job_manifest.schema(), Part.model_json_schema()
    found["properties"][KEY] = {"$ref": "#/$defs/Scan"}
    found["$defs"]["Scan"] = part
    return {**found, "title": "A scan of MLMP", "required": [*found["required"], KEY]}
