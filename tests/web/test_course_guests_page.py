"""The page of a course's guests without a script: codes are made and shown once, withdrawn, and guests are ended."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from mlmp_spawner.operations.courses import courses, guests
from mlmp_spawner.rules import course_yaml
from mlmp_spawner.units import DAY
from mlmp_spawner.web.context import WebSettings
from tests.operations.conftest import admin
from tests.web.harness import PREFIX, RunningApp
from tests.web.test_course_pages import send
from tests.web.visitor import HOSTILE, Visitor

pytestmark = pytest.mark.parametrize("db_url", ["sqlite"], indirect=True)

CODE = r"<code>([0-9A-Z]{4}(?:-[0-9A-Z]{4}){3})</code>"
PATH = "courses/ml/guests"


@pytest.fixture
def teacher(app: RunningApp) -> Iterator[Visitor]:
    """ben, who runs a course that may have five guests."""
    app.context.settings = WebSettings(rate=0, poll=0.05, guest_isolation="pod", guest_erase_after=DAY)
    course = {"name": "ml", "title": HOSTILE, "profile": "gpu", "seats": 2, "guests": 5, "instructors": ["ben"]}
    courses.apply(app.site, course_yaml.parse(course), actor=admin, now=app.now)
    visitor = Visitor(app, "teacher-token")
    yield visitor
    visitor.http.close()


def test_codes_are_shown_once_each_with_its_link(app: RunningApp, teacher: Visitor) -> None:
    teacher.get(PATH)
    codes = re.findall(CODE, send(teacher, PATH, step="invite", count="3"))
    assert len(codes) == 3
    assert all(f"/hub/guest?code={code}" in teacher.answer.text for code in codes)
    again = teacher.get(PATH)
    assert not any(code in again for code in codes)
    assert guests.redeem(app.site.engine, codes[0], erase_after=DAY, now=app.now) is not None


def test_who_came_is_listed_and_ended(app: RunningApp, teacher: Visitor) -> None:
    teacher.get(PATH)
    (code,) = re.findall(CODE, send(teacher, PATH, step="invite", count="1"))
    guest = guests.redeem(app.site.engine, code, erase_after=DAY, now=app.now)
    assert guest is not None and guest.name in teacher.get(PATH)
    page = teacher.post(PREFIX + PATH, {"step": "end", "guest": guest.name})
    assert "time is over" in page and "over; erased" in page
    assert not guests.is_let_in(app.site.engine, guest.name, now=app.now)


def test_codes_that_nobody_used_are_withdrawn(app: RunningApp, teacher: Visitor) -> None:
    teacher.get(PATH)
    (code,) = re.findall(CODE, send(teacher, PATH, step="invite", count="1"))
    teacher.get(PATH)
    assert "useless now" in send(teacher, PATH, step="withdraw")
    assert guests.redeem(app.site.engine, code, erase_after=DAY, now=app.now) is None


@pytest.mark.parametrize(
    "sent", [{"count": "6"}, {"count": "x"}, {"count": ""}, {"until": "soon"}, {"until": ""}, {"step": "other"}]
)
def test_what_can_t_be_is_refused_with_the_form_as_it_was(teacher: Visitor, sent: dict[str, str]) -> None:
    teacher.get(PATH)
    page = send(teacher, PATH, **{"step": "invite", "count": "1", **sent})
    assert teacher.answer.status_code in (400, 409)
    assert not re.findall(CODE, page) and 'id="refusal"' in page


def test_where_nothing_would_isolate_them_the_page_says_why(app: RunningApp, teacher: Visitor) -> None:
    app.context.settings = WebSettings(rate=0, poll=0.05)
    page = teacher.get(PATH)
    assert "same account" in page and "Make codes" not in page
    teacher.post(PREFIX + PATH, {"step": "invite", "count": "1", "until": "2027-01-20T10:00"})
    assert teacher.answer.status_code == 409


def test_a_course_without_guests_says_where_to_allow_them(app: RunningApp, teacher: Visitor) -> None:
    course = {"name": "none", "title": "None", "profile": "gpu", "seats": 2, "instructors": ["ben"]}
    courses.apply(app.site, course_yaml.parse(course), actor=admin, now=app.now)
    assert "may have no guests" in teacher.get("courses/none/guests")
