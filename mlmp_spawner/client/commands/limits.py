"""``mlmp limits``: how much everybody, a group or a person may take, and what of it they have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from mlmp_spawner.client import show
from mlmp_spawner.client.session import Session, command
from mlmp_spawner.errors import Invalid
from mlmp_spawner.units import parse_duration, parse_size


def _duration(text: str) -> str:
    parse_duration(text)
    return text


def _size(text: str) -> str:
    parse_size(text)
    return text


KINDS: dict[str, Callable[[str], float | str]] = {
    "units_at_once": int,
    "hours_per_week": float,
    "min_duration": _duration,
    "max_duration": _duration,
    "ahead": _duration,
    "open_bookings": int,
    "no_show_grace": _duration,
    "extension": _duration,
    "job_units": int,
    "open_jobs": int,
    "job_logs": _size,
}
"""The limits, each with what reads a value of it: as it is sent, or a ValueError."""


class _Group(click.Group):
    """Without a subcommand's name in front, SUBJECT is looked at."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.commands:
            args = ["show", *args]
        return super().resolve_command(ctx, args)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or args == ["--json"]:
            args = ["show", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_Group, context_settings={"ignore_unknown_options": True})
def limits() -> None:
    """Limits that concern you (admins: all), and what is used of them.

    \b
      mlmp limits                               everybody's, your groups', your own
      mlmp limits user:ann                      one, with what is used of it
      mlmp limits set group:students hours_per_week=40 max_duration=8h units_at_once=none
      mlmp limits reset group:students          back to what the catalog says

    SUBJECT is everybody, group:NAME or user:NAME. Setting and resetting are for admins.
    """


@command(name="show", hidden=True)
@click.argument("subject", required=False)
def show_limits(session: Session, subject: str | None) -> None:
    """Limits of SUBJECT, or all that concern you."""
    if subject is not None:
        _print(session, session.client.limits(subject))
        return
    found = session.client.all_limits()
    if session.json:
        show.print_json({"items": found, "next_cursor": None})
        return
    rows = [(one["name"], _source(one), *(_said(one, name) for name in KINDS)) for one in found]
    show.table(session.out, ("who", "by", *(name.replace("_", " ") for name in KINDS)), rows,
               caption="what is left out (·) is as for everybody")  # fmt: skip


@command(name="set")
@click.argument("subject")
@click.argument("limits", nargs=-1, required=True, metavar="LIMIT=VALUE…")
@click.option("--only", is_flag=True, help="Forget what was said before and is not said now.")
def set_limits(session: Session, subject: str, limits: tuple[str, ...], only: bool) -> None:
    """Set limits of SUBJECT in place of the catalog's; what is not named stays as it was said.

    VALUE is a number, a duration (8h, 14d) or a size (5GiB); none: no limit; default: as for everybody.
    """
    given = dict(_parsed(one) for one in limits)
    before = session.client.limits(subject)
    said: dict[str, Any] = {} if only else dict(before.get("set") or before.get("catalog") or {})
    said = {name: value for name, value in (said | given).items() if value != "default"}
    _print(session, session.client.set_limits(subject, said, etag=before.get("etag")))


@command(name="reset")
@click.argument("subject")
def reset_limits(session: Session, subject: str) -> None:
    """Forget what was set for SUBJECT: the catalog's limits hold again."""
    _print(session, session.client.reset_limits(subject))


limits.add_command(show_limits)
limits.add_command(set_limits)
limits.add_command(reset_limits)


def _parsed(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    name = name.strip().replace("-", "_")
    if not equals or name not in KINDS:
        raise Invalid.field("LIMIT=VALUE", f"{text[:60]!r} is none; valid: {', '.join(KINDS)}, each with =VALUE")
    value = value.strip()
    if value in ("none", "default"):
        return name, None if value == "none" else value
    try:
        return name, KINDS[name](value)
    except ValueError as error:
        wanted = f"{value[:40]!r} is not a number" if KINDS[name] in (int, float) else str(error)
        raise Invalid.field(name, f"{wanted}; or none (no limit), default (as for everybody)") from None


def _source(one: dict[str, Any]) -> str:
    return f"set by {one.get('changed_by')}" if one.get("set") is not None else "catalog"


def _said(one: dict[str, Any], name: str) -> str:
    said = one.get("set")
    said = (one.get("catalog") or {}) if said is None else said
    if name in said:
        return "none" if said[name] is None else f"{said[name]}"
    return "·" if one.get("name") != "everybody" else "none"


def _print(session: Session, one: dict[str, Any]) -> None:
    if session.json:
        show.print_json(one)
        return
    holding, used = one.get("effective") or {}, one.get("used") or {}
    session.say(f"{one['name']} ({_source(one)})")
    rows = [
        (name.replace("_", " "), _said(one, name), "none" if holding.get(name) is None else holding[name],
         used.get(name, ""))
        for name in KINDS
    ]  # fmt: skip
    show.table(session.out, ("limit", "said", "holds", "used"), rows)
