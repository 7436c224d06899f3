"""The form that changes a booking, Undo, and the filters of My bookings; without any script."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mlmp_spawner.operations import changes
from mlmp_spawner.operations.changes import Changes
from mlmp_spawner.units import DAY, HOUR, MINUTE, to_iso
from mlmp_spawner.web import views
from tests.operations.conftest import NOW, ann, ben
from tests.web.harness import PREFIX, RunningApp
from tests.web.visitor import HOSTILE, Forms, Visitor, app_listing, booked, text


def form(visitor: Visitor, where: str) -> dict[str, str]:
    """The fields of the form that leads there."""
    found = next(one for one in Forms(visitor.answer.text).forms if one[" action"] == PREFIX + where)
    return {name: value for name, value in found.items() if name != " action"}


def test_a_booking_is_moved_and_resized_and_that_can_be_undone(app: RunningApp, visit: Callable[..., Visitor]):
    found = booked(app, start=NOW + DAY, hours=2, units=2)
    ann_ = visit()
    ann_.get(f"bookings/{found.id}")
    sent = form(ann_, f"bookings/{found.id}/change")
    assert (sent["start"], sent["end"]) == ("2027-01-16T08:00", "2027-01-16T10:00")
    words = text(ann_.post(f"{PREFIX}bookings/{found.id}/change",
                           sent | {"start": "2027-01-16T12:00", "end": "2027-01-16T16:00", "units": "3"}))  # fmt: skip
    assert "Changed : 3 × A100, tomorrow 12:00 – 16:00" in words
    moved = changes.get(app.site, found.id)
    assert (moved.start, moved.end, moved.units) == (found.start + 4 * HOUR, found.start + 8 * HOUR, 3)
    assert "changed by you : tomorrow 12:00 – 16:00" in words
    undo = next(one for one in Forms(ann_.answer.text).forms if one.get("units") == "2" and "version" in one)
    ann_.post(undo[" action"], {name: value for name, value in undo.items() if name != " action"})
    back = changes.get(app.site, found.id)
    assert (back.start, back.end, back.units) == (found.start, found.end, 2)


def test_what_was_not_touched_stays_to_the_second(app: RunningApp, visit: Callable[..., Visitor]):
    app.now += 12_345
    found = booked(app, start=app.now + DAY)
    ann_ = visit()
    ann_.get(f"bookings/{found.id}")
    ann_.post(f"{PREFIX}bookings/{found.id}/change", form(ann_, f"bookings/{found.id}/change") | {"title": "Thesis"})
    renamed = changes.get(app.site, found.id)
    assert (renamed.start, renamed.end, renamed.title, renamed.pinned) == (found.start, found.end, "Thesis", False)


def test_a_change_that_does_not_fit_offers_what_does_at_one_click(app: RunningApp, visit: Callable[..., Visitor]):
    found = booked(app, start=NOW + DAY, units=3)
    booked(app, ben, start=NOW + 2 * DAY, units=4)
    booked(app, ben, start=NOW + 2 * DAY, units=2)
    ann_ = visit()
    ann_.get(f"bookings/{found.id}")
    sent = form(ann_, f"bookings/{found.id}/change")
    day = {"start": "2027-01-17T08:00", "end": "2027-01-17T09:00"}
    words = text(ann_.post(f"{PREFIX}bookings/{found.id}/change", sent | day))
    assert ann_.answer.status_code == 409 and "none would be free all that time" in words
    assert changes.get(app.site, found.id) == found
    ann_.press(f"bookings/{found.id}/change", **{"data-kind": "later"})
    assert changes.get(app.site, found.id).start == NOW + 2 * DAY + HOUR


def test_a_change_over_one_that_came_first_is_refused(app: RunningApp, visit: Callable[..., Visitor]):
    found = booked(app, start=NOW + DAY)
    ann_ = visit()
    ann_.get(f"bookings/{found.id}")
    sent = form(ann_, f"bookings/{found.id}/change")
    changes.change(app.site, found.id, Changes(title="first"), actor=ann, now=app.now)
    assert "changed meanwhile" in text(ann_.post(f"{PREFIX}bookings/{found.id}/change", sent | {"title": "second"}))
    assert ann_.answer.status_code == 412
    assert changes.get(app.site, found.id).title == "first"


def test_of_what_has_begun_only_end_and_title_can_be_changed(app: RunningApp, visit: Callable[..., Visitor]):
    found = booked(app, hours=2, units=4)
    booked(app, ben, start=NOW + 3 * HOUR, units=4)
    ann_ = visit()
    ann_.get(f"bookings/{found.id}")
    sent = form(ann_, f"bookings/{found.id}/change")
    assert set(sent) == {"_xsrf", "version", "end", "title"}
    words = text(ann_.post(f"{PREFIX}bookings/{found.id}/change", sent | {"end": "2027-01-15T13:00"}))
    assert "It can be extended by 1 h, not by 3 h" in words and "Until 11:00" in words
    ann_.press(f"bookings/{found.id}/change", **{"data-kind": "shorter"})
    assert changes.get(app.site, found.id).end == NOW + 3 * HOUR


def test_nonsense_in_the_form_changes_nothing(app: RunningApp, visit: Callable[..., Visitor]):
    found = booked(app, start=NOW + DAY)
    ann_ = visit()
    for sent in (
        {"start": "soon"}, {"end": "2027-01-14T08:00"}, {"units": "9"}, {"units": "²"}, {"node": HOSTILE},
        {"title": "x" * 300}, {"version": HOSTILE, "title": "x"}, {"start": "9999-12-31T23:59"},
    ):  # fmt: skip
        page = ann_.post(f"{PREFIX}bookings/{found.id}/change", sent)
        assert 400 <= ann_.answer.status_code < 500, sent
        assert "<script>alert" not in page
    assert changes.get(app.site, found.id) == found


def test_undo_says_so_when_somebody_was_quicker(app: RunningApp, visit: Callable[..., Visitor]):
    found = booked(app, start=NOW + DAY, units=4)
    ann_ = visit()
    ann_.get("bookings")
    ann_.press(f"bookings/{found.id}/cancel")
    booked(app, ben, start=NOW + DAY + 30 * MINUTE, units=4)
    words = text(ann_.press("book"))
    assert ann_.answer.status_code == 409
    assert "It can't be had back: somebody took it meanwhile." in words


def test_bookings_can_be_narrowed_to_what_comes_or_what_is_over(app: RunningApp, visit: Callable[..., Visitor]):
    booked(app, start=NOW + DAY, title="to come")
    gone = booked(app, start=NOW + 2 * DAY, title="gone")
    changes.cancel(app.site, gone.id, actor=ann, now=app.now)
    ann_ = visit()
    shown = {name: text(ann_.get(f"bookings?show={name}")) for name in ("", "upcoming", "past", HOSTILE)}
    assert [("to come" in words, "gone" in words) for words in shown.values()] == [
        (True, True), (True, False), (False, True), (True, True),
    ]  # fmt: skip


def test_who_waits_sees_the_place(app: RunningApp, visit: Callable[..., Visitor]):
    booked(app, ben, units=4, hours=5)
    booked(app, ben, units=2, hours=5)
    ben_, ann_ = visit("ben-token"), visit()
    ben_.post(PREFIX + "book", {"profile": "gpu", "duration": "1h", "waitlist": "1"})
    ann_.post(PREFIX + "book", {"profile": "gpu", "duration": "1h", "waitlist": "1"})
    assert "Number 2 on the waitlist; it is booked as soon as something is free" in text(ann_.get("bookings"))
    waiting = next(row for row in app_listing(app) if row.owner == "ann")
    assert "On the waitlist number 2" in text(ann_.get(f"bookings/{waiting.id}"))


def test_a_series_is_said_in_words_and_changed_or_cancelled_from_one_date_on(
    app: RunningApp, visit: Callable[..., Visitor]
):
    ann_ = visit()
    start = {"start": to_iso(NOW + DAY), "end": to_iso(NOW + DAY + HOUR)}
    ann_.post(PREFIX + "book", {"profile": "gpu", **start, "repeat": "daily", "until": "2027-01-20"})
    rows = app_listing(app)
    assert len(rows) == 5
    words = text(ann_.get(f"bookings/{rows[2].id}"))
    assert "Repeats every day, until 20 Jan 2027 (5 to come)" in words
    sent = form(ann_, f"bookings/{rows[2].id}/change")
    words = text(ann_.post(f"{PREFIX}bookings/{rows[2].id}/change",
                           sent | {"end": "2027-01-18T10:00", "which": "following"}))  # fmt: skip
    assert "Changed : A100, Mon 08:00 – 10:00 , and 2 more of its series" in words
    assert [(row.end - row.start) // HOUR for row in app_listing(app)] == [1, 1, 2, 2, 2]
    words = text(ann_.post(f"{PREFIX}bookings/{rows[3].id}/cancel", {"which": "following"}))
    assert "and 1 more of its series" in words
    assert [row.cancelled_at is None for row in app_listing(app)] == [True, True, True, False, False]
    ann_.post(f"{PREFIX}bookings/{rows[0].id}/cancel", {"which": "some"})
    assert ann_.answer.status_code == 400


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("FREQ=DAILY;UNTIL=20261218", "every day, until 18 Dec 2026"),
        ("FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR;UNTIL=20261218", "Monday to Friday, until 18 Dec 2026"),
        ("FREQ=WEEKLY;INTERVAL=2;BYDAY=MO,WE;COUNT=8", "every 2 weeks on Mon and Wed, 8 times"),
        ("FREQ=WEEKLY;BYDAY=SA", "every Sat"),
        ("FREQ=WEEKLY", "every week"),
        ("FREQ=MONTHLY;BYDAY=1MO", "FREQ=MONTHLY;BYDAY=1MO"),
    ],
)
def test_a_rule_in_words(rule: str, words: str):
    assert views.rule_in_words(rule) == words
