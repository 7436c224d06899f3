"""The site as the hub's process knows it: an engine of its own, and the catalog, read again when its files change.

The hub has one event loop for everybody: all of this runs in worker threads.
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress
from pathlib import Path

from mlmp_spawner.errors import ConfigurationError
from mlmp_spawner.operations.one_machine import one_machine_catalog
from mlmp_spawner.operations.site import Site, make_site
from mlmp_spawner.rules.catalog import Catalog
from mlmp_spawner.settings import MLMP
from mlmp_spawner.store.engine import make_engine

log = logging.getLogger(__name__)

LOOK = 2.0
"""Seconds between two looks at the catalog's files."""

Seen = tuple[tuple[str, int], ...]


class SiteSource:
    """Gives the site as it is now. Safe to use from several threads.

    :param settings: database, catalog, times.
    """

    def __init__(self, settings: MLMP) -> None:
        self.settings = settings
        self.engine = make_engine(settings.db_url)
        self._lock = threading.Lock()
        self._seen: Seen = ()
        self._looked = 0.0
        self._catalog: Catalog | None = None

    def get(self) -> Site:
        """The site with its catalog. A changed catalog that is wrong is logged, and the one before it stays.

        :raises ConfigurationError: it was wrong from the beginning.
        """
        with self._lock:
            if self._catalog is None or time.monotonic() >= self._looked + LOOK:
                self._catalog = self._load()
                self._looked = time.monotonic()
            catalog = self._catalog
        return make_site(self.engine, catalog, self.settings)

    def _load(self) -> Catalog:
        directory = Path(self.settings.catalog)
        seen = changed_at(directory)
        if self._catalog is not None and seen == self._seen:
            return self._catalog
        self._seen = seen
        try:
            return one_machine_catalog(directory, simulate=self.settings.simulate)[0]
        except ConfigurationError as error:
            if self._catalog is None:
                raise
            log.error("the catalog stays as it was: %s", error.detail)
            return self._catalog


def changed_at(directory: Path) -> Seen:
    """Names and times of the catalog's files, to see that one changed."""
    found = []
    for path in directory.glob("*.y*ml"):
        with suppress(FileNotFoundError):
            found.append((path.name, path.stat().st_mtime_ns))
    return tuple(sorted(found))


_sources: dict[tuple[str, str, bool], SiteSource] = {}


def source(settings: MLMP) -> SiteSource:
    """The one source of this process for these settings."""
    key = (settings.db_url, settings.catalog, settings.simulate)
    if key not in _sources:
        _sources[key] = SiteSource(settings)
    return _sources[key]
