"""``mlmp course``: courses and who is in them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from mlmp_spawner.client import show as shown
from mlmp_spawner.client.commands.course_class import course_class
from mlmp_spawner.client.commands.course_classes import course_book, course_cancel, course_classes, course_report
from mlmp_spawner.client.commands.course_guests import course_guests
from mlmp_spawner.client.completion import COURSE
from mlmp_spawner.client.session import Session, command
from mlmp_spawner.errors import Invalid, NotFound

LARGEST = 512 << 10
"""Bytes of a course or a list of people."""
MOST_SHOWN = 20
"""Lines that are not understood."""

_UTF16 = (b"\xff\xfe", b"\xfe\xff")
"""How a text begins that a spreadsheet saved as Unicode."""

_DRY_RUN = click.option("--dry-run", is_flag=True, help="Show what would change; change nothing.")
_ROLE = click.option("--role", type=click.Choice(("student", "instructor")), help="[default: new ones are students]")


@click.group()
def course() -> None:
    """Courses: what is taught, on which units, to whom.

    \b
      mlmp course apply ml.yaml --dry-run       what would change
      mlmp course apply ml.yaml
      mlmp course roster import ml people.csv   from Moodle, Canvas, or any list
      mlmp course book ml --start "Mon 8:15" --for 2h --repeat weekly --until 2027-02-05
    """


@click.group()
def roster() -> None:
    """Who is in a course.

    \b
      mlmp course roster show ml
      mlmp course roster add ml ann ben
      mlmp course roster import ml people.csv --dry-run
    """


@command(name="apply")
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True), metavar="FILE")
@_DRY_RUN
def _apply(session: Session, file: Path, dry_run: bool) -> None:
    """Make the course that FILE describes, or change it to that. Again, it changes nothing.

    FILE is YAML; - is the standard input. The lists 'instructors' and 'students' are the whole roster; left out they
    change nothing.
    """
    done = session.client.courses.apply(_text(file), dry_run=dry_run)
    if session.json:
        shown.print_json(done)
        return
    name, nothing = done["course"]["name"], not done["changes"] and _nothing(done["roster"])
    if done["created"]:
        session.say(f"Course {name} would be made." if dry_run else f"Course {name} is made.")
    elif nothing:
        session.say(f"Course {name} is so already: nothing changes.")
    else:
        session.say(f"Course {name} would change:" if dry_run else f"Course {name} is changed:")
    rows = [(one["field"], _said(one["old"]), _said(one["new"])) for one in done["changes"]]
    if rows:
        shown.table(session.out, ("", "was", "would be" if dry_run else "is"), rows)
    _show_change(session, done["roster"])


@command(name="ls")
def _ls(session: Session) -> None:
    """The courses that you are in; an admin sees all."""
    found = session.client.courses.list()
    if session.json:
        shown.print_json({"items": found})
    elif not found:
        session.say("You are in no course. Who may teach makes one: mlmp course apply FILE")
    else:
        rows = [(one["name"], one["title"], one["role"] or "", f"{one['seats']} x {one['units']} {one['profile']}",
                 _counts(one["members"])) for one in found]  # fmt: skip
        shown.table(session.out, ("course", "title", "you are", "seats", "on it"), rows)


@command(name="show")
@click.argument("name", type=COURSE)
@click.option("--yaml", "as_yaml", is_flag=True, help="As a file for 'mlmp course apply', without its roster.")
def _show(session: Session, name: str, as_yaml: bool) -> None:
    """One course."""
    found = session.client.courses.get(name)
    if session.json:
        shown.print_json(found)
    elif as_yaml:
        if not found.get("yaml"):
            raise NotFound("Only those who run a course see it as a file.")
        for line in str(found["yaml"]).splitlines():
            click.echo(shown.safe(line))
    else:
        session.say(f"{found['name']}: {found['title']}")
        facts = {
            "seats": f"{found['seats']} x {found['units']} {found['profile']}",
            "nodes": ", ".join(found["nodes"]) or "any",
            "started before": found["setup"],
            "given back after": found["grace"],
            "you are": found["role"] or "not in it",
            "on it": _counts(found["members"]),
        }
        for label, value in facts.items():
            if value:
                session.say(f"  {label:<18}{value}")


@command(name="remove")
@click.argument("name", type=COURSE)
def _remove(session: Session, name: str) -> None:
    """Remove course NAME with its roster. People keep their accounts and files."""
    session.client.courses.remove(name)
    if session.json:
        shown.print_json({"removed": name})
    else:
        session.say(f"Course {name} is removed.")


@command(name="show")
@click.argument("name", type=COURSE)
def _roster_show(session: Session, name: str) -> None:
    """Who is in course NAME."""
    found = session.client.courses.roster(name)
    if session.json:
        shown.print_json(found)
        return
    rows = [(one["name"], one["role"], "" if one["known"] else "never logged in") for one in found["items"]]
    shown.table(session.out, ("name", "is", ""), rows)


@command(name="add")
@click.argument("name", type=COURSE)
@click.argument("people", nargs=-1, required=True)
@_ROLE
@_DRY_RUN
def _roster_add(session: Session, name: str, people: tuple[str, ...], role: str | None, dry_run: bool) -> None:
    """Put PEOPLE on the roster of course NAME, or give them another role."""
    _change(session, name, {"add": list(people), "role": role}, dry_run=dry_run)


@command(name="remove")
@click.argument("name", type=COURSE)
@click.argument("people", nargs=-1, required=True)
@_DRY_RUN
def _roster_remove(session: Session, name: str, people: tuple[str, ...], dry_run: bool) -> None:
    """Take PEOPLE off the roster of course NAME. They keep their accounts and files."""
    _change(session, name, {"remove": list(people)}, dry_run=dry_run)


@command(name="import")
@click.argument("name", type=COURSE)
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True), metavar="FILE")
@_ROLE
@click.option("--whole", is_flag=True, help="Take off students that are not in it.")
@click.option("--domain", "domains", multiple=True, metavar="DOMAIN",
              help="Of mail addresses whose part before the @ is the login. [default: those of the site]")  # fmt: skip
@_DRY_RUN
def _roster_import(
    session: Session, name: str, file: Path, role: str | None, whole: bool, domains: tuple[str, ...], dry_run: bool
) -> None:
    """Put everybody in FILE on the roster of course NAME.

    FILE holds names or mail addresses, or is CSV with a header, such as an export of Moodle or Canvas; - is the
    standard input. Lines that name nobody are told, the others done.
    """
    asked = {"text": _text(file), "role": role, "whole": whole, "domains": list(domains) or None}
    _change(session, name, asked, dry_run=dry_run)


for _each in (_roster_show, _roster_add, _roster_remove, _roster_import):
    roster.add_command(_each)
for _each in (_apply, _ls, _show, _remove, roster, course_guests, course_book, course_classes, course_cancel,
              course_class, course_report):  # fmt: skip
    course.add_command(_each)


def _change(session: Session, name: str, asked: dict[str, Any], *, dry_run: bool) -> None:
    done = session.client.courses.change_roster(name, asked, dry_run=dry_run)
    if session.json:
        shown.print_json(done)
        return
    if _nothing(done):
        session.say(f"The roster of {name} is so already: nothing changes.")
    else:
        session.say(f"The roster of {name} would change:" if dry_run else f"The roster of {name} is changed:")
    _show_change(session, done)


def _nothing(change: dict[str, Any]) -> bool:
    return not (change["added"] or change["changed"] or change["removed"])


def _show_change(session: Session, change: dict[str, Any]) -> None:
    """``+ ann  student``, ``- ben``; and which lines name nobody."""
    for mark, people in (("+", change["added"]), ("~", change["changed"])):
        for one in people:
            unknown = "" if one["known"] else ", never logged in"
            session.say(f"  {mark} {one['name']}  {one['role']}{unknown}")
    for name in change["removed"]:
        session.say(f"  - {name}")
    for one in change["not_understood"][:MOST_SHOWN]:
        session.note(f"line {one['line']}: {one['text']!r} {one['why']}")
    more = change["not_understood_count"] - min(MOST_SHOWN, len(change["not_understood"]))
    if more > 0:
        session.note(f"… and {more} lines more that name nobody")


def _counts(members: dict[str, int] | None) -> str:
    return ", ".join(f"{number} {role}{'s' * (number != 1)}" for role, number in sorted((members or {}).items()))


def _said(value: object) -> str:
    """A value of a course as its file has it, on one line."""
    if isinstance(value, dict):
        return ", ".join(f"{key}: {inner}" for key, inner in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "–" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _text(file: Path) -> str:
    """What is in a file. :raises NotFound: there is none. :raises Invalid: it is too large, or no text."""
    try:
        if str(file) == "-":
            data = sys.stdin.buffer.read(LARGEST + 1)
        else:
            with file.expanduser().open("rb") as opened:
                data = opened.read(LARGEST + 1)
        if len(data) > LARGEST:
            raise Invalid.field("FILE", f"{file} is larger than {LARGEST >> 10} KiB")
        return data.decode("utf-16" if data[:2] in _UTF16 else "utf-8-sig")
    except FileNotFoundError:
        raise NotFound(f"There is no file {str(file)!r}.") from None
    except UnicodeDecodeError:
        raise Invalid.field("FILE", f"{file} is no text in UTF-8; save it so") from None
    except OSError as error:
        raise Invalid.field("FILE", f"{file}: {error.strerror}") from None
