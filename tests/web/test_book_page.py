"""Book, without any script: the sentence, what would come of it, and what is possible instead."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from mlmp_spawner.operations import changes, outages, series
from mlmp_spawner.operations.requests import BookingRequest, Recurrence
from mlmp_spawner.units import DAY, HOUR, to_iso
from tests.operations.conftest import NOW, admin, ann, ben
from tests.web.harness import PREFIX, RunningApp
from tests.web.visitor import HOSTILE, Forms, Visitor, app_listing, booked, offer_images, text


def test_the_button_says_what_is_booked_and_that_is_booked(app: RunningApp, visit: Callable[[str], Visitor]):
    ann_ = visit("ann-token")
    start = NOW + DAY
    words = text(ann_.get(f"book?units=2&duration=2h&start={to_iso(start)}&title=Thesis"))
    assert "Book 2 × A100 for 2 h" in words
    words = text(ann_.press("book"))
    assert "Booked : 2 × A100" in words and "Undo" in words
    (mine,) = app_listing(app)
    assert (mine.units, mine.start, mine.end, mine.title) == (2, start, start + 2 * HOUR, "Thesis")


def test_the_same_form_sent_twice_books_once(app: RunningApp, visit: Callable[[str], Visitor]):
    ann_ = visit("ann-token")
    ann_.get("book?duration=1h")
    where, sent = Forms(ann_.answer.text).press(PREFIX + "book")
    ann_.post(where, sent)
    ann_.post(where, sent)
    assert len(app_listing(app)) == 1


def test_a_refusal_comes_with_alternatives_that_work(app: RunningApp, visit: Callable[[str], Visitor]):
    booked(app, ben, units=3, hours=3)
    ann_ = visit("ann-token")
    words = text(ann_.get("book?units=3&duration=4h"))
    assert "At most 2 would be free" in words
    words = text(ann_.press("book"))
    assert ann_.answer.status_code == 409
    assert "You asked for 3 × A100 for 4 h; on any node at most 2 would be free all that time." in words
    assert "2 × A100, now for 4 h" in words
    kinds = {given.get("data-kind") for _, given in Forms(ann_.answer.text).buttons} - {None}
    assert kinds >= {"later", "smaller"}
    refusal = ann_.answer
    for kind in sorted(kind for kind in kinds if kind):
        ann_.answer = refusal
        ann_.press("book", **{"data-kind": kind})
        assert ann_.answer.status_code == 200, kind
        (mine,) = [
            one for one in app_listing(app) if one.owner == "ann" and not one.cancelled_at and not one.end_reason
        ]
        changes.cancel(app.site, mine.id, actor=ann, now=app.now)


@pytest.mark.parametrize("hours", [5, 30 * 24], ids=["with alternatives", "with none"])
def test_one_can_join_the_waitlist_instead(app: RunningApp, visit: Callable[[str], Visitor], hours: int):
    for units in (4, 2):
        booked(app, ben, units=units, hours=hours)
    ann_ = visit("ann-token")
    ann_.get("book?duration=1h")
    ann_.press("book")
    forms = Forms(ann_.answer.text)
    waiting = next(form for form in forms.forms if form.get("waitlist") == "1")
    words = text(ann_.post(PREFIX + "book", {k: v for k, v in waiting.items() if k != " action"}))
    assert "On the waitlist" in words and "Leave the waitlist" in words


def test_a_limit_is_said_with_its_numbers(app: RunningApp, visit: Callable[[str], Visitor]):
    ann_ = visit("ann-token")
    words = text(ann_.post(PREFIX + "book", {"profile": "gpu", "duration": "50d"}))
    assert ann_.answer.status_code == 403
    assert "40 d" in words


@pytest.mark.parametrize(
    "form",
    [
        {}, {"profile": "gpu", "start": "tomorrow"}, {"profile": "gpu", "units": "x"}, {"profile": "gpu", "key": "ä"},
        {"profile": HOSTILE}, {"profile": "gpu", "node": HOSTILE},
        {"profile": "gpu", "title": "x" * 300}, {"profile": "gpu", "server": "../x"},
        {"profile": "gpu", "units": "9" * 9},
        {"profile": "gpu", "start": "2027-01-15T08:00:00Z", "end": "2027-01-14T08:00:00Z"},
    ],
)  # fmt: skip
def test_a_form_that_book_does_not_have_is_refused_on_the_page(
    app: RunningApp, visit: Callable[[str], Visitor], form: dict[str, str]
):
    ann_ = visit("ann-token")
    page = ann_.post(PREFIX + "book", form)
    assert ann_.answer.status_code == 400
    assert "<script>alert" not in page
    assert not app_listing(app)


def test_what_is_away_is_named_with_its_reason_and_its_end(app: RunningApp, visit: Callable[[str], Visitor]):
    wanted = [outages.Wanted(start=NOW + HOUR, end=NOW + 3 * HOUR, reason=HOSTILE), outages.Wanted(NOW + 4 * HOUR)]
    outages.set_outages(app.site, "gpu-a", wanted, actor=admin, now=NOW)
    visitor = visit("ann-token")
    words = text(visitor.get("book"))
    assert f"gpu-a takes no bookings 09:00 – 11:00 : {HOSTILE}." in words
    assert "gpu-a takes no bookings 12:00 – further notice." in words
    assert HOSTILE not in visitor.answer.text


def test_a_list_marks_what_repeats_and_cancels_one_date_of_it(app: RunningApp, visit: Callable[[str], Visitor]):
    weekly = Recurrence("FREQ=WEEKLY;COUNT=3", "UTC")
    asked = BookingRequest("gpu", start=NOW + HOUR, end=NOW + 2 * HOUR, recurrence=weekly)
    series.book(app.site, asked, actor=ann, now=NOW)
    booked(app, start=NOW + 5 * HOUR)
    page = visit("ann-token").get("bookings")
    words = text(page)
    assert words.count("↻ repeats") == words.count("Cancel this date") == 3
    assert len(re.findall(r">Cancel</button>", page)) == 1


def test_where_a_profile_has_several_images_one_is_chosen(app: RunningApp, visit: Callable[[str], Visitor]):
    ann_ = visit("ann-token")
    assert 'name="image"' not in ann_.get("book")
    offer_images(app)
    assert 'name="image"' in ann_.get("book")
    assert "for 4 h, from now" in text(ann_.answer.text)
    words = text(ann_.get("book?duration=2h&image=torch"))
    assert ", with torch" in words
    ann_.press("book")
    (mine,) = app_listing(app)
    assert mine.image == "torch"
    assert "Image torch" in text(ann_.get(f"bookings/{mine.id}"))
    where, sent = Forms(ann_.answer.text).press(f"{PREFIX}bookings/{mine.id}/change")
    ann_.post(where, sent | {"image": "torch"})
    assert app_listing(app)[0].version == mine.version + 1  # it was sent, and nothing of it changed
    ann_.get(f"bookings/{mine.id}")
    where, sent = Forms(ann_.answer.text).press(f"{PREFIX}bookings/{mine.id}/change")
    ann_.post(where, sent | {"image": ""})
    assert app_listing(app)[0].image is None
    assert "Image lab" in text(ann_.get(f"bookings/{mine.id}"))
    where, sent = Forms(ann_.answer.text).press(f"{PREFIX}bookings/{mine.id}/change")
    ann_.post(where, sent | {"image": HOSTILE})
    assert ann_.answer.status_code == 400


def test_undo_has_the_image_again(app: RunningApp, visit: Callable[[str], Visitor]):
    offer_images(app)
    ann_ = visit("ann-token")
    start = to_iso(NOW + DAY)
    ann_.get(f"book?duration=2h&image=torch&start={start}")
    ann_.press("book")
    (mine,) = app_listing(app)
    ann_.get(f"bookings/{mine.id}")
    ann_.press(f"bookings/{mine.id}/cancel")
    ann_.press("book")
    assert [row.image for row in app_listing(app) if not row.cancelled_at] == ["torch"]


def test_an_image_in_the_address_that_there_is_not_is_left_out(app: RunningApp, visit: Callable[[str], Visitor]):
    offer_images(app)
    assert "script>alert" not in visit("ann-token").get(f"book?image={HOSTILE}")


def test_home_offers_the_images_too(app: RunningApp, visit: Callable[[str], Visitor]):
    offer_images(app)
    ann_ = visit("ann-token")
    ann_.get()
    where, sent = Forms(ann_.answer.text).press(PREFIX + "start", name="duration:gpu")
    ann_.post(where, sent | {"image:gpu": "torch"})
    assert [row.image for row in app_listing(app)] == ["torch"]
