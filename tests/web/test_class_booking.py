"""Classes are booked in the browser without a script: all dates or none, and what would fit where that does not."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from mlmp_spawner.operations import booking
from mlmp_spawner.operations.courses import classes, courses
from mlmp_spawner.operations.requests import BookingRequest
from mlmp_spawner.rules import course_yaml
from mlmp_spawner.rules.reservations import Interval
from mlmp_spawner.units import DAY, HOUR
from tests.operations.conftest import NOW, admin, eve
from tests.web.harness import PREFIX, RunningApp
from tests.web.visitor import EVALUATED, HOSTILE, Forms, Visitor

pytestmark = pytest.mark.parametrize("db_url", ["sqlite"], indirect=True)

PAGE = "courses/ml/new-class"
WEEKLY = {"start": "2027-01-18T14:00", "duration": "2h", "repeat": "weekly", "until": "2027-02-08"}
"""Four Mondays, in UTC as the visitor's browser says nothing else."""


@pytest.fixture(autouse=True)
def course(app: RunningApp) -> None:
    made = {"name": "ml", "title": HOSTILE, "profile": "gpu", "seats": 4, "instructors": ["ben"], "students": ["ann"]}
    courses.apply(app.site, course_yaml.parse(made), actor=admin, now=app.now)


@pytest.fixture
def teacher(app: RunningApp) -> Iterator[Visitor]:
    visitor = Visitor(app, "teacher-token")
    yield visitor
    visitor.http.close()


def send(teacher: Visitor, step: str = "book", **fields: str) -> str:
    path, kept = Forms(teacher.get(PAGE)).press(PREFIX + PAGE, name="step", value=step)
    return teacher.post(path, {**kept, **fields})


def booked(app: RunningApp) -> list[int]:
    found = classes.listing(app.site, "ml", window=Interval(NOW, NOW + 400 * DAY))
    return [one.begins for one, _ in found]


def test_a_term_is_booked_and_everybody_in_the_course_sees_when_it_is(app: RunningApp, teacher: Visitor) -> None:
    assert f'href="{PREFIX}{PAGE}"' in teacher.get("courses/ml")
    page = send(teacher, **WEEKLY, holidays="2027-02-01, 2027-02-02")
    assert "It is booked" in page and HOSTILE not in page and EVALUATED not in page
    days = [(begins - booked(app)[0]) // DAY for begins in booked(app)]
    assert days == [0, 7, 21]
    ann = Visitor(app, "ann-token")
    seen = ann.get("courses/ml")
    ann.http.close()
    assert seen.split('id="classes"')[1].split("</ul>")[0].count("<li>") == 3
    assert "new-class" not in seen and "/classes/" not in seen


def test_sent_twice_it_is_booked_once(app: RunningApp, teacher: Visitor) -> None:
    path, sent = Forms(teacher.get(PAGE)).press(PREFIX + PAGE, name="step", value="book")
    for _ in range(2):
        assert "It is booked" in teacher.post(path, {**sent, **WEEKLY, "repeat": ""})
    assert len(booked(app)) == 1


def test_to_look_books_nothing_and_keeps_what_was_said(app: RunningApp, teacher: Visitor) -> None:
    page = send(teacher, "look", **WEEKLY, holidays="2027-02-01")
    assert "Nothing is booked yet" in page and page.split('id="fits"')[1].split("</ul>")[0].count("<li>") == 3
    assert 'value="2027-02-01"' in page and 'value="2027-01-18T14:00"' in page and not booked(app)
    path, again = Forms(page).press(PREFIX + PAGE, name="step", value="book")
    assert "It is booked" in teacher.post(path, {**again, "repeat": "weekly"})
    assert len(booked(app)) == 3


def test_dates_that_do_not_fit_are_named_and_what_would_fit_is_one_click(app: RunningApp, teacher: Visitor) -> None:
    send(teacher, "book", start="2027-01-25T14:00", duration="2h", seats="4")
    (taken,) = booked(app)
    page = send(teacher, **WEEKLY)
    assert teacher.answer.status_code == 409 and booked(app) == [taken]
    short = page.split('id="short"')[1].split("</ul>")[0]
    assert short.count("<li>") == 1 and "2 seats would fit; all of them" in short
    kinds = re.findall(r'data-kind="(\w+)"', page)
    assert {"except", "smaller"} <= set(kinds) and "without the 1 that" in page
    path, sent = Forms(page).press(PREFIX + PAGE, **{"data-kind": "except"})
    assert "It is booked" in teacher.post(path, sent)
    assert len(booked(app)) == 4


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"start": "soon"}, "start"),
        ({"duration": "long"}, "duration"),
        ({"seats": "none"}, "seats"),
        ({"seats": "9999999999999"}, "seats"),
        ({"repeat": "weekly", "until": ""}, "until"),
        ({"repeat": "hourly"}, "repeat"),
        ({"recurrence": "[1"}, "JSON"),
        ({"holidays": "Christmas"}, "holidays"),
        ({"key": ""}, "key"),
        ({"start": "1999-01-01T00:00"}, "start"),
    ],
)
def test_what_makes_no_sense_is_refused_and_stays_in_the_form(
    app: RunningApp, teacher: Visitor, said: dict[str, str], why: str
) -> None:
    page = send(teacher, **{**WEEKLY, "repeat": "", **said})
    assert teacher.answer.status_code == 400 and why in page.split('id="refusal"')[1].split("</div>")[0]
    assert not booked(app)


def test_nobody_but_who_runs_it_books_for_a_course(app: RunningApp, teacher: Visitor) -> None:
    booking.book(app.site, BookingRequest("gpu", start=NOW, duration=HOUR, units=1), actor=eve, now=app.now)
    for token in ("ann-token", "eve-token"):
        other = Visitor(app, token)
        assert "Book classes" not in other.get(PAGE) and other.answer.status_code in (403, 404)
        other.http.close()
