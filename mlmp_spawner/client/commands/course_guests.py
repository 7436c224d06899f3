"""``mlmp course guests``: invite people without an account to a course."""

from __future__ import annotations

import os
from pathlib import Path

import click

from mlmp_spawner.client import show as shown
from mlmp_spawner.client.completion import COURSE
from mlmp_spawner.client.session import Session, command, instant
from mlmp_spawner.errors import Invalid
from mlmp_spawner.units import from_iso

MOST = 200


@command(name="guests")
@click.argument("name", type=COURSE)
@click.option("--new", "count", type=click.IntRange(1, MOST), metavar="N", help="Make codes for N people.")
@click.option("--until", metavar="WHEN", help="When codes and guests are over: '24 Nov 18:00', 'in 3d'.")
@click.option("--sheet", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE.html",
              help="Write the codes to a page to print, instead of showing them.")  # fmt: skip
@click.option("--withdraw", is_flag=True, help="Make all codes useless that nobody used.")
@click.option("--end", "guest", metavar="GUEST", help="End a guest's time now.")
def course_guests(
    session: Session, name: str, count: int | None, until: str | None, sheet: Path | None, withdraw: bool,
    guest: str | None,
) -> None:  # fmt: skip
    """The guests of course NAME; with --new, invite more.

    Each code is good for one person and is shown this once. When their time is over, servers and login of guests end,
    and some time after that their files and accounts are erased.

    \b
      mlmp course guests ml
      mlmp course guests ml --new 20 --until '24 Nov 18:00' --sheet codes.html
      mlmp course guests ml --end guest-k7m29qxf3h
    """
    chosen = [option for option, given in (("--new", count), ("--withdraw", withdraw), ("--end", guest)) if given]
    if len(chosen) > 1:
        raise Invalid(f"{' and '.join(chosen)}: one at a time.")
    if count is None and (until or sheet):
        raise Invalid("--until and --sheet go with --new.")
    if count is not None:
        _invite(session, name, count, until, sheet)
    elif withdraw:
        number = session.client.guests.withdraw(name)
        _say(session, {"withdrawn": number}, f"{number} codes are useless now.")
    elif guest is not None:
        ended = session.client.guests.end(name, guest)
        erased = session.clock().time(from_iso(ended["erased_from"]))
        _say(session, ended, f"The time of {guest} is over; files and account are erased from {erased} on.")
    else:
        _list(session, name)


def _invite(session: Session, name: str, count: int, until: str | None, sheet: Path | None) -> None:
    ends = instant(until, session, "--until")
    if ends is None:
        raise Invalid.field("--until", "say when the guests' time is over, such as 'in 3d'")
    # Before the codes are made, since they are told once.
    title = str(session.client.courses.get(name)["title"])
    target = None if sheet is None else _new_file(sheet)
    try:
        made = session.client.guests.invite(name, count, until=ends)
    except BaseException:
        if target is not None and sheet is not None:
            os.close(target)
            sheet.unlink(missing_ok=True)
        raise
    when = session.clock().time(from_iso(made["until"]))
    if target is not None:
        from mlmp_spawner.client.guest_sheet import sheet as page

        with open(target, "w", encoding="utf-8") as file:
            file.write(page(title, made, until=f"{when} ({session.clock().zone_name})"))
    if session.json:
        shown.print_json(made)
        return
    if sheet is not None:
        session.say(f"{count} codes are in {sheet}, good until {when}. Print it, then remove it.")
        return
    for one in made["items"]:
        session.say(f"{one['code']}  {one['link']}")
    session.note(f"Good until {when}, each for one person. They are not shown again.")


def _new_file(path: Path) -> int:
    """Opened for nobody else to read. :raises Invalid: it is there already, or can't be made."""
    try:
        return os.open(path.expanduser(), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise Invalid.field("--sheet", f"{path} is there already; take another name") from None
    except OSError as error:
        raise Invalid.field("--sheet", f"{path}: {error.strerror}") from None


def _list(session: Session, name: str) -> None:
    found = session.client.guests.list(name)
    if session.json:
        shown.print_json(found)
        return
    clock = session.clock()
    rows = [
        (one["name"], f"over, erased {clock.time(from_iso(one['erased_from']))}" if one["ended_at"]
         else f"until {clock.time(from_iso(one['until']))}")
        for one in found["items"]
    ]  # fmt: skip
    if rows:
        shown.table(session.out, ("guest", ""), rows)
    session.say(f"{len(rows)} guests; {found['open_codes']} codes that nobody used yet.")


def _say(session: Session, body: object, text: str) -> None:
    if session.json:
        shown.print_json(body)
    else:
        session.say(text)
