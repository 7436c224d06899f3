"""The catalog as its files are now: hub and service each read it again when a file changes.

A catalog that is wrong changes nothing; it is logged once, and what is wrong with it can be asked for.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from mlmp_spawner.errors import ConfigurationError
from mlmp_spawner.machine import GpuReader
from mlmp_spawner.operations.one_machine import one_machine_catalog
from mlmp_spawner.rules.catalog import Catalog
from mlmp_spawner.rules.catalog_yaml import load_catalog
from mlmp_spawner.settings import MLMP

log = logging.getLogger(__name__)

LOOK = 2.0
"""Seconds between two looks at the files."""

Seen = tuple[tuple[str, int], ...]


class CatalogFiles:
    """The catalog, from the files in ``directory`` and from what ``load`` adds to them.

    :param load: reads the files; the catalog, and what people should know about it.
    :raises ConfigurationError: it is wrong from the beginning.
    """

    def __init__(self, directory: Path, load: Callable[[Path], tuple[Catalog, list[str]]]) -> None:
        self.directory = directory
        self._load_from = load
        self.wrong: tuple[str, ...] = ()
        """What is wrong with the files as they are now, where the catalog is one from before."""
        self._seen = changed_at(directory)
        self.catalog: Catalog
        self.notes: list[str]
        self.catalog, self.notes = self._load()

    def read(self, *, always: bool = False) -> bool:
        """Reads the files again if one has changed, or ``always``; True if there is another catalog now."""
        seen = changed_at(self.directory)
        if seen == self._seen and not always:
            return False
        self._seen = seen
        try:
            catalog, notes = self._load()
        except ConfigurationError as error:
            if self.wrong != tuple(error.problems):
                log.error("the catalog stays as it was: %s", error.detail)
            self.wrong = tuple(error.problems)
            return False
        for note in notes:
            if note not in self.notes:
                log.warning("%s", note)
        changed = catalog != self.catalog
        self.catalog, self.notes, self.wrong = catalog, notes, ()
        return changed

    @classmethod
    def of_this_machine(cls, directory: Path, *, simulate: bool, reader: GpuReader | None = None) -> CatalogFiles:
        """Of one machine: what is plugged in belongs to it."""
        return cls(directory, lambda path: one_machine_catalog(path, simulate=simulate, reader=reader))

    @classmethod
    def of_cluster(cls, directory: Path) -> CatalogFiles:
        """Of a cluster: the files list the nodes."""
        return cls(directory, lambda path: (load_catalog(path), []))

    def _load(self) -> tuple[Catalog, list[str]]:
        return self._load_from(self.directory)


def changed_at(directory: Path) -> Seen:
    """Names and times of the catalog's files, to see that one changed."""
    found = []
    for path in directory.glob("*.y*ml"):
        with suppress(FileNotFoundError):
            found.append((path.name, path.stat().st_mtime_ns))
    return tuple(sorted(found))


def read_catalog(settings: MLMP) -> CatalogFiles:
    """The catalog by the settings: of several nodes on a cluster, of this one machine else.

    :raises ConfigurationError: what is wrong with it.
    """
    directory = Path(settings.catalog)
    if settings.backend == "kubernetes":
        return CatalogFiles.of_cluster(directory)
    return CatalogFiles.of_this_machine(directory, simulate=settings.simulate)
