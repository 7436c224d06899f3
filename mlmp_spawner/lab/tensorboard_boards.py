"""The TensorBoards of one Jupyter server: which folders they may show, how many there are, their end when unused."""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import importlib.util
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from traitlets import Float, Int, List, Unicode
from traitlets.config import Configurable

from mlmp_spawner import units
from mlmp_spawner.errors import Invalid, NotAllowed, NotFound, Unavailable
from mlmp_spawner.lab.tensorboard_process import Board, Wanted

LOOK = 5.0
"""Seconds between two looks for unused ones."""
LONGEST_PATH = 4000
MOST_REMEMBERED = 100
LONGEST_NAME = 120
"""Characters of a run's name."""


class TensorBoards(Configurable):
    """TensorBoard in the user's own server; settings for ``jupyter_server_config.py``."""

    idle_minutes = Float(30, min=0.1, help="Minutes without a request after which a TensorBoard is ended.").tag(
        config=True
    )
    most = Int(3, min=1, help="How many run at once; one more ends the one that was not used for longest.").tag(
        config=True
    )
    start_seconds = Float(60, min=1, help="Seconds within which one has to answer after its start.").tag(config=True)
    folders = List(Unicode(), help="Folders that may be shown besides the home and what JupyterLab shows.").tag(
        config=True
    )

    module = "tensorboard"

    def __init__(self, root: Path, home: Path, **options: Any) -> None:
        """:param root: the folder that JupyterLab shows."""
        super().__init__(**options)
        self.root, self.home = root, home
        self._boards: dict[str, Board] = {}
        self._starting = asyncio.Lock()
        self._watching: asyncio.Task[None] | None = None

    def folder(self, text: str) -> Wanted:
        """A folder of the user's, named from JupyterLab's root on or, with ``~/``, from the home on.

        :raises Invalid: that can be none. :raises NotAllowed: it is outside. :raises NotFound: there is none.
        """
        path = self._inside(text)
        if not path.is_dir():
            raise NotFound(f"There is no folder {text[:200]!r}.", hint="A job makes its own when it starts.")
        if not os.access(path, os.R_OK | os.X_OK):
            raise NotAllowed(f"The folder {text[:200]!r} can't be read by this server.")
        home = self.home.resolve()
        title = f"~/{path.relative_to(home)}" if home in path.parents else path.name
        return Wanted(_id(f"folder {path}"), title, {"": path})

    def folders_of(self, what: str, title: str, named: Mapping[str, str]) -> Wanted:
        """Several folders as one: ``named`` has their paths below the home, which need not be there yet.

        :param what: by which the same is known again. :raises Invalid: there are none. :raises NotAllowed: one of them
        is outside.
        """
        if not named:
            raise Invalid(f"{title} has no results to show yet.")
        runs: dict[str, Path] = {}
        for name, text in named.items():
            runs[_plain(name, runs)] = self._inside(f"~/{text}")
        return Wanted(_id(what), title, runs)

    async def open(self, wanted: Wanted, now: int) -> Board:
        """Starts it where it does not run; where too many run, the one that was not used for longest ends.

        :raises Unavailable: TensorBoard is not installed, or does not start.
        """
        self._check_installed()
        async with self._starting:
            board = self._boards.pop(wanted.id, None) or Board(wanted)
            self._boards[wanted.id] = board
            if board.running and board.wanted != wanted:
                await board.stop()
            board.wanted, board.used = wanted, now
            if not board.answers:
                await self._make_room(self.most - 1)
                await self._start(board)
            self._forget()
        return board

    async def reach(self, id: str, now: int, *, may_start: bool) -> Board:
        """One that was opened. Where it has ended meanwhile, it is started again for the page that is still open.

        :param may_start: that page asks, and no other site.
        :raises NotFound: none was, or it has ended. :raises Unavailable: as :meth:`open`, or so many others run.
        """
        board = self._boards.get(id)
        if board is None or not (board.answers or may_start):
            raise NotFound("This TensorBoard is not known any more.", hint="Open it again from where you came.")
        board.used = now
        if not board.answers:
            async with self._starting:
                if not board.running and len(self._running()) >= self.most:
                    raise Unavailable(f"{self.most} others run by now.", hint="Open this one again.")
                if not board.answers:
                    await self._start(board)
        return board

    @contextmanager
    def use(self, board: Board) -> Iterator[None]:
        """Meanwhile it does not end as unused."""
        board.busy += 1
        try:
            yield
        finally:
            board.busy -= 1

    async def end_unused(self, now: int) -> None:
        """Ends those that nobody asked for anything for the time that is set. :param now: ms UTC."""
        latest = now - self.idle_minutes * units.MINUTE
        for board in self._running():
            if not board.busy and board.used <= latest:
                await board.stop()

    async def end_all(self) -> None:
        """Ends all."""
        await asyncio.gather(*(board.stop() for board in self._boards.values()))

    async def _start(self, board: Board) -> None:
        await board.start(self.start_seconds)
        if self._watching is None or self._watching.done():
            self._watching = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        while self._running():
            await asyncio.sleep(LOOK)
            await self.end_unused(units.now())

    def _running(self) -> list[Board]:
        return sorted((one for one in self._boards.values() if one.running), key=lambda one: one.used)

    async def _make_room(self, most: int) -> None:
        running = self._running()
        for board in running[: max(0, len(running) - most)]:
            await board.stop()

    def _forget(self) -> None:
        ended = [id for id, one in self._boards.items() if not one.running]
        for id in ended[: max(0, len(self._boards) - MOST_REMEMBERED)]:
            del self._boards[id]

    def _check_installed(self) -> None:
        importlib.invalidate_caches()  # it may have been installed just now
        if importlib.util.find_spec(self.module) is None:
            raise Unavailable(
                "TensorBoard is not installed where this server runs.",
                hint="In a terminal: pip install tensorboard. For everybody: put mlmp-spawner[lab] into the image.",
            )

    def _inside(self, text: str) -> Path:
        """:raises Invalid, NotAllowed: see :meth:`folder`."""
        if "\0" in text or len(text) > LONGEST_PATH:
            raise Invalid.field("path", "this is no name of a folder")
        at = self.home / text[2:] if text.startswith("~/") else self.home if text == "~" else self.root / text
        try:
            path = at.resolve()
            more = [Path(str(one)).expanduser() for one in self.folders]
            allowed = [one.resolve() for one in (self.home, self.root, *more)]
        except (OSError, RuntimeError, UnicodeError):  # a loop of links, or no name
            raise NotFound(f"There is no folder {text[:200]!r}.") from None
        if not any(path == one or one in path.parents for one in allowed):
            raise NotAllowed(
                f"{text[:200]!r} is not in your home.",
                hint="TensorBoard shows what is in your home and in the folder that JupyterLab shows.",
            )
        return path


def _id(what: str) -> str:
    return hashlib.sha256(os.fsencode(what)).hexdigest()[:16]


def _plain(name: str, others: Mapping[str, Path]) -> str:
    """A name for a folder, which no other has."""
    plain = re.sub(r"[^\w.,=+@-]", "_", name)[:LONGEST_NAME].lstrip(".") or "run"
    return next(one for number in count(1) if (one := plain if number == 1 else f"{plain}-{number}") not in others)
