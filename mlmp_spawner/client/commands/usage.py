"""``mlmp usage``: what was booked, and what of it was used."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

from mlmp_spawner.client import show as shown
from mlmp_spawner.client.session import Session, command, instant
from mlmp_spawner.errors import Invalid
from mlmp_spawner.units import DAY, to_iso

if TYPE_CHECKING:
    from rich.text import Text

ROWS = ("user", "group", "node", "profile")

WIDTH = 30
"""Characters of the longest bar."""

PARTS = (("used", "█", "green"), ("idle", "▒", "yellow"), ("not_started", "░", "dim"))
JOBS = ("jobs", "╱", "cyan")


@command()
@click.option("--from", "begin", metavar="TIME", help="From then on: ISO, yesterday 0:00. [default: 7 days ago]")
@click.option("--to", "end", metavar="TIME", help="Until then. [default: now]")
@click.option(
    "--by", type=click.Choice(["user", "group", "node", "profile"]), default="user", help="Rows. [default: user]"
)
@click.option("--resource", help="Units of this only. [default: all but CPU slots]")
@click.option("--csv", "as_csv", is_flag=True, help="As a table for spreadsheets.")
def usage(session: Session, begin: str | None, end: str | None, by: str, resource: str | None, as_csv: bool) -> None:
    """What was booked and used: yours, or, for admins, everybody's.

    \b
    █ used   ▒ idle (a server ran and did nothing)   ░ booked and not started   ╱ jobs; in unit-hours
    """
    if as_csv and session.json:
        raise Invalid.field("--csv", "give it or --json, not both")
    clock = session.clock()
    last = instant(end, session, "--to")
    last = clock.now if last is None else last
    first = instant(begin, session, "--from")
    first = last - 7 * DAY if first is None else first
    query = {"from": to_iso(first), "to": to_iso(last), "by": by, "zone": getattr(clock.zone, "key", None),
             "resource": resource}  # fmt: skip
    if as_csv:
        for line in session.client.usage_csv(**query).splitlines():
            session.say(line)
        return
    found = session.client.usage(**query)
    if session.json:
        shown.print_json(found)
        return
    span = f"{clock.time(first)} – {clock.time(min(last, clock.now))}"
    if not found["items"]:
        session.say(f"Nothing was booked: {span} ({clock.zone_name}).")
        return
    jobs = bool(found["total"].get("jobs"))
    parts = (*PARTS, JOBS) if jobs else PARTS
    most = max(float(row["booked"]) + float(row.get("jobs", 0)) for row in found["items"])
    rows = [[row["name"] or "(no group)", _bar(row, most, parts), *_numbers(row, parts)] for row in found["items"]]
    if len(rows) > 1:
        rows.append(["all" if by != "group" else "all people", "", *_numbers(found["total"], parts)])
    part = found.get("utilisation")
    house = f"; {part:.0%} of all that there was is booked" if isinstance(part, float) else ""
    house = house and f"{house} or had by jobs" if jobs else house
    names = [name.replace("_", " ") for name, _, _ in parts]
    key = " ".join(f"{mark} {name}" for name, (_, mark, _) in zip(names, parts, strict=True))
    columns = (by, key, "booked", *names)
    shown.table(session.out, columns, rows, caption=f"unit-hours, {span}; times in {clock.zone_name}{house}")


def _numbers(row: dict[str, Any], parts: Iterable[tuple[str, str, str]]) -> list[str]:
    return [f"{float(row[name]):,.1f}" for name in ("booked", *(name for name, _, _ in parts))]


def _bar(row: dict[str, Any], most: float, parts: Iterable[tuple[str, str, str]]) -> Text:
    """As long as what was booked, and what jobs had, beside the longest."""
    from rich.text import Text

    drawn, done, told = Text(), 0.0, 0
    for name, mark, style in parts:
        done += float(row[name])
        length = round(WIDTH * done / most) - told if most > 0 else 0
        drawn.append(mark * max(0, length), style)
        told += max(0, length)
    return drawn
