"""Guests over HTTP: who invites them, and what they may see, which is nobody else."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from sqlalchemy import insert

from mlmp_spawner.operations.courses import courses, guests, running
from mlmp_spawner.operations.site import Actor
from mlmp_spawner.rules import course_yaml
from mlmp_spawner.rules.courses import Member
from mlmp_spawner.store import courses as course_store
from mlmp_spawner.store import guests as store
from mlmp_spawner.store.tables import users
from mlmp_spawner.store.transaction import transaction
from mlmp_spawner.units import DAY, HOUR, to_iso
from mlmp_spawner.web.api.table import TABLE
from mlmp_spawner.web.context import WebSettings
from mlmp_spawner.web.guest_rights import CALLS, HANDLERS, JOB_CALLS
from mlmp_spawner.web.pages import routes as pages
from tests.operations.conftest import NOW, admin
from tests.web.harness import GUEST, PREFIX, RunningApp
from tests.web.job_parts import CODE, SHA256, SLEEP, make_jobs
from tests.web.job_rows import Rows
from tests.web.played_class import a_class
from tests.web.test_page_rights import page_address

COURSE = {"name": "ml", "title": "ML", "profile": "gpu", "seats": 2, "guests": 3, "instructors": ["ben"]}
UNTIL = NOW + 7 * DAY


@pytest.fixture(autouse=True)
def course(app: RunningApp) -> None:
    """A course of ben's, with a guest."""
    app.context.settings = WebSettings(rate=0, poll=0.05, guest_isolation="account", guest_erase_after=DAY)
    courses.apply(app.site, course_yaml.parse(COURSE), actor=Actor("root", admin=True), now=NOW)
    with transaction(app.site.engine) as connection:
        connection.execute(insert(users).values(id=77, name=GUEST))
        store.add(connection, store.Guest(GUEST, "ml", NOW, UNTIL, UNTIL + DAY, entered_at=NOW))
        course_store.put_members(connection, "ml", [Member("ml", GUEST, "guest", NOW)])


@pytest.fixture
def teacher(app: RunningApp) -> Iterator[httpx.Client]:
    with app.client("teacher-token") as client:
        yield client


@pytest.fixture
def guest(app: RunningApp) -> Iterator[httpx.Client]:
    with app.client("guest-token") as client:
        yield client


def invite(teacher: httpx.Client, count: int = 1) -> httpx.Response:
    return teacher.post("courses/ml/guests", json={"count": count, "until": to_iso(UNTIL)})


def allow_jobs(app: RunningApp, hours: float | None = 4.0) -> None:
    """The course allows each guest so many unit-hours in jobs."""
    wanted = course_yaml.parse(COURSE | ({"guest_jobs": hours} if hours else {}))
    courses.apply(app.site, wanted, actor=Actor("root", admin=True), now=NOW)


def test_codes_come_with_a_link_that_leads_to_the_hub(teacher: httpx.Client, app: RunningApp) -> None:
    answer = invite(teacher, 2)
    assert answer.status_code == 201
    body = answer.json()
    assert body["address"] == f"{app.url}/hub/guest"
    assert body["erased_after"] == "1d"
    for one in body["items"]:
        link = urlsplit(one["link"])
        assert (f"{link.scheme}://{link.netloc}{link.path}", parse_qs(link.query)) == (
            body["address"], {"code": [one["code"]]}
        )  # fmt: skip
        assert guests.redeem(app.site.engine, one["code"], erase_after=DAY, now=NOW) is not None


def test_who_came_and_how_many_can_is_shown_and_no_code(teacher: httpx.Client) -> None:
    code = invite(teacher).json()["items"][0]["code"]
    answer = teacher.get("courses/ml/guests")
    assert code not in answer.text
    assert answer.json()["open_codes"] == 1
    assert [one["name"] for one in answer.json()["items"]] == [GUEST]


def test_codes_are_withdrawn_and_a_guest_is_ended(teacher: httpx.Client) -> None:
    invite(teacher, 2)
    assert teacher.delete("courses/ml/guests").json() == {"withdrawn": 2}
    ended = teacher.delete(f"courses/ml/guests/{GUEST}").json()
    assert (ended["until"], ended["erased_from"]) == (to_iso(NOW), to_iso(NOW + DAY))
    assert teacher.delete("courses/ml/guests/guest-1111111111").status_code == 404


def test_more_than_the_course_may_have_are_refused_with_how_many_it_may(teacher: httpx.Client) -> None:
    answer = invite(teacher, 3)
    assert (answer.status_code, answer.json()["free"]) == (409, 2)


def test_where_nothing_would_isolate_them_nobody_is_invited(teacher: httpx.Client, app: RunningApp) -> None:
    app.context.settings = WebSettings(rate=0, poll=0.05)
    answer = invite(teacher)
    assert answer.status_code == 409
    assert "There can be no guests here" in answer.json()["detail"]


@pytest.mark.parametrize("jobs", [None, 4.0])
def test_a_guest_reaches_the_listed_calls_and_no_others(
    guest: httpx.Client, app: RunningApp, jobs: float | None
) -> None:
    allow_jobs(app, jobs)
    more = JOB_CALLS if jobs else frozenset()
    names = {"id": "aaaaaaaaaaaa", "name": "ml", "guest": GUEST, "sha256": "0" * 64, "attempt": "a"}
    wrong = []
    for row in TABLE:
        if row.right == "none" or row.handler is not None:
            continue
        method = guest.build_request(row.method, row.path.format(**names), json={} if row.body else None)
        status = guest.send(method).status_code
        if (status == 403) == (f"{row.method} {row.path}" in CALLS | more):
            wrong.append(f"{row.method} {row.path}: {status}")
    assert wrong == []


def test_a_guest_reaches_the_listed_pages_and_handlers_and_no_others(guest: httpx.Client, app: RunningApp) -> None:
    reached = set()
    for pattern, handler, *_ in pages.routes():
        address = app.url + PREFIX + page_address(pattern, "aaaaaaaaaaaa", "aaaaaaaaaaaa", "aaaaaaaaaaaa")
        for method in ("GET", "POST"):
            if guest.request(method, address, headers={"Accept": "text/html"}).status_code not in (403, 405):
                reached.add(handler.__name__)
    assert reached == HANDLERS - {"StreamHandler", "LogStream"}
    for row in TABLE:
        if row.handler is not None and row.handler.__name__ not in HANDLERS:
            path = row.path.format(id="aaaaaaaaaaaa", sha256="0" * 64, attempt="a")
            assert guest.request(row.method, path).status_code in (401, 403, 404), row.path


def test_a_guest_sees_nobody_s_name(guest: httpx.Client, ann: httpx.Client, app: RunningApp) -> None:
    booked = ann.post("reservations", json={"profile": "gpu", "duration": "1h", "title": "Secret"}).json()["id"]
    seen = [guest.get(path).text for path in ("me", "catalog", "reservations", f"reservations/{booked}", "courses",
                                              "courses/ml", "availability?profile=gpu")]  # fmt: skip
    seen += [
        guest.get(app.url + PREFIX + path, headers={"Accept": "text/html"}).text
        for path in ("", "bookings", "notices", f"bookings/{booked}")
    ]
    with guest.stream("GET", "stream") as stream:
        lines = stream.iter_lines()
        while "hello" not in next(lines):
            pass
        ann.post(f"reservations/{booked}/extend", json={"duration": "10m"})
        seen.append(next(line for line in lines if line.startswith("data:") and booked in line))
    for text in seen:
        for name in ("ann", "ben", "eve", "Secret"):
            assert f'"{name}"' not in text and f">{name}<" not in text, text
    assert guest.get("reservations", params={"owner": "ann"}).status_code == 403


PEOPLE = re.compile(r"\b(ann|ben|eve|zoe)\b")


def test_wherever_a_guest_comes_in_a_class_no_name_of_anybody_is_there(
    guest: httpx.Client, ann: httpx.Client, app: RunningApp, tmp_path: Path
) -> None:
    """Every call, page and form, with every id that there is."""
    theirs = ann.post("reservations", json={"profile": "gpu", "duration": "1h", "title": "of ann"}).json()["id"]
    played = a_class(app, seats=5)
    running.say(app.site, "ml", played.id, "Break", actor=Actor("ben"), now=app.now)
    rows = Rows.of(app, tmp_path)
    allow_jobs(app)
    jobs = [rows.add(owner, name=f"of {owner}", message=f"by {owner}").id for owner in ("ann", "ben")]
    mine = rows.add(GUEST, name="mine")
    scan = ann.post("scans", json={"manifest": SLEEP, "parameters": {"lr": [0.1]}}).json()["id"]
    own = guest.post("scans", json={"manifest": SLEEP, "parameters": {"lr": [0.1]}}).json()["id"]
    seats = [seat.id for seat in played.seats().values()]
    ids = [theirs, played.id, *seats, *jobs, mine.id, scan, own]
    assert GUEST in played.seats()
    wrong, answered = [], set()
    for row in TABLE:
        if row.handler is not None:
            continue
        for one in ids if "{id}" in row.path else ids[:1]:
            path = row.path.format(id=one, name="ml", guest=GUEST, sha256="0" * 64, attempt="a")
            answer = guest.request(row.method, path, json={} if row.body else None)
            answered |= {f"{row.method} {row.path}"} if answer.status_code == 200 else set()
            if found := PEOPLE.search(answer.text):
                wrong.append(f"{row.method} {path}: {answer.text[max(0, found.start() - 120) : found.end() + 40]}")
    for pattern, *_ in pages.routes():
        for one in ids:
            address = app.url + PREFIX + page_address(pattern, one, one, one, one)
            for method in ("GET", "POST"):
                answer = guest.request(method, address, headers={"Accept": "text/html"})
                if found := PEOPLE.search(answer.text):
                    wrong.append(f"{method} {address}: {answer.text[max(0, found.start() - 120) : found.end() + 40]}")
    assert wrong == []
    assert {one for one in CALLS if one.startswith("GET ")} - answered == {"GET availability"}  # it needs a profile


def test_a_guest_sees_the_classes_of_their_course_and_their_own_seat(guest: httpx.Client, app: RunningApp) -> None:
    played = a_class(app)
    (one,) = guest.get("courses/ml/classes").json()["items"]
    assert (one["id"], one["given"], one["mine"]["name"]) == (played.id, None, GUEST)
    assert [seat["name"] for seat in guest.get(played.where).json()["people"]] == [GUEST]
    seen = guest.get(app.url + PREFIX + "courses/ml", headers={"Accept": "text/html"}).text
    assert "You are a guest of this course" in seen and "Roster" not in seen
    courses.apply(app.site, course_yaml.parse(COURSE | {"name": "other"}), actor=admin, now=NOW)
    assert guest.get("courses/other/classes").status_code == 404
    assert guest.post(f"{played.where}/extend", json={"duration": "15m"}).status_code == 403


def test_a_guest_starts_what_the_course_is_about_and_books_nothing_ahead(guest: httpx.Client, app: RunningApp) -> None:
    assert [one["name"] for one in guest.get("catalog").json()["profiles"]] == ["gpu"]
    ahead = {"profile": "gpu", "start": to_iso(NOW + HOUR), "duration": "1h"}
    assert guest.post("reservations", json=ahead).status_code == 403
    assert guest.post("jobs", json={"manifest": {}}).status_code == 403
    home = guest.get(app.url + PREFIX, headers={"Accept": "text/html"}).text
    assert "Start something now" in home
    assert not any(f'href="{PREFIX}{page}"' in home for page in ("timeline", "usage", "jobs", "book", "ssh"))


def test_where_the_course_allows_no_jobs_a_guest_is_told_so(
    guest: httpx.Client, app: RunningApp, tmp_path: Path
) -> None:
    app.context.jobs = make_jobs(tmp_path)
    for refused in (
        guest.post("jobs", json={"manifest": SLEEP}),
        guest.post("scans", json={"manifest": SLEEP, "parameters": {"lr": [0.1]}}),
        guest.put(f"jobs/code/{SHA256}", content=CODE),
    ):
        assert refused.status_code == 403 and "Guests of this course run no jobs" in refused.text


def test_a_guest_submits_sees_and_cancels_own_jobs_within_what_the_course_allows(
    guest: httpx.Client, ann: httpx.Client, app: RunningApp, tmp_path: Path
) -> None:
    app.context.jobs = make_jobs(tmp_path)
    allow_jobs(app)
    theirs = ann.post("jobs", json={"manifest": SLEEP}).json()["id"]
    assert guest.put(f"jobs/code/{SHA256}", content=CODE).status_code in (201, 204)
    made = guest.post("jobs", json={"manifest": SLEEP, "code": SHA256})
    assert made.status_code == 201 and made.json()["owner"] == GUEST
    assert [one["id"] for one in guest.get("jobs").json()["items"]] == [made.json()["id"]]
    assert guest.get(f"jobs/{theirs}").status_code == guest.delete(f"jobs/{theirs}").status_code == 403
    assert guest.get("jobs?owner=ann").status_code == 403
    assert guest.get(f"jobs/{made.json()['id']}/logs").status_code == 200
    scan = guest.post("scans", json={"manifest": SLEEP, "parameters": {"lr": [0.1, 0.2]}})
    assert scan.status_code == 201
    over = guest.post("jobs", json={"manifest": SLEEP})
    assert over.status_code == 403 and over.json()["limits"][0]["limit"] == "guest_jobs"
    assert guest.delete(f"scans/{scan.json()['id']}").status_code == 200
    assert guest.post(f"jobs/{made.json()['id']}/resubmit").status_code == 201
    assert guest.delete(f"jobs/{made.json()['id']}").json()["outcome"] == "cancelled"
    home = guest.get(app.url + PREFIX, headers={"Accept": "text/html"}).text
    assert f'href="{PREFIX}jobs"' in home
    listed = guest.get(app.url + PREFIX + "jobs?show=everybody&state=all", headers={"Accept": "text/html"}).text
    assert made.json()["id"] in listed and theirs not in listed and "Everybody" not in listed


def test_a_guest_s_groups_are_those_of_the_course(guest: httpx.Client) -> None:
    me = guest.get("me").json()
    assert json.dumps(me["groups"]) == json.dumps(["course-ml", "guests", "guests:gpu"])
