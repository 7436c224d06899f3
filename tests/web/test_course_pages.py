"""The pages of courses without a script: make one, put people on its roster, see what would change before it does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from mlmp_spawner.operations.courses import courses, roster
from mlmp_spawner.rules import course_yaml
from tests.operations.conftest import admin, ben
from tests.web.harness import PREFIX, RunningApp
from tests.web.visitor import HOSTILE, Forms, Visitor

pytestmark = pytest.mark.parametrize("db_url", ["sqlite"], indirect=True)

YAML = f"""\
name: ml
title: '{HOSTILE.replace("'", "''")}'
profile: gpu
seats: 4
files: {{git: "https://github.com/org/ml"}}
instructors: [ben]
students: [ann, zoe]
"""


@pytest.fixture
def teacher(app: RunningApp) -> Iterator[Visitor]:
    visitor = Visitor(app, "teacher-token")
    yield visitor
    visitor.http.close()


@pytest.fixture
def course(app: RunningApp) -> None:
    courses.apply(app.site, course_yaml.parse(YAML), actor=admin, now=app.now)


def send(visitor: Visitor, path: str, **fields: str) -> str:
    """Fills in a form of the page that is shown and sends it: what is not named is sent as the page has it."""
    forms = Forms(visitor.answer.text).forms
    shown = next((form for form in forms if form[" action"] == PREFIX + path), {})
    kept = {
        name: value
        for name, value in shown.items()
        if name not in (" action", "nodes", "whole", "file", "remove", "hand_in", "look_in")
    }
    return visitor.post(PREFIX + path, {"profile": "gpu", **kept, **fields})


def people(app: RunningApp) -> dict[str, str]:
    _, members, _ = roster.look(app.site, "ml", actor=admin)
    return {member.name: member.role for member in members}


def test_a_course_is_made_from_the_form_and_leads_to_its_roster(app: RunningApp, teacher: Visitor) -> None:
    assert "You have no course yet" in teacher.get("courses")
    teacher.get("new-course")
    sent = {"name": "ml", "title": "Deep Learning", "profile": "gpu", "seats": "6", "nodes": "gpu-a", "setup": "5m"}
    page = send(teacher, "new-course", **sent)
    assert "The course is made" in page and "Deep Learning" in page
    made = courses.get(app.site, "ml", actor=ben).course
    assert (made.seats, made.nodes, made.setup, made.units) == (6, ("gpu-a",), 300_000, None)
    assert people(app) == {"ben": "instructor"}
    assert "Deep Learning" in teacher.get("courses")


def test_a_refused_form_shows_what_was_written_and_why_it_is_refused(teacher: Visitor) -> None:
    teacher.get("new-course")
    page = send(teacher, "new-course", name="ML!", title="Kept", profile="gpu", seats="none")
    assert teacher.answer.status_code == 400
    assert "is no name of a course" in page and 'value="Kept"' in page and 'value="none"' in page


def test_files_data_handing_in_and_self_study_are_said_in_the_form_too(
    app: RunningApp, course: None, teacher: Visitor
) -> None:
    teacher.get("courses/ml")
    said = {
        "git": "",
        "directory": "courses/ml",
        "branch": "",
        "data": "data/ml",
        "hand_in": "1",
        "self_study": "2.5",
    } | {"guest_jobs": "4"}
    assert "The course is as you said" in send(teacher, "courses/ml/settings", **said)
    now = courses.get(app.site, "ml", actor=ben).course
    assert now.files is not None and (now.files.directory, now.files.git) == ("courses/ml", None)
    assert (now.data, now.hand_in, now.self_study, now.guest_jobs) == ("data/ml", True, 2.5, 4)
    assert "All was so already" in send(teacher, "courses/ml/settings", hand_in="1")
    assert "exactly one of git, directory" in send(teacher, "courses/ml/settings", git="https://x.org/y")
    assert teacher.answer.status_code == 400
    send(teacher, "courses/ml/settings", git="", directory="", data="", self_study="", guest_jobs="")
    left = courses.get(app.site, "ml", actor=ben).course
    assert (left.files, left.data, left.hand_in, left.self_study, left.guest_jobs) == (None, None, False, None, None)


def test_the_form_has_looking_in_where_the_hub_has_it(app: RunningApp, course: None, teacher: Visitor) -> None:
    assert "who agree" not in teacher.get("courses/ml")
    assert "this hub lets nobody look" in send(teacher, "courses/ml/settings", look_in="1")
    app.context.site = replace(app.site, look_in=True)
    assert "who agree" in teacher.get("courses/ml")
    assert "The course is as you said" in send(teacher, "courses/ml/settings", look_in="1")
    assert courses.get(app.site, "ml", actor=ben).course.look_in
    app.context.site = replace(app.site, look_in=False)  # who runs the hub changed their mind
    teacher.get("courses/ml")
    assert "The course is as you said" in send(teacher, "courses/ml/settings", seats="5")
    assert not courses.get(app.site, "ml", actor=ben).course.look_in


def test_what_the_form_leaves_as_it_is_stays(app: RunningApp, course: None, teacher: Visitor) -> None:
    teacher.get("courses/ml")
    page = send(teacher, "courses/ml/settings", seats="9", grace="")
    assert "The course is as you said" in page
    now = courses.get(app.site, "ml", actor=ben).course
    assert now.seats == 9 and now.files is not None and now.grace == 15 * 60_000
    assert "All was so already" in send(teacher, "courses/ml/settings")
    stale = teacher.get("courses/ml")
    assert stale
    courses.apply(app.site, course_yaml.parse(YAML), actor=ben, now=app.now)
    assert "changed meanwhile" in send(teacher, "courses/ml/settings", seats="8")
    assert courses.get(app.site, "ml", actor=ben).course.seats == 4


def test_a_list_is_shown_before_it_changes_the_roster(app: RunningApp, course: None, teacher: Visitor) -> None:
    teacher.get("courses/ml")
    asked = {"text": "\neve@uni.org\nZoë Li", "domains": "uni.org, x.org", "role": ""}
    page = send(teacher, "courses/ml/roster", step="preview", **asked)
    assert "Put on the roster: 1" in page and "Line 3: <q>Zoë Li</q>" in page
    assert "eve" not in people(app)
    assert "The roster is changed" in send(teacher, "courses/ml/roster", step="do", text=asked["text"])
    assert people(app) == {"ben": "instructor", "ann": "student", "zoe": "student", "eve": "student"}


def test_a_file_is_taken_as_a_list_is(app: RunningApp, course: None, teacher: Visitor) -> None:
    teacher.get("courses/ml")
    xsrf = {"_xsrf": Forms(teacher.answer.text).forms[0]["_xsrf"], "step": "preview"}
    url = f"{app.url}{PREFIX}courses/ml/roster"

    def choose(content: bytes, **more: str) -> str:
        return teacher.http.post(url, data={**xsrf, **more}, files={"file": ("people.csv", content)}).text

    assert "Put on the roster: 1" in choose("Username;Name\neve;Eve\n".encode("utf-16"))
    assert "it is no text in UTF-8" in choose(b"Username\n\xfc\n")
    assert "not both" in choose(b"eve", text="ann")
    assert "Taken off: 2" in choose(b"eve", whole="1")
    assert "Whoever these lines mean" in choose(b"eve\nAnn Smith", whole="1")


def test_somebody_is_taken_off_with_a_click(app: RunningApp, course: None, teacher: Visitor) -> None:
    teacher.get("courses/ml")
    send(teacher, "courses/ml/roster", step="do", remove="zoe")
    assert people(app) == {"ben": "instructor", "ann": "student"}
    page = send(teacher, "courses/ml/roster", step="do", remove="ben")
    assert teacher.answer.status_code == 409 and "Nobody would run this course" in page


def test_a_course_is_removed_and_the_list_says_so(app: RunningApp, course: None, teacher: Visitor) -> None:
    teacher.get("courses/ml")
    assert "The course ml is removed" in send(teacher, "courses/ml/remove")
    assert courses.mine(app.site, actor=admin) == []


def test_a_student_sees_the_course_without_names_and_forms(app: RunningApp, course: None) -> None:
    ann = Visitor(app, "ann-token")
    page = ann.get("courses/ml")
    assert "You are a student of this course" in page
    assert (
        "zoe" not in page
        and "ben" not in page.replace("benefit", "")
        and "<form" not in page.partition('id="live"')[2]
    )
    assert "courses/ml" in ann.get("courses")
    ann.http.close()


def test_no_text_of_somebody_becomes_markup(course: None, teacher: Visitor) -> None:
    for path in ("courses", "courses/ml"):
        assert HOSTILE not in teacher.get(path)
    send(teacher, "courses/ml/roster", step="preview", text=f"{HOSTILE} x")
    assert HOSTILE not in teacher.answer.text


@pytest.mark.parametrize("name", ["-", "a" * 60, "none"])
def test_a_name_that_no_course_has_is_not_found(app: RunningApp, teacher: Visitor, name: str) -> None:
    teacher.get(f"courses/{name}")
    assert teacher.answer.status_code == 404
