"""The look that the service takes at this machine every half minute, and what it keeps of the last one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import select

from mlmp_spawner import units
from mlmp_spawner.activity import GpuWatch, ServerUse, ServerWatch
from mlmp_spawner.operations import history, sampling
from mlmp_spawner.operations.cluster_look import ClusterLook
from mlmp_spawner.operations.intruders import Change, Intruder, Intruders
from mlmp_spawner.operations.sampling import BookingUse, Look, Sampler
from mlmp_spawner.operations.site import CLOCK, Site
from mlmp_spawner.settings import MLMP
from mlmp_spawner.store import jobs as store_of_jobs
from mlmp_spawner.store import reservations as store
from mlmp_spawner.store.tables import unit_in_use
from mlmp_spawner.store.transaction import read, transaction
from mlmp_spawner.units import DAY

log = logging.getLogger(__name__)

STALE = 3
"""After how many looks that did not come the last one says nothing any more."""


@dataclass(frozen=True, slots=True)
class Unit:
    """A physical unit as the last look saw it. ``holder``: the booking that has it, ``owner`` whose that is.

    ``utilisation`` (per cent) and ``memory`` (bytes) are None where the driver does not tell them.
    """

    id: str
    node: str
    resource: str
    model: str
    simulated: bool
    utilisation: float | None = None
    memory: int | None = None
    holder: str | None = None
    owner: str | None = None


@dataclass(frozen=True, slots=True)
class Activity:
    """What the last look saw, at ``at`` (ms UTC; None: there was none yet)."""

    at: int | None = None
    units: tuple[Unit, ...] = ()
    bookings: tuple[BookingUse, ...] = ()
    intruders: tuple[Intruder, ...] = ()
    stops_intruders: bool = False
    sees_processes: bool = False
    owners: dict[str, str] = field(default_factory=dict)
    """Owner by server id."""
    cluster: ClusterLook | None = None
    """Where servers run on a cluster: what was seen of it."""


class Watch:
    """Looks at this machine. ``last`` is what the last look saw.

    :param seen: is called with it, in the service's own thread.
    """

    def __init__(
        self,
        site: Callable[[], Site],
        settings: MLMP,
        *,
        gpus: GpuWatch | None = None,
        servers: ServerWatch | None = None,
        jobs: ServerWatch | None = None,
        seen: Callable[[Activity], None] = lambda activity: None,
    ) -> None:
        self.site = site
        self.settings = settings
        self.every = round(settings.sample_every * 1000)
        self.gpus = gpus or GpuWatch()
        self.servers = servers or ServerWatch(Path(settings.data) / "servers")
        self.jobs = jobs or ServerWatch(Path(settings.data) / "jobs" / "running")
        self.sampler = Sampler(every=self.every, idle_below=settings.idle_below)
        self.intruders = Intruders(stop=settings.intruders == "stop", ignore=settings.intruder_ignore)
        self.last = Activity()
        self._seen = seen
        self._thinned = 0
        self._compared_at: int | None = None
        self._unwritten: list[tuple[int, str | None, Change]] = []

    def looks(self, now: int) -> bool:
        """Whether the last look is recent, and was compared with one before: the first one knows no CPU time."""
        return self._compared_at is not None and now - self._compared_at <= STALE * self.every

    async def run(self) -> None:
        """Looks again and again; no failure ends it."""
        following = 0
        try:
            while True:
                now = units.now()
                try:
                    if now >= following:
                        following = now + self.every
                        await asyncio.to_thread(self.look, now)
                        self._seen(self.last)
                    elif self.intruders.next_due() is not None:
                        await asyncio.to_thread(self.enforce, now)
                except Exception:
                    log.exception("looking at what is used failed; tried again")
                due = min(following, self.intruders.next_due() or following)
                await asyncio.sleep(max(0.1, (due - units.now()) / 1000))
        finally:
            self.gpus.close()

    def look(self, now: int) -> Activity:
        """One look, written down."""
        site = self.site()
        servers_and_jobs = with_jobs(site, self.servers.read(), self.jobs.read())
        look = Look(now, self.last.at, self.gpus.read(), servers_and_jobs)
        bookings = self.sampler.take(site, look)
        found, servers = _units(site, look)
        changes = self.intruders.look(look.units, servers, look.servers, now)
        if look.since is not None:
            self._compared_at = now
        self.last = Activity(
            at=now,
            units=tuple(found),
            bookings=tuple(bookings),
            intruders=tuple(self.intruders.found),
            stops_intruders=self.intruders.stop,
            sees_processes=any(unit.pids is not None for unit in look.units.values()),
            owners={one.server_id: one.owner for one in bookings},
        )
        self._write(site, changes, now)
        if now >= self._thinned + DAY:
            sampling.thin(site, now=now, keep=self.settings.use_keep, forget=self.settings.use_forget)
            self._thinned = now
        return self.last

    def enforce(self, now: int) -> None:
        """Ends the intruders that had their time."""
        self._write(self.site(), self.intruders.enforce(now), now)

    def _write(self, site: Site, changes: list[Change], now: int) -> None:
        """Writes them into the history; what could not be written is tried again with the next ones."""
        for change in changes:
            one = change.intruder
            log.warning("%s: %s (pid %d) of %s on %s", change.action, one.name, one.pid, one.user, one.units)
            self._unwritten.append((now, self.last.owners.get(one.server_id or ""), change))
        if not self._unwritten:
            return
        with transaction(site.engine) as connection:
            for at, owner, change in self._unwritten:
                one = change.intruder
                # The whole command stays out of it: people put secrets there, and the history is kept.
                history.record(
                    connection, change.action, actor=CLOCK.name, at=at, user=one.user, owner=owner, pid=one.pid,
                    command=one.name, units=list(one.units), since=one.since,
                )  # fmt: skip
        self._unwritten.clear()


def with_jobs(site: Site, servers: Mapping[str, ServerUse], jobs: Mapping[str, ServerUse]) -> dict[str, ServerUse]:
    """What runs by whom it runs for: a job for the reservation that holds its units, one inside a booking for the
    booking, as if it were of its server.

    :param jobs: what attempts take, by their id.
    """
    found = dict(servers)
    if not jobs:
        return found
    with read(site.engine) as connection:
        for attempt in store_of_jobs.live_attempts(connection):
            use, holding = jobs.get(attempt.id), store.find(connection, attempt.reservation)
            if use is None or holding is None:
                continue
            holder = store.server_id_of(connection, holding.parent) if holding.parent else holding.id
            former = found.get(holder or holding.id, ServerUse(cpu=0))
            cpu = None if use.cpu is None or former.cpu is None else use.cpu + former.cpu
            found[holder or holding.id] = ServerUse(cpu, use.memory + former.memory, use.pids | former.pids)
    return found


def _units(site: Site, look: Look) -> tuple[list[Unit], dict[str, str | None]]:
    """All physical units with who has them, and by unit the server that may be on it."""
    with read(site.engine) as connection:
        held = {(row.node, row.resource, row.unit): row.holder for row in connection.execute(select(unit_in_use))}
        bookings = {holder: store.find(connection, holder) for holder in set(held.values())}
    found: list[Unit] = []
    servers: dict[str, str | None] = {}
    for node in site.catalog.nodes.values():
        for accelerator in node.accelerators:
            for unit in accelerator.unit_ids:
                holder = held.get((node.name, accelerator.resource, unit))
                booking = bookings.get(holder) if holder else None
                use = look.units.get(unit)
                servers[unit] = booking.server_id if booking else None
                found.append(
                    Unit(
                        unit, node.name, accelerator.resource, accelerator.model, accelerator.simulated,
                        use.utilisation if use else None, use.memory if use else None,
                        holder, booking.owner if booking else None,
                    )
                )  # fmt: skip
    return found, servers
