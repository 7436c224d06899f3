"""What was found below the roots that somebody looks at, kept so that the next look takes no time."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from mlmp_spawner.lab.pscan import index
from mlmp_spawner.lab.pscan.index import Listing
from mlmp_spawner.lab.pscan.pattern import compile_pattern
from mlmp_spawner.lab.pscan.propose import propose
from mlmp_spawner.lab.pscan.table import Table, View, layout_of, table_of, view

KEPT = 3
"""Roots that are kept, and patterns of each."""
THREADS = 6
WALKS = 2
"""Folders that are walked at a time: other threads are left for files."""

T = TypeVar("T")


@dataclass(frozen=True)
class Asked:
    """What somebody wants to see; the layout is chosen where neither rows nor columns are told.

    ``fresh``: as the files are now, not as they were at the last look.
    """

    root: str
    pattern: str = ""
    rows: Sequence[str] | None = None
    columns: Sequence[str] | None = None
    at: Mapping[str, str] | None = None
    fresh: bool = False


@dataclass(frozen=True)
class Seen:
    """What there is to see. ``pattern``: the one that was asked for, or a proposal."""

    root: Path
    pattern: str
    listing: Listing
    table: Table
    view: View


class _Known:
    def __init__(self, listing: Listing) -> None:
        self.listing = listing
        self.proposal: str | None = None
        self.tables: OrderedDict[str, Table] = OrderedDict()
        self.lock = asyncio.Lock()


class Browser:
    """Looks at folders, in threads of its own: a file system that hangs keeps nothing else of the server waiting.

    A folder is walked once for all who ask meanwhile. ``home``: where relative roots begin.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self._known: OrderedDict[Path, _Known] = OrderedDict()
        self._walks: dict[Path, asyncio.Task[_Known]] = {}
        self._may_walk = asyncio.Semaphore(WALKS)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="pscan")

    async def run(self, call: Callable[[], T]) -> T:
        """Calls it in one of those threads."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    async def look(self, asked: Asked) -> Seen:
        """What was asked for.

        :raises Invalid: no pattern, or more cells than can be shown.
        :raises NotFound: there is no such root.
        """
        root = await self.run(partial(index.root_of, asked.root, self.home))
        if asked.pattern:
            compile_pattern(asked.pattern)  # what is none is refused before anything is looked for
        known = await self._look(root, fresh=asked.fresh)
        async with known.lock:
            if not asked.pattern and known.proposal is None:
                known.proposal = await self.run(partial(propose, known.listing.files))
            pattern = asked.pattern or known.proposal or ""
            table = await self._table(known, pattern)
        return await self.run(partial(_seen, asked, root, pattern, known.listing, table))

    async def _look(self, root: Path, *, fresh: bool) -> _Known:
        known = self._known.get(root)
        if known is None or fresh:
            if root not in self._walks:
                self._walks[root] = asyncio.create_task(self._walk(root))
            return await asyncio.shield(self._walks[root])
        self._known.move_to_end(root)
        return known

    async def _walk(self, root: Path) -> _Known:
        try:
            async with self._may_walk:
                known = self._known[root] = _Known(await self.run(partial(index.walk, root)))
        finally:
            del self._walks[root]
        _keep(self._known, root)
        return known

    async def _table(self, known: _Known, pattern: str) -> Table:
        table = known.tables.get(pattern)
        if table is None:
            table = await self.run(partial(table_of, known.listing.files, compile_pattern(pattern)))
            known.tables[pattern] = table
        _keep(known.tables, pattern)
        return table


def _keep(kept: OrderedDict[Any, Any], last: object) -> None:
    kept.move_to_end(last)
    while len(kept) > KEPT:
        kept.popitem(last=False)


def _seen(asked: Asked, root: Path, pattern: str, listing: Listing, table: Table) -> Seen:
    layout = layout_of(table, asked.rows, asked.columns, asked.at or {})
    return Seen(root, pattern, listing, table, view(table, layout))
