"""The page of a class without a script: who is in, who is stuck; more time, a word, servers; others see none of it."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx
import pytest

from mlmp_spawner.operations import booking, notices
from mlmp_spawner.operations.courses import courses
from mlmp_spawner.operations.requests import BookingRequest
from mlmp_spawner.rules import course_yaml
from mlmp_spawner.units import HOUR, MINUTE, to_iso
from tests.operations.conftest import admin, eve
from tests.web.harness import PREFIX, RunningApp
from tests.web.played_class import BEGINS, PlayedClass, a_class
from tests.web.visitor import EVALUATED, HOSTILE, Forms, Visitor

pytestmark = pytest.mark.parametrize("db_url", ["sqlite"], indirect=True)


@pytest.fixture
def played(app: RunningApp) -> PlayedClass:
    return a_class(app, ("ann", "eve", "zoe", "never"))


@pytest.fixture
def teacher(app: RunningApp) -> Iterator[Visitor]:
    visitor = Visitor(app, "teacher-token")
    yield visitor
    visitor.http.close()


def tiles(page: str) -> dict[str, str]:
    found = re.findall(r'data-status="(\w+)">\s*<strong>([^<]*)</strong>', page)
    return {name: status for status, name in found}


def press(teacher: Visitor, played: PlayedClass, action: str, **button: str) -> str:
    path, sent = Forms(teacher.answer.text).press(f"{PREFIX}{played.where}/{action}", **button)
    return teacher.post(path, sent)


def test_who_is_in_who_is_stuck_and_who_never_came(played: PlayedClass, teacher: Visitor):
    page = teacher.get(played.where)
    assert tiles(page) == {"zoe": "stuck", "ann": "in", "ben": "ready", "eve": "ready"}
    assert next(iter(tiles(page))) == "zoe", "whoever needs help comes first"
    assert "The image is gone." in page
    assert "4 of 6 seats taken" in page and "2 empty on" in page
    assert "never" in page and "never logged in" in page
    assert "Nobody can look into" in page
    assert tiles(teacher.get(f"{played.where}?show=stuck")) == {"zoe": "stuck"}
    assert tiles(teacher.get(f"{played.where}?q=E")) == {"zoe": "stuck", "ben": "ready", "eve": "ready"}
    assert tiles(teacher.get(f"{played.where}?show=%3Cscript%3E")) == tiles(page)


def test_the_course_leads_to_its_classes_and_their_report(played: PlayedClass, teacher: Visitor):
    page = teacher.get("courses/ml")
    assert f'href="{PREFIX}{played.where}"' in page and "under way" in page
    report = teacher.http.get("courses/ml/classes", params={"format": "csv"})
    assert report.headers["Content-Type"].startswith("text/csv")
    lines = report.text.lstrip("\ufeff").splitlines()
    assert lines[0].startswith('"id","start"') and lines[1].split(",")[4:7] == ["6", "4", "3"]


def test_a_class_is_made_longer_or_it_is_said_why_not(app: RunningApp, played: PlayedClass, teacher: Visitor):
    teacher.get(played.where)
    assert "The class goes on longer" in press(teacher, played, "extend")
    assert {seat.end for seat in played.seats().values()} == {BEGINS + 2 * HOUR + 15 * MINUTE}
    node = played.seats()["ann"].nodes[0]
    after = BookingRequest("gpu", start=BEGINS + 2 * HOUR + 20 * MINUTE, duration=HOUR, units=1, node=node)
    booking.book(app.site, after, actor=eve, now=app.now)
    teacher.get(played.where)
    refused = press(teacher, played, "extend")
    assert teacher.answer.status_code == 409 and "can go on for 5 min" in refused and node in refused


def test_everybody_is_told(app: RunningApp, played: PlayedClass, teacher: Visitor):
    teacher.get(played.where)
    said = teacher.post(f"{PREFIX}{played.where}/message", {"text": HOSTILE, **_xsrf(teacher)})
    assert "Everybody with a seat is told" in said
    assert notices.page(app.site.engine, "ann").items[0].details["message"] == HOSTILE
    with app.client("ann-token", Accept="text/html") as ann:
        page = ann.get(f"{app.url}{PREFIX}notices").text
    assert HOSTILE not in page and EVALUATED not in page and "ben says" in page
    refused = teacher.post(f"{PREFIX}{played.where}/message", {"text": "x" * 301, **_xsrf(teacher)})
    assert teacher.answer.status_code == 400 and "300 printable" in refused


def test_a_server_is_stopped_and_started_and_the_filter_stays(app: RunningApp, played: PlayedClass, teacher: Visitor):
    teacher.get(f"{played.where}?show=in")
    teacher.post(f"{PREFIX}{played.where}/servers", {"what": "stop", "person": "ann", "show": "in", **_xsrf(teacher)})
    assert "show=in" in str(teacher.answer.url)
    app.now += MINUTE
    played.look()
    assert tiles(teacher.get(played.where))["ann"] == "down"
    teacher.post(f"{PREFIX}{played.where}/servers", {"what": "start", "person": "ann", **_xsrf(teacher)})
    app.now += MINUTE
    played.look()
    assert tiles(teacher.get(played.where))["ann"] == "in"
    teacher.post(f"{PREFIX}{played.where}/servers", {"what": "format", **_xsrf(teacher)})
    assert teacher.answer.status_code == 400


def test_nobody_else_sees_who_is_in_a_class(app: RunningApp, played: PlayedClass):
    other = {"name": "other", "title": "Other", "profile": "gpu", "seats": 1, "instructors": ["eve"]}
    courses.apply(app.site, course_yaml.parse(other), actor=admin, now=app.now)
    with app.client("ann-token", Accept="text/html") as ann:
        assert ann.get(app.url + PREFIX + played.where).status_code == 403
    with app.client("teacher-token", Accept="text/html") as ben:
        assert ben.get(f"{app.url}{PREFIX}courses/other/classes/{played.id}").status_code == 404
        assert ben.get(f"{app.url}{PREFIX}courses/ml/classes/aaaaaaaaaaaa").status_code == 404
    with app.client("ann-token") as ann:
        mine = ann.get(f"courses/ml/classes/{played.id}").json()["people"]
        assert [(one["name"], one["status"]) for one in mine] == [("ann", "in")]


def test_a_class_that_has_not_begun_and_one_that_is_over(app: RunningApp, played: PlayedClass, teacher: Visitor):
    app.now = BEGINS + 5 * HOUR
    page = teacher.get(played.where)
    assert "It was" in page and "Tell everybody" not in page and tiles(page) == {}
    later = teacher.http.post("courses/ml/classes", json={"start": to_iso(app.now + HOUR), "duration": "1h"}).json()
    page = teacher.get(f"courses/ml/classes/{later['id']}")
    assert "until it begins" in page and "Seats are given out" in page


def _xsrf(teacher: Visitor) -> dict[str, str]:
    shown: httpx.Response = teacher.answer
    found = re.search(r'name="_xsrf" value="([^"]*)"', shown.text)
    return {"_xsrf": found[1]} if found else {}
