"""The catalog as YAML: read with every mistake named at once, by file and line, and written.

Each file holds any of the sections ``nodes``, ``images``, ``profiles``, ``limits``; each section is in one file only.
An entry that is wrong does not hide the mistakes in others, nor is it blamed on those that name it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

from mlmp_spawner.errors import ConfigurationError
from mlmp_spawner.rules.catalog import (
    Accelerator,
    Catalog,
    CatalogFile,
    Image,
    ImageEntry,
    LimitRules,
    Limits,
    Node,
    NodeEntry,
    Profile,
    ProfileEntry,
)
from mlmp_spawner.rules.catalog_fit import misfits
from mlmp_spawner.rules.mistakes import Mistake, mistakes
from mlmp_spawner.rules.values import AS_WRITTEN, Model, Name, NodeName, choices, quoted
from mlmp_spawner.rules.yaml_lines import Place, YamlPath, read_yaml

SCHEMA_LINE = "# yaml-language-server: $schema=schema.json\n"
SECTIONS = tuple(CatalogFile.model_fields)

Entry = TypeVar("Entry", bound=Model)

_MODELS: dict[tuple[str, ...], type[Model]] = {
    ("nodes", "*"): NodeEntry,
    ("nodes", "*", "accelerators", "*"): Accelerator,
    ("images", "*"): ImageEntry,
    ("profiles", "*"): ProfileEntry,
    ("limits",): LimitRules,
    ("limits", "everybody"): Limits,
    ("limits", "groups", "*"): Limits,
    ("limits", "users", "*"): Limits,
}
"""Which model describes what is at a path; ``*`` is any name or number."""


def load_catalog(directory: Path, *, discovered: Sequence[Node] = (), always: bool = False) -> Catalog:
    """The catalog in the ``*.yaml`` files of ``directory``.

    :param discovered: the nodes to take where the files have no section ``nodes``.
    :param always: take them even where the files have one.
    :raises ConfigurationError: with every problem, ``"file:line: where: what, valid: …"``.
    """
    texts: dict[str, str] = {}
    problems: list[str] = []
    if not directory.is_dir():
        raise ConfigurationError([f"{directory}: no such directory"])
    for file in sorted(file for file in directory.iterdir() if file.suffix in (".yaml", ".yml")):
        try:
            texts[str(file)] = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            problems.append(f"{file}: {error}")
    if not texts:
        raise ConfigurationError(problems or [f"{directory}: no *.yaml file with a catalog"])
    try:
        catalog = catalog_from_texts(texts, discovered=discovered, always=always)
    except ConfigurationError as error:
        raise ConfigurationError(problems + error.problems) from None
    if problems:
        raise ConfigurationError(problems)
    return catalog


def catalog_from_texts(texts: Mapping[str, str], *, discovered: Sequence[Node] = (), always: bool = False) -> Catalog:
    """The catalog in ``texts``, YAML by file name. See ``load_catalog``."""
    reading = _Reading(texts)
    nodes = reading.named("nodes", Node, reading.entries("nodes", NodeEntry, NodeName))
    if always or not reading.has("nodes"):
        nodes = {node.name: node for node in discovered}
    images = reading.named("images", Image, reading.entries("images", ImageEntry, Name))
    entries = reading.entries("profiles", ProfileEntry, Name)
    limits = reading.whole("limits", LimitRules)
    reading.add_all(_limit_mistakes(limits))
    if not nodes and not reading.broken("nodes"):
        reading.add(
            (), f"no nodes; a section 'nodes' lists them, and 'mlmp catalog discover' writes it ({_files(texts)})"
        )
    if not entries and not reading.broken("profiles"):
        reading.add((), f"no profiles, so nothing can be booked; add a section 'profiles' ({_files(texts)})")
    known_images = None if reading.broken("images") else tuple(images)
    known_nodes = None if reading.broken("nodes") or not nodes else tuple(nodes.values())
    for name, entry in entries.items():
        reading.add_all(misfits(name, entry, known_nodes, known_images))
    if reading.problems:
        raise ConfigurationError(reading.report())
    profiles = {name: _profile(name, entry, nodes.values(), tuple(images)) for name, entry in entries.items()}
    return Catalog(nodes=nodes, images=images, profiles=profiles, limits=limits)


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a file of the catalog, for editors."""
    schema = CatalogFile.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "Catalog of MLMP"}


def catalog_texts(catalog: Catalog) -> dict[str, str]:
    """``catalog`` as YAML, by file name; reading it again gives an equal catalog."""
    sections: dict[str, Any] = {
        section: {name: entry_as_written(entry) for name, entry in entries.items()}
        for section, entries in (("nodes", catalog.nodes), ("images", catalog.images), ("profiles", catalog.profiles))
    }
    sections["limits"] = catalog.limits.model_dump(mode="json", exclude_unset=True, context=AS_WRITTEN)
    return {f"{section}.yaml": section_text(section, content) for section, content in sections.items() if content}


def entry_as_written(entry: Node | Image | Profile) -> dict[str, Any]:
    """An entry as it stands under its name in a file: what is as by default left out, durations and sizes as texts."""
    return entry.model_dump(mode="json", exclude={"name"}, exclude_defaults=True, context=AS_WRITTEN)


def section_text(section: str, content: Mapping[str, Any]) -> str:
    """One section as a file of its own, with the line that tells editors its schema."""
    body = yaml.safe_dump({section: dict(content)}, sort_keys=False, allow_unicode=True, width=110)
    return f"{SCHEMA_LINE}{body}"


class _Reading:
    """What the files say so far, where, and all that is wrong with it."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self.problems: list[tuple[Place, str]] = []
        self._sections: dict[str, Any] = {}
        self._places: dict[YamlPath, Place] = {}
        self._broken: set[str] = set()
        for file, text in texts.items():
            self._read(file, text)

    def _read(self, file: str, text: str) -> None:
        document = read_yaml(file, text)
        self.problems += document.problems
        if document.problems:
            self._broken |= set(SECTIONS)
        if document.data is None:
            return
        if not isinstance(document.data, dict):
            self.problems.append((Place(file, 1), f"the file must hold sections; valid: {', '.join(SECTIONS)}"))
            self._broken |= set(SECTIONS)
            return
        for section, content in document.data.items():
            place = document.places[(section,)]
            if section not in SECTIONS:
                self._broken |= set(get_close_matches(section, SECTIONS))
                self.problems.append((place, f"unknown section {quoted(section)}; {choices(section, SECTIONS)}"))
            elif section in self._sections:
                self.problems.append((place, f"section '{section}' is also at {self._places[(section,)]}"))
            else:
                self._sections[section] = {} if content is None else content
                self._places |= {path: at for path, at in document.places.items() if path[:1] == (section,)}

    def has(self, section: str) -> bool:
        """Whether a file has that section, and something in it."""
        return bool(self._sections.get(section))

    def broken(self, section: str) -> bool:
        """Whether something in that section could not be read, so that what seems to be missing may be there."""
        return section in self._broken

    def add(self, path: YamlPath, message: str) -> None:
        """Note what is wrong at ``path``: at its line, or that of the nearest thing around it."""
        where = ".".join(str(part) for part in path)
        around = next((path[:n] for n in range(len(path), 0, -1) if path[:n] in self._places), ())
        self.problems.append((self._places.get(around, Place("", 0)), f"{where}: {message}" if where else message))

    def add_all(self, mistakes: Iterable[Mistake]) -> None:
        """Note each of ``mistakes``."""
        for mistake in mistakes:
            self.add(mistake.path, mistake.message)

    def entries(self, section: str, model: type[Entry], names: Any) -> dict[str, Entry]:
        """The entries of ``section`` that are right, by name."""
        content = self._sections.get(section, {})
        if not isinstance(content, dict):
            self._broken.add(section)
            self.add((section,), "must be names with their settings")
            return {}
        found: dict[str, Entry] = {}
        for name, settings in content.items():
            try:
                TypeAdapter(names).validate_python(name)
            except ValidationError as error:
                self._note((section, name), error)
            try:
                found[name] = model.model_validate({} if settings is None else settings, context=AS_WRITTEN)
            except ValidationError as error:
                self._note((section, name), error)
        return found

    def named(self, section: str, model: type[Entry], entries: Mapping[str, Model]) -> dict[str, Entry]:
        """``entries`` with their names; none where something in the section is wrong."""
        if self.broken(section):
            return {}
        return {name: model.model_validate(entry.model_dump() | {"name": name}) for name, entry in entries.items()}

    def whole(self, section: str, model: type[Entry]) -> Entry:
        """A section that has no entries but is one thing; what its model has by default where it is wrong."""
        try:
            return model.model_validate(self._sections.get(section, {}), context=AS_WRITTEN)
        except ValidationError as error:
            self._note((section,), error)
            return model()

    def _note(self, path: YamlPath, error: ValidationError) -> None:
        self._broken.add(str(path[0]))
        self.add_all(mistakes(error, path, _keys))

    def report(self) -> list[str]:
        """All problems in the order of files and lines, each once."""
        ordered = sorted(self.problems, key=lambda problem: problem[0])
        return list(dict.fromkeys(f"{place}: {message}" if place.file else message for place, message in ordered))


def _keys(path: YamlPath) -> Iterable[str]:
    """The keys that are known at ``path``."""
    for pattern, model in _MODELS.items():
        if len(pattern) == len(path) and all(want in ("*", part) for want, part in zip(pattern, path, strict=True)):
            return model.model_fields
    return ()


def _files(texts: Mapping[str, str]) -> str:
    return "read: " + (", ".join(texts) or "no file")


def _limit_mistakes(rules: LimitRules) -> Iterable[Mistake]:
    named: dict[tuple[str, ...], Limits] = {("everybody",): rules.everybody}
    named |= {("groups", name): limits for name, limits in rules.groups.items()}
    named |= {("users", name): limits for name, limits in rules.users.items()}
    for path, limits in named.items():
        if limits.min_duration and limits.max_duration is not None and limits.min_duration > limits.max_duration:
            yield Mistake(("limits", *path, "min_duration"), "is longer than max_duration")


def _profile(name: str, entry: ProfileEntry, nodes: Iterable[Node], images: tuple[str, ...]) -> Profile:
    """The profile with all that its entry leaves out."""
    largest = max((node.units(entry.resource) for node in _offering(entry, nodes)), default=entry.units)
    left_out = {"images": images, "max_units": largest}
    return Profile.model_validate(left_out | entry.model_dump(exclude_none=True) | {"name": name})


def _offering(entry: ProfileEntry, nodes: Iterable[Node]) -> list[Node]:
    return [
        node
        for node in nodes
        if (accelerator := node.accelerator(entry.resource)) and entry.model in (None, accelerator.model)
    ]
