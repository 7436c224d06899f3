"""Book: plan, check the rules of sharing, write. The database has the last word on what fits.

A plan is made from what was read before the write transaction, so that the transaction stays short (on SQLite a long
one would freeze the hub). Inside it is only seen whether the plan still holds; after :data:`OPTIMISTIC` vain tries the
plan is made inside.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection

from mlmp_spawner.errors import NoCapacity, Unavailable
from mlmp_spawner.operations import history, limits, planning
from mlmp_spawner.operations.idempotency import Repeatable
from mlmp_spawner.operations.planning import View
from mlmp_spawner.operations.requests import BookingRequest, Draft, choose_server, draft
from mlmp_spawner.operations.site import Actor, Site
from mlmp_spawner.rules import placement
from mlmp_spawner.rules.placement import Alternative, Plan, Wanted
from mlmp_spawner.rules.reservations import Interval, Reservation
from mlmp_spawner.store import reservations as store
from mlmp_spawner.store.transaction import Busy, Refused, lock_owner, read, transaction
from mlmp_spawner.units import DAY, compact_duration, format_duration, to_iso

OPTIMISTIC = 2
"""How often a plan that was overtaken is made anew outside the write transaction."""

ATTEMPTS = 8
"""How often a write is tried that the database gave up on (a lock, a serialisation failure)."""

LOOK_AHEAD = 14 * DAY
"""How far ahead alternatives are looked for where no limit says less."""


@dataclass(frozen=True, slots=True)
class Planned:
    """What was planned for a draft, and what was seen for it. ``plan`` is None where nothing fits."""

    view: View
    plan: Plan | None


def book(
    site: Site, request: BookingRequest, *, actor: Actor, now: int, idempotency_key: str | None = None
) -> Reservation:
    """Books what is asked for, or puts it on the waitlist where the request says so and nothing fits.

    :param idempotency_key: the caller's own name for this request: a repetition within a day answers with the booking
        that the first one made.
    :raises Invalid, NotAllowed, NotFound: see :func:`~mlmp_spawner.operations.requests.draft`.
    :raises OverLimit: a rule of sharing refuses it; the numbers are in ``limits``.
    :raises NoCapacity: nothing fits; ``alternatives`` can be posted as they are.
    :raises Conflict: the idempotency key was used for another request.
    """
    repeatable = Repeatable(actor, request, idempotency_key)
    for attempt in range(ATTEMPTS):
        with read(site.engine) as connection:
            if known := repeatable.known(connection, now):
                return known
            drafted = draft(connection, site, request, actor, now)
            limits.check(connection, site, drafted, now)
            planned = plan_for(connection, site, drafted, now)
        if planned.plan is None and not request.waitlist:
            raise no_capacity(site, planned.view, drafted, request, now)
        resource = drafted.reservation.resource
        try:
            touched = [(node, resource) for node in _touched(planned, attempt)]
            with transaction(site.engine, lock=touched) as connection:
                lock_owner(connection, drafted.reservation.owner)
                if known := repeatable.known(connection, now):
                    return known
                if not _still_holds(connection, planned, resource, attempt):
                    if attempt < OPTIMISTIC:
                        continue
                    planned = plan_for(connection, site, drafted, now)
                if planned.plan is None and not request.waitlist:
                    raise no_capacity(site, planned.view, drafted, request, now)
                limits.check(connection, site, drafted, now)
                grace = limits.for_owner(connection, site, drafted).no_show_grace
                booked = write(connection, drafted, planned.plan, request, actor, now, grace=grace)
                repeatable.remember(connection, booked, now)
                return booked
        except (Refused, Busy):
            continue
    raise Unavailable("The database is too busy to book just now.", hint="Nothing was changed; try again in a moment.")


def plan_for(
    connection: Connection, site: Site, drafted: Draft, now: int, *, without: Collection[str] = ()
) -> Planned:
    """Where a draft could go: where its server already is, else the best fit, else with others moved.

    :param without: ids of bookings that are left out, as if they had been given back.
    """
    new = drafted.reservation
    view = planning.view(connection, new.resource, drafted.nodes, new.interval, without=without)
    wanted = Wanted(new.units, new.interval, new.node_count)
    if drafted.preferred and set(drafted.preferred) <= drafted.nodes:
        here = placement.place(view.boards, replace(wanted, nodes=frozenset(drafted.preferred)), repack=False)
        if here is not None:
            return Planned(view, here)
    return Planned(view, planning.plan(connection, site, new.resource, view.boards, wanted, now))


def _touched(planned: Planned, attempt: int) -> Collection[str]:
    """The nodes to lock: those that the plan books, and all of them where it moves bookings or is made anew inside."""
    if planned.plan is None or not planned.plan.alone or attempt >= OPTIMISTIC:
        return planned.view.versions
    return planned.plan.nodes


def _still_holds(connection: Connection, planned: Planned, resource: str, attempt: int) -> bool:
    if planned.plan is not None and planned.plan.alone and attempt < OPTIMISTIC:
        return True  # whether it does, the database says when it is written
    now = {node: version for node, (_, version) in store.capacities(connection, resource).items()}
    return all(now.get(node) == version for node, version in planned.view.versions.items())


def write(
    connection: Connection,
    drafted: Draft,
    plan: Plan | None,
    request: BookingRequest,
    actor: Actor,
    now: int,
    *,
    grace: int | None,
    **told: Any,
) -> Reservation:
    """Writes what was drafted and planned; without a plan, on the waitlist.

    :param grace: how long after its start nobody may come (ms). :param told: more for the history.
    """
    new = replace(choose_server(connection, drafted, request.server).reservation, no_show_grace=grace)
    if plan is None:
        position = store.next_waitlist_position(connection)
        new = replace(new, waiting_reason="requested", waitlist_position=position)
    else:
        planning.make_room(connection, plan, actor=actor.name, now=now)
        new = replace(new, allocations=planning.allocations(new, plan.nodes))
    store.insert_reservation(connection, new)
    action = "booked" if plan else "waitlisted"
    told |= {"image": new.image} if new.image else {}
    history.record(connection, action, actor=actor.name, at=now, reservation=new, start=new.start, end=new.end,
                   units=new.units, nodes=list(new.nodes), profile=new.profile, **told)  # fmt: skip
    return new


def no_capacity(
    site: Site, view: View, drafted: Draft, request: BookingRequest, now: int, *, change: bool = False
) -> NoCapacity:
    """The refusal, with what could be had instead: ready to POST, or with ``change`` to PATCH."""
    new = drafted.reservation
    with read(site.engine) as connection:
        rules = limits.for_owner(connection, site, drafted)
        horizon = new.start + min(rules.ahead or LOOK_AHEAD, LOOK_AHEAD)
        wide = planning.view(connection, new.resource, planning.nodes_of(site, new.profile),
                             Interval(new.start, horizon + new.interval.length), without={new.id})  # fmt: skip
        found = placement.alternatives(
            wide.boards, Wanted(new.units, new.interval, new.node_count),
            horizon=horizon, shortest=rules.min_duration or 1, node=request.node,
        )  # fmt: skip
        possible = [a for a in found if limits.allows(connection, site, _instead(drafted, a), now)]
    return NoCapacity(
        _sentence(site, view, new, request),
        hint="Take one of the alternatives." if possible else "Join the waitlist, or ask for less.",
        alternatives=[
            {"kind": a.kind, "request": _to_patch(a) if change else _to_post(a, request, now)} for a in possible
        ],
    )


def _instead(drafted: Draft, alternative: Alternative) -> Draft:
    interval = alternative.interval
    changed = replace(drafted.reservation, start=interval.start, end=interval.end, units=alternative.units)
    return replace(drafted, reservation=changed)


def _sentence(site: Site, view: View, new: Reservation, request: BookingRequest) -> str:
    rooms = sorted((max(0, board.for_bookings().room(new.interval)) for board in view.boards), reverse=True)
    title = site.catalog.profiles[new.profile].title
    on = request.node or ("any node" if len(view.boards) != 1 else view.boards[0].node)
    length = format_duration(new.interval.length)
    asked = f"You asked for {new.units} × {title} for {length}"
    most = f"at most {rooms[0]}" if rooms and rooms[0] else "none"
    if new.node_count > 1:
        fitting = sum(room >= new.units for room in rooms)
        return f"{asked} on {new.node_count} nodes; {fitting} of them would have that many free all that time."
    return f"{asked}; on {on} {most} would be free all that time."


def _to_post(alternative: Alternative, request: BookingRequest, now: int) -> dict[str, object]:
    """The request again, with what is different: ready to POST."""
    interval = alternative.interval
    body: dict[str, object] = {"profile": request.profile, "units": alternative.units}
    if interval.start <= now and alternative.kind == "shorter":
        body["end"] = to_iso(interval.end)  # it may be posted a little later, and somebody has it from then on
    elif interval.start <= now:
        body["duration"] = compact_duration(interval.length)
    else:
        body |= {"start": to_iso(interval.start), "end": to_iso(interval.end)}
    if alternative.node is not None:
        body["node"] = alternative.node
    if request.node_count != 1:
        body["node_count"] = request.node_count
    for name in ("title", "server", "image", "owner"):
        if value := getattr(request, name):
            body[name] = value
    return body


def _to_patch(alternative: Alternative) -> dict[str, object]:
    interval = alternative.interval
    body: dict[str, object] = {"start": to_iso(interval.start), "end": to_iso(interval.end)}
    body["units"] = alternative.units
    return body if alternative.node is None else body | {"node": alternative.node}
