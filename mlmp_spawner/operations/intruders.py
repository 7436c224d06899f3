"""Processes on a GPU that belong to nobody's booking of it: shown to admins, and stopped where they chose so.

A process is one only once two looks in a row saw it, so that a booking that begins or ends in between accuses nobody.
It is named by its identity, never by its pid alone.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

import psutil

from mlmp_spawner import processes
from mlmp_spawner.activity import ServerUse, UnitUse
from mlmp_spawner.units import SECOND

GRACE = 10 * SECOND
"""Between SIGTERM and SIGKILL."""

SHOWN = 200
"""Characters of a command that are shown."""


@dataclass(frozen=True, slots=True)
class Intruder:
    """A process on units that are not its own. ``process``: its identity; ``name``: as the kernel has it.

    ``user``: of the system; ``server_id`` where it is part of a user's server, whose booking has other units.
    ``since``: when it was seen first; ``stopping_at``: when it was told to end; ``problem``: why it could not be.
    """

    process: str
    user: str
    name: str
    command: str
    units: tuple[str, ...]
    since: int
    server_id: str | None = None
    stopping_at: int | None = None
    problem: str = ""

    @property
    def pid(self) -> int:
        """Its number while it lives."""
        return int(self.process.partition(":")[0])


@dataclass(frozen=True, slots=True)
class Change:
    """Something to write into the history: ``intruder`` (found), or ``intruder_stopped``."""

    action: str
    intruder: Intruder


class Intruders:
    """The intruders that there are.

    :param stop: whether they are stopped. :param ignore: see ``c.MLMP.intruder_ignore``.
    :param send: how a signal is sent to a process, by its identity; False: it is gone.
    """

    def __init__(
        self, *, stop: bool = False, ignore: Collection[str] = (), send: Callable[[str, int], bool] = processes.send
    ) -> None:
        self.stop = stop
        self.ignore = frozenset(ignore)
        self._send = send
        self._candidates: dict[str, int] = {}
        self._found: dict[str, Intruder] = {}

    @property
    def found(self) -> list[Intruder]:
        """Those of the last look, the oldest first."""
        return sorted(self._found.values(), key=lambda one: (one.since, one.pid))

    def look(
        self,
        units: Mapping[str, UnitUse],
        holders: Mapping[str, str | None],
        servers: Mapping[str, ServerUse],
        now: int,
    ) -> list[Change]:
        """Takes in what a look saw.

        :param holders: all units that there are to book, with the server id of who has each now, None for nobody.
        """
        seen = {
            process: (pid, where)
            for pid, where in strangers(units, holders, servers).items()
            if (process := processes.identity(pid)) is not None
        }
        changes = self._gone(seen)
        for process, (pid, where) in seen.items():
            known = self._found.get(process)
            if known is not None:
                self._found[process] = replace(known, units=where)
            elif process in self._candidates:
                new = self._describe(process, pid, where, servers, self._candidates[process])
                if new is not None:
                    self._found[process] = new
                    changes.append(Change("intruder", new))
        self._candidates = {process: self._candidates.get(process, now) for process in seen}
        return changes + self.enforce(now)

    def enforce(self, now: int) -> list[Change]:
        """Where they are to be stopped: tells the new ones to end, and ends those that had their time."""
        if not self.stop:
            return []
        for process, one in self._found.items():
            if one.stopping_at is None and not one.problem:
                self._found[process] = self._signal(replace(one, stopping_at=now), signal.SIGTERM)
            elif one.stopping_at is not None and now >= one.stopping_at + GRACE:
                self._found[process] = self._signal(replace(one, stopping_at=now), signal.SIGKILL)
        return self._gone({one.process for one in self._found.values() if processes.alive(one.process)})

    def next_due(self) -> int | None:
        """When :meth:`enforce` has to be called next, in ms UTC."""
        return min(
            (one.stopping_at + GRACE for one in self._found.values() if one.stopping_at is not None), default=None
        )

    def _gone(self, there: Collection[str]) -> list[Change]:
        gone = [one for process, one in self._found.items() if process not in there]
        for one in gone:
            if one.stopping_at is None or not processes.alive(one.process):
                del self._found[one.process]
        return [Change("intruder_stopped", one) for one in gone if one.process not in self._found and one.stopping_at]

    def _signal(self, one: Intruder, number: int) -> Intruder:
        try:
            self._send(one.process, number)
        except PermissionError:
            return replace(one, stopping_at=None, problem="this service may not stop processes of other accounts")
        return one

    def _describe(
        self, process: str, pid: int, units: tuple[str, ...], servers: Mapping[str, ServerUse], since: int
    ) -> Intruder | None:
        """All that is shown of it; None if it is gone, or may be there."""
        try:
            there = psutil.Process(pid)
            user, name, command = there.username(), there.name(), there.cmdline()
        except psutil.Error:
            return None
        # psutil lengthens names by what the process itself says; the kernel's 15 characters are what is compared.
        if processes.identity(pid) != process or name[:15] in self.ignore or f"user:{user}" in self.ignore:
            return None
        server = next((server_id for server_id, server in servers.items() if pid in server.pids), None)
        return Intruder(process, shown(user), shown(name), shown(" ".join(command) or name), units, since, server)


def strangers(
    units: Mapping[str, UnitUse], holders: Mapping[str, str | None], servers: Mapping[str, ServerUse]
) -> dict[int, tuple[str, ...]]:
    """The pids on units that are not those of the booking's server, each with these units."""
    found: dict[int, tuple[str, ...]] = {}
    for unit, holder in holders.items():
        server = servers.get(holder) if holder else None
        own = server.pids if server else ()
        for pid in units.get(unit, UnitUse()).pids or ():
            if pid not in own:
                found[pid] = (*found.get(pid, ()), unit)
    return found


def shown(text: str) -> str:
    """What a process says of itself, made harmless."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)[:SHOWN]
