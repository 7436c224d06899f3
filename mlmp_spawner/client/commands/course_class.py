"""``mlmp course class …``: what who teaches does while a class is under way."""

from __future__ import annotations

from collections import Counter

import click

from mlmp_spawner.client import show as shown
from mlmp_spawner.client.completion import COURSE
from mlmp_spawner.client.session import LENGTH, Session, command
from mlmp_spawner.units import from_iso


@click.group(name="class")
def course_class() -> None:
    """Lead a class: who is in, more time, a word to everybody, their servers. Its ID: mlmp course classes NAME."""


@command(name="show")
@click.argument("name", type=COURSE)
@click.argument("id", metavar="ID")
def _show(session: Session, name: str, id: str) -> None:
    """Who is in class ID of course NAME, and who is stuck and why."""
    found = session.client.classes.get(name, id)
    if session.json:
        shown.print_json(found)
        return
    clock = session.clock()
    until, there = clock.time(from_iso(found["end"])), sum(int(one["seats"]) for one in found["nodes"])
    left = there - sum(one["state"] == "active" for one in found["people"])
    session.say(f"{name}, {clock.time(from_iso(found['start']))} – {until}: {found['state']}")
    counted = Counter(str(one["status"]) for one in found["people"])
    session.say(", ".join(f"{number} {status}" for status, number in counted.items()) or "Nobody has a seat yet.")
    rows = [(one["name"], one["status"], one["node"], one["problem"]) for one in found["people"]]
    if rows:
        shown.table(session.out, ("name", "", "node", "why"), rows)
    if left > 0 and found["given"] is not None and found["state"] != "ended":
        session.say(f"{left} of {there} seats nobody has.")


@command(name="extend")
@click.argument("name", type=COURSE)
@click.argument("id", metavar="ID")
@click.option("--by", "length", type=LENGTH, default="15m", show_default=True, help="How much longer: 15m, 1h.")
def _extend(session: Session, name: str, id: str, length: str) -> None:
    """Let class ID of course NAME go on for longer, with the seats in it; or say why not."""
    found = session.client.classes.extend(name, id, length)
    if session.json:
        shown.print_json(found)
    else:
        session.say(f"It goes on until {session.clock().time(from_iso(found['end']))}, for {_seats(found['people'])}.")


@command(name="message")
@click.argument("name", type=COURSE)
@click.argument("id", metavar="ID")
@click.argument("text")
def _message(session: Session, name: str, id: str, text: str) -> None:
    """Tell everybody in class ID of course NAME a TEXT, as a notice."""
    _told(session, session.client.classes.say(name, id, text), "Told to")


@command(name="start")
@click.argument("name", type=COURSE)
@click.argument("id", metavar="ID")
@click.argument("people", metavar="[PERSON]...", nargs=-1)
def _start(session: Session, name: str, id: str, people: tuple[str, ...]) -> None:
    """Start the servers of class ID of course NAME that do not run: these people's, or all."""
    _told(session, session.client.classes.servers(name, id, "start", people or None), "Being started for")


@command(name="restart")
@click.argument("name", type=COURSE)
@click.argument("id", metavar="ID")
@click.argument("people", metavar="[PERSON]...", nargs=-1, required=True)
def _restart(session: Session, name: str, id: str, people: tuple[str, ...]) -> None:
    """Stop and start again the servers of these people in class ID of course NAME. Unsaved work is lost."""
    _told(session, session.client.classes.servers(name, id, "restart", people), "Being restarted for")


@command(name="stop")
@click.argument("name", type=COURSE)
@click.argument("id", metavar="ID")
@click.argument("people", metavar="[PERSON]...", nargs=-1)
@click.option("--all", "everybody", is_flag=True, help="Everybody's.")
def _stop(session: Session, name: str, id: str, people: tuple[str, ...], everybody: bool) -> None:
    """Stop servers of class ID of course NAME; the seats stay. Unsaved work is lost."""
    if bool(people) == everybody:
        raise click.UsageError("Say whose, or --all.")
    _told(session, session.client.classes.servers(name, id, "stop", people or None), "Being stopped for")


for _each in (_show, _extend, _message, _start, _restart, _stop):
    course_class.add_command(_each)


def _told(session: Session, people: tuple[str, ...], what: str) -> None:
    if session.json:
        shown.print_json({"people": list(people)})
    else:
        session.say(f"{what} {_seats(people)}{': ' if people else ''}{', '.join(people)}.")


def _seats(people: object) -> str:
    number = len(people) if isinstance(people, (list, tuple)) else 0
    return "nobody" if not number else "1 person" if number == 1 else f"{number} people"
