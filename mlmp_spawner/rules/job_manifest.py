"""The manifest of a job: what somebody who submits one writes, as YAML or JSON; read with every mistake named at once.

It says what to run and for how long, never how: there are no fields of pods or processes. Lengths are ms, but written
``60s`` in the manifest and in its normal form.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, Field, JsonValue, ValidationError, model_validator

from mlmp_spawner.rules import written
from mlmp_spawner.rules.job_values import (
    Booking,
    CodePath,
    Command,
    Grace,
    HomePath,
    JobName,
    MetricPath,
    OwnVariable,
    Pattern,
    Variable,
)
from mlmp_spawner.rules.mistakes import Mistake, mistakes, shown
from mlmp_spawner.rules.values import AS_WRITTEN, Model, Name, Text
from mlmp_spawner.rules.yaml_lines import YamlPath
from mlmp_spawner.units import HOUR, MINUTE, SECOND, compact_duration

LARGEST = 64 << 10
"""Bytes of a manifest."""
MOST_RETRIES = 10
MOST_METRICS = 20
MOST_SECRETS = 100
TOO_LARGE = "What is larger belongs into a file of the code"
WORK = "mlmp-jobs/{id}"
"""Where a job runs, below the home."""
PRIORITIES = {"low": -1, "normal": 0, "high": 1}
WAYS = ("script", "notebook", "command")
"""What a job may run; each has exactly one."""


class Metric(Model):
    """Where numbers to plot come from: exactly one of these."""

    tensorboard: MetricPath | None = None
    """A directory with TensorBoard event files, below the working directory or ``~/`` below the home."""
    json_lines: MetricPath | None = None
    """A file with a JSON object of numbers in each line; its ``step`` is the step."""
    pattern: Pattern | None = None
    """A regular expression (RE2) for lines of the log; each named group is a metric, the group ``step`` the step."""

    @model_validator(mode="after")
    def _one(self) -> Metric:
        if len(self.model_fields_set & {name for name, value in self if value is not None}) != 1:
            raise ValueError("exactly one of tensorboard, json_lines, pattern")
        return self


def _few(found: tuple[Metric, ...]) -> tuple[Metric, ...]:
    if len(found) > MOST_METRICS:
        raise ValueError(f"{len(found)} are too many; at most {MOST_METRICS}")
    return found


class Manifest(Model):
    """A job, as it is submitted. Made by :func:`parse`, which also checks what keys say together."""

    name: JobName = "job"
    """What people know it by. Left out: the name of its script, notebook or program."""
    profile: Name
    """What it runs on: a profile of the catalog."""
    image: Name | None = None
    """A container image of the catalog, on Kubernetes. Left out: the profile's first."""
    script: CodePath | None = None
    """A Python program (``*.py``), or another that its first line names (``#!``), within the code."""
    notebook: CodePath | None = None
    """A notebook within the code; papermill runs it, and the one that was run is among the outputs."""
    command: Command | None = None
    """A program with its arguments, as a list; or a text that ``sh -c`` runs."""
    arguments: tuple[str, ...] = ()
    """Arguments of the script."""
    parameters: dict[Variable, JsonValue] = Field(default={})
    """Parameters of the notebook, by name."""
    directory: CodePath = "."
    """Where it runs, within the code."""
    environment: dict[OwnVariable, str] = Field(default={})
    """Environment variables. Everybody who may see the manifest sees them."""
    secrets: tuple[OwnVariable, ...] = ()
    """Names of environment variables whose values are sent beside the manifest and never shown again."""
    units: Annotated[int, Field(strict=True, ge=1, le=1_000_000)] | None = None
    """Units of the profile's resource, for each worker. Left out: the profile's own number."""
    workers: Annotated[int, Field(strict=True, ge=1, le=1000)] = 1
    """How many run together, all or none, each with its own units."""
    hours: Annotated[float, Field(strict=True, gt=0, le=100_000, allow_inf_nan=False)] | None = None
    """How long it may run; then it is ended. Left out: the profile's default duration."""
    retries: Annotated[int, Field(strict=True, ge=0, le=MOST_RETRIES)] = 0
    """How often a failure of its own is tried again. What the platform fails is tried again in any case."""
    checkpoint: HomePath = f"{WORK}/checkpoints"
    """A directory below the home, which is there in each attempt. ``{id}`` and ``{name}`` are the job's."""
    outputs: HomePath = WORK
    """A directory below the home for what it makes. ``{id}`` and ``{name}`` are the job's."""
    grace: Grace = MINUTE
    """What it gets to write a checkpoint between SIGTERM and SIGKILL: 1s to 10m."""
    priority: Literal["low", "normal", "high"] = "normal"
    """Which of its owner's jobs go first."""
    preemptible: bool = Field(default=True, strict=True)
    """Whether it may be ended for a booking, and is queued again then. If not, it starts only where nobody has booked
    for all of its hours."""
    metrics: Annotated[tuple[Metric, ...], AfterValidator(_few)] = ()
    """Where numbers to plot come from."""
    inside: Booking | None = None
    """The booking of its owner in whose units it runs. Left out: in units that nobody has booked."""
    server: Booking | None = None
    """The running booking of its owner with whose server it talks: on Kubernetes a way is opened between its pods and
    that server's. Once that booking is over it does not start any more. Left out: with none."""
    group: Text | None = None
    """The group of its owner for whose share it counts. Left out: the first that may use the profile."""

    @model_validator(mode="before")
    @classmethod
    def _named(cls, data: Any) -> Any:
        if not isinstance(data, Mapping) or data.get("name") is not None:
            return data
        return {**data, "name": _default_name(data)}

    @property
    def length(self) -> int | None:
        """``hours`` in ms, at least a second; None where the profile's default holds."""
        return None if self.hours is None else max(SECOND, round(self.hours * HOUR))

    def normal(self) -> dict[str, Any]:
        """All keys with their values, JSON-ready; :func:`parse` makes an equal manifest of it."""
        found = self.model_dump(mode="json", context=AS_WRITTEN)
        return found | {"metrics": [metric.model_dump(exclude_none=True) for metric in self.metrics]}

    def as_yaml(self) -> str:
        """What it says as YAML, defaults left out; :func:`parse` makes an equal manifest of it."""
        fields = Manifest.model_fields
        said = {key: value for key, value in self.normal().items()
                if key == "name" or getattr(self, key) != fields[key].default}  # fmt: skip
        return yaml.safe_dump(said, sort_keys=False, allow_unicode=True, width=110)


def parse(source: str | Mapping[str, Any], *, beside: str | None = None) -> Manifest:
    """The manifest in YAML (or JSON) text, or in what JSON was read to.

    :param beside: a key that is none of it, and is left to others.
    :raises Invalid: with every mistake, each with its line where it came as text.
    """

    def own(data: Mapping[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in data.items() if key != beside}

    data = read(source, lambda data: [*_checked(own(data)), *_clashes(own(data))])
    return Manifest.model_validate(own(data), context=AS_WRITTEN)


def read(
    source: str | Mapping[str, Any], check: Callable[[Mapping[str, Any]], Iterable[Mistake]]
) -> Mapping[str, Any]:
    """The keys with their values, in which ``check`` finds no mistake.

    :raises Invalid: as :func:`parse` does.
    """
    return written.read(source, "manifest", check, LARGEST, TOO_LARGE)


def for_job(normal: Mapping[str, Any], job_id: str) -> dict[str, Any]:
    """The normal form with ``{id}`` and ``{name}`` filled in: what a back-end is given.

    It is stored without, so that a job that is submitted again gets directories of its own.
    """
    name = str(normal.get("name", "job"))

    def filled(path: str) -> str:
        return path.replace("{id}", job_id).replace("{name}", name)

    paths: dict[str, Any] = {key: filled(normal[key]) for key in ("checkpoint", "outputs") if key in normal}
    metrics = [{kind: value if kind == "pattern" else filled(value) for kind, value in metric.items()}
               for metric in normal.get("metrics", ())]  # fmt: skip
    return {**normal, **paths, "metrics": metrics}


def schema() -> dict[str, Any]:
    """The JSON Schema of a manifest, for editors and other programs."""
    found = Manifest.model_json_schema()
    found["properties"]["name"].pop("default")
    found["properties"]["grace"]["default"] = compact_duration(MINUTE)
    found["oneOf"] = [_only(way, WAYS) for way in WAYS]
    kinds = tuple(Metric.model_fields)
    found["$defs"]["Metric"]["oneOf"] = [_only(kind, kinds) for kind in kinds]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **found, "title": "A job of MLMP"}


def _only(key: str, keys: Iterable[str]) -> dict[str, Any]:
    """A schema by which ``key`` alone of ``keys`` says something."""
    others = {other: {"type": "null"} for other in keys if other != key}
    return {"required": [key], "properties": {key: {"not": {"type": "null"}}, **others}}


def _default_name(data: Mapping[str, Any]) -> str:
    """Of what it runs, as far as that can stand in a name; wrong values are found elsewhere."""
    runs = next((data[way] for way in WAYS if data.get(way)), "job")
    first = runs[0] if isinstance(runs, (list, tuple)) else runs
    words = first.split() if isinstance(first, str) else []
    name = PurePosixPath(words[0] if data.get("command") and words else str(first)).stem
    return re.sub(r"[^A-Za-z0-9._+=,-]+", "-", name).lstrip("._+=,-")[:100] or "job"


def _checked(data: Mapping[str, Any]) -> Iterator[Mistake]:
    """What is wrong with single keys."""
    try:
        Manifest.model_validate(data, context=AS_WRITTEN)
    except ValidationError as error:
        yield from mistakes(error, (), _keys)


def _keys(path: YamlPath) -> Iterable[str]:
    return Metric.model_fields if path[:1] == ("metrics",) else Manifest.model_fields


def _clashes(data: Mapping[str, Any]) -> Iterator[Mistake]:
    """What is wrong with keys beside one another."""
    ways = [way for way in WAYS if data.get(way) is not None]
    if len(ways) != 1:
        yield Mistake((ways[1],) if ways else (), f"exactly one of {', '.join(WAYS)} says what to run"
                      + (f", not {' and '.join(ways)}" if ways else ""))  # fmt: skip
    if data.get("arguments") and "script" not in ways:
        yield Mistake(("arguments",), "are for a script; those of a command stand in its list")
    if data.get("parameters") and "notebook" not in ways:
        yield Mistake(("parameters",), "are for a notebook; a script has arguments")
    if "notebook" in ways and data.get("workers") not in (None, 1):
        yield Mistake(("workers",), "a notebook has one worker")
    environment, secrets = data.get("environment"), data.get("secrets")
    if not isinstance(secrets, (list, tuple)):
        return
    if len(secrets) > MOST_SECRETS:
        yield Mistake(("secrets",), f"{len(secrets)} are too many; at most {MOST_SECRETS}")
        return
    for number, name in enumerate(secrets):
        if name in secrets[:number]:
            yield Mistake(("secrets", number), f"{shown(name)} is there twice")
        if isinstance(environment, Mapping) and isinstance(name, str) and name in environment:
            yield Mistake(("secrets", number), f"{shown(name)} is in the environment too, where it would be seen")
