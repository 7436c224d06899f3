"""``mlmp course book``, ``classes``, ``cancel``, ``report``: the classes of a course."""

from __future__ import annotations

import csv
import shlex
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import click

from mlmp_spawner.client import show as shown
from mlmp_spawner.client.commands.book import recurrence_of
from mlmp_spawner.client.completion import COURSE
from mlmp_spawner.client.session import LENGTH, Session, command, instant
from mlmp_spawner.errors import Invalid, NoCapacity
from mlmp_spawner.units import DAY, from_iso, to_iso

REPORT = ("id", "start", "end", "state", "seats", "given", "used", "unit_hours")
"""The columns of a report as CSV."""

REPORTED = 180 * DAY
"""What a report is about unless it is told."""


@command(name="book")
@click.argument("name", type=COURSE)
@click.option("--start", metavar="TIME", required=True, help="When the (first) class begins: 'Mon 8:15', ISO 8601.")
@click.option("--for", "length", type=LENGTH, required=True, help="How long a class lasts: 90m, 4h.")
@click.option("--seats", type=click.IntRange(min=1), help="How many. [default: the course's number]")
@click.option("--repeat", type=click.Choice(["daily", "weekdays", "weekly"]), help="Again and again, with --until.")
@click.option("--until", metavar="DATE", help="The last day of --repeat: 2026-12-18.")
@click.option("--rrule", metavar="RULE", help="How often, as RFC 5545 says it: FREQ=WEEKLY;BYDAY=MO,WE;COUNT=12.")
@click.option("--except", "without", metavar="DATE", multiple=True, help="Leave out this day; may be repeated.")
@click.option("--holiday", "holidays", metavar="DATE", multiple=True,
              help="Leave out this day if there is a class; may be repeated.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Say whether it fits; book nothing.")
def course_book(
    session: Session, name: str, start: str, length: str, seats: int | None, repeat: str | None, until: str | None,
    rrule: str | None, without: tuple[str, ...], holidays: tuple[str, ...], dry_run: bool,
) -> None:  # fmt: skip
    """Book the classes of course NAME: on all dates, or on none.

    \b
      mlmp course book ml --start "Mon 8:15" --for 2h --repeat weekly --until 2027-02-05 --holiday 2026-12-28
      mlmp course book ml --start "tomorrow 14:00" --for 3h --seats 12 --dry-run

    Servers are started some minutes before, which are booked too. Where it does not fit, each date is named with how
    many seats would, and when on that day all would.
    """
    begins = instant(start, session, "--start")
    recurrence = recurrence_of(session, repeat, until, rrule, without)
    if holidays and recurrence is None:
        raise Invalid.field("--holiday", "say how often too: --repeat or --rrule")
    asked: dict[str, Any] = {
        "start": None if begins is None else to_iso(begins), "duration": length, "seats": seats,
        "recurrence": recurrence, "holidays": list(holidays), "zone": getattr(session.clock().zone, "key", None),
    }  # fmt: skip
    try:
        booked = session.client.classes.book(name, asked, dry_run=dry_run)
    except NoCapacity as error:
        if not session.json:
            _show_short(session, error.data.get("dates"))
            for command_line in _instead(name, error.data.get("alternatives")):
                session.note(f"possible instead: {command_line}")
        raise
    if session.json:
        shown.print_json(booked)
        return
    clock, dates = session.clock(), booked["dates"]
    verb = "would fit" if dry_run else "is booked" if len(dates) == 1 else "are booked"
    number = f"{len(dates)} classes" if len(dates) != 1 else "1 class"
    session.say(f"{number} of {booked['seats']} seats {verb} ({clock.zone_name}):")
    rows = [(clock.time(from_iso(one["start"])), clock.time(from_iso(one["end"])), _nodes(one)) for one in dates]
    shown.table(session.out, ("from", "until", "seats on"), rows)


@command(name="classes")
@click.argument("name", type=COURSE)
def course_classes(session: Session, name: str) -> None:
    """The classes of course NAME that are not over, and what would keep one from beginning in time."""
    found = session.client.classes.list(name)
    if session.json:
        shown.print_json({"items": found})
        return
    if not found:
        session.say(f"No class of {name} is booked. One is: mlmp course book {name} --start TIME --for LENGTH")
        return
    clock = session.clock()
    rows = [(one["id"], clock.time(from_iso(one["start"])), clock.time(from_iso(one["end"])), one["state"],
             _nodes(one)) for one in found]  # fmt: skip
    shown.table(session.out, ("id", "from", "until", "", "seats on"), rows)
    for one in found:
        for problem in one["problems"]:
            session.say(f"  ! {one['id']}: {problem}")


@command(name="cancel")
@click.argument("name", type=COURSE)
@click.argument("id", metavar="ID")
@click.option("--following", "which", flag_value="following", help="And those of its series that follow.")
@click.option("--all", "which", flag_value="all", help="All of its series that have not begun.")
def course_cancel(session: Session, name: str, id: str, which: str | None) -> None:
    """Cancel class ID of course NAME; one that has begun ends now, with the servers of its seats."""
    gone = session.client.classes.cancel(name, id, which=which or "this")
    if session.json:
        shown.print_json({"cancelled": list(gone)})
    else:
        session.say(f"{len(gone)} class{'es' * (len(gone) != 1)} cancelled.")


@command(name="report")
@click.argument("name", type=COURSE)
@click.option("--from", "start", metavar="TIME", help="[default: half a year ago]")
@click.option("--to", "end", metavar="TIME", help="[default: now]")
@click.option("--csv", "as_csv", is_flag=True, help="As CSV, for spreadsheets.")
def course_report(session: Session, name: str, start: str | None, end: str | None, as_csv: bool) -> None:
    """What the classes of course NAME had and used: seats, and unit-hours of what was booked."""
    clock = session.clock()
    since, until = instant(start, session, "--from"), instant(end, session, "--to")
    window = (clock.now - REPORTED if since is None else since, clock.now if until is None else until)
    found = session.client.classes.list(name, start=to_iso(window[0]), end=to_iso(window[1]))
    hours = round(sum(float(one["unit_hours"]) for one in found), 2)
    if session.json:
        shown.print_json({"items": found, "unit_hours": hours})
        return
    if as_csv:
        writer = csv.writer(sys.stdout)
        writer.writerow(REPORT)
        writer.writerows([shown.safe(_number(one[key])) for key in REPORT] for one in found)
        return
    rows = [(clock.time(from_iso(one["start"])), one["seats"], _number(one["given"]), _number(one["used"]),
             f"{float(one['unit_hours']):g}") for one in found]  # fmt: skip
    shown.table(session.out, ("class", "seats", "given", "used", "unit-hours"), rows)
    session.say(f"{hours:g} unit-hours in all.")


def _show_short(session: Session, dates: object) -> None:
    """Which dates don't fit, and what would."""
    if not isinstance(dates, list):
        return
    clock = session.clock()
    for one in (each for each in dates if isinstance(each, dict)):
        instead = one.get("instead")
        other = f"; all of them at {clock.time(from_iso(str(instead)))}" if instead else "; at no other time that day"
        when = clock.time(from_iso(str(one.get("start"))))
        session.note(f"{when}: {one.get('seats')} seats would fit{other}")


def _instead(name: str, offered: object) -> Iterator[str]:
    """What is offered, as commands. What a newer service offers and this client can't say is left out."""
    for item in offered if isinstance(offered, list) else []:
        with suppress(KeyError, TypeError):
            asked = item["request"]
            words = ["mlmp", "course", "book", name, "--start", str(asked["start"]), "--for", str(asked["duration"]),
                     "--seats", str(asked["seats"])]  # fmt: skip
            again = asked.get("recurrence")
            if again:
                words += ["--rrule", str(again["rrule"])]
                words += [part for day in again["except"] for part in ("--except", str(day))]
            yield shlex.join(words)


def _nodes(one: dict[str, Any]) -> str:
    return ", ".join(f"{each['seats']} {each['node']}" for each in one["nodes"])


def _number(value: object) -> str:
    return "" if value is None else str(value)
