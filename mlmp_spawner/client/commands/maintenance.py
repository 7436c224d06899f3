"""``mlmp maintenance``, ``drain``, ``undrain``: when nodes take no bookings."""

from __future__ import annotations

import sys
from typing import Any

import click

from mlmp_spawner.client import show
from mlmp_spawner.client.session import LENGTH, Session, command, instant
from mlmp_spawner.client.show import Clock
from mlmp_spawner.errors import Invalid
from mlmp_spawner.units import from_iso, parse_duration, to_iso

BECOMES = {"kept": "goes on", "moved": "is moved", "waiting": "loses its place and waits", "ended": "ends",
           "yielded": "is a job, which ends in time and is tried again elsewhere"}  # fmt: skip
_KEEP = click.option("--keep", is_flag=True, help="Keep bookings that have not begun where they are.")
_DRY = click.option("--dry-run", is_flag=True, help="Only show which bookings it would hit.")
_YES = click.option("--yes", "-y", is_flag=True, help="Do not ask.")


@command()
@click.argument("node", required=False)
@click.option("--for", "length", type=LENGTH, help="How long: 90m, 4h, 2d.")
@click.option("--from", "begin", metavar="TIME", help="From when: 14:00, tomorrow 9:00, ISO 8601. [default: now]")
@click.option("--reason", default="", help="Why; everybody sees it.")
@click.option("--clear", is_flag=True, help="Take back all that is planned for NODE.")
@_KEEP
@_DRY
@_YES
def maintenance(
    session: Session,
    node: str | None,
    length: str | None,
    begin: str | None,
    reason: str,
    clear: bool,
    keep: bool,
    dry_run: bool,
    yes: bool,
) -> None:
    """When NODE takes no bookings, or all nodes. With --for (admins): plan it; running bookings go on.

    \b
      mlmp maintenance
      mlmp maintenance box --from "Tue 18:00" --for 4h --reason "new driver" --dry-run
      mlmp maintenance box --clear
    """
    if length is None and not clear:
        if begin or reason or keep or dry_run:
            raise Invalid.field("--for", "say how long, such as --for 4h; without an end it is `mlmp drain NODE`")
        _list(session, node)
        return
    if node is None:
        raise Invalid.field("NODE", "name the node; `mlmp maintenance` lists them")
    if clear:
        if length is not None:
            raise Invalid.field("--clear", "it goes without --for")
        _change(session, node, lambda one, now: from_iso(one["start"]) > now, None, keep, dry_run, yes)
        return
    start = instant(begin, session, "--from")
    first = session.clock().now if start is None else start
    new = {"end": to_iso(first + parse_duration(str(length))), "reason": reason}
    if start is not None:
        new["start"] = to_iso(start)
    _change(session, node, lambda one, now: False, new, keep, dry_run, yes)


@command()
@click.argument("node")
@click.option("--reason", default="", help="Why; everybody sees it.")
@_KEEP
@_DRY
@_YES
def drain(session: Session, node: str, reason: str, keep: bool, dry_run: bool, yes: bool) -> None:
    """Let NODE take no bookings from now on, until `mlmp undrain NODE` (admins). Running bookings go on."""
    _change(session, node, lambda one, now: False, {"reason": reason}, keep, dry_run, yes)


@command()
@click.argument("node")
def undrain(session: Session, node: str) -> None:
    """Let NODE take bookings again (admins): ends what is under way and what has no end. Planned ones stay."""
    _change(session, node, lambda one, now: one["end"] is None or from_iso(one["start"]) <= now, None, False, False,
            yes=True)  # fmt: skip


def _list(session: Session, node: str | None) -> None:
    nodes = [one for one in session.client.nodes() if node in (None, one["name"])]
    if node is not None and not nodes:
        session.client.outages(node)  # its refusal names the valid ones
    if session.json:
        show.print_json({"items": nodes})
        return
    clock = session.clock()
    rows = []
    for one in nodes:
        booked = ", ".join(
            f"{units['taken']} of {units['capacity']} booked{_in_brackets(units.get('why'))}" for units in one["units"]
        )
        away = [*([one["outage"]] if one["outage"] else []), *one["planned"]]
        rows.append((one["name"], booked, *(_when(away[0], clock) if away else ("", "", ""))))
        rows += [("", "", *_when(later, clock)) for later in away[1:]]
    show.table(session.out, ("node", "now", "away from", "until", "why"), rows, caption=f"times in {clock.zone_name}")


def _in_brackets(text: str | None) -> str:
    return f" ({text})" if text else ""


def _when(outage: dict[str, Any], clock: Clock) -> tuple[str, str, str]:
    end = clock.time(from_iso(outage["end"])) if outage["end"] else "further notice"
    return clock.time(from_iso(outage["start"])), end, str(outage["reason"])


def _change(
    session: Session, node: str, goes: Any, new: dict[str, Any] | None, keep: bool, dry_run: bool, yes: bool
) -> None:
    """Sets the outages of a node: those it has less what ``goes``, and a ``new`` one."""
    clock = session.clock()
    known = session.client.outages(node)
    items = [
        {name: one[name] for name in ("start", "end", "reason")} for one in known["items"] if not goes(one, clock.now)
    ]
    body: dict[str, Any] = {"items": items + ([new] if new else []), "bookings": "keep" if keep else "move"}
    ask = not yes and not session.json and sys.stdin.isatty()
    if dry_run or ask:
        planned = session.client.set_outages(node, {**body, "dry_run": True}, etag=known["etag"])
        if dry_run:
            _tell(session, node, planned, clock, "would be")
            return
        if planned["hits"]:
            _hits(session, planned, clock)
            click.confirm(f"This becomes of {len(planned['hits'])} bookings. Go on?", abort=True)
    _tell(session, node, session.client.set_outages(node, body, etag=known["etag"]), clock, "is")


def _tell(session: Session, node: str, done: dict[str, Any], clock: Clock, verb: str) -> None:
    if session.json:
        show.print_json(done)
        return
    for one in done["items"]:
        start, end, reason = _when(one, clock)
        why = f": {reason}" if reason else ""
        session.say(f"{node} {verb} away from {start} until {end}{why} ({clock.zone_name}).")
    if not done["items"]:
        session.say(f"{node} {'would take' if verb == 'would be' else 'takes'} bookings.")
    _hits(session, done, clock)


def _hits(session: Session, done: dict[str, Any], clock: Clock) -> None:
    rows = [
        (
            hit["reservation"],
            hit["owner"],
            f"{hit['units']} x {hit['profile']}",
            clock.time(from_iso(hit["start"])),
            clock.time(from_iso(hit["end"])),
            BECOMES.get(hit["outcome"], hit["outcome"]),
        )
        for hit in done["hits"]
    ]
    if rows:
        show.table(session.out, ("booking", "owner", "what", "from", "until", ""), rows)
