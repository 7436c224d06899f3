"""What people see in the terminal: times in their zone, tables, refusals with the command that works instead.

Nothing from the server is trusted with the terminal: control characters, directions of writing and markup are made
visible or harmless before anything is printed.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, tzinfo
from typing import IO, TYPE_CHECKING, Any

from mlmp_spawner.client.models import Reservation
from mlmp_spawner.errors import ConfigurationError, MLMPError
from mlmp_spawner.units import MINUTE, SECOND, compact_duration, format_duration, from_iso, parse_duration

if TYPE_CHECKING:
    from rich.console import Console

WIDTH_OF_A_PIPE = 10_000
NEAR = 10 * MINUTE
MARKS = {"running": "●", "starting": "◐", "stopping": "◑"}


def safe(value: object) -> str:
    """One line without anything that could steer a terminal."""
    return "".join(c if _harmless(c) else "\N{REPLACEMENT CHARACTER}" for c in str(value))


def _harmless(character: str) -> bool:
    # Zl, Zp and C*: line ends, escapes, direction marks, private use, halves of characters.
    return unicodedata.category(character) not in ("Cc", "Cf", "Co", "Cs", "Zl", "Zp")


class Clock:
    """Instants as this user reads them. :param now: ms UTC. :param zone: the user's."""

    def __init__(self, now: int, zone: tzinfo) -> None:
        self.now = now
        self.zone = zone

    @property
    def zone_name(self) -> str:
        """For example ``Europe/Zurich``."""
        return str(getattr(self.zone, "key", None) or self._wall(self.now).tzname())

    def time(self, ms: int) -> str:
        """``14:00``, ``tomorrow 09:00``, ``Tue 24 Nov 08:15``; with the year where it is another one.

        Seconds are shown of what is near alone: there they matter.
        """
        wall, today = self._wall(ms), self._wall(self.now)
        days = (wall.date() - today.date()).days
        clock = f"{wall:%H:%M:%S}" if wall.second and abs(ms - self.now) < NEAR else f"{wall:%H:%M}"
        if days == 0:
            return clock
        if days == 1:
            return f"tomorrow {clock}"
        # Not by strftime: names of days would follow the locale, the sentences around them don't.
        day = f"{_DAYS[wall.weekday()]} {wall.day} {_MONTHS[wall.month - 1]}"
        return f"{day} {clock}" if wall.year == today.year else f"{day} {wall.year} {clock}"

    def iso(self, ms: int) -> str:
        """As options take it: ``2026-11-24T09:00+01:00``."""
        wall = self._wall(ms)
        parts = "milliseconds" if wall.microsecond else "seconds" if wall.second else "minutes"
        return wall.isoformat(timespec=parts)

    def left(self, found: Reservation) -> str:
        """``1 h 12 min left`` or ``in 25 min``; nothing once it is over."""
        if found.state == "active":
            return f"{coarse(found.end - self.now)} left"
        return f"in {coarse(found.start - self.now)}" if found.state == "booked" else ""

    def _wall(self, ms: int) -> datetime:
        return datetime.fromtimestamp(ms / 1000, self.zone)


_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def coarse(ms: int) -> str:
    """A duration for people, in whole minutes from ten minutes on."""
    ms = max(ms, 0)
    return format_duration(ms - ms % MINUTE if ms >= 10 * MINUTE else ms)


def console(stream: IO[str] | None = None) -> Console:
    """A console that knows NO_COLOR, and does not fold lines that go into a pipe or a file."""
    from rich.console import Console

    stream = stream or sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else WIDTH_OF_A_PIPE
    return Console(file=stream, width=width, markup=False, highlight=False, emoji=False, soft_wrap=True)


def table(target: Console, columns: Iterable[str], rows: Iterable[Iterable[object]], *, caption: str = "") -> None:
    """Rows under headings; every cell is made safe."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    for column in columns:
        drawn.add_column(column, overflow="fold")
    for row in rows:
        drawn.add_row(*(cell if isinstance(cell, Text) else Text(safe(cell)) for cell in row))
    target.print(drawn, soft_wrap=False)
    if caption:
        target.print(Text(safe(caption), style="dim"))


def print_json(body: object) -> None:
    """For programs: the answer as the server gave it. ASCII, so that no terminal is steered by it either."""
    print(json.dumps(body, indent=2, ensure_ascii=True))


def what(found: Reservation) -> str:
    """``2 x gpu on node-1``."""
    nodes = ", ".join(sorted({row.node for row in found.allocations}))
    number = f"{found.units} x " if found.units > 1 else ""
    several = f" on each of {found.node_count} nodes" if found.node_count > 1 and not nodes else ""
    return f"{number}{found.profile}" + (f" on {nodes}" if nodes else several)


def state(found: Reservation) -> str:
    """What it is, in a word and, for a server, a mark."""
    if found.state == "waiting":
        place = f", place {found.waitlist_position}" if found.waitlist_position is not None else ""
        why = "its machine was lost" if found.waiting_reason == "capacity_lost" else "waitlist"
        return f"waiting ({why}{place})"
    if found.state == "ended":
        return f"ended ({(found.end_reason or 'expired').replace('_', ' ')})"
    if found.server_state in MARKS:
        return f"{MARKS[found.server_state]} {found.server_state}"
    return "ready to start" if found.state == "active" else found.state


def report(error: MLMPError, clock: Callable[[], Clock], *, target: Console, context: Mapping[str, Any]) -> None:
    """An error for people: what happened, what to do, and what is possible instead as commands.

    :param context: ``id`` and ``end`` (ms) of the booking that was to change, where there is one.
    """
    from rich.text import Text

    def line(text: str, style: str = "") -> None:
        target.print(Text(text, style=style))

    lines = error.problems if isinstance(error, ConfigurationError) else _mistakes(error) or [error.detail]
    for number, text in enumerate(lines):
        line(("error: " if number == 0 else "       ") + safe(text), "bold red")
    if error.hint:
        line(f"  {safe(error.hint)}")
    commands = list(alternatives(error, clock, context))
    if commands:
        line("possible instead:")
        for words, command in commands:
            line(f"  {safe(words)}")
            line(f"    {safe(command)}", "bold")


def _mistakes(error: MLMPError) -> list[str]:
    """Where several things are wrong: their number, and a line for each. As a newer server may send anything, nothing
    where it can't be said so."""
    found = error.data.get("errors")
    if not isinstance(found, list) or len(found) < 2 or not all(isinstance(one, dict) for one in found):
        return []
    said = [f"{len(found)} things are wrong:"]
    for one in found:
        line = f"line {one['line']}: " if one.get("line") else ""
        field = "" if one.get("field") in (None, "", "manifest") else f"{one['field']}: "
        said.append(f"{line}{field}{one.get('message', '')}")
    return said


def alternatives(
    error: MLMPError, clock: Callable[[], Clock], context: Mapping[str, Any]
) -> Iterable[tuple[str, str]]:
    """What a refusal offers, as (words, command). What a newer server offers and this client can't say is left out."""
    id, end = context.get("id"), context.get("end")
    if id is not None and end is not None and error.data.get("longest_end"):
        try:
            longest = from_iso(str(error.data["longest_end"]))
        except ValueError:
            return
        if longest - end >= SECOND:
            shown = f"until {clock().time(longest)} ({coarse(longest - end)} more)"
            yield shown, shlex.join(["mlmp", "extend", str(id), compact_duration(longest - end)])
        return
    offered = error.data.get("alternatives")
    for item in offered if isinstance(offered, list) else []:
        try:
            yield _as_booking(dict(item["request"]), clock())
        except (KeyError, TypeError, ValueError):
            continue


def _as_booking(request: dict[str, Any], clock: Clock) -> tuple[str, str]:
    """A request of ``POST reservations`` as words and as a command."""
    start = from_iso(request["start"]) if request.get("start") else None
    length = request.get("duration")
    if length is None:
        ms = from_iso(request["end"]) - (clock.now if start is None else start)
        if start is None and ms > MINUTE:
            ms = ms // MINUTE * MINUTE  # the command is typed a moment later
    else:
        ms = parse_duration(str(length))
    length = compact_duration(ms)
    words = [f"{format_duration(ms)} from {clock.time(start) if start is not None else 'now'}"]
    command = ["mlmp", "book", "--profile", str(request["profile"]), "--for", length]
    if start is not None:
        command += ["--start", clock.iso(start)]
    if request.get("node"):
        command += ["--node", str(request["node"])]
        words.append(f"on {request['node']}")
    if request.get("units") is not None:
        command += ["--units", str(int(request["units"]))]
        words.append(f"with {int(request['units'])} units")
    if int(request.get("node_count") or 1) > 1:
        command += ["--node-count", str(int(request["node_count"]))]
    again = request.get("recurrence")
    if again:
        command += ["--rrule", str(again["rrule"])]
        for day in again.get("except") or ():
            command += ["--except", str(day)]
        words.append("on all dates" + (f" but {', '.join(again['except'])}" if again.get("except") else ""))
    for option in ("title", "owner"):
        if request.get(option):
            command += [f"--{option}", str(request[option])]
    return ", ".join(words), shlex.join(command)
