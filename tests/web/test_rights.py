"""Who may call what and see which page: every route against every kind of caller."""

from __future__ import annotations

import hashlib

import httpx
import pytest

from mlmp_spawner.operations import ssh_keys
from mlmp_spawner.operations.courses import courses
from mlmp_spawner.operations.site import Actor
from mlmp_spawner.rules import course_yaml
from mlmp_spawner.store import guests
from mlmp_spawner.store.guests import Guest
from mlmp_spawner.store.transaction import transaction
from mlmp_spawner.units import HOUR, to_iso
from mlmp_spawner.web.api.table import TABLE
from tests.operations.conftest import NOW
from tests.web.callers import (
    A_CLASS,
    ADMINS,
    ANYBODY,
    BOOKERS,
    CALLERS,
    COURSE,
    COURSE_SEERS,
    ITS_OWNER,
    ITS_READERS,
    LET_IN,
    OWNERS,
    PUBLIC_KEY,
    RUNNERS,
    SCAN,
    SEERS,
    TEACHERS,
    THEIR_PODS,
    THEMSELVES,
    booked,
    class_of,
    images,
)
from tests.web.harness import GUEST, TOKENS, RunningApp
from tests.web.job_parts import SLEEP, submit

__all__ = ["booked", "images"]

EXPECTED = {
    "GET courses": LET_IN,
    "POST courses": TEACHERS,
    "GET courses/{name}": COURSE_SEERS,
    "DELETE courses/{name}": RUNNERS,
    "GET courses/{name}/roster": RUNNERS,
    "POST courses/{name}/roster": RUNNERS,
    "GET courses/{name}/classes": COURSE_SEERS,
    "POST courses/{name}/classes": RUNNERS,
    "GET courses/{name}/classes/{id}": COURSE_SEERS,
    "DELETE courses/{name}/classes/{id}": RUNNERS,
    "POST courses/{name}/classes/{id}/extend": RUNNERS,
    "POST courses/{name}/classes/{id}/message": RUNNERS,
    "POST courses/{name}/classes/{id}/servers": RUNNERS,
    "GET courses/{name}/guests": RUNNERS,
    "POST courses/{name}/guests": RUNNERS,
    "DELETE courses/{name}/guests": RUNNERS,
    "DELETE courses/{name}/guests/{guest}": RUNNERS,
    "GET me": LET_IN,
    "GET catalog": LET_IN,
    "GET availability": LET_IN,
    "GET reservations": LET_IN,
    "POST reservations": BOOKERS,
    "GET reservations/{id}": LET_IN,
    "PATCH reservations/{id}": OWNERS,
    "DELETE reservations/{id}": OWNERS,
    "POST reservations/{id}/extend": OWNERS,
    "POST reservations/{id}/start": OWNERS,
    "POST reservations/{id}/stop": OWNERS,
    "GET reservations/{id}/history": SEERS,
    "GET nodes": LET_IN,
    "GET nodes/{name}/outages": LET_IN,
    "PUT nodes/{name}/outages": ADMINS,
    "GET series/{id}": SEERS,
    "GET limits": LET_IN,
    "GET limits/{name}": SEERS,
    "PUT limits/{name}": ADMINS,
    "DELETE limits/{name}": ADMINS,
    "GET timeline": LET_IN,
    "GET audit": ADMINS,
    "GET usage": LET_IN,
    "GET activity": ADMINS,
    "GET cluster": ADMINS,
    "GET images": TEACHERS,
    "POST images/{name}/preload": TEACHERS,
    "DELETE images/{name}/preload": TEACHERS,
    "GET stream": LET_IN,
    "GET me/courses": LET_IN,
    "GET me/notices": LET_IN,
    "POST me/notices/read": LET_IN,
    "GET me/preferences": LET_IN,
    "PUT me/preferences": THEMSELVES,
    "POST me/preferences/test": BOOKERS,
    "POST calendar-token": THEMSELVES,
    "DELETE calendar-token": THEMSELVES,
    "GET calendar.ics": dict.fromkeys(CALLERS, 404),  # the token of the address is the right
    "GET ssh": BOOKERS,
    "GET ssh-keys": BOOKERS,
    "POST ssh-keys": THEMSELVES,
    "DELETE ssh-keys/{id}": ITS_OWNER,
    "POST ssh-certificates": BOOKERS,
    "POST ssh-host-certificates": BOOKERS,
    "GET jobs": LET_IN,
    "POST jobs": BOOKERS,
    "GET jobs/{id}": LET_IN,
    "DELETE jobs/{id}": OWNERS,
    "POST jobs/{id}/resubmit": OWNERS,
    "GET jobs/{id}/manifest": SEERS,
    "GET jobs/{id}/logs": ITS_READERS,
    "GET jobs/{id}/logs/stream": ITS_READERS,
    "GET jobs/{id}/metrics": ITS_READERS,
    "GET jobs/{id}/code": ITS_READERS,
    "PUT jobs/code/{sha256}": BOOKERS,
    "HEAD jobs/code/{sha256}": BOOKERS,
    "GET pods/jobs/{attempt}/code": THEIR_PODS,
    "POST pods/jobs/{attempt}/metrics": THEIR_PODS,
    "GET scans": LET_IN,
    "POST scans": BOOKERS,
    "GET scans/{id}": SEERS,
    "GET scans/{id}/results": SEERS,
    "POST scans/{id}/retry": OWNERS,
    "DELETE scans/{id}": OWNERS,
    "GET health": ANYBODY,
    "GET metrics": ANYBODY,
    "GET openapi.json": ANYBODY,
    "GET docs": ANYBODY,
}
QUERIES = {"GET availability": {"profile": "gpu"}}
NOTHING = hashlib.sha256(b"").hexdigest()
NAMES = {
    "limits/{name}": "limits/user:ann",
    "nodes/{name}/outages": "nodes/gpu-a/outages",
    "jobs/code/{sha256}": f"jobs/code/{NOTHING}",
    "courses/{name}": "courses/ml",
    "courses/{name}/roster": "courses/ml/roster",
    "courses/{name}/classes": "courses/ml/classes",
    "courses/{name}/classes/{id}": "courses/ml/classes/{id}",
    "courses/{name}/classes/{id}/extend": "courses/ml/classes/{id}/extend",
    "courses/{name}/classes/{id}/message": "courses/ml/classes/{id}/message",
    "courses/{name}/classes/{id}/servers": "courses/ml/classes/{id}/servers",
    "courses/{name}/guests": "courses/ml/guests",
    "courses/{name}/guests/{guest}": f"courses/ml/guests/{GUEST}",
}
BODIES = {
    "POST courses": {"course": COURSE},
    "POST courses/{name}/roster": {"add": ["zoe"]},
    "POST courses/{name}/guests": {"count": 1, "until": to_iso(NOW + HOUR)},
    "POST courses/{name}/classes": A_CLASS,
    "POST courses/{name}/classes/{id}/extend": {"duration": "15m"},
    "POST courses/{name}/classes/{id}/message": {"text": "Break"},
    "POST courses/{name}/classes/{id}/servers": {"what": "stop"},
    "PUT nodes/{name}/outages": {"items": [{"start": to_iso(NOW + HOUR)}]},
    "POST images/{name}/preload": {},
    "PUT limits/{name}": {"units_at_once": 3},
    "POST reservations": {"profile": "gpu", "start": to_iso(NOW + 9 * HOUR), "duration": "1h"},
    "PATCH reservations/{id}": {"title": "changed"},
    "POST reservations/{id}/extend": {"duration": "10m"},
    "POST me/notices/read": {"up_to": 1},
    "POST ssh-keys": {"key": PUBLIC_KEY},
    "POST ssh-certificates": {"public_key": PUBLIC_KEY},
    "POST ssh-host-certificates": {"public_key": PUBLIC_KEY},
    "PUT me/preferences": {},
    "POST jobs": {"manifest": SLEEP},
    "POST scans": SCAN,
}


def _address(path: str, booked: str, ann: httpx.Client, app: RunningApp) -> str:
    if path.startswith("series/"):
        again = {"rrule": "FREQ=DAILY;COUNT=2", "zone": "UTC"}
        body = {"profile": "gpu", "start": to_iso(NOW + 30 * HOUR), "duration": "1h", "recurrence": again}
        booked = ann.post("reservations", json=body).json()["series"]
    if path.startswith("ssh-keys/"):
        booked = ann.get("ssh-keys").json()["items"][0]["id"]
    if path.startswith("jobs/{id}"):
        booked = submit(ann, code=NOTHING)["id"]
    if path.startswith("scans/"):
        booked = ann.post("scans", json=SCAN).json()["id"]
    if path.startswith("courses/{name}/classes/"):
        courses.apply(app.site, course_yaml.parse(COURSE), actor=Actor("root", admin=True), now=NOW)
        booked = class_of(app)
    return NAMES.get(path, path).replace("{id}", booked)


def test_every_call_has_its_row_here():
    assert {f"{row.method} {row.path}" for row in TABLE} == set(EXPECTED)


@pytest.mark.parametrize("call", EXPECTED)
def test_who_may(call: str, app: RunningApp, booked: str, ann: httpx.Client):
    method, path = call.split(" ")
    for name in ("ann", "ben", "root"):  # something to sign, for whoever may
        ssh_keys.add(app.site, name, PUBLIC_KEY, actor=Actor(name), now=NOW)
    if path.startswith("jobs/"):  # and code to run from
        for token in ("ann-token", "ben-token", "admin-token"):
            with app.client(token) as client:
                assert client.put(f"jobs/code/{NOTHING}").status_code == 201
    address = _address(path, booked, ann, app)
    for caller, token in CALLERS.items():
        if path.startswith("courses/"):  # there again, after somebody removed it
            courses.apply(app.site, course_yaml.parse(COURSE), actor=Actor("root", admin=True), now=NOW)
        if path.endswith("{guest}") and caller == "nobody":
            with transaction(app.site.engine) as connection:
                guests.add(connection, Guest(GUEST, "ml", NOW, NOW + HOUR, NOW + HOUR, entered_at=NOW))
        with app.client(token) as client:
            request = client.build_request(method, address, params=QUERIES.get(call), json=BODIES.get(call))
            answer = client.send(request, stream=True)
            answer.close()
        expected = EXPECTED[call][caller]
        if expected == "in":
            # After an owner gave it back the next one is told that it is over: let in, and refused for that alone.
            assert answer.status_code < 300 or answer.status_code == 409, f"{caller}: {answer.status_code}"
        else:
            assert answer.status_code == expected, f"{caller}: {answer.status_code}"


def test_a_refused_call_changes_nothing(app: RunningApp, booked: str, ann: httpx.Client):
    before = ann.get(f"reservations/{booked}").json()
    for caller, token in CALLERS.items():
        for call, outcome in EXPECTED.items():
            method, path = call.split(" ")
            if method == "GET" or outcome[caller] == "in":
                continue
            with app.client(token) as client:
                client.request(method, NAMES.get(path, path).replace("{id}", booked), json=BODIES.get(call))
    assert ann.get(f"reservations/{booked}").json() == before
    assert app.hub.asked == []


def test_admin_is_who_has_an_admin_scope_and_not_who_the_hub_calls_one(app: RunningApp):
    admins = {"admin-token", "hub-admin-token", "service-token"}
    for token, model in TOKENS.items():
        if token == "outsider-token":
            continue
        with app.client(token) as client:
            me = client.get("me").json()
        assert me["admin"] == (token in admins), token
        assert me["name"] == model["name"]


def test_a_service_books_for_somebody_or_not_at_all(app: RunningApp):
    with app.client("service-token") as robot:
        assert robot.post("reservations", json={"profile": "gpu"}).status_code == 400
        made = robot.post("reservations", json={"profile": "gpu", "owner": "ben"})
    assert made.status_code == 201 and made.json()["owner"] == "ben"


@pytest.mark.parametrize("fault", ["down", "forgetful"])
def test_who_was_known_lately_may_go_on_while_the_hub_or_its_database_is_away_and_nobody_else(
    app: RunningApp, ann: httpx.Client, fault: str
):
    assert ann.get("me").status_code == 200
    setattr(app.auth, fault, True)
    assert ann.get("me").status_code == 200
    with app.client("ben-token") as ben:
        stranger = ben.get("me")
    assert stranger.status_code == 503 and stranger.headers["Retry-After"]
    assert stranger.json()["code"] == "unavailable"
    setattr(app.auth, fault, False)
    with app.client("ben-token") as ben, app.client("made-up") as nobody:
        assert ben.get("me").status_code == 200
        assert nobody.get("me").status_code == 401
