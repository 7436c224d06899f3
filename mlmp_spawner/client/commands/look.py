"""``mlmp free``, ``ls``, ``show``: what there is."""

from __future__ import annotations

from collections.abc import Iterator

import click

from mlmp_spawner.client import show as shown
from mlmp_spawner.client.completion import BOOKING, NODE, PROFILE
from mlmp_spawner.client.models import Availability, NodeAvailability, Profile, Reservation, Step
from mlmp_spawner.client.session import LENGTH, Session, command, instant
from mlmp_spawner.client.show import Clock
from mlmp_spawner.errors import Invalid
from mlmp_spawner.units import DAY, MINUTE, from_iso, parse_duration, to_iso

AHEAD = 7 * DAY
"""How far `mlmp free` looks."""

PAST = 30 * DAY
"""How far `mlmp ls --past` looks back."""

FAR = 366 * DAY

INSTANTS = ("start", "end")
"""Details of the history that are ms UTC."""


@command()
@click.option("--profile", "-p", type=PROFILE, help="Only this profile. [default: all you may use]")
@click.option("--node", type=NODE, help="Only this node.")
@click.option("--for", "length", type=LENGTH, help="Also say from when it is free for that long.")
@click.option("--from", "begin", metavar="TIME", help="Look from then on: 14:00, tomorrow 9:00, ISO. [default: now]")
@click.option("--units", type=click.IntRange(min=1), help="For so many units on one node. [default: the profile's]")
def free(
    session: Session, profile: str | None, node: str | None, length: str | None, begin: str | None, units: int | None
) -> None:
    """What is free, node by node, and until when; with --for, from when it is free that long."""
    clock = session.clock()
    asked = instant(begin, session, "--from")
    start = clock.now if asked is None else asked
    window = max(AHEAD, 2 * parse_duration(length) if length else 0)
    found = [
        session.client.availability(
            one.name, start=to_iso(start), end=to_iso(start + window), node=node, units=units, duration=length
        )
        for one in _profiles(session, profile)
    ]
    if session.json:
        shown.print_json({"items": [one.raw for one in found]})
        return
    simulated = {one.name for one in session.client.profiles() if one.simulated}
    columns = ["profile", "node", "free"] + ([f"free for {length}"] if length else [])
    rows = [
        [one.profile + (" (simulated)" if one.profile in simulated else ""), *row]
        for one in found
        for row in _free_rows(one, clock, start, length is not None)
    ]
    if not rows:
        session.say("There is nothing that you may book. Ask the people who run this hub.")
        return
    shown.table(
        session.out,
        columns,
        rows,
        caption=f"from {clock.time(start) if asked else 'now'} on; times in {clock.zone_name}",
    )


def _profiles(session: Session, name: str | None) -> list[Profile]:
    found = session.client.profiles()
    chosen = [one for one in found if name is None or one.name == name]
    if not chosen and name is not None:
        valid = ", ".join(one.name for one in found) or "none"
        raise Invalid.field("--profile", f"there is no {name!r}; you may use: {valid}")
    return chosen


def _free_rows(found: Availability, clock: Clock, start: int, wanted: bool) -> Iterator[list[str]]:
    for node in found.nodes:
        row = [node.node, _stretch(node, found.units, clock, start, found.end)]
        if wanted:
            row.append(_from(node.first_free, clock, start))
        yield row


def _stretch(node: NodeAvailability, units: int, clock: Clock, start: int, end: int) -> str:
    """``3 of 4 until 18:00``, or when the next ones are."""
    now = node.steps[0].free if node.steps else 0
    if now >= units:
        until = next((step.start for step in node.steps if step.free < now), None)
        return f"{now} of {node.capacity} " + (f"until {clock.time(until)}" if until else f"for {_days(end - start)}")
    later: Step | None = next((step for step in node.steps if step.free >= units), None)
    if later is None:
        return f"{now} of {node.capacity} for {_days(end - start)}"
    return f"{now} of {node.capacity}; {later.free} from {clock.time(later.start)} until {clock.time(later.end)}"


def _days(ms: int) -> str:
    return f"{ms // DAY} days and more"


def _from(first: int | None, clock: Clock, start: int) -> str:
    if first is None:
        return "not in that time"
    return "at once" if first <= start + MINUTE else f"from {clock.time(first)}"


@command()
@click.option("--all", "everybody", is_flag=True, help="Everybody's, not only yours.")
@click.option("--past", is_flag=True, help="Those that are over too, of the last 30 days.")
def ls(session: Session, everybody: bool, past: bool) -> None:
    """Your bookings: what runs, what comes, what waits."""
    clock = session.clock()
    minute = clock.now - clock.now % MINUTE
    query = {"start": to_iso(minute - PAST if past else minute), "end": to_iso(minute + 5 * FAR)}
    owner = None if everybody else session.client.me().name
    found = [one for one in session.client.reservations(owner=owner, **query) if past or one.state != "ended"]
    if session.json:
        shown.print_json({"items": [one.raw for one in found], "next_cursor": None})
        return
    if not found:
        session.say("No bookings." if everybody else "You have no bookings. What is free: mlmp free")
        return
    columns = ["id", *(["owner"] if everybody else []), "state", "what", "from", "until", "", "title"]
    rows = [_row(one, clock, everybody) for one in found]
    shown.table(session.out, columns, rows, caption=f"times in {clock.zone_name}")


def _row(one: Reservation, clock: Clock, everybody: bool) -> list[str]:
    owner = [one.owner or "(somebody)"] if everybody else []
    times = [clock.time(one.start), clock.time(one.end), clock.left(one)]
    return [one.id, *owner, shown.state(one), shown.what(one), *times, one.title]


@command()
@click.argument("id", type=BOOKING)
def show(session: Session, id: str) -> None:
    """One booking, with who did what when."""
    found = session.client.reservation(id)
    lines = session.client.history(id) if found.mine else []
    if session.json:
        shown.print_json({**found.raw, "history": lines})
        return
    clock = session.clock()
    session.say(f"{found.id}  {shown.what(found)}" + (f"  {found.title}" if found.title else ""))
    session.say(f"  {shown.state(found)}" + (f", of {found.owner}" if found.owner and not found.mine else ""))
    left = clock.left(found)
    session.say(
        f"  from {clock.time(found.start)} until {clock.time(found.end)}"
        + (f", {left}" if left else "")
        + f" ({clock.zone_name})"
    )
    if found.stops_at and found.stops_at != found.end:
        session.say(f"  its server begins to stop at {clock.time(found.stops_at)}")
    if found.image:
        session.say(f"  with {found.image}")
    url = session.client.server_url(found)
    if url:
        session.say(f"  {url}")
    rows = [
        (clock.time(from_iso(str(line["at"]))), line["actor"], line["action"], _details(line, clock)) for line in lines
    ]
    if rows:
        shown.table(session.out, ("when", "who", "what", ""), rows)


def _details(line: dict[str, object], clock: Clock) -> str:
    details = line.get("details")
    if not isinstance(details, dict):
        return ""
    return ", ".join(
        f"{name} {clock.time(value) if name in INSTANTS and isinstance(value, int) else value}"
        for name, value in details.items()
        if value != "" and isinstance(value, (str, int, float))
    )
