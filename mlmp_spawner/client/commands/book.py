"""``mlmp book``, ``extend``, ``cancel``, ``release``: what changes a booking."""

from __future__ import annotations

import re
import sys

import click

from mlmp_spawner.client import show
from mlmp_spawner.client.completion import BOOKING, IMAGE, NODE, PROFILE
from mlmp_spawner.client.models import Reservation
from mlmp_spawner.client.session import LENGTH, Session, command, instant
from mlmp_spawner.errors import Invalid, NotNow
from mlmp_spawner.units import to_iso


@command()
@click.option("--profile", "-p", type=PROFILE, required=True, help="What to book; `mlmp free` lists what there is.")
@click.option("--for", "length", type=LENGTH, help="How long: 90m, 4h, 2d. [default: the profile's]")
@click.option("--start", metavar="TIME", help="From when: 14:00, tomorrow 9:00, ISO 8601. [default: now]")
@click.option("--node", type=NODE, help="On this node only. [default: whichever fits best]")
@click.option("--image", type=IMAGE, help="What the server runs. [default: the profile's first]")
@click.option("--units", type=click.IntRange(min=1), help="How many on each node. [default: the profile's]")
@click.option("--node-count", type=click.IntRange(min=1), help="On several nodes at once, all or none.")
@click.option("--waitlist", is_flag=True, help="Wait for it if nothing is free.")
@click.option("--repeat", type=click.Choice(["daily", "weekdays", "weekly"]), help="Again and again, with --until.")
@click.option("--until", metavar="DATE", help="The last day of --repeat: 2026-12-18.")
@click.option("--rrule", metavar="RULE", help="How often, as RFC 5545 says it: FREQ=WEEKLY;BYDAY=MO,WE;COUNT=12.")
@click.option("--except", "without", metavar="DATE", multiple=True, help="Leave out this day; may be repeated.")
@click.option("--title", help="A word for yourself; others don't see it.")
@click.option("--owner", help="For this user instead of yourself (admins).")
def book(
    session: Session,
    profile: str,
    length: str | None,
    start: str | None,
    node: str | None,
    image: str | None,
    units: int | None,
    node_count: int | None,
    waitlist: bool,
    repeat: str | None,
    until: str | None,
    rrule: str | None,
    without: tuple[str, ...],
    title: str | None,
    owner: str | None,
) -> None:
    """Book units of a profile, from now on or later.

    \b
      mlmp book --profile gpu --for 4h
      mlmp book --profile gpu --for 90m --start "tomorrow 9:00" --units 2
      mlmp book --profile gpu --for 2h --start "Mon 8:15" --repeat weekly --until 2026-12-18

    What repeats is at the same time of day in your zone, and booked on all dates or on none.
    """
    recurrence = recurrence_of(session, repeat, until, rrule, without)
    begins = instant(start, session, "--start")
    booked = session.client.book(
        profile=profile,
        duration=length,
        start=None if begins is None else to_iso(begins),
        node=node,
        image=image,
        units=units,
        node_count=node_count,
        waitlist=waitlist or None,
        title=title,
        owner=owner,
        recurrence=recurrence,
    )
    if session.json:
        show.print_json(booked.raw)
        return
    clock = session.clock()
    times = f"from {clock.time(booked.start)} until {clock.time(booked.end)} ({clock.zone_name})"
    if booked.state == "waiting":
        session.say(f"On the waitlist: {show.what(booked)}, {times}. Its id is {booked.id}.")
        return
    session.say(f"Booked {show.what(booked)}, {times}. Its id is {booked.id}.")
    if booked.series is not None:
        last = (all_of_it := session.client.series(booked.series))[-1]
        session.say(f"  {len(all_of_it)} bookings in all, the last {clock.time(last.start)}; all of them: mlmp ls")
    begun = booked.state == "active"
    session.say(f"  {'Start it' if begun else 'Start it then'}: mlmp start {booked.id} --open")


@command()
@click.argument("id", type=BOOKING)
@click.argument("duration", type=LENGTH)
def extend(session: Session, id: str, duration: str) -> None:
    """End booking ID later by DURATION (90m, 4h, 2d). It goes on without a restart."""
    session.about(session.client.reservation(id))
    extended = session.client.extend(id, duration)
    if session.json:
        show.print_json(extended.raw)
        return
    clock = session.clock()
    session.say(f"{extended.id} ends at {clock.time(extended.end)} now ({clock.zone_name}); {clock.left(extended)}.")


RULES = {"daily": "FREQ=DAILY", "weekdays": "FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR", "weekly": "FREQ=WEEKLY"}


def recurrence_of(
    session: Session, repeat: str | None, until: str | None, rrule: str | None, without: tuple[str, ...]
) -> dict[str, object] | None:
    """What the options say of how often, as the API takes it."""
    if repeat is None and rrule is None:
        if until or without:
            raise Invalid.field("--until" if until else "--except", "say how often too: --repeat or --rrule")
        return None
    if repeat is not None:
        if rrule is not None:
            raise Invalid.field("--rrule", "give --repeat or --rrule, not both")
        if until is None or not re.fullmatch("[0-9]{4}-[0-9]{2}-[0-9]{2}", until):
            raise Invalid.field("--until", "say the last day, such as 2026-12-18")
        rrule = f"{RULES[repeat]};UNTIL={until.replace('-', '')}"
    elif until is not None:
        raise Invalid.field("--until", "a rule says its end itself: UNTIL=20261218")
    zone = getattr(session.clock().zone, "key", None)
    if zone is None:
        raise Invalid.field("TZ", "the name of your time zone is not known; set it, as in TZ=Europe/Zurich")
    return {"rrule": rrule, "zone": zone, "except": list(without)}


@command()
@click.argument("id", type=BOOKING)
@click.option("--following", "which", flag_value="following", help="And those of its series that follow.")
@click.option("--all", "which", flag_value="all", help="All of its series that have not begun.")
def cancel(session: Session, id: str, which: str | None) -> None:
    """Cancel booking ID, which has not begun. One that has is released: mlmp release ID."""
    found = session.client.reservation(id)
    if which is not None:
        after = session.client.give_back(found, which=which)
        if session.json:
            show.print_json(after.raw)
        else:
            session.say(f"Cancelled {len(after.raw.get('cancelled', ()))} bookings of the series.")
        return
    if found.state == "active":
        raise NotNow("The booking has begun.", hint=f"To give back the rest of it: mlmp release {found.id}")
    _give_back(session, found, "Cancelled")


@command()
@click.argument("id", type=BOOKING)
@click.option("--yes", "-y", is_flag=True, help="Do not ask, even while its server runs.")
def release(session: Session, id: str, yes: bool) -> None:
    """Give back the rest of booking ID, which has begun. Its server is stopped: save your work first."""
    found = session.client.reservation(id)
    if found.state in ("booked", "waiting"):
        raise NotNow("The booking has not begun.", hint=f"To give it up: mlmp cancel {found.id}")
    running = found.server_state in ("starting", "running")
    if running and not yes and not session.json and sys.stdin.isatty():
        click.confirm("Its server runs and will be stopped; what is not saved is lost. Release it?", abort=True)
    _give_back(session, found, "Released")


def _give_back(session: Session, found: Reservation, done: str) -> None:
    over = found.state == "ended"  # as wished, whoever did it
    after = found if over else session.client.give_back(found)
    if session.json:
        show.print_json(after.raw)
    elif over:
        session.say(f"It is over already: {show.state(found)}.")
    else:
        session.say(f"{done}: {show.what(found)} ({found.id}).")
