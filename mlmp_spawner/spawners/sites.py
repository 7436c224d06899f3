"""The site as the hub's process knows it: an engine of its own, and the catalog, read again when its files change.

The hub has one event loop for everybody: all of this runs in worker threads.
"""

from __future__ import annotations

import threading
import time

from mlmp_spawner.operations.catalog_files import LOOK, CatalogFiles, read_catalog
from mlmp_spawner.operations.site import Site, make_site
from mlmp_spawner.settings import MLMP
from mlmp_spawner.store.engine import make_engine


class SiteSource:
    """Gives the site as it is now. Safe to use from several threads.

    :param settings: database, catalog, times.
    """

    def __init__(self, settings: MLMP) -> None:
        self.settings = settings
        self.engine = make_engine(settings.db_url)
        self._lock = threading.Lock()
        self._looked = 0.0
        self._files: CatalogFiles | None = None

    def get(self) -> Site:
        """The site with its catalog. A changed catalog that is wrong is logged, and the one before it stays.

        :raises ConfigurationError: it was wrong from the beginning.
        """
        with self._lock:
            if self._files is None:
                self._files = read_catalog(self.settings)
                self._looked = time.monotonic()
            elif time.monotonic() >= self._looked + LOOK:
                self._files.read()
                self._looked = time.monotonic()
            return make_site(self.engine, self._files.catalog, self.settings)


_sources: dict[tuple[str, str, bool], SiteSource] = {}


def source(settings: MLMP) -> SiteSource:
    """The one source of this process for these settings."""
    key = (settings.db_url, settings.catalog, settings.simulate)
    if key not in _sources:
        _sources[key] = SiteSource(settings)
    return _sources[key]
