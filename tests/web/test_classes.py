"""Classes over HTTP: booked by who teaches, seen by who is in the course, with nobody else's seat."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from mlmp_spawner.operations.courses import opening
from mlmp_spawner.units import HOUR, MINUTE, to_iso
from tests.operations.conftest import NOW
from tests.web.harness import PREFIX, RunningApp

on_sqlite = pytest.mark.parametrize("db_url", ["sqlite"], indirect=True)

COURSE = {"name": "ml", "title": "Deep Learning", "profile": "gpu", "seats": 2, "students": ["ann", "eve"]}
BEGINS = NOW + HOUR
ONE = {"start": to_iso(BEGINS), "duration": "2h"}
WEEKLY = ONE | {"recurrence": {"rrule": "FREQ=WEEKLY;COUNT=3", "zone": "Europe/Zurich"}}


@pytest.fixture
def teacher(app: RunningApp) -> Iterator[httpx.Client]:
    """ben, who runs the course."""
    with app.client("teacher-token") as client:
        assert client.post("courses", json={"course": COURSE}).status_code == 201
        yield client


def test_a_class_is_booked_shown_and_cancelled(app: RunningApp, teacher: httpx.Client):
    would = teacher.post("courses/ml/classes", json=WEEKLY, params={"dry_run": True})
    assert (would.status_code, would.json()["id"], len(would.json()["dates"])) == (200, None, 3)
    assert teacher.get("courses/ml/classes").json()["items"] == []

    made = teacher.post("courses/ml/classes", json=WEEKLY, headers={"Idempotency-Key": "k"})
    assert made.status_code == 201
    assert made.json()["dates"][0] == {
        "start": to_iso(BEGINS), "end": to_iso(BEGINS + 2 * HOUR), "nodes": [{"node": "gpu-b", "seats": 2}]
    }  # fmt: skip
    assert teacher.post("courses/ml/classes", json=WEEKLY, headers={"Idempotency-Key": "k"}).json() == made.json()
    items = teacher.get("courses/ml/classes").json()["items"]
    assert [one["start"] for one in items] == [one["start"] for one in made.json()["dates"]]
    assert (items[0]["opens"], items[0]["seats"], items[0]["given"]) == (to_iso(BEGINS - 10 * MINUTE), 2, 0)
    assert items[0]["unit_hours"] == pytest.approx(2 * (2 + 1 / 6), abs=0.01)

    one = made.headers["Location"].rpartition("/api/v1/")[2]
    assert teacher.get(one).json()["people"] == []
    gone = teacher.delete(one, params={"which": "all"})
    assert gone.json()["cancelled"] == [each["id"] for each in items]
    assert teacher.delete(one).status_code == 409
    assert teacher.get("courses/ml/classes").json()["items"] == []


def test_a_class_that_does_not_fit_has_a_report_and_alternatives_to_post(teacher: httpx.Client, ann: httpx.Client):
    taken = {"profile": "gpu", "start": to_iso(BEGINS), "duration": "1h", "units": 1, "node": "gpu-b"}
    assert ann.post("reservations", json=taken).status_code == 201
    refused = teacher.post("courses/ml/classes", json=WEEKLY | {"seats": 6})
    said = refused.json()
    assert (refused.status_code, said["code"], len(said["dates"])) == (409, "no_capacity", 1)
    assert said["dates"][0]["seats"] == 5 and said["dates"][0]["instead"] == to_iso(BEGINS + 90 * MINUTE)
    for alternative in said["alternatives"]:
        asked = teacher.post("courses/ml/classes", json=alternative["request"], params={"dry_run": True})
        assert asked.status_code == 200, alternative


def test_students_see_their_own_seat_and_nobody_else_s(app: RunningApp, teacher: httpx.Client, ann: httpx.Client):
    made = teacher.post("courses/ml/classes", json=ONE).json()["id"]
    opening.look(app.site, BEGINS - 10 * MINUTE)
    app.now = BEGINS
    whole = teacher.get(f"courses/ml/classes/{made}").json()
    assert {one["name"] for one in whole["people"]} == {"ann", "eve"} and whole["given"] == 2
    mine = ann.get(f"courses/ml/classes/{made}").json()
    assert [one["name"] for one in mine["people"]] == ["ann"]
    assert mine["mine"]["reservation"] == mine["people"][0]["reservation"] and mine["given"] is None
    everything = ann.get("reservations").json()["items"]
    assert {(one["kind"], one["owner"]) for one in everything} == {("class", "course:ml"), ("session", "ann")}
    theirs = next(one["reservation"] for one in whole["people"] if one["name"] == "eve")
    assert ann.get(f"reservations/{theirs}").json()["owner"] is None
    timeline = ann.get("timeline", params={"start": to_iso(NOW), "end": to_iso(NOW + 4 * HOUR)}).json()
    assert [(bar["kind"], bar["title"], bar["units"]) for bar in timeline["bars"]] == [("class", "Deep Learning", 2)]


@on_sqlite
def test_what_makes_no_sense_is_refused(teacher: httpx.Client):
    for wrong in ({"seats": 0}, {"duration": "0s"}, {"start": to_iso(NOW - HOUR)}, {"holidays": ["soon"]},
                  {"recurrence": {"rrule": "FREQ=SECONDLY", "zone": "UTC"}}, {"zone": "Mars"},
                  {"what": 1}):  # fmt: skip
        assert teacher.post("courses/ml/classes", json=ONE | wrong).status_code == 400, wrong
    assert teacher.get("courses/ml/classes/aaaaaaaaaaaa").status_code == 404
    assert teacher.get("courses/none/classes").status_code == 404
    with_guests = teacher.get("courses/ml/classes", params={"start": to_iso(NOW), "end": to_iso(NOW - 1000)})
    assert with_guests.status_code == 400


def test_who_comes_late_takes_a_seat_on_the_first_page(app: RunningApp, teacher: httpx.Client):
    made = teacher.post("courses/ml/classes", json=ONE | {"seats": 6}).json()["id"]
    app.now = BEGINS
    with app.client("ann-token", Accept="text/html") as ann:
        page = ann.get(app.url + PREFIX).text
        assert "Deep Learning" in page and "Take a seat" in page
        taken = ann.post(app.url + PREFIX + "start", data={"duration:gpu": "7200s"})
        assert taken.status_code == 303, taken.text
        assert "Take a seat" not in ann.get(app.url + PREFIX).text
    found = teacher.get(f"courses/ml/classes/{made}").json()["people"]
    assert [(one["name"], one["state"]) for one in found] == [("ann", "active")]
