"""What the pages show of a booking: what it is, what its owner can do with it now, when that changes next."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any
from urllib.parse import quote

from mlmp_spawner.operations import availability, listing, planning, waitlist
from mlmp_spawner.operations.site import Actor, Site
from mlmp_spawner.rules.catalog import Limits
from mlmp_spawner.rules.policy import Usage
from mlmp_spawner.rules.reservations import Interval, Reservation
from mlmp_spawner.units import DAY, HOUR, MINUTE, format_duration

EXTENSIONS = (MINUTE, 5 * MINUTE, 30 * MINUTE, HOUR, 2 * HOUR, 4 * HOUR, 8 * HOUR)
"""By how much one may extend at a click; the shortest only where bookings may be that short."""

PAST = 30 * DAY
"""How much of the past is shown at once."""

DAYS = {"MO": "Mon", "TU": "Tue", "WE": "Wed", "TH": "Thu", "FR": "Fri", "SA": "Sat", "SU": "Sun"}

AHEAD = 6 * 366 * DAY
"""Further ahead than anybody can book."""

WAITING = {
    "requested": "it is booked as soon as something is free",
    "capacity_lost": "its place was lost, since a machine left; it is booked again as soon as something is free",
}
ENDED = {
    "expired": "ended on time",
    "released": "given back early",
    "cancelled": "cancelled",
    "no_show": "given back: nobody came",
    "capacity_lost": "ended: the machine was lost",
    "preempted": "ended: it gave way",
    "idle": "given back: nothing was done on it",
}


@dataclass(frozen=True, slots=True)
class Shown:
    """A booking as its owner sees it. Instants in ms UTC.

    ``stops_at`` is when its server begins to stop, at the end of the unbroken chain of bookings that it begins;
    ``goes_on`` tells that this is not its own end. ``longest_end`` is how far it could be extended.
    ``warn`` is how near the end is: the last warning that is due (ms before the end), None for none. ``place`` is
    its place on the waitlist.
    """

    booking: Reservation
    now: int
    title: str
    simulated: bool
    stops_at: int
    longest_end: int
    goes_on: bool
    shortest: int
    warn: int | None
    url: str
    pending_url: str
    place: int | None

    @property
    def state(self) -> str:
        """waiting, booked, active, ended."""
        return self.booking.state(self.now)

    @property
    def server(self) -> str:
        """none, starting, running, stopping."""
        return self.booking.server_state()

    @property
    def live(self) -> bool:
        """Whether a server of it is there."""
        return self.server != "none"

    @property
    def can_start(self) -> bool:
        """Whether its server may be started now."""
        return self.state == "active" and self.server == "none" and self.now < self.stops_at

    @property
    def can_extend(self) -> bool:
        """Whether its end may still be moved."""
        return self.state == "active" and self.booking.stopping_at is None and self.now < self.stops_at

    @property
    def extensions(self) -> tuple[tuple[int, int], ...]:
        """The choices of an extension: by how much, and the end that makes; the last is the longest possible."""
        end = self.booking.end
        room = self.longest_end - end
        usual = [step for step in EXTENSIONS if step >= min(30 * MINUTE, self.shortest) and step < room]
        return tuple((step, end + step) for step in [*usual, *([room] if room > 0 else [])])

    @property
    def note(self) -> str:
        """Why it waits, or why it is over."""
        if self.state == "waiting":
            place = f"number {self.place} on the waitlist; " if self.place else ""
            return place + WAITING.get(self.booking.waiting_reason or "", "")
        if self.state == "ended":
            return ENDED.get(self.booking.end_reason or "expired", (self.booking.end_reason or "").replace("_", " "))
        return ""


@dataclass(frozen=True, slots=True)
class Urls:
    """Where servers are, for pages: functions of the context, so that views know nothing of HTTP."""

    base_url: str
    hub_prefix: str

    def server(self, row: Reservation) -> str:
        """The server itself."""
        return f"{self.base_url}user/{_path(row)}"

    def pending(self, row: Reservation) -> str:
        """The hub's page that shows the start and leads on to the server."""
        return f"{self.hub_prefix}spawn-pending/{_path(row)}"


def _path(row: Reservation) -> str:
    owner = quote(row.owner, safe="@~")
    return f"{owner}/{quote(row.server, safe='@~')}" if row.server else owner


def shown(
    site: Site, bookings: Sequence[Reservation], *, actor: Actor, now: int, url: Urls, extend: bool = True
) -> list[Shown]:
    """The bookings with all that is shown of them.

    :param extend: whether to look up how far each could be extended.
    """
    stops = listing.stops(site, bookings, now=now)
    places = waitlist.places(site, now=now) if any(row.state(now) == "waiting" for row in bookings) else {}
    found = []
    for row in bookings:
        profile = site.catalog.profiles.get(row.profile)
        stop = stops.get(row.id, row.stop_at(site.stop_lead))
        active = row.state(now) == "active"
        found.append(
            Shown(
                booking=row,
                now=now,
                title=profile.title if profile else row.profile,
                simulated=site.catalog.simulated(row.resource),
                stops_at=stop,
                longest_end=_longest(site, row, actor, now) if active and extend else row.end,
                goes_on=stop > row.end,
                shortest=profile.min_duration if profile else HOUR,
                warn=_warning(site, row, stop > row.end, now) if active else None,
                url=url.server(row),
                pending_url=url.pending(row),
                place=places.get(row.id),
            )
        )
    return found


def choices(site: Site, row: Reservation) -> dict[str, Any]:
    """What the form that changes a booking offers: nodes, how many units, images, and the node that is chosen."""
    profile = site.catalog.profiles.get(row.profile)
    return {
        "nodes": planning.nodes_of(site, row.profile) if profile else [],
        "most": profile.max_units if profile else row.units,
        "node": chosen_node(row),
        "images": site.choice_of_images(profile) if profile else (),
    }


def chosen_node(row: Reservation) -> str:
    """The node that its owner chose; "" for any."""
    return (row.wanted_node or "") if row.pinned else ""


def image_of(site: Site, row: Reservation) -> str:
    """The name of the image that its server runs; "" where servers run in none."""
    image = site.catalog.image_of(row.profile, row.image) if site.images else None
    return image.name if image else ""


def rule_in_words(rrule: str) -> str:
    """How often, of the rules that people mostly have: "every Mon and Wed, until 18 Dec 2026"; else the rule."""
    parts = dict(part.split("=", 1) for part in rrule.split(";") if "=" in part)
    every, days = parts.get("FREQ", ""), parts.get("BYDAY", "").split(",") if parts.get("BYDAY") else []
    if every not in ("DAILY", "WEEKLY") or set(parts) - {"FREQ", "BYDAY", "INTERVAL", "UNTIL", "COUNT", "WKST"}:
        return rrule
    unit, step = ("day" if every == "DAILY" else "week"), parts.get("INTERVAL", "1")
    words = f"every {unit}" if step == "1" else f"every {step} {unit}s"
    if days and not set(days) <= set(DAYS):
        return rrule
    if days == list(DAYS)[:5]:
        words = "Monday to Friday" if step == "1" else f"{words}, Monday to Friday"
    elif days:
        named = " and ".join([", ".join(DAYS[day] for day in days[:-1]), DAYS[days[-1]]]).removeprefix(" and ")
        words = f"every {named}" if step == "1" and every == "WEEKLY" else f"{words} on {named}"
    until = re.match(r"(\d{4})(\d\d)(\d\d)", parts.get("UNTIL", ""))
    if until:
        last = date(int(until[1]), int(until[2]), int(until[3]))
        words += f", until {last.day} {last:%b %Y}"
    return words + (f", {parts['COUNT']} times" if "COUNT" in parts else "")


def next_change(views: Iterable[Shown], site: Site, now: int) -> int | None:
    """When a page with these bookings is next to be looked at again because of the time alone."""
    instants = set()
    for one in views:
        if one.state == "ended":
            continue
        instants |= {one.booking.start, one.booking.end, one.stops_at}
        instants |= {one.booking.end - before for before in site.warn_before}
    return min((instant for instant in instants if instant > now), default=None)


def use_line(rules: Limits, used: Usage) -> str:
    """What is used of the limits, in one line; "" where nothing is limited."""
    parts = []
    if rules.hours_per_week is not None:
        parts.append(f"{number(used.hours_in_week)} h of {number(rules.hours_per_week)} h in 7 days")
    if rules.units_at_once is not None:
        parts.append(f"{used.units_at_peak} of {rules.units_at_once} units at once")
    if rules.open_bookings is not None:
        parts.append(f"{used.open_bookings} of {rules.open_bookings} bookings")
    return " · ".join(parts)


def past_window(before: int, *, latest: bool) -> Interval:
    """The stretch of the past that one page shows; ``latest``: with what was cancelled before it began."""
    return Interval(before - PAST, before + AHEAD if latest else before)


def in_words(ms: int) -> str:
    """A duration for the countdown: minutes, and seconds only in the last two minutes."""
    return format_duration(ms if ms < 2 * MINUTE else ms // MINUTE * MINUTE)


def number(value: float) -> str:
    """A number with one decimal at most."""
    return f"{value:.1f}".removesuffix(".0")


def _longest(site: Site, row: Reservation, actor: Actor, now: int) -> int:
    groups = actor.groups if actor.name == row.owner else frozenset[str]()
    return availability.longest_end(site, row, groups=groups, now=now)


def _warning(site: Site, row: Reservation, goes_on: bool, now: int) -> int | None:
    if goes_on or row.server_state() not in ("starting", "running"):
        return None
    due = [before for before in site.warn_before if row.start < row.end - before <= now]
    return min(due, default=None)
