"""What pydantic finds wrong with what somebody wrote, in words that say what is valid."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from mlmp_spawner.rules.values import LINE_PATTERN, choices, quoted
from mlmp_spawner.rules.yaml_lines import YamlPath

_NAMES = "letters, digits and '._-' (in a resource one '/' too), the first a letter or digit"
_EXPECTED = {
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "tuple_type": "a list",
    "dict_type": "names with their settings",
    "too_short": "a list with something in it",
    "model_type": "keys with their values",
}


class Mistake(NamedTuple):
    """What is wrong, and where."""

    path: YamlPath
    message: str


def mistakes(error: ValidationError, within: YamlPath, keys: Callable[[YamlPath], Iterable[str]]) -> Iterator[Mistake]:
    """Each mistake that ``error`` names, in something that stands at ``within``.

    :param keys: the keys that are known at a path.
    """
    for details in error.errors(include_url=False):
        if details["type"] == "too_short" and details["input"]:
            continue  # its items are wrong, and are named themselves
        inner = tuple(part for part in details["loc"] if part != "[key]")
        path = within + (inner[:-1] if details["type"] == "missing" else inner)
        yield Mistake(path, _message(path, details, keys))


def shown(value: object) -> str:
    """A value as a message may show it: text in quotes."""
    if value is None:
        return "nothing"
    return quoted(value) if isinstance(value, str) else quoted(value).strip("'")


def _message(path: YamlPath, details: ErrorDetails, keys: Callable[[YamlPath], Iterable[str]]) -> str:
    kind, value = details["type"], details["input"]
    if kind == "extra_forbidden":
        return f"unknown key; {choices(str(path[-1]), keys(path[:-1]))}"
    if kind == "missing":
        return f"'{details['loc'][-1]}' is missing"
    if kind == "value_error":
        return str(details["ctx"]["error"])
    if kind == "string_type":
        return f"must be text, not {shown(value)}" + (f"; put it in quotes: '{value}'" if _scalar(value) else "")
    if kind == "string_pattern_mismatch" and details["ctx"]["pattern"] == LINE_PATTERN:
        return "must be one line, without control characters"
    if kind == "string_pattern_mismatch":
        return f"{shown(value)} is not a name: {_NAMES}"
    if kind in _EXPECTED:
        return f"must be {_EXPECTED[kind]}, not {shown(value)}"
    return details["msg"].replace("Input should", "must").replace("must be be", "must be") + f", not {shown(value)}"


def _scalar(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
