"""Courses over HTTP: applied as often as one likes, shown to those who are in them, rosters from lists."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from mlmp_spawner.web.api.courses import LARGEST_BODY
from mlmp_spawner.web.course_models import MOST_TOLD
from tests.web.harness import RunningApp

on_sqlite = pytest.mark.parametrize("db_url", ["sqlite"], indirect=True)
"""What no database has a say in is tried on one of them."""

YAML = """\
name: ml
title: Deep Learning
profile: gpu
seats: 4
setup: 5m
files: {git: "https://github.com/org/ml"}
students: [ann]
"""


@pytest.fixture
def teacher(app: RunningApp) -> Iterator[httpx.Client]:
    """ben, who may run courses."""
    with app.client("teacher-token") as client:
        yield client


def apply(client: httpx.Client, course: Any = YAML, **query: Any) -> httpx.Response:
    return client.post("courses", json={"course": course}, params=query)


def test_a_course_from_yaml_is_made_once_and_then_so(teacher: httpx.Client) -> None:
    would = apply(teacher, dry_run=True)
    assert (would.status_code, would.json()["created"], would.json()["dry_run"]) == (200, True, True)
    assert teacher.get("courses/ml").status_code == 404
    made = apply(teacher)
    assert made.status_code == 201 and made.headers["Location"].endswith("/api/v1/courses/ml")
    body = made.json()
    assert body["roster"]["added"] == [
        {"name": "ann", "role": "student", "known": True}, {"name": "ben", "role": "instructor", "known": True},
    ]  # fmt: skip
    course = body["course"]
    assert (course["setup"], course["grace"], course["units"], course["group"]) == ("5m", "15m", 1, "course-ml")
    assert course["files"] == {"git": "https://github.com/org/ml", "branch": None, "directory": None}
    again = apply(teacher)
    assert (again.status_code, again.json()["created"], again.json()["changes"]) == (200, False, [])
    changed = apply(teacher, {"name": "ml", "title": "DL", "profile": "gpu", "seats": 4, "setup": "5m"})
    assert changed.json()["changes"] == [
        {"field": "title", "old": "Deep Learning", "new": "DL"},
        {"field": "files", "old": {"git": "https://github.com/org/ml"}, "new": None},
    ]


def test_what_the_answer_has_as_yaml_can_be_applied_again(teacher: httpx.Client) -> None:
    apply(teacher)
    said = teacher.get("courses/ml").json()["yaml"]
    again = apply(teacher, said).json()
    assert again["changes"] == [] and again["roster"]["added"] == again["roster"]["removed"] == []


def test_every_mistake_is_told_with_its_line(teacher: httpx.Client) -> None:
    refused = apply(teacher, YAML.replace("seats: 4", "seats: none").replace("[ann]", "[a b]"))
    assert refused.status_code == 400
    assert [(one["line"], one["field"]) for one in refused.json()["errors"]] == [(4, "seats"), (7, "students.0")]
    refused = apply(teacher, {"name": "ml", "title": "ML", "profile": "tpu", "seats": 1})
    assert [one["field"] for one in refused.json()["errors"]] == ["profile"]


def test_only_as_it_was_seen_is_it_changed(teacher: httpx.Client) -> None:
    made = apply(teacher)
    body = {"course": YAML.replace("seats: 4", "seats: 5")}
    seen = {"If-Match": made.headers["ETag"]}
    assert teacher.post("courses", json=body, headers=seen).status_code == 200
    assert teacher.post("courses", json=body, headers=seen).status_code == 412
    assert teacher.delete("courses/ml", headers=seen).status_code == 412
    assert teacher.post("courses", json=body, headers={"If-None-Match": "*"}).status_code == 409
    now = teacher.get("courses/ml").headers["ETag"]
    assert teacher.get("courses/ml", headers={"If-None-Match": now}).status_code == 304
    assert teacher.delete("courses/ml", headers={"If-Match": now}).status_code == 204
    assert teacher.get("courses/ml").status_code == 404


def test_a_group_of_the_hub_that_is_no_course_s_is_not_taken(teacher: httpx.Client, app: RunningApp) -> None:
    app.hub.members["course-ml"] = frozenset({"root"})
    refused = apply(teacher)
    assert refused.status_code == 409 and "course-ml" in refused.json()["detail"]
    assert teacher.get("courses").json()["items"] == []


def test_a_student_sees_the_course_and_no_other_name(
    teacher: httpx.Client, ann: httpx.Client, app: RunningApp
) -> None:
    apply(teacher, YAML.replace("[ann]", "[ann, zoe]"))
    seen = ann.get("courses/ml").json()
    assert (seen["role"], seen["runs"], seen["members"], seen["yaml"]) == ("student", False, None, None)
    assert "ben" not in str(seen) and "zoe" not in str(seen)
    assert [one["name"] for one in ann.get("courses").json()["items"]] == ["ml"]
    with app.client("server-token") as server:
        assert server.get("courses/ml").json()["role"] == "student"
        assert server.post("courses/ml/roster", json={"remove": ["zoe"]}).status_code == 403
    with app.client("foreign-token") as eve:
        assert eve.get("courses/ml").status_code == 404
        assert eve.get("courses").json()["items"] == []


def test_who_the_roster_names_runs_the_course_without_the_right_to_make_one(
    teacher: httpx.Client, ann: httpx.Client, app: RunningApp
) -> None:
    assert apply(ann).status_code == 403
    apply(teacher, YAML.replace("[ann]", "[zoe]"))
    theirs = apply(ann)
    assert theirs.status_code == 403 and "scope custom:mlmp:courses" in theirs.json()["detail"]
    assert theirs.json()["detail"] == apply(ann, dry_run=True).json()["detail"]
    free = apply(ann, YAML.replace("name: ml", "name: other")).json()["detail"]
    assert free.replace("other", "ml") == theirs.json()["detail"]  # it does not say which courses there are
    assert teacher.post("courses/ml/roster", json={"add": ["ann"], "role": "instructor"}).status_code == 200
    seen = ann.get("courses/ml").json()
    assert (seen["role"], seen["runs"]) == ("instructor", True) and seen["yaml"]
    changed = apply(ann, {"name": "ml", "title": "DL", "profile": "gpu", "seats": 4})
    assert changed.status_code == 200 and changed.json()["course"]["title"] == "DL"
    assert {one["name"] for one in ann.get("courses/ml/roster").json()["items"]} == {"ann", "ben", "zoe"}
    with app.client("reader-token") as reader, app.client("server-token") as server:
        for narrow in (reader, server):  # her own tokens, which may not do all that she may
            assert narrow.get("courses/ml").json()["runs"] is False
            assert narrow.get("courses/ml/roster").status_code == 403
    teacher.post("courses/ml/roster", json={"add": ["ann"], "role": "student"})
    assert ann.get("courses/ml/roster").status_code == 403


def test_an_instructor_changes_no_course_of_others(teacher: httpx.Client, admin: httpx.Client) -> None:
    apply(admin, YAML + "instructors: [root]\n")
    assert apply(teacher).status_code == 403
    assert teacher.post("courses/ml/roster", json={"add": ["ben"]}).status_code == 404
    assert teacher.delete("courses/ml").status_code == 404
    apply(admin, YAML.replace("[ann]", "[ann, ben]"))
    assert teacher.get("courses/ml/roster").status_code == 403
    roster = admin.get("courses/ml/roster").json()["items"]
    assert {one["name"]: one["role"] for one in roster} == {"ann": "student", "ben": "student", "root": "instructor"}


def test_a_service_says_for_whom_it_makes_a_course(app: RunningApp) -> None:
    with app.client("service-token") as robot:
        assert apply(robot).json()["errors"][0]["field"] == "instructors"
        assert apply(robot, YAML + "instructors: [ben]\n").status_code == 201


def test_a_roster_from_a_list_says_who_is_meant_and_who_is_not_understood(teacher: httpx.Client) -> None:
    apply(teacher)
    asked = {"text": "Email address,Name\neve@uni.org,Eve\nzoe@uni.org,Zoe\n,Nobody\n", "domains": ["uni.org"]}
    would = teacher.post("courses/ml/roster", json=asked, params={"dry_run": True}).json()
    assert would["added"] == [
        {"name": "eve", "role": "student", "known": True}, {"name": "zoe", "role": "student", "known": False},
    ]  # fmt: skip
    assert [(one["line"], one["text"]) for one in would["not_understood"]] == [(4, "Nobody")]
    done = teacher.post("courses/ml/roster", json=asked).json()
    assert done == {**would, "dry_run": False}
    roster = teacher.get("courses/ml/roster").json()["items"]
    assert [(one["name"], one["role"], one["known"]) for one in roster] == [
        ("ann", "student", True), ("ben", "instructor", True), ("eve", "student", True), ("zoe", "student", False),
    ]  # fmt: skip
    assert teacher.get("courses/ml").json()["members"] == {"instructor": 1, "student": 3}


def test_a_roster_as_csv_is_read_to_the_same(teacher: httpx.Client) -> None:
    apply(teacher)
    answer = teacher.get("courses/ml/roster", params={"format": "csv"})
    assert answer.headers["Content-Type"].startswith("text/csv")
    assert next(csv.reader(io.StringIO(answer.content.decode("utf-8-sig")))) == ["name", "role"]
    same = teacher.post("courses/ml/roster", json={"text": answer.text, "whole": True}).json()
    assert same["added"] == same["changed"] == same["removed"] == same["not_understood"] == []


@on_sqlite
def test_a_list_of_nonsense_is_counted_and_the_first_lines_told(teacher: httpx.Client) -> None:
    apply(teacher)
    done = teacher.post("courses/ml/roster", json={"text": "a b\n" * 1000}).json()
    assert (len(done["not_understood"]), done["not_understood_count"]) == (MOST_TOLD, 1000)


@on_sqlite
@pytest.mark.parametrize("name", ["ML", "a%00b", "%F0%9F%98%80", "a" * 41, "-", "%25"])
def test_a_name_that_no_course_has_is_not_found(teacher: httpx.Client, name: str) -> None:
    assert teacher.get(f"courses/{name}").status_code == 404
    assert teacher.get(f"courses/{name}/roster").status_code == 404


@on_sqlite
def test_a_body_has_an_end(teacher: httpx.Client) -> None:
    assert apply(teacher, "#" * LARGEST_BODY).status_code == 413
    assert apply(teacher, "#" * (LARGEST_BODY - 1000)).status_code == 400


@on_sqlite
def test_everybody_is_told_what_their_own_courses_bring_and_nothing_of_others(app: RunningApp, teacher: httpx.Client):
    course = YAML + "hand_in: true\ndata: sets/ml\n"
    assert apply(teacher, course).status_code == 201
    with app.client("server-token") as server:
        (mine,) = server.get("me/courses").json()["items"]
    assert mine == {
        "name": "ml", "title": "Deep Learning", "role": "student", "data": "sets/ml", "hand_in": True,
        "files": {"git": "https://github.com/org/ml", "branch": None, "directory": None},
    }  # fmt: skip
    assert [one["role"] for one in teacher.get("me/courses").json()["items"]] == ["instructor"]
    with app.client("admin-token") as admin:
        assert admin.get("me/courses").json()["items"] == []
