"""``mlmp usage``: what was booked, and what of it was used."""

from __future__ import annotations

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
    █ used   ▒ idle (a server ran and did nothing)   ░ booked and not started; in unit-hours
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
    most = max(float(row["booked"]) for row in found["items"])
    rows = [[row["name"] or "(no group)", _bar(row, most), *_numbers(row)] for row in found["items"]]
    if len(rows) > 1:
        rows.append(["all" if by != "group" else "all people", "", *_numbers(found["total"])])
    part = found.get("utilisation")
    house = f"; {part:.0%} of all that there was is booked" if isinstance(part, float) else ""
    columns = (by, "█ used ▒ idle ░ not started", "booked", "used", "idle", "not started")
    shown.table(session.out, columns, rows, caption=f"unit-hours, {span}; times in {clock.zone_name}{house}")


def _numbers(row: dict[str, Any]) -> list[str]:
    return [f"{float(row[name]):,.1f}" for name in ("booked", "used", "idle", "not_started")]


def _bar(row: dict[str, Any], most: float) -> Text:
    """As long as what was booked, beside the longest."""
    from rich.text import Text

    drawn, done, told = Text(), 0.0, 0
    for name, mark, style in PARTS:
        done += float(row[name])
        length = round(WIDTH * done / most) - told if most > 0 else 0
        drawn.append(mark * max(0, length), style)
        told += max(0, length)
    return drawn
