"""What was found below the roots that somebody looks at, kept so that the next look takes no time."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlmp_spawner.lab.pscan import index
from mlmp_spawner.lab.pscan.index import Listing
from mlmp_spawner.lab.pscan.pattern import compile_pattern
from mlmp_spawner.lab.pscan.propose import propose
from mlmp_spawner.lab.pscan.table import Layout, Table, View, layout_of, table_of, view

KEPT = 3
"""Roots that are kept, and patterns of each."""


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


class Browser:
    """Looks, one at a time; from any thread. ``home``: where relative roots begin."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._known: OrderedDict[Path, _Known] = OrderedDict()
        self._lock = threading.Lock()

    def look(self, asked: Asked) -> Seen:
        """What was asked for.

        :raises Invalid: no pattern, or more cells than can be shown.
        :raises NotFound: there is no such root.
        """
        root = index.root_of(asked.root, self.home)
        if asked.pattern:
            compile_pattern(asked.pattern)  # what is none is refused before anything is looked for
        with self._lock:
            known = self._look(root, fresh=asked.fresh)
            if not asked.pattern and known.proposal is None:
                known.proposal = propose(known.listing.files)
            pattern = asked.pattern or known.proposal or ""
            table = _table(known, pattern)
        layout: Layout = layout_of(table, asked.rows, asked.columns, asked.at or {})
        return Seen(root, pattern, known.listing, table, view(table, layout))

    def _look(self, root: Path, *, fresh: bool) -> _Known:
        known = self._known.get(root)
        if known is None or fresh:
            known = self._known[root] = _Known(index.walk(root))
        self._known.move_to_end(root)
        while len(self._known) > KEPT:
            self._known.popitem(last=False)
        return known


def _table(known: _Known, pattern: str) -> Table:
    table = known.tables.get(pattern)
    if table is None:
        table = known.tables[pattern] = table_of(known.listing.files, compile_pattern(pattern))
    known.tables.move_to_end(pattern)
    while len(known.tables) > KEPT:
        known.tables.popitem(last=False)
    return table
