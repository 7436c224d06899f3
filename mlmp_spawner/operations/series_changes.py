"""Change or cancel a series from one date on. What has begun or is over is never touched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import Any, Literal

from sqlalchemy import Connection

from mlmp_spawner.errors import Invalid, NotFound, NotNow, TooLate, Unavailable
from mlmp_spawner.operations import booking, changes, limits, planning
from mlmp_spawner.operations.booking import ATTEMPTS, Planned
from mlmp_spawner.operations.changes import Changes
from mlmp_spawner.operations.requests import Draft, Recurrence, Wish
from mlmp_spawner.operations.series import as_json, clash, plan_again, touched
from mlmp_spawner.operations.site import Actor, Site, new_id
from mlmp_spawner.rules import recurrence as rules
from mlmp_spawner.rules.reservations import Reservation
from mlmp_spawner.store import people
from mlmp_spawner.store import reservations as store
from mlmp_spawner.store import series as series_store
from mlmp_spawner.store.series import Series
from mlmp_spawner.store.transaction import Busy, Refused, lock_owner, read, transaction
from mlmp_spawner.units import compact_duration, format_duration, to_iso

Which = Literal["this", "following", "all"]


@dataclass(frozen=True, slots=True)
class Done:
    """The booking that was named, as it is now; the ids of all that were changed or cancelled, it among them where it
    was; and the request that would book again what was cancelled."""

    reservation: Reservation
    touched: tuple[str, ...]
    undo: dict[str, Any] | None = None


def look(site: Site, series_id: str) -> tuple[Series, list[Reservation]]:
    """A series with its bookings, cancelled ones too.

    :raises NotFound: there is none with that id.
    """
    with read(site.engine) as connection:
        found = series_store.find(connection, series_id)
        if found is None:
            raise NotFound(f"There is no series {series_id[:40]!r}.")
        return found, series_store.bookings(connection, series_id)


def cancel(
    site: Site, reservation_id: str, *, which: Which = "this", actor: Actor, now: int, if_match: int | None = None
) -> Done:
    """Cancels a booking, or those of its series that follow too, or all that have not begun.

    One that is cancelled alone becomes an exception of its series.

    :raises Invalid: it is of no series. :raises Changed, TooLate, NotAllowed, NotFound: nothing was changed.
    """
    if which == "this":
        before = changes.get(site, reservation_id)
        after = changes.cancel(site, reservation_id, actor=actor, now=now, if_match=if_match)
        gone = after.cancelled_at is not None and before.cancelled_at is None
        return Done(after, (after.id,), _undo(before, actor) if gone else None)
    for _ in range(ATTEMPTS):
        with read(site.engine) as connection:
            chosen = changes.get_own(connection, reservation_id, actor)
            nodes = {node for row in _targets(connection, chosen, which, now) for node in row.nodes}
        try:
            with transaction(site.engine, lock=[(node, chosen.resource) for node in nodes]) as connection:
                lock_owner(connection, chosen.owner)
                chosen = changes.get_own(connection, reservation_id, actor)
                changes.match(chosen, if_match)
                series = _series(connection, chosen, lock=True)
                rows = _targets(connection, chosen, which, now)
                for row in rows:
                    changes.give_back(connection, row, reason="cancelled", actor=actor.name, now=now)
                undo = _undo_of(series, rows, actor)
                series_store.change(connection, _ended(series, _day(series, rows[0])))
                return Done(changes.get_own(connection, reservation_id, actor), tuple(row.id for row in rows), undo)
        except (Refused, Busy):
            continue
    raise Unavailable("The database is too busy just now.", hint="Nothing was changed; try again in a moment.")


def change(
    site: Site,
    reservation_id: str,
    wanted: Changes,
    *,
    which: Which = "this",
    actor: Actor,
    now: int,
    if_match: int | None = None,
) -> Done:
    """Changes a booking, or those of its series that follow too, or all that have not begun; all of them or none.

    A new start or end is the new time of day of each: the days stay. From the first that is changed on it is a series
    of its own, which names the one that it carries on; where that is all there is, it stays the same series.

    :raises NoCapacity: on some dates nothing fits; ``clashes`` are their days.
    :raises Changed, OverLimit, Invalid, NotNow, TooLate, NotAllowed, NotFound: nothing was changed.
    """
    if which == "this":
        changed = changes.change(site, reservation_id, wanted, actor=actor, now=now, if_match=if_match)
        return Done(changed, (changed.id,))
    for attempt in range(ATTEMPTS):
        with read(site.engine) as connection:
            chosen = changes.get_own(connection, reservation_id, actor)
            seen = _moves(connection, site, chosen, wanted, which, actor, now)
            limits.check_together(connection, site, seen.wishes, now, changed=seen.ids)
            planned = [booking.plan_for(connection, site, wish.draft, now, without=seen.ids) for wish in seen.wishes]
        must = [one for one, old in zip(planned, seen.rows, strict=True) if old.waiting_reason is None]
        if any(one.plan is None for one in must):
            raise clash(site, seen.wishes, planned)
        locks = touched(seen.wishes, planned, attempt)
        locks |= {(node, chosen.resource) for row in seen.rows for node in row.nodes}
        try:
            with transaction(site.engine, lock=locks) as connection:
                lock_owner(connection, chosen.owner)
                chosen = changes.get_own(connection, reservation_id, actor)
                changes.match(chosen, if_match)
                _series(connection, chosen, lock=True)
                again = _moves(connection, site, chosen, wanted, which, actor, now)
                if again.rows != seen.rows:
                    continue
                limits.check_together(connection, site, seen.wishes, now, changed=seen.ids)
                _write(connection, site, seen, planned, actor, now, attempt)
                return Done(changes.get_own(connection, reservation_id, actor), seen.ids)
        except (Refused, Busy):
            continue
    raise Unavailable("The database is too busy just now.", hint="Nothing was changed; try again in a moment.")


@dataclass(frozen=True, slots=True)
class _Moves:
    """What is to change: the bookings as they are and as they are to be, and the time of day and length (ms) that
    their series has then."""

    series: Series
    rows: tuple[Reservation, ...]
    wishes: tuple[Wish, ...]
    first: datetime
    duration: int

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(row.id for row in self.rows)


def _moves(
    connection: Connection, site: Site, chosen: Reservation, wanted: Changes, which: Which, actor: Actor, now: int
) -> _Moves:
    series = _series(connection, chosen)
    rows = _targets(connection, chosen, which, now)
    if chosen.id not in {row.id for row in rows}:
        raise NotNow("The booking has begun or is over.", hint="Name the first one that is to change.")
    zone = rules.zone_of(series.zone)
    times = wanted.start is not None or wanted.end is not None
    start = chosen.start if wanted.start is None else wanted.start
    length = chosen.interval.length if wanted.end is None else wanted.end - start
    first = rules.local(start, zone)
    if length <= 0:
        raise Invalid.field("end", "a booking ends after it starts")
    if times and first.date() != _day(series, chosen):
        day = _day(series, chosen)
        raise Invalid.field("start", f"it is not on {day}; what several bookings have in common is the time of day")
    wishes = []
    for row in rows:
        day, asked, occurrence = _day(series, row), wanted, row.occurrence
        if times:
            occurrence = rules.instant(datetime.combine(day, first.time(), zone).replace(fold=0))
            asked = replace(wanted, start=occurrence, end=occurrence + length)
        new = replace(changes.changed(site, row, asked, now), occurrence=occurrence)
        nodes = changes.allowed_nodes(site, row, new, asked)
        wishes.append(Wish(day, Draft(new, nodes, _groups(connection, row, actor), row.nodes)))
    if times and any(b.draft.reservation.start < a.draft.reservation.end for a, b in pairwise(wishes)):
        raise Invalid.field("end", f"each would last {format_duration(length)}, into the next one")
    return _Moves(series, tuple(rows), tuple(wishes), first if times else rules.local(series.start, zone),
                  length if times else series.duration)  # fmt: skip


def _write(
    connection: Connection,
    site: Site,
    seen: _Moves,
    planned: Sequence[Planned],
    actor: Actor,
    now: int,
    attempt: int,
) -> None:
    for row in seen.rows:
        store.delete_allocations(connection, row.id)
    series = _carried_on(connection, seen, now)
    for old, wish, one in zip(seen.rows, seen.wishes, planned, strict=True):
        new = wish.draft.reservation
        plan = plan_again(connection, site, wish, one, attempt, now)
        if plan is None and old.waiting_reason is None:
            raise Refused("capacity")  # overtaken: nothing of it is written
        placed = () if plan is None else planning.allocations(new, plan.nodes)
        if plan is not None:
            planning.make_room(connection, plan, actor=actor.name, now=now)
            store.insert_allocations(connection, placed)
        new = changes.separated(connection, replace(new, allocations=placed), now)
        changes.write_changed(connection, old, new, actor, now, series=series, occurrence=new.occurrence)


def _carried_on(connection: Connection, seen: _Moves, now: int) -> str:
    """The id of the series to which what was changed belongs: the same, or one that carries it on."""
    series, zone = seen.series, rules.zone_of(seen.series.zone)
    day = seen.wishes[0].day
    start = rules.instant(datetime.combine(day, seen.first.time(), zone).replace(fold=0))
    ids = {row.id for row in seen.rows}
    everything = series_store.bookings(connection, series.id)
    if all(row.id in ids or row.cancelled_at is not None for row in everything):
        begins = rules.instant(
            datetime.combine(rules.local(series.start, zone).date(), seen.first.time(), zone).replace(fold=0)
        )
        series_store.change(connection, replace(series, start=begins, duration=seen.duration))
        return series.id
    rule = rules.parse_rule(series.rrule)
    if rule.count is not None:
        rule = rule.ending(until=seen.wishes[-1].day)
    carried = Series(
        new_id(), series.owner, rule.text, series.zone, start, seen.duration,
        tuple(one for one in series.without if one >= day.isoformat()), now, replaces=series.id,
    )  # fmt: skip
    series_store.add(connection, carried)
    series_store.change(connection, _ended(series, day))
    return carried.id


def _series(connection: Connection, chosen: Reservation, *, lock: bool = False) -> Series:
    found = series_store.find(connection, chosen.series or "", lock=lock)
    if found is None:
        raise Invalid.field("which", "this booking does not repeat; leave it out")
    return found


def _targets(connection: Connection, chosen: Reservation, which: Which, now: int) -> list[Reservation]:
    """The bookings of the series that have not begun: from the chosen one on, or all."""
    if chosen.series is None:
        raise Invalid.field("which", "this booking does not repeat; leave it out")
    since = chosen.occurrence or 0 if which == "following" else 0
    found = [
        row
        for row in series_store.bookings(connection, chosen.series)
        if (row.occurrence or 0) >= since and row.start > now and row.state(now) in ("booked", "waiting")
    ]
    if not found:
        raise TooLate("All of them have begun, are over or were cancelled.")
    return found


def _ended(series: Series, day: date) -> Series:
    """The series without what comes from a day on."""
    rule = rules.parse_rule(series.rrule).ending(until=day - timedelta(days=1))
    return replace(series, rrule=rule.text, without=tuple(one for one in series.without if one < day.isoformat()))


def _day(series: Series, row: Reservation) -> date:
    """The day that the rule gave for a booking, wherever it was moved to."""
    return rules.local(row.occurrence or row.start, rules.zone_of(series.zone)).date()


def _groups(connection: Connection, row: Reservation, actor: Actor) -> frozenset[str]:
    return actor.groups if actor.name == row.owner else people.groups_of(connection, row.owner_id)


def _undo(row: Reservation, actor: Actor) -> dict[str, Any]:
    """What to post to have a booking again."""
    body: dict[str, Any] = {
        "profile": row.profile, "units": row.units, "node_count": row.node_count, "title": row.title,
        "start": to_iso(row.start), "end": to_iso(row.end),
    }  # fmt: skip
    if row.waiting_reason is not None:
        body["waitlist"] = True
    if row.owner != actor.name:
        body["owner"] = row.owner
    body |= {"image": row.image} if row.image else {}
    return body | ({"node": row.wanted_node} if row.wanted_node else {})


def _undo_of(series: Series, rows: Sequence[Reservation], actor: Actor) -> dict[str, Any]:
    """What to post to have the bookings of a series again, at the times of the series."""
    zone, days = rules.zone_of(series.zone), [_day(series, row) for row in rows]
    time = rules.local(series.start, zone).time()
    rule = rules.parse_rule(series.rrule).ending(until=days[-1])
    # Counted from the day that the series was: every other week stays that.
    given = [day for day in rules.days(rule, rules.local(series.start, zone).date(), days[-1]) if day >= days[0]]
    body = _undo(rows[0], actor)
    del body["end"]
    body.pop("waitlist", None)
    without = tuple(day.isoformat() for day in given if day not in days)
    return body | {
        "start": to_iso(rules.instant(datetime.combine(days[0], time, zone).replace(fold=0))),
        "duration": compact_duration(series.duration),
        "recurrence": as_json(Recurrence(rule.text, series.zone, without)),
    }
