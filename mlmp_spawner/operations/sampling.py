"""What was used of each booking: what one look saw, added up in steps of five minutes; since when a server idles.

A unit that a look finds busy counts as busy since the look before, and so does one that it finds idle. That is as
good as looking all the time, once there were many looks. A time in which nobody looked counts as neither.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from sqlalchemy import Connection, Insert, case, delete, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from mlmp_spawner.activity import ServerUse, UnitUse
from mlmp_spawner.operations.site import Site
from mlmp_spawner.rules.reservations import Reservation
from mlmp_spawner.store import reservations as store
from mlmp_spawner.store.tables import reservation, unit_in_use, use
from mlmp_spawner.store.transaction import read, transaction
from mlmp_spawner.units import DAY, HOUR, MINUTE

STEP = 5 * MINUTE


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen at ``at`` (ms UTC): units by their id, servers by server id. ``since``: the look before."""

    at: int
    since: int | None = None
    units: Mapping[str, UnitUse] = field(default_factory=dict)
    servers: Mapping[str, ServerUse] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BookingUse:
    """A booking whose server runs, as the last look saw it.

    ``held``: its units as (node, unit id), empty for what is only counted. ``busy``: how many of its ``units`` did
    something. ``by_gpu``: judged by the GPU itself, not by CPU time. ``cores``: CPU time in cores, None at first.
    """

    reservation: str
    owner: str
    server_id: str
    units: int
    busy: int
    by_gpu: bool
    cores: float | None
    memory: int
    idle_since: int | None
    held: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class _Row:
    booking: Reservation
    seen: BookingUse
    start: int
    end: int
    cpu: int


class Sampler:
    """Writes down what each look saw.

    :param every: ms between two looks. :param idle_below: per cent, see ``c.MLMP.idle_below``.
    """

    def __init__(self, *, every: int, idle_below: float) -> None:
        self.every = every
        self.idle_below = idle_below
        self._last_busy: dict[str, int] = {}

    def take(self, site: Site, look: Look) -> list[BookingUse]:
        """Adds one look; returns the bookings whose servers run. One short transaction, none where nothing runs."""
        rows = [self._judge(booking, held, look) for booking, held in _live(site, look)]
        running = {row.seen.server_id for row in rows}
        self._last_busy = {server: at for server, at in self._last_busy.items() if server in running}
        if rows:
            with transaction(site.engine) as connection:
                _add(connection, rows)
                for row in rows:
                    _keep_idle(connection, row)
        return [row.seen for row in rows]

    def _judge(self, booking: Reservation, held: list[tuple[str, str]], look: Look) -> _Row:
        server = look.servers[booking.server_id]
        units = len(held) or booking.units * booking.node_count
        spent = None if look.since is None else max(1, look.at - look.since)
        load = None if server.cpu is None or spent is None else server.cpu / spent
        working = load is not None and load * 100 > self.idle_below
        told = [look.units.get(unit, UnitUse()).utilisation for _, unit in held]
        busy = sum(working if rate is None else rate > self.idle_below for rate in told) if held else units * working
        idle = self._idle_since(booking, bool(busy), look)
        seen = BookingUse(
            booking.id, booking.owner, booking.server_id, units, busy, any(rate is not None for rate in told),
            None if load is None else round(load, 3), server.memory, idle, tuple(held),
        )  # fmt: skip
        since = look.at if look.since is None else max(look.since, look.at - 2 * self.every)
        start = max(since, booking.start, booking.starting_at or 0)
        return _Row(booking, seen, start, min(look.at, booking.end), server.cpu or 0)

    def _idle_since(self, booking: Reservation, busy: bool, look: Look) -> int | None:
        """Since when it does nothing. What nobody has looked at before gets the benefit of the doubt."""
        if busy or (look.since is None and booking.idle_since is None):
            self._last_busy[booking.server_id] = look.at
            return None
        if booking.idle_since is not None or booking.started_at is None:
            return booking.idle_since
        return max(self._last_busy.get(booking.server_id, 0), booking.started_at)


def _live(site: Site, look: Look) -> list[tuple[Reservation, list[tuple[str, str]]]]:
    """The bookings whose server was seen, with the units that they hold."""
    with read(site.engine) as connection:
        rows = [row for row in store.live(connection) if row.server_id in look.servers]
        held: dict[str, list[tuple[str, str]]] = {}
        for unit in connection.execute(select(unit_in_use).order_by(unit_in_use.c.unit)):
            held.setdefault(unit.holder, []).append((unit.node, unit.unit))
    return [(row, held.get(row.id, [])) for row in rows]


def _add(connection: Connection, rows: list[_Row]) -> None:
    values = [value for row in rows for value in _values(row)]
    if values:
        connection.execute(_upsert(connection), values)


def _values(row: _Row) -> Iterator[dict[str, object]]:
    """What a look adds to each step that it reaches over, node by node."""
    nodes: dict[str, int] = {}
    for node, _ in row.seen.held:
        nodes[node] = nodes.get(node, 0) + 1
    places = nodes or dict.fromkeys(row.booking.nodes, row.booking.units)
    total = sum(places.values())
    at = row.start - row.start % STEP
    while row.end > row.start and at < row.end:
        part = min(row.end, at + STEP) - max(row.start, at)
        for node, units in places.items():
            yield {
                "reservation": row.booking.id, "at": at, "node": node, "watched": units * part,
                "busy": row.seen.busy * units * part // total,
                "cpu": row.cpu * part * units // ((row.end - row.start) * total),
                "memory": row.seen.memory * units // total,
            }  # fmt: skip
        at += STEP


def _upsert(connection: Connection) -> Insert:
    new = postgresql.insert(use) if connection.dialect.name == "postgresql" else sqlite.insert(use)
    added = {name: use.c[name] + new.excluded[name] for name in ("watched", "busy", "cpu")}
    most = case((new.excluded.memory > use.c.memory, new.excluded.memory), else_=use.c.memory)
    return new.on_conflict_do_update(
        index_elements=[use.c.reservation, use.c.at, use.c.node], set_={**added, "memory": most}
    )


def _keep_idle(connection: Connection, row: _Row) -> None:
    """The facts that the clock goes by. They change no booking, so its version stays: an open form remains valid."""
    since = row.seen.idle_since
    if since == row.booking.idle_since:
        return
    same_start = reservation.c.starting_at == row.booking.starting_at
    mine = update(reservation).where(reservation.c.id == row.booking.id, same_start)
    facts = {"idle_since": since} if since is not None else {"idle_since": None, "idle_warned_at": None}
    connection.execute(mine.values(facts))


def thin(site: Site, *, now: int, keep: int, forget: int | None) -> None:
    """Old steps become hours; what is older still is forgotten.

    :param keep: days in steps. :param forget: days until they are forgotten, None: never.
    """
    if forget is not None:
        with transaction(site.engine) as connection:
            connection.execute(delete(use).where(use.c.at < now - forget * DAY))
    before = (now - keep * DAY) // HOUR * HOUR
    while (at := _unthinned(site, before)) is not None:
        _make_hours(site, at - at % HOUR, min(before, at - at % HOUR + DAY))


def _unthinned(site: Site, before: int) -> int | None:
    with read(site.engine) as connection:
        found: int | None = connection.execute(
            select(func.min(use.c.at)).where(use.c.at < before, use.c.at % HOUR != 0)
        ).scalar()
    return found


def _make_hours(site: Site, start: int, end: int) -> None:
    hour = (use.c.at - use.c.at % HOUR).label("hour")
    span = (use.c.at >= start, use.c.at < end)
    sums = [func.sum(use.c[name]).label(name) for name in ("watched", "busy", "cpu")]
    query = select(use.c.reservation, hour, use.c.node, *sums, func.max(use.c.memory).label("memory"))
    with transaction(site.engine) as connection:
        rows = connection.execute(query.where(*span).group_by(use.c.reservation, hour, use.c.node)).all()
        connection.execute(delete(use).where(*span))
        values = [
            {"reservation": row.reservation, "at": row.hour, "node": row.node, "watched": int(row.watched),
             "busy": int(row.busy), "cpu": int(row.cpu), "memory": row.memory}
            for row in rows
        ]  # fmt: skip
        connection.execute(insert(use), values)
