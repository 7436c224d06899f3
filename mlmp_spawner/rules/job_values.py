"""Values of a manifest of a job as people write them: names, variables, paths. What is wrong is a ValueError."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, WithJsonSchema

from mlmp_spawner.rules.job_metrics import LONGEST_PATTERN, compile_pattern
from mlmp_spawner.rules.jobs import LONGEST_GRACE
from mlmp_spawner.rules.values import Duration, quoted
from mlmp_spawner.units import SECOND

LONGEST_PATH = 1000

_NAME = r"^[A-Za-z0-9][A-Za-z0-9._+=,-]{0,99}$"
_VARIABLE = r"^[A-Za-z_][A-Za-z0-9_]{0,127}$"
_OURS = ("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES")
_ID = r"^[a-z0-9]{1,30}$"
_PLACEHOLDER = re.compile(r"\{[^{}]*\}|[{}]")


def _job_name(value: str) -> str:
    if not re.fullmatch(_NAME, value):
        raise ValueError(f"{quoted(value)} is not a name: 1 to 100 letters, digits and '._+=,-', the first a letter "
                         "or digit")  # fmt: skip
    return value


def _variable(value: str) -> str:
    if not re.fullmatch(_VARIABLE, value):
        raise ValueError(f"{quoted(value)} is no name of a variable: letters, digits and '_', not a digit first")
    return value


def _own_variable(value: str) -> str:
    if value.startswith("MLMP_") or value in _OURS:
        raise ValueError(f"{quoted(value)} is set by MLMP; choose another name")
    return _variable(value)


def _inside_id(value: str) -> str:
    if not re.fullmatch(_ID, value):
        raise ValueError(f"{quoted(value)} is no booking; its id is such as 'k3v9x0a2b1cd'")
    return value


def _relative(value: str) -> str:
    """A path that stays below where it begins, written plainly."""
    path = PurePosixPath(value)
    if not value or len(value) > LONGEST_PATH or path.is_absolute() or ".." in path.parts or value[:1] in "-~":
        raise ValueError(f"{quoted(value)} is no path: relative, without '..', at most {LONGEST_PATH} characters, and "
                         "beginning with neither '-' nor '~'")  # fmt: skip
    if not value.isprintable():
        raise ValueError(f"{quoted(value)} must have no control characters")
    return str(path)


def _templated(value: str) -> str:
    wrong = [found for found in _PLACEHOLDER.findall(value) if found not in ("{id}", "{name}")]
    if wrong:
        raise ValueError(f"{quoted(wrong[0])} can't be filled in; valid: {{id}}, {{name}}")
    return _relative(value)


def _below_home(value: str) -> str:
    """``~/runs`` is ``runs``: it is below the home in any case."""
    return _templated(value.removeprefix("~/"))


def _in_code_or_home(value: str) -> str:
    """Below the working directory, or with ``~/`` below the home."""
    return f"~/{_templated(value[2:])}" if value.startswith("~/") else _templated(value)


def _command(value: object) -> object:
    return ["sh", "-c", value] if isinstance(value, str) else value


def _not_empty(value: tuple[str, ...]) -> tuple[str, ...]:
    if not value or not value[0]:
        raise ValueError("must name a program")
    return value


def _grace(value: int) -> int:
    if not SECOND <= value <= LONGEST_GRACE:
        raise ValueError("must be from 1s to 10m")
    return value


def _pattern(value: str) -> str:
    compile_pattern(value)
    return value


_PATH = {"type": "string", "minLength": 1, "maxLength": LONGEST_PATH}
_COMMAND = {"anyOf": [{"type": "array", "items": {"type": "string"}, "minItems": 1}, {"type": "string"}]}

JobName = Annotated[str, AfterValidator(_job_name), WithJsonSchema({"type": "string", "pattern": _NAME})]
Variable = Annotated[str, AfterValidator(_variable), WithJsonSchema({"type": "string", "pattern": _VARIABLE})]
OwnVariable = Annotated[str, AfterValidator(_own_variable), WithJsonSchema({"type": "string", "pattern": _VARIABLE})]
Booking = Annotated[str, AfterValidator(_inside_id), WithJsonSchema({"type": "string", "pattern": _ID})]
CodePath = Annotated[str, AfterValidator(_relative), WithJsonSchema(_PATH)]
HomePath = Annotated[str, AfterValidator(_below_home), WithJsonSchema(_PATH)]
MetricPath = Annotated[str, AfterValidator(_in_code_or_home), WithJsonSchema(_PATH)]
Command = Annotated[
    tuple[str, ...], BeforeValidator(_command), AfterValidator(_not_empty), WithJsonSchema(_COMMAND)
]  # fmt: skip
Grace = Annotated[Duration, AfterValidator(_grace)]
Pattern = Annotated[
    str, AfterValidator(_pattern), WithJsonSchema({"type": "string", "minLength": 1, "maxLength": LONGEST_PATTERN})
]
