"""Admit a server: no server runs on a unit without a booking that says so.

These are the short questions that the spawner asks straight of the database, so that people can start their bookings
while the service is down. Which physical unit a server gets is decided here, in ``mlmp_unit_in_use``; a row goes only
when the server was *seen gone*.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from sqlalchemy import Connection, delete, insert, select

from mlmp_spawner.deadlines import Deadline
from mlmp_spawner.errors import Conflict, Invalid, NotFound, NotNow, TooLate, Unavailable
from mlmp_spawner.operations import booking, history, limits, planning, yielding
from mlmp_spawner.operations.courses import opening
from mlmp_spawner.operations.requests import BookingRequest, usable_profile
from mlmp_spawner.operations.site import Actor, Site
from mlmp_spawner.rules.due import is_live
from mlmp_spawner.rules.placement import Wanted, longest_from
from mlmp_spawner.rules.reservations import Interval, Reservation, chain_end, peak_use
from mlmp_spawner.store import classes, ssh_ways
from mlmp_spawner.store import reservations as store
from mlmp_spawner.store.tables import unit_in_use
from mlmp_spawner.store.transaction import Busy, Refused, read, transaction
from mlmp_spawner.units import MINUTE, SECOND, format_duration, to_iso

AFTER_RELEASE = 10 * SECOND
"""How long a server may take to end once its booking was released or lost."""


@dataclass(frozen=True, slots=True)
class StartOptions:
    """What somebody wants to start: a booking of theirs, or a profile for a while (``duration`` in ms, from now)."""

    reservation: str | None = None
    profile: str | None = None
    units: int | None = None
    node: str | None = None
    duration: int | None = None
    image: str | None = None


@dataclass(frozen=True, slots=True)
class Admission:
    """The answer: this booking, on this node, with these physical units (none where units aren't told apart)."""

    reservation: Reservation
    node: str
    unit_ids: tuple[str, ...]
    deadline: Deadline


class WaitingForUnits(Conflict):
    """The units are booked, but a former server, or a job that makes way, is still seen on them; ``owner`` is whose.
    ``until``: when the job is gone at the latest (ms UTC), None for a server."""

    code, title = "waiting_for_units", "Waiting for the units"

    def __init__(self, owner: str, until: int | None = None, *, now: int = 0) -> None:
        self.owner, self.until = owner, until
        if until is None:
            super().__init__(f"Waiting for {owner}'s server to end.", owner=owner)
            return
        length = format_duration(max(SECOND, until - now))
        super().__init__(
            f"Waiting for {owner}'s job to make way: it saves its work, for {length} at most.", owner=owner,
            until=to_iso(until),
        )  # fmt: skip

    @property
    def anonymous(self) -> str:
        """The same without saying whose it is."""
        what = "the former server to end" if self.until is None else "a job to make way"
        return f"Waiting for {what}."


def admit(site: Site, *, actor: Actor, server: str, options: StartOptions, now: int) -> Admission:
    """Says under which booking the server may start, booking from now where there is none (a walk-up).

    A booking of one's own that is active for this server wins over everything that the options say, so that options
    remembered from an earlier start do no harm.

    :param server: the name of the server, "" for the default one.
    :raises WaitingForUnits: try again in a moment. :raises NoCapacity: nothing free for a walk-up.
    :raises NotNow, TooLate, NotFound, Invalid, OverLimit: nothing was started or booked.
    """
    reservation = (
        _running(site, actor, server, now)
        or _seat(site, actor, server, options, now)
        or _named(site, actor, server, options, now)
        or walk_up(site, actor=actor, server=server, options=options, now=now)
    )
    with read(site.engine) as connection:
        stop_at = deadline_of(connection, site, reservation).stop_at
    if now >= stop_at:
        left = format_duration(max(0, reservation.end - now))
        raise TooLate(f"The booking ends in {left}: too late to start.", hint="Extend it first, or book anew.")
    for _ in range(booking.ATTEMPTS):
        try:
            return _claim(site, actor, reservation, now)
        except (Refused, Busy):
            continue
    raise Unavailable("The database is too busy just now.", hint="Nothing was started; try again in a moment.")


def _running(site: Site, actor: Actor, server: str, now: int) -> Reservation | None:
    """The booking that somebody has for this server now."""
    with read(site.engine) as connection:
        mine = store.of_owner(connection, actor.name, since=now)
    return next((r for r in mine if r.server == server and r.state(now) == "active" and r.allocations), None)


def _seat(site: Site, actor: Actor, server: str, options: StartOptions, now: int) -> Reservation | None:
    """A seat of a class under way that the actor is late for, unless another booking is meant."""
    if options.reservation is not None:
        with read(site.engine) as connection:
            named = store.find(connection, options.reservation)
        if named is None or named.owner != actor.name or named.state(now) != "ended":
            return None
    return opening.take(
        site, actor=actor, server=server, profile=options.profile, node=options.node, units=options.units, now=now
    )


def _named(site: Site, actor: Actor, server: str, options: StartOptions, now: int) -> Reservation | None:
    """The booking that the options name, where there is nothing against starting it.

    :raises MLMPError: there is.
    """
    if options.reservation is None:
        return None
    with read(site.engine) as connection:
        named = store.find(connection, options.reservation)
    if named is None or named.owner != actor.name or named.kind == "job":
        raise NotFound(f"You have no booking {options.reservation[:40]!r}.")
    state = named.state(now)
    if state == "active" and named.server != server:
        name = f"the server {named.server!r}" if named.server else "your default server"
        raise Conflict(f"That booking is for {name}.", hint="Start it from your bookings.", server=named.server)
    if state == "booked":
        raise NotNow(f"Your booking begins in {format_duration(named.start - now)}.", hint="Start it then.")
    if state == "waiting":
        raise NotNow("Your booking still waits for something to become free.", hint="You are told when it does.")
    if options.profile is None:
        raise TooLate("That booking is over.", hint="Book again, or start something that is free now.")
    return None


def from_now(site: Site, *, actor: Actor, options: StartOptions, now: int) -> Reservation:
    """What somebody has from now on who comes without a booking: a seat of a class under way that they are late for,
    else a walk-up.

    :raises NoCapacity, OverLimit, Invalid, NotAllowed: nothing was booked.
    """
    seat = opening.take(
        site, actor=actor, server=None, profile=options.profile, node=options.node, units=options.units, now=now
    )
    return seat or walk_up(site, actor=actor, server=None, options=options, now=now)


def walk_up(site: Site, *, actor: Actor, server: str | None, options: StartOptions, now: int) -> Reservation:
    """Books from now, cut to what is free before the next booking.

    :param server: the name of the server that is to start; None for one that no booking of the actor uses then.
    :raises NoCapacity, OverLimit, Invalid, NotAllowed: nothing was booked.
    """
    if options.profile is None:
        raise Invalid(
            "You have no booking for this server now, and no profile was chosen.",
            hint="Choose what to start, or book first.",
        )
    profile = usable_profile(site, options.profile, actor.groups)
    with read(site.engine) as connection:
        rules = limits.of(limits.rules(connection, site, actor.name), actor.name, actor.groups, profile)
    longest = min(profile.max_duration, rules.max_duration or profile.max_duration)
    length = min(profile.default_duration, longest) if options.duration is None else options.duration
    units = profile.units if options.units is None else options.units
    request = BookingRequest(profile=profile.name, start=now, duration=length, units=units, node=options.node,
                             image=options.image, server=server)  # fmt: skip
    if length <= 0:
        raise Invalid.field("duration", "it is longer than nothing")
    with read(site.engine) as connection:
        nodes = [options.node] if options.node else planning.nodes_of(site, profile.name)
        boards = planning.view(connection, profile.resource, nodes, Interval(now, now + length)).boards
        free = longest_from(boards, Wanted(units, Interval(now, now + length)))
    if free < length and free >= (rules.min_duration or MINUTE):
        request = replace(request, duration=free)  # cut to what is free before the next booking
    return booking.book(site, request, actor=actor, now=now)


def _claim(site: Site, actor: Actor, seen: Reservation, now: int) -> Admission:
    locks = [(node, seen.resource) for node in seen.nodes]
    with transaction(site.engine, lock=locks) as connection:
        reservation = store.find(connection, seen.id)
        if reservation is None or reservation.state(now) != "active" or not reservation.allocations:
            raise TooLate("The booking is over.")
        if reservation.stopping_at is not None:
            raise TooLate("The booking's server is being stopped, since its end is near.")
        node = reservation.nodes[0]
        units = take_units(connection, site, reservation, node, now)
        store.update_reservation(
            connection, reservation, starting_at=now, started_at=None, stopped_at=None, continues=None,
            idle_since=None, idle_warned_at=None,
        )  # fmt: skip
        history.record(connection, "starting", actor=actor.name, at=now, reservation=reservation, node=node,
                       units=list(units))  # fmt: skip
        admitted = store.find(connection, seen.id) or reservation
        return Admission(admitted, node, units, deadline_of(connection, site, admitted))


def take_units(connection: Connection, site: Site, reservation: Reservation, node: str, now: int) -> tuple[str, ...]:
    """Reserves physical units; what this booking already holds is taken again.

    :raises WaitingForUnits: too few are free, since former ones are still seen on them, or others who booked before
        need those that are.
    """
    table = unit_in_use.c
    here = (table.node == node, table.resource == reservation.resource)
    rows = connection.execute(select(unit_in_use).where(*here)).all()
    mine = sorted(row.unit for row in rows if row.holder == reservation.id)
    known = site.catalog.unit_ids(node, reservation.resource)
    if not known:
        return ()
    if not mine:
        _let_pass(connection, reservation, node, Counter(row.holder for row in rows), len(known), now)
    held = {row.unit for row in rows}
    free = [unit for unit in known if unit not in held]
    chosen = (mine + free)[: reservation.units]
    if len(chosen) < reservation.units:
        raise _waiting(connection, [row.holder for row in rows if row.holder != reservation.id], now)
    extra = set(mine) - set(chosen)
    if extra:
        connection.execute(delete(unit_in_use).where(*here, table.unit.in_(extra)))
    added = [unit for unit in chosen if unit not in held]
    if added:
        row = {"node": node, "resource": reservation.resource, "holder": reservation.id, "since": now}
        connection.execute(insert(unit_in_use), [row | {"unit": unit} for unit in added])
    return tuple(unit for unit in known if unit in chosen)


def _let_pass(
    connection: Connection, reservation: Reservation, node: str, held: Mapping[str, int], capacity: int, now: int
) -> None:
    """While a job is longer on its units than it has them, somebody has to wait: who booked last, not whoever begins
    last. Who booked further ahead than its grace finds units then.

    :param held: how many units each holder has. :raises WaitingForUnits: it is this one that waits.
    """
    over = yielding.overstaying(connection, held, now)
    if not over:
        return
    last = max(over, key=lambda job: over[job])
    window = Interval(now, over[last])
    rows = [row for row in store.taken(connection, reservation.resource, [node], window) if row[0] not in over]
    made = store.made_at(connection, {row[0] for row in rows})
    root = classes.root_of(connection, reservation)  # a seat was booked when its class was
    own = (root.created_at, root.id)
    before = {name for name, at in made.items() if name in held or (at, name) <= own}
    taken = [(start, end, units) for name, _, units, start, end in rows if name in before]
    taken += [(now, until, held[job]) for job, until in over.items()]
    if peak_use(taken, window) > capacity:
        raise _waiting(connection, [last], now)


def _waiting(connection: Connection, holders: list[str], now: int) -> WaitingForUnits:
    """For whom: of all that hold units there who is to be gone first."""
    former = [row for holder in holders if (row := store.find(connection, holder)) is not None]
    first = min(former, key=lambda row: row.end, default=None)
    if first is None:
        return WaitingForUnits("the former user")
    until = yielding.gone_at(connection, first.id) if first.kind == "job" else None
    return WaitingForUnits(first.owner, until, now=now)


def job_in_the_way(site: Site, node: str, *, now: int) -> WaitingForUnits | None:
    """The job on a node that makes way for who starts there; None where there is none. For clusters, whose units have
    no ids: who still has them is known when the scheduler finds too few."""
    with read(site.engine) as connection:
        last = yielding.leaving(connection, node, now)
    return None if last is None else WaitingForUnits(*last, now=now)


def started(site: Site, reservation_id: str, *, now: int) -> None:
    """The server of a booking is up."""
    with transaction(site.engine) as connection:
        reservation = store.find(connection, reservation_id)
        if reservation is not None and is_live(reservation) and reservation.started_at is None:
            store.update_reservation(connection, reservation, started_at=now)
            history.record(connection, "started", actor=reservation.owner, at=now, reservation=reservation)


def gone(site: Site, server_id: str, *, now: int) -> None:
    """The server that was started under ``server_id`` was seen gone: its units are free again."""
    with transaction(site.engine) as connection:
        live = store.live_server(connection, server_id)
        for reservation in live:
            store.update_reservation(connection, reservation, stopped_at=now)
            history.record(connection, "stopped", actor="clock", at=now, reservation=reservation)
        holders = {server_id, *(reservation.id for reservation in live)}
        # A job inside the booking may still run on them.
        left = holders - yielding.held_inside(connection, holders)
        connection.execute(delete(unit_in_use).where(unit_in_use.c.holder.in_(left)))
        ssh_ways.remove(connection, holders)


def keep_way(site: Site, server_id: str, *, token: str, now: int) -> None:
    """Lets the SSH gateway enter the server that is started under ``server_id``, by that server's own token."""
    if not site.ssh.enabled:
        return
    with transaction(site.engine) as connection:
        ssh_ways.keep(connection, server_id, token, at=now)


def deadline_of(connection: Connection, site: Site, reservation: Reservation) -> Deadline:
    """What the enforcers go by for the server of a booking: the end of the unbroken chain that it begins."""
    if reservation.end_reason is not None or reservation.cancelled_at is not None:
        over = reservation.cancelled_at if reservation.cancelled_at is not None else reservation.end
        return Deadline(stop_at=over, end=over + AFTER_RELEASE)
    last = chain_end(reservation, store.of_owner(connection, reservation.owner, since=reservation.start))
    return Deadline(stop_at=last.stop_at(site.stop_lead), end=last.end)


def ended(site: Site, *, owner: str, server: str, now: int) -> bool:
    """Whether no booking of the owner's allows this server to run now."""
    with read(site.engine) as connection:
        mine = store.of_owner(connection, owner, since=now)
    return not any(row.server == server and row.state(now) == "active" for row in mine)
