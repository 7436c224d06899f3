"""A person's bookings as a calendar that other programs subscribe to (iCalendar, RFC 5545)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from icalendar import Alarm, Calendar, Event
from sqlalchemy import or_

from mlmp_spawner.operations import people
from mlmp_spawner.operations.site import Site
from mlmp_spawner.rules import wording
from mlmp_spawner.rules.reservations import Reservation
from mlmp_spawner.store import reservations as store
from mlmp_spawner.store.tables import reservation
from mlmp_spawner.store.transaction import read
from mlmp_spawner.units import DAY, HOUR

BACK = 30 * DAY
"""How far back the calendar goes, and for how long it says that a booking was cancelled."""

MOST = 2000
"""Bookings in one calendar, the latest."""

REMIND = timedelta(minutes=15)
REFRESH = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class Feed:
    """Whose calendar, and what is in it."""

    name: str
    bookings: list[Reservation]


def feed(site: Site, token: str, *, now: int) -> Feed | None:
    """The bookings of whom this secret belongs to, from :data:`BACK` ago on; None: it is nobody's."""
    c = reservation.c
    with read(site.engine) as connection:
        person = people.with_calendar_token(connection, token)
        if person is None:
            return None
        recent = or_(c.cancelled_at.is_(None), c.cancelled_at > now - BACK)
        found = store.select_where(
            connection, c.owner == person.name, c.owner_id == person.user_id, c.end > now - BACK, recent,
            store.is_booking(), order=(c.start.desc(), c.id), limit=MOST,
        )  # fmt: skip
    return Feed(person.name, found)


def document(found: Feed, titles: Mapping[str, str], pages: str, *, now: int) -> bytes:
    """The calendar as text, folded and escaped. :param pages: where MLMP's pages are. :param titles: of profiles."""
    made = Calendar()
    made.add("prodid", "-//MLMP//mlmp//EN")
    made.add("version", "2.0")
    made.add("calscale", "GREGORIAN")
    made.add("method", "PUBLISH")
    name = f"MLMP: {wording.one_line(found.name, 80)}"
    made.add("name", name)
    made.add("x-wr-calname", name)
    made.add("refresh-interval", REFRESH, parameters={"VALUE": "DURATION"})
    made.add("x-published-ttl", REFRESH, parameters={})
    for booking in sorted(found.bookings, key=lambda one: (one.start, one.id)):
        made.add_component(_event(booking, titles, pages, now))
    return bytes(made.to_ical())


def _event(booking: Reservation, titles: Mapping[str, str], pages: str, now: int) -> Event:
    facts = {"profile": booking.profile, "units": booking.units, "node_count": booking.node_count}
    what, nodes = wording.what(facts, titles), ", ".join(wording.one_line(node, 80) for node in booking.nodes)
    cancelled = booking.cancelled_at is not None
    waits = booking.waiting_reason is not None and not cancelled
    event = Event()
    event.add("uid", f"{booking.id}@mlmp")
    event.add("dtstamp", _utc(booking.cancelled_at or booking.created_at or booking.start))
    event.add("dtstart", _utc(booking.start))
    event.add("dtend", _utc(booking.end))
    event.add("sequence", booking.version)
    event.add("status", "CANCELLED" if cancelled else "TENTATIVE" if waits else "CONFIRMED")
    event.add("transp", "TRANSPARENT")  # one is not busy because a GPU is
    event.add("summary", wording.one_line(booking.title, 200) if booking.title else what)
    if nodes:
        event.add("location", nodes)
    link = f"{pages}bookings/{booking.id}"
    lines = [what, *(["On the waitlist: not sure yet."] if waits else []), *([link] if pages else [])]
    event.add("description", "\n".join(lines))
    if pages:
        event.add("url", link)
    if not cancelled and booking.start > now - HOUR:
        alarm = Alarm()
        alarm.add("action", "DISPLAY")
        alarm.add("description", f"{what} starts")
        alarm.add("trigger", -REMIND)
        event.add_component(alarm)
    return event


def _utc(ms: int) -> datetime:
    return datetime.fromtimestamp(ms // 1000, timezone.utc)
