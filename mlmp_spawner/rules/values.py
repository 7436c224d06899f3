"""Values of the catalog as people write them: durations, sizes, names; and how a wrong one is answered."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Annotated

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    SerializationInfo,
    ValidationInfo,
    WithJsonSchema,
)

from mlmp_spawner.units import (
    DAY,
    DURATION_FORMS,
    HOUR,
    MINUTE,
    SECOND,
    SIZE_FORMS,
    compact_size,
    parse_duration,
    parse_size,
)

AS_WRITTEN = {"as_written": True}
"""Context for what comes from a file or goes to one: there, durations and sizes are texts with their unit."""


def _duration(value: object, info: ValidationInfo) -> object:
    if isinstance(value, str):
        return parse_duration(value)
    if info.context and value is not None:
        raise ValueError(f"{value!r} is not a duration; write {DURATION_FORMS}")
    return value


def _size(value: object, info: ValidationInfo) -> object:
    if isinstance(value, str):
        return parse_size(value)
    if info.context and value is not None:
        raise ValueError(f"{value!r} is not a size; write {SIZE_FORMS}")
    return value


_DURATION_UNITS = (("d", DAY), ("h", HOUR), ("m", MINUTE), ("s", SECOND))


def _duration_text(value: int, info: SerializationInfo) -> int | str:
    """Exactly, as it is written: ``1h30m``; as ms where no file is written."""
    if not info.context:
        return value
    text, rest = "", value
    for unit, length in _DURATION_UNITS:
        number, rest = divmod(rest, length)
        part = f".{rest:03}" if unit == "s" and rest else ""
        text += f"{number}{part}{unit}" if number or part else ""
    return text or "0s"


def _size_text(value: int, info: SerializationInfo) -> int | str:
    """Exactly, as it is written: ``64GiB``; as bytes where no file is written."""
    return compact_size(value) if info.context else value


def _form(pattern: str, examples: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": pattern, "examples": examples.replace(" or", ",").split(", ")})


_NUMBER = r"[0-9]+(\.[0-9]+)?"
Duration = Annotated[
    int,
    Field(strict=True, ge=0),
    BeforeValidator(_duration),
    PlainSerializer(_duration_text),
    _form(rf"^\s*({_NUMBER}\s*([dD]|[hH]|[mM]([iI][nN])?|[sS])\s*)+$", DURATION_FORMS),
]
Size = Annotated[
    int,
    Field(strict=True, gt=0),
    BeforeValidator(_size),
    PlainSerializer(_size_text),
    _form(rf"^\s*{_NUMBER}\s*([KMGTP]iB?|[kKMGTP]?B)\s*$", SIZE_FORMS),
]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
NodeName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,252}$")]
ResourceName = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?$", max_length=255)
]
LINE_PATTERN = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*$"
Text = Annotated[str, Field(min_length=1, max_length=2000, pattern=LINE_PATTERN)]
"""One line, so that it can stand in a header, a log and a table."""
Count = Annotated[int, Field(strict=True, gt=0, le=1_000_000)]
Amount = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]


class Model(BaseModel):
    """Base of the models: frozen, and strange keys are mistakes."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


def quoted(text: object) -> str:
    """A value as a message may show it."""
    shown = str(text)
    return f"'{shown if len(shown) <= 60 else shown[:60] + '…'}'"


def choices(wrong: str, valid: Iterable[str]) -> str:
    """``"did you mean 'gpu'? valid: cpu, gpu"``: the close match if there is one, then what is valid."""
    names = sorted(set(valid))
    close = get_close_matches(wrong, names, n=1) or [name for name in names if name.lower() == wrong.lower()]
    shown = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
    return (f"did you mean {quoted(close[0])}? " if close else "") + f"valid: {shown or 'none'}"
