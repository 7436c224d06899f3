"""Change a booking: move it, resize it, extend it, give it back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal

from sqlalchemy import Connection

from mlmp_spawner.errors import (
    Changed,
    Conflict,
    Invalid,
    NoCapacity,
    NotAllowed,
    NotFound,
    NotNow,
    TooLate,
    Unavailable,
)
from mlmp_spawner.operations import history, limits, planning, yielding
from mlmp_spawner.operations.booking import ATTEMPTS, no_capacity
from mlmp_spawner.operations.requests import LATE, BookingRequest, Draft, usable_image
from mlmp_spawner.operations.site import Actor, Site
from mlmp_spawner.rules.due import is_live
from mlmp_spawner.rules.placement import Plan, Wanted, longest_from, place
from mlmp_spawner.rules.recurrence import local, zone_of
from mlmp_spawner.rules.reservations import Interval, Reservation
from mlmp_spawner.store import people
from mlmp_spawner.store import reservations as store
from mlmp_spawner.store import series as series_store
from mlmp_spawner.store.transaction import Busy, Refused, read, transaction
from mlmp_spawner.units import SECOND, format_duration, to_iso


@dataclass(frozen=True, slots=True)
class Changes:
    """What is to change; None leaves it as it is. ``node``: "" for any node; ``image``: "" for the profile's first."""

    start: int | None = None
    end: int | None = None
    node: str | None = None
    units: int | None = None
    title: str | None = None
    image: str | None = None


def get(site: Site, reservation_id: str) -> Reservation:
    """One booking.

    :raises NotFound: there is none with that id.
    """
    with read(site.engine) as connection:
        return _get(connection, reservation_id)


def change(
    site: Site,
    reservation_id: str,
    changes: Changes,
    *,
    actor: Actor,
    now: int,
    if_match: int | None = None,
    message: str = "",
) -> Reservation:
    """Moves, resizes or renames a booking.

    What has begun keeps its start, node and units; its end may be moved as by :func:`extend`, and its image be changed
    while no server of it runs.

    :param if_match: the version the caller saw. :param message: why, for its owner and the history.
    :raises Changed: it has another version by now.
    :raises NoCapacity, OverLimit, Invalid, NotNow, TooLate, NotAllowed, NotFound: nothing was changed.
    """

    def write(connection: Connection, old: Reservation) -> Reservation:
        match(old, if_match)
        new = changed(site, old, changes, now)
        if new.interval != old.interval or new.units != old.units or changes.node is not None:
            if old.state(now) == "active":
                new = _move_end(connection, site, old, new, actor, now)
            else:
                new = _replaced(connection, site, old, new, changes, actor, now)
            new = separated(connection, new, now)
        write_changed(connection, old, new, actor, now, message=message)
        return _get(connection, old.id)

    return _attempt(site, reservation_id, actor, write)


def write_changed(
    connection: Connection,
    old: Reservation,
    new: Reservation,
    actor: Actor,
    now: int,
    *,
    message: str = "",
    **columns: object,
) -> None:
    """Writes a booking as it is to be, its allocations apart. :param columns: what else is to change."""
    placed = bool(new.allocations)
    store.update_reservation(
        connection, old, start=new.start, end=new.end, server=new.server, units=new.units, title=new.title,
        image=new.image, pinned=new.pinned, wanted_node=new.wanted_node,
        warned_at=None if new.end > old.end else old.warned_at,
        announced_at=None if new.start != old.start else old.announced_at,
        offered_at=None if new.end > old.end else old.offered_at,
        waiting_reason=None if placed else old.waiting_reason,
        waitlist_position=None if placed else old.waitlist_position, **columns,
    )  # fmt: skip
    history.record(connection, "changed", actor=actor.name, at=now, reservation=old, start=new.start, end=new.end,
                   units=new.units, nodes=list(new.nodes), title=new.title, **_why(message))  # fmt: skip


def extend(
    site: Site, reservation_id: str, *, actor: Actor, now: int, end: int | None = None, duration: int | None = None
) -> Reservation:
    """Moves the end, where possible without a restart, until the stop begins.

    :param end: the new end in ms UTC. :param duration: or how much longer, in ms.
    :raises TooLate: the stop has begun, or the booking is over.
    :raises NoCapacity: somebody else has it then; ``longest_end`` says how far it could go.
    :raises OverLimit, Invalid, NotAllowed, NotFound: nothing was changed.
    """
    if (end is None) == (duration is None):
        raise Invalid.field("end", "give the new end, or by how much longer, and only one of them")
    with read(site.engine) as connection:
        old = _get(connection, reservation_id)
    target = end if end is not None else old.end + (duration or 0)
    if target <= old.end:
        raise Invalid.field("end", "an extension ends after the booking does; release it to end it earlier")
    return change(site, reservation_id, Changes(end=target), actor=actor, now=now)


def cancel(
    site: Site, reservation_id: str, *, actor: Actor, now: int, if_match: int | None = None, message: str = ""
) -> Reservation:
    """Cancels what has not begun; releases the rest of what has. Again on the same booking changes nothing.

    :param message: why, for its owner and the history.
    :raises Changed, TooLate, NotAllowed, NotFound: nothing was changed.
    """

    def write(connection: Connection, old: Reservation) -> Reservation:
        match(old, if_match)
        if old.cancelled_at is not None or old.end_reason in ("released", "cancelled"):
            return old
        if old.state(now) == "ended":
            raise TooLate("The booking is already over.")
        begun = old.state(now) == "active"
        reason: Literal["released", "cancelled"] = "released" if begun else "cancelled"
        give_back(connection, old, reason=reason, actor=actor.name, now=now, message=message)
        if old.series is not None and not begun:
            leave_out(connection, old)
        return _get(connection, old.id)

    return _attempt(site, reservation_id, actor, write)


def give_back(
    connection: Connection,
    old: Reservation,
    *,
    reason: Literal["released", "cancelled", "no_show", "idle", "capacity_lost"],
    actor: str,
    now: int,
    message: str = "",
) -> None:
    """Ends a booking now: what has begun is shortened, what has not is cancelled. What was is in the history."""
    begun = old.start < now and old.allocations and old.waiting_reason is None
    yielding.end_inside(connection, old, now, now)
    if begun:
        store.cut_allocations(connection, old.id, now)
        store.update_reservation(connection, old, end=now, end_reason=reason)
    else:
        store.delete_allocations(connection, old.id)
        store.update_reservation(connection, old, cancelled_at=now, end_reason=reason, waiting_reason=None)
    history.record(connection, reason, actor=actor, at=now, reservation=old, start=old.start, end=old.end,
                   units=old.units, nodes=list(old.nodes), **_why(message))  # fmt: skip


def _why(message: str) -> dict[str, str]:
    return {"message": message} if message else {}


def leave_out(connection: Connection, one: Reservation) -> None:
    """Makes one booking an exception of its series."""
    series = series_store.find(connection, one.series or "", lock=True)
    if series is not None and one.occurrence is not None:
        day = local(one.occurrence, zone_of(series.zone)).date().isoformat()
        series_store.change(connection, replace(series, without=tuple(sorted({*series.without, day}))))


def _attempt(
    site: Site, reservation_id: str, actor: Actor, write: Callable[[Connection, Reservation], Reservation]
) -> Reservation:
    for _ in range(ATTEMPTS):
        try:
            with _locked(site, reservation_id, actor) as (connection, old):
                return write(connection, old)
        except (Refused, Busy):
            continue
    raise Unavailable("The database is too busy just now.", hint="Nothing was changed; try again in a moment.")


@contextmanager
def _locked(site: Site, reservation_id: str, actor: Actor) -> Iterator[tuple[Connection, Reservation]]:
    """A write transaction that holds every node on which the booking may come to lie."""
    with read(site.engine) as connection:
        seen = get_own(connection, reservation_id, actor)
    nodes = set(seen.nodes)
    if seen.profile in site.catalog.profiles:
        nodes |= set(planning.nodes_of(site, seen.profile))
    with transaction(site.engine, lock=[(node, seen.resource) for node in nodes]) as connection:
        yield connection, _get(connection, reservation_id)


def _get(connection: Connection, reservation_id: str) -> Reservation:
    found = store.find(connection, reservation_id)
    if found is None:
        raise NotFound(f"There is no booking {reservation_id[:40]!r}.")
    return found


def get_own(connection: Connection, reservation_id: str, actor: Actor) -> Reservation:
    """One booking of the actor's; an admin's are all.

    :raises NotFound, NotAllowed: :raises Conflict: it is a job's, or a class.
    """
    found = _get(connection, reservation_id)
    if found.owner != actor.name and not actor.admin:
        raise NotAllowed("This booking is somebody else's.", hint="Ask whose it is, or an admin.")
    if found.kind == "job":
        raise Conflict(f"{found.id} holds the units of a job: it is no booking.", hint="Cancel the job instead.")
    if found.kind == "class":
        raise Conflict(f"{found.id} is a class: its course has it.", hint="Change it in the course.")
    return found


def match(old: Reservation, if_match: int | None) -> None:
    """:raises Changed: the booking is another than the caller saw."""
    if if_match is not None and if_match != old.version:
        raise Changed("The booking was changed meanwhile.", hint="Look at it as it is now and try again.")


def changed(site: Site, old: Reservation, changes: Changes, now: int) -> Reservation:
    """The booking as it would be; only sense is checked here, not room.

    :raises TooLate, NotNow, Invalid:
    """
    if old.state(now) == "ended":
        raise TooLate("The booking is over.")
    if old.is_seat and (changes.start, changes.end, changes.node, changes.units) != (None,) * 4:
        raise NotNow(
            "A seat lasts as long as its class, and stays where it is.", hint="Release it, or book for yourself."
        )
    begun = old.state(now) == "active"
    if begun and (changes.start not in (None, old.start) or changes.units not in (None, old.units)):
        raise NotNow("The booking has begun: its start and units stay.", hint="Release it and book anew.")
    if begun and changes.node is not None and changes.node not in old.nodes:
        raise NotNow("The booking has begun: it stays on its node.", hint="Release it and book anew.")
    start = old.start if changes.start is None else changes.start
    end = old.end if changes.end is None else changes.end
    if changes.start is not None and changes.end is None:
        end = start + old.interval.length
    if not begun and start < now - LATE:
        raise Invalid.field("start", f"it lies {format_duration(now - start)} in the past; book from now on")
    start = start if begun else max(start, now)
    if end <= max(start, now):
        raise Invalid.field("end", "a booking ends after it starts, and not in the past")
    units = old.units if changes.units is None else changes.units
    profile = site.catalog.profiles.get(old.profile)
    if units != old.units and not (profile and 1 <= units <= profile.max_units):
        valid = f"1 to {profile.max_units}" if profile else f"{old.units}, since its profile is gone"
        raise Invalid.field("units", f"{units} is not possible with {old.profile!r}; valid is {valid}")
    pinned = old.pinned if changes.node is None else bool(changes.node)
    title = old.title if changes.title is None else changes.title
    image = old.image if changes.image is None else _image(site, old, changes.image or None)
    wanted_node = old.wanted_node if changes.node is None else changes.node or None
    return replace(old, start=start, end=end, units=units, title=title, pinned=pinned, wanted_node=wanted_node,
                   image=image)  # fmt: skip


def _image(site: Site, old: Reservation, name: str | None) -> str | None:
    """The image that is asked for.

    :raises Invalid: the profile does not offer it. :raises NotNow: a server runs in another.
    """
    profile = site.catalog.profiles.get(old.profile)
    if profile is None and name is not None:
        raise Invalid.field("image", f"the profile {old.profile!r} is gone; leave it out")
    image = usable_image(site, profile, name) if profile else None
    if image != old.image and is_live(old):
        raise NotNow("A server of the booking is running.", hint="Stop it, then choose another image.")
    return image


def _move_end(
    connection: Connection, site: Site, old: Reservation, new: Reservation, actor: Actor, now: int
) -> Reservation:
    """Extends or shortens what has begun, where it is."""
    if is_live(old) and (old.stopping_at is not None or now >= old.stop_at(site.stop_lead)):
        raise TooLate("The stop has begun.", hint="Save your work, and book again from the end on.")
    if new.end < old.end:
        yielding.end_inside(connection, old, new.end, now)
        store.cut_allocations(connection, old.id, new.end)
        return new
    limits.check(connection, site, _draft(connection, new, actor), now, changed=old)
    more = Interval(old.end, new.end)
    view = planning.view(connection, old.resource, _nodes(site, old), more)
    wanted = Wanted(old.units, more, old.node_count, frozenset(old.nodes))
    plan = planning.plan(connection, site, old.resource, view.boards, wanted, now)
    if plan is None:
        here = [board for board in view.boards if board.node in old.nodes]
        longest = old.end + longest_from(here, wanted)
        much = format_duration(longest - old.end) if longest - old.end >= SECOND else "no time"
        raise NoCapacity(
            f"It can be extended by {much}, not by {format_duration(more.length)}: somebody else has it then.",
            longest_end=to_iso(longest),
            alternatives=[{"kind": "shorter", "request": {"end": to_iso(longest)}}] if longest > old.end else [],
        )
    planning.make_room(connection, plan, actor=actor.name, now=now)
    store.extend_allocations(connection, old, new.end)
    return new


def _replaced(
    connection: Connection, site: Site, old: Reservation, new: Reservation, changes: Changes, actor: Actor, now: int
) -> Reservation:
    """Places what has not begun anew: where it was if it fits there, else wherever it fits."""
    allowed = allowed_nodes(site, old, new, changes)
    drafted = _draft(connection, new, actor, allowed)
    limits.check(connection, site, drafted, now, changed=old)
    view = planning.view(connection, old.resource, allowed, new.interval, without={old.id})
    wanted = Wanted(new.units, new.interval, new.node_count)
    plan: Plan | None = None
    if old.nodes and set(old.nodes) <= allowed:
        plan = place(view.boards, replace(wanted, nodes=frozenset(old.nodes)), repack=False)
    plan = plan or planning.plan(connection, site, old.resource, view.boards, wanted, now, without={old.id})
    if plan is None and old.waiting_reason is not None:
        return replace(new, allocations=())
    if plan is None:
        request = BookingRequest(
            profile=new.profile, start=new.start, end=new.end, units=new.units,
            node=next(iter(allowed)) if new.pinned and len(allowed) == 1 else None, node_count=new.node_count,
            title=new.title,
        )  # fmt: skip
        raise no_capacity(site, view, drafted, request, now, change=True)
    store.delete_allocations(connection, old.id)
    planning.make_room(connection, plan, actor=actor.name, now=now)
    store.insert_allocations(connection, planning.allocations(new, plan.nodes))
    return replace(new, allocations=planning.allocations(new, plan.nodes))


def allowed_nodes(site: Site, old: Reservation, new: Reservation, changes: Changes) -> frozenset[str]:
    """Where a booking may come to lie.

    :raises Invalid: a node was asked for that has nothing for it.
    """
    allowed = frozenset(_nodes(site, old))
    if changes.node:
        if changes.node not in allowed or old.node_count > 1:
            valid = ", ".join(sorted(allowed)) or "none"
            raise Invalid.field("node", f"{changes.node!r} is not possible; valid: {valid}")
        return frozenset([changes.node])
    if new.pinned:
        return frozenset(old.nodes) or planning.nodes_for_waiting(site, old)
    return allowed


def separated(connection: Connection, new: Reservation, now: int) -> Reservation:
    """Bookings of one owner at the same time have servers of their own: what has not begun makes way."""
    others = store.select_where(
        connection, store.owned_by(new.owner), store.overlapping(new.interval), store.not_given_back()
    )
    same = [other for other in others if other.id != new.id and other.server == new.server]
    if same and new.start > now:
        return replace(new, server=new.id)
    for other in same:
        if other.start > now:
            store.update_reservation(connection, other, server=other.id)
    return new


def _nodes(site: Site, old: Reservation) -> list[str]:
    known = planning.nodes_of(site, old.profile) if old.profile in site.catalog.profiles else []
    return sorted({*known, *old.nodes})


def _draft(connection: Connection, new: Reservation, actor: Actor, nodes: frozenset[str] = frozenset()) -> Draft:
    """The booking as it would be, judged by the groups of its owner, whoever changes it."""
    groups = actor.groups if actor.name == new.owner else people.groups_of(connection, new.owner_id)
    return Draft(new, nodes, groups)
