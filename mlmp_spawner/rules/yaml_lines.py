"""YAML as plain data, with the line of everything in it, and its mistakes as sentences."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import yaml

MOST_NODES = 100_000
"""A document with more values is refused: nothing here is so large, but aliases of aliases are."""

YamlPath = tuple[str | int, ...]

_MERGE = "tag:yaml.org,2002:merge"


class Place(NamedTuple):
    """A line of a file, counted from 1."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


@dataclass
class Document:
    """What a file holds (None if it is empty), where each part of it stands, and what could not be read."""

    data: Any = None
    places: dict[YamlPath, Place] = field(default_factory=dict)
    problems: list[tuple[Place, str]] = field(default_factory=list)


def read_yaml(file: str, text: str) -> Document:
    """Read ``text``. Never raises for what is in it. Keys are taken as they are written, as text."""
    return _Converter(file, text).document


class _Converter:
    def __init__(self, file: str, text: str) -> None:
        self.document = Document()
        self._file = file
        self._within: list[yaml.Node] = []
        self._seen = 0
        try:
            self._loader = yaml.SafeLoader(text)
            root = self._loader.get_single_node()
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            said = " ".join(part for part in (error.context, error.problem) if part)
            self._problem(mark.line + 1 if mark else 1, f"not YAML: {said}")
        except yaml.YAMLError as error:
            self._problem(1, f"not YAML: {' '.join(str(error).split())}")
        except RecursionError:
            self._problem(1, "nested too deeply")
        else:
            if root is not None:
                self.document.data = self._value(root, ())

    def _problem(self, line: int, message: str) -> None:
        self.document.problems.append((Place(self._file, line), message))

    def _value(self, node: yaml.Node, path: YamlPath) -> Any:
        line = node.start_mark.line + 1
        self.document.places.setdefault(path, Place(self._file, line))
        self._seen += 1
        if any(node is outer for outer in self._within):
            self._problem(line, "holds itself")
            return None
        if self._seen > MOST_NODES or len(self._within) > 50:
            if self._seen == MOST_NODES + 1 or self._seen <= MOST_NODES:
                self._problem(line, "too large, or nested too deeply")
            return None
        self._within.append(node)
        try:
            if isinstance(node, yaml.MappingNode):
                return self._mapping(node, path)
            if isinstance(node, yaml.SequenceNode):
                return [self._value(item, (*path, number)) for number, item in enumerate(node.value)]
            return self._scalar(node) if isinstance(node, yaml.ScalarNode) else None
        finally:
            self._within.pop()

    def _mapping(self, node: yaml.MappingNode, path: YamlPath) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key, value in node.value:
            if key.tag == _MERGE:
                merged = self._value(value, path)
                for part in reversed(merged if isinstance(merged, list) else [merged]):
                    result |= part if isinstance(part, dict) else {}
        first: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.tag == _MERGE:
                continue
            if not isinstance(key, yaml.ScalarNode):
                self._problem(line, "a key must be a name")
            elif key.value in first:
                self._problem(line, f"key '{key.value}' is there twice, first on line {first[key.value]}")
            else:
                first[key.value] = line
                inside = (*path, key.value)
                self.document.places[inside] = Place(self._file, line)
                result[key.value] = self._value(value, inside)
        return result

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        try:
            return self._loader.construct_object(node)
        except (yaml.YAMLError, ValueError, ArithmeticError) as error:  # a date that is none, say
            said = getattr(error, "problem", None) or error
            self._problem(node.start_mark.line + 1, f"can't read '{node.value[:60]}': {said}; put text in quotes")
            return None
