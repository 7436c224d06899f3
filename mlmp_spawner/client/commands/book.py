"""``mlmp book``, ``extend``, ``cancel``, ``release``: what changes a booking."""

from __future__ import annotations

import sys

import click

from mlmp_spawner.client import show
from mlmp_spawner.client.models import Reservation
from mlmp_spawner.client.session import LENGTH, Session, command, instant
from mlmp_spawner.errors import NotNow
from mlmp_spawner.units import to_iso


@command()
@click.option("--profile", "-p", required=True, help="What to book; `mlmp free` lists what there is.")
@click.option("--for", "length", type=LENGTH, help="How long: 90m, 4h, 2d. [default: the profile's]")
@click.option("--start", metavar="TIME", help="From when: 14:00, tomorrow 9:00, ISO 8601. [default: now]")
@click.option("--node", help="On this node only. [default: whichever fits best]")
@click.option("--units", type=click.IntRange(min=1), help="How many on each node. [default: the profile's]")
@click.option("--node-count", type=click.IntRange(min=1), help="On several nodes at once, all or none.")
@click.option("--waitlist", is_flag=True, help="Wait for it if nothing is free.")
@click.option("--title", help="A word for yourself; others don't see it.")
@click.option("--owner", help="For this user instead of yourself (admins).")
def book(
    session: Session,
    profile: str,
    length: str | None,
    start: str | None,
    node: str | None,
    units: int | None,
    node_count: int | None,
    waitlist: bool,
    title: str | None,
    owner: str | None,
) -> None:
    """Book units of a profile, from now on or later.

    \b
      mlmp book --profile gpu --for 4h
      mlmp book --profile gpu --for 90m --start "tomorrow 9:00" --units 2
    """
    begins = instant(start, session, "--start")
    booked = session.client.book(
        profile=profile,
        duration=length,
        start=None if begins is None else to_iso(begins),
        node=node,
        units=units,
        node_count=node_count,
        waitlist=waitlist or None,
        title=title,
        owner=owner,
    )
    if session.json:
        show.print_json(booked.raw)
        return
    clock = session.clock()
    times = f"from {clock.time(booked.start)} until {clock.time(booked.end)} ({clock.zone_name})"
    if booked.state == "waiting":
        session.say(f"On the waiting list: {show.what(booked)}, {times}. Its id is {booked.id}.")
        return
    session.say(f"Booked {show.what(booked)}, {times}. Its id is {booked.id}.")
    begun = booked.state == "active"
    session.say(f"  {'Start it' if begun else 'Start it then'}: mlmp start {booked.id} --open")


@command()
@click.argument("id")
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


@command()
@click.argument("id")
def cancel(session: Session, id: str) -> None:
    """Cancel booking ID, which has not begun. One that has is released: mlmp release ID."""
    found = session.client.reservation(id)
    if found.state == "active":
        raise NotNow("The booking has begun.", hint=f"To give back the rest of it: mlmp release {found.id}")
    _give_back(session, found, "Cancelled")


@command()
@click.argument("id")
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
