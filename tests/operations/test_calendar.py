"""The calendar feed, read back by another program's eyes: every booking once, whatever is in its title."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from icalendar import Calendar
from sqlalchemy import delete, insert

from mlmp_spawner.operations import booking, calendar, changes, people
from mlmp_spawner.operations.calendar import Feed, document
from mlmp_spawner.operations.requests import BookingRequest
from mlmp_spawner.operations.site import Site
from mlmp_spawner.rules.reservations import Allocation, Reservation
from mlmp_spawner.rules.wording import one_line
from mlmp_spawner.store.tables import users
from mlmp_spawner.store.transaction import transaction
from mlmp_spawner.units import DAY, HOUR
from tests.operations.conftest import GPU, NOW, ann, ben

PAGES = "https://hub.example.org/services/mlmp/"
HOSTILE = [
    "plain",
    "two\r\nlines",
    "x\r\nEND:VEVENT\r\nBEGIN:VEVENT\r\nUID:evil\r\nSUMMARY:evil",
    "BEGIN:VEVENT",
    'semi;colon, comma \\ backslash \\n "quotes" : = ^n ^\'',
    "ß" * 200,
    "👩‍💻" * 60,
    "\u202egnp.exe \u2028 next \x85 line \x0b \x0c \x1c",
    "a" * 200,
    " leading and trailing ",
    "=?utf-8?q?hi?=",
]


def reservation(number: int, title: str, **fields: object) -> Reservation:
    start = NOW + number * DAY
    return Reservation(
        **(
            {
                "id": f"booking{number:05}", "owner": "ann", "profile": "gpu", "resource": GPU, "units": 2,
                "start": start, "end": start + HOUR, "title": title, "created_at": NOW - HOUR, "version": number + 1,
                "allocations": (Allocation("", "gpu-a", GPU, 2, start, start + HOUR),),
            }
            | fields
        )
    )  # type: ignore[arg-type]  # fmt: skip


def check(text: bytes, bookings: list[Reservation]) -> Calendar:
    """The calendar is well formed and has exactly these bookings."""
    assert (
        text.endswith(b"\r\n") and b"\n" not in text.replace(b"\r\n", b"") and b"\r" not in text.replace(b"\r\n", b"")
    )
    for line in text.split(b"\r\n"):
        assert len(line) <= 75, line
        line.decode()  # no character is torn apart
    found = Calendar.from_ical(text)
    events = found.walk("VEVENT")
    assert [str(event["uid"]) for event in events] == [f"{one.id}@mlmp" for one in bookings]
    for event, one in zip(events, bookings, strict=True):
        assert str(event["summary"]) == (one_line(one.title, 200) if one.title else "2 × A100")
        assert event["dtstart"].dt == datetime.fromtimestamp(one.start // 1000, timezone.utc)
        assert event["dtend"].dt == datetime.fromtimestamp(one.end // 1000, timezone.utc)
        assert event["sequence"] == one.version
        assert str(event["url"]) == f"{PAGES}bookings/{one.id}"
        assert len(event.walk("VALARM")) == (0 if one.cancelled_at else 1)
    return found


def test_what_a_calendar_program_needs():
    booked = reservation(1, "")
    found = check(document(Feed("ann", [booked]), {"gpu": "A100"}, PAGES, now=NOW), [booked])
    assert str(found["x-wr-calname"]) == "MLMP: ann" and str(found["method"]) == "PUBLISH"
    assert b"REFRESH-INTERVAL;VALUE=DURATION:PT15M" in found.to_ical()
    (event,) = found.walk("VEVENT")
    assert str(event["status"]) == "CONFIRMED" and str(event["location"]) == "gpu-a"
    assert str(event["description"]) == f"2 × A100\n{PAGES}bookings/{booked.id}"
    (alarm,) = event.walk("VALARM")
    assert alarm["trigger"].dt == timedelta(minutes=-15)


@pytest.mark.parametrize("title", HOSTILE, ids=range(len(HOSTILE)))
def test_a_title_stays_a_title(title: str):
    bookings = [reservation(1, title), reservation(2, "after it")]
    check(document(Feed(title, bookings), {"gpu": "A100"}, PAGES, now=NOW), bookings)


@given(st.lists(st.text(max_size=200), max_size=5), st.text(max_size=80), st.text(max_size=80))
@settings(max_examples=80, deadline=None)
def test_whatever_people_write_the_calendar_has_their_bookings_and_nothing_else(
    titles: list[str], name: str, profile: str
):
    bookings = [reservation(number, title, id=f"b{number}") for number, title in enumerate(titles, 1)]
    text = document(Feed(name, bookings), {"gpu": profile}, PAGES, now=NOW)
    found = Calendar.from_ical(text)
    assert [str(event["uid"]) for event in found.walk("VEVENT")] == [f"{one.id}@mlmp" for one in bookings]
    for event, one in zip(found.walk("VEVENT"), bookings, strict=True):
        if one.title:
            assert str(event["summary"]) == one_line(one.title, 200)
        assert set(event) <= {
            "UID", "DTSTAMP", "DTSTART", "DTEND", "SEQUENCE", "STATUS", "TRANSP", "SUMMARY", "LOCATION", "DESCRIPTION",
            "URL",
        }  # fmt: skip
    assert all(len(line) <= 75 for line in text.split(b"\r\n"))


def book(site: Site, actor=ann, **fields: object) -> Reservation:
    request = BookingRequest(**({"profile": "gpu", "duration": HOUR} | fields))  # type: ignore[arg-type]
    return booking.book(site, request, actor=actor, now=NOW)


def test_one_s_own_bookings_and_those_cancelled_lately(site: Site):
    token = people.make_calendar_token(site.engine, "ann", now=NOW)
    kept, dropped = book(site, start=NOW + DAY), book(site, start=NOW + 2 * DAY)
    changes.cancel(site, dropped.id, actor=ann, now=NOW)
    book(site, ben)

    def seen(now: int) -> dict[str, str]:
        found = calendar.feed(site, token, now=now)
        assert found is not None
        events = Calendar.from_ical(document(found, {}, PAGES, now=now)).walk("VEVENT")
        return {str(event["uid"]): str(event["status"]) for event in events}

    assert seen(NOW) == {f"{kept.id}@mlmp": "CONFIRMED", f"{dropped.id}@mlmp": "CANCELLED"}
    assert seen(NOW + 31 * DAY - 2 * HOUR) == {f"{kept.id}@mlmp": "CONFIRMED"}
    assert seen(NOW + 32 * DAY) == {}


def test_the_same_bookings_make_the_same_text(site: Site):
    token = people.make_calendar_token(site.engine, "ann", now=NOW)
    book(site, start=NOW + DAY)
    texts = {document(calendar.feed(site, token, now=NOW + n), {}, PAGES, now=NOW + n) for n in (0, 1, HOUR)}  # type: ignore[arg-type]
    assert len(texts) == 1


def test_a_secret_opens_one_calendar_until_it_is_replaced_or_revoked(site: Site):
    first = people.make_calendar_token(site.engine, "ann", now=NOW)
    second = people.make_calendar_token(site.engine, "ann", now=NOW)
    assert calendar.feed(site, first, now=NOW) is None
    assert calendar.feed(site, second, now=NOW) == Feed("ann", [])
    people.revoke_calendar_token(site.engine, "ann")
    for token in (second, "", "\ud800", "x" * 10_000, people.hash_of(second)):
        assert calendar.feed(site, token, now=NOW) is None


def test_a_namesake_of_a_deleted_user_gets_nothing_of_theirs(site: Site):
    token = people.make_calendar_token(site.engine, "ann", now=NOW)
    book(site)
    with transaction(site.engine) as connection:
        connection.execute(delete(users).where(users.c.name == "ann"))
    assert calendar.feed(site, token, now=NOW) is None
    with transaction(site.engine) as connection:
        connection.execute(insert(users), {"id": 99, "name": "ann"})
    assert calendar.feed(site, token, now=NOW) is None
    again = people.make_calendar_token(site.engine, "ann", now=NOW)
    assert calendar.feed(site, again, now=NOW) == Feed("ann", [])
