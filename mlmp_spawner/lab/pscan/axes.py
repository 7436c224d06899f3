"""The values of a parameter in the order in which people expect them: by size where they are numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?\Z")
_DIGITS = re.compile(r"([0-9]+)")


@dataclass(frozen=True, slots=True)
class Axis:
    """A parameter and its values, each as it is written in the paths."""

    name: str
    values: tuple[str, ...]
    numeric: bool


def axis(name: str, values: Iterable[str]) -> Axis:
    """The axis of these values, each once. All must be numbers for it to be numeric; an empty one is left aside."""
    distinct = set(values)
    numeric = distinct != {""} and all(number(value) is not None for value in distinct if value)
    key = _by_size if numeric else natural
    return Axis(name, tuple(sorted(distinct, key=key)), numeric)


def number(text: str) -> float | None:
    """The number that a text is, such as ``1e-3``; None where it is none. ``nan`` and ``inf`` are words."""
    if len(text) > 40 or not _NUMBER.match(text):
        return None
    value = float(text)
    return value if math.isfinite(value) else None


def _by_size(value: str) -> tuple[float, str]:
    size = number(value)
    return (-math.inf if size is None else size, value)


def natural(text: str) -> tuple[tuple[int, int, str], ...]:
    """Sorts ``run9`` before ``run10``."""
    parts = _DIGITS.split(text)
    return tuple((1, int(part), part) if n % 2 and len(part) < 100 else (0, 0, part) for n, part in enumerate(parts))
