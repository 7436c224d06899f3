"""Who may call what and see which page: every route against every kind of caller."""

from __future__ import annotations

import hashlib
import re

import httpx
import pytest
from tornado.web import RequestHandler

from mlmp_spawner.operations import ssh_keys
from mlmp_spawner.operations.courses import courses
from mlmp_spawner.operations.site import Actor
from mlmp_spawner.rules import course_yaml
from mlmp_spawner.store import guests
from mlmp_spawner.store.guests import Guest
from mlmp_spawner.store.transaction import transaction
from mlmp_spawner.units import HOUR, to_iso
from mlmp_spawner.web.api.table import TABLE
from mlmp_spawner.web.pages import routes as pages
from tests.operations.conftest import NOW
from tests.web.harness import GUEST, PREFIX, TOKENS, PlayedImages, RunningApp
from tests.web.job_parts import SLEEP, begin, submit

PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFZ/NjApOsAaTTRQGQiFxbHjDryfYzQkpSQ/Ust23aVj"

#: What a caller gets on a booking of ann's: `in` (answered), or the status of the refusal.
CALLERS = {
    "nobody": None,
    "unknown token": "no-such-token",
    "outsider": "outsider-token",  # may book, but is not let in to this service
    "reader": "reader-token",  # ann, let in, without the scope to book
    "owner": "ann-token",
    "owner's server": "server-token",
    "other": "ben-token",
    "instructor": "teacher-token",
    "foreign": "foreign-token",  # eve, with a scope that is filtered to ann
    "narrow admin": "narrow-admin-token",  # "admin": true, but without any admin scope
    "filtered admin": "filtered-admin-token",
    "admin": "admin-token",
    "hub admin": "hub-admin-token",
}
ANYBODY = dict.fromkeys(CALLERS, "in")
LET_IN = ANYBODY | {"nobody": 401, "unknown token": 401, "outsider": 403}
BOOKERS = LET_IN | {"reader": 403, "foreign": 403, "narrow admin": 403, "filtered admin": 403}
OWNERS = BOOKERS | {"other": 403, "instructor": 403}
ADMINS = dict.fromkeys(LET_IN, 403) | {"nobody": 401, "unknown token": 401, "admin": "in", "hub admin": "in"}
TEACHERS = ADMINS | {"instructor": "in"}
RUNNERS = TEACHERS | {"other": "in"}  # ben, whom the roster names, without the scope to make courses
SEERS = LET_IN | {"other": 403, "instructor": 403, "foreign": 403, "narrow admin": 403, "filtered admin": 403}
THEMSELVES = BOOKERS | {"owner's server": 403}  # what would outlive the server's token
ITS_OWNER = THEMSELVES | dict.fromkeys(("other", "instructor", "admin", "hub admin"), 404)  # others see none of it

ITS_READERS = SEERS | {"admin": 403, "hub admin": 403}  # nobody sees another's logs and files
THEIR_PODS = dict.fromkeys(CALLERS, 401)  # no token of the hub is one of theirs

COURSE_SEERS = LET_IN | dict.fromkeys(("foreign", "narrow admin", "filtered admin"), 404)  # ann and ben are in it

EXPECTED = {
    "GET courses": LET_IN,
    "POST courses": RUNNERS,
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
SCAN = {"manifest": SLEEP, "parameters": {"lr": [0.1, 0.01]}}
COURSE = {"name": "ml", "title": "ML", "profile": "gpu", "seats": 2, "instructors": ["ben"], "students": ["ann"]}
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
    "POST courses/{name}/classes": {"start": to_iso(NOW + 9 * HOUR), "duration": "1h", "seats": 1},
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

#: The pages, by method and pattern. A stranger is sent to the login (302); a form of a stranger is refused.
VISITORS = LET_IN | {"nobody": 302, "unknown token": 302}
TEACHING_VISITORS = TEACHERS | {"nobody": 302, "unknown token": 302}
RUNNING_VISITORS = RUNNERS | {"nobody": 302, "unknown token": 302}
BACK_TO_IT = THEMSELVES | {"nobody": 302, "unknown token": 302}  # to the page, which says whether they may
ADMIN_VISITORS = ADMINS | {"nobody": 302, "unknown token": 302}
ITS_VISITORS = VISITORS | dict.fromkeys(("other", "instructor", "foreign", "narrow admin", "filtered admin"), 404)
ITS_SENDERS = BOOKERS | {"other": 404, "instructor": 404}
JOB_VISITORS = VISITORS | dict.fromkeys(("other", "instructor", "foreign", "narrow admin", "filtered admin"), 403)
OF_BOOKINGS = VISITORS | {"reader": 403, "foreign": 403, "narrow admin": 403, "filtered admin": 403}
PAGES = {
    "GET ": VISITORS,
    "GET start": OF_BOOKINGS,
    "POST start": BOOKERS,
    "GET book": VISITORS,
    "POST book": BOOKERS,
    "GET timeline": VISITORS,
    "GET usage": VISITORS,
    "GET images": TEACHING_VISITORS,
    "POST images": TEACHERS,
    "GET ssh": OF_BOOKINGS,
    "POST ssh": THEMSELVES,
    "GET notices": VISITORS,
    "POST notices": LET_IN,
    "GET preferences": VISITORS,
    "POST preferences": THEMSELVES,
    "GET preferences/(test|calendar|revoke)": OF_BOOKINGS,
    "POST preferences/(test|calendar|revoke)": BOOKERS,
    "GET bookings": VISITORS,
    "GET bookings/([a-z0-9]+)": ITS_VISITORS,
    "GET bookings/([a-z0-9]+)/change": OF_BOOKINGS,
    "POST bookings/([a-z0-9]+)/change": ITS_SENDERS,
    "GET bookings/([a-z0-9]+)/(start|extend|cancel|stop)": OF_BOOKINGS,
    "POST bookings/([a-z0-9]+)/(start|extend|cancel|stop)": ITS_SENDERS,
    "GET courses": VISITORS,
    "GET new-course": TEACHING_VISITORS,
    "POST new-course": TEACHERS,
    "GET courses/([a-z0-9-]+)": COURSE_SEERS | {"nobody": 302, "unknown token": 302},
    "GET courses/([a-z0-9-]+)/guests": RUNNING_VISITORS,
    "POST courses/([a-z0-9-]+)/guests": RUNNERS,
    "GET courses/([a-z0-9-]+)/new-class": RUNNING_VISITORS,
    "POST courses/([a-z0-9-]+)/new-class": RUNNERS,
    "GET courses/([a-z0-9-]+)/classes/([a-z0-9]+)": RUNNING_VISITORS,
    "GET courses/([a-z0-9-]+)/classes/([a-z0-9]+)/(extend|message|servers)": BACK_TO_IT,
    "POST courses/([a-z0-9-]+)/classes/([a-z0-9]+)/(extend|message|servers)": RUNNERS,
    "GET courses/([a-z0-9-]+)/(settings|roster|remove)": BACK_TO_IT,
    "POST courses/([a-z0-9-]+)/(settings|roster|remove)": RUNNERS,
    "GET jobs": VISITORS,
    "GET jobs/compare": VISITORS,
    "GET jobs/([a-z0-9]+)": JOB_VISITORS,
    "GET jobs/([a-z0-9]+)/log": JOB_VISITORS | {"admin": 404, "hub admin": 404},
    "GET jobs/([a-z0-9]+)/(cancel|resubmit)": OF_BOOKINGS,
    "POST jobs/([a-z0-9]+)/(cancel|resubmit)": OWNERS,
    "GET scans": VISITORS,
    "GET scans/([a-z0-9]+)": JOB_VISITORS,
    "GET scans/([a-z0-9]+)/(cancel|retry)": OF_BOOKINGS,
    "POST scans/([a-z0-9]+)/(cancel|retry)": OWNERS,
    "GET admin": ADMIN_VISITORS,
    "GET admin/machines/([A-Za-z0-9][A-Za-z0-9._-]*)": ADMIN_VISITORS,
    "POST admin/machines/([A-Za-z0-9][A-Za-z0-9._-]*)": ADMINS,
    "GET admin/bookings": ADMIN_VISITORS,
    "GET admin/people": ADMIN_VISITORS,
    "GET admin/limits": ADMIN_VISITORS,
    "POST admin/limits": ADMINS,
    "GET admin/health": ADMIN_VISITORS,
    "GET admin/audit": ADMIN_VISITORS,
    r"GET admin/audit\.csv": ADMIN_VISITORS,
}
FORMS = {
    "POST ssh": {"step": "add", "key": PUBLIC_KEY},
    "POST book": {"profile": "gpu", "duration": "1h"},
    "POST start": {"duration:gpu": "1h"},
    "POST images": {"step": "preload", "image": "lab"},
    "POST bookings/([a-z0-9]+)/change": {"title": "changed"},
    "POST admin/limits": {"name": "user:ann", "units_at_once": "3"},
    "POST admin/machines/([A-Za-z0-9][A-Za-z0-9._-]*)": {"bookings": "keep", "reason": "test"},
}


@pytest.fixture(autouse=True)
def images(app: RunningApp) -> None:
    """The site is a cluster's, so that there are images to see."""
    app.context.images = PlayedImages()


@pytest.fixture
def booked(ann: httpx.Client) -> str:
    return ann.post("reservations", json={"profile": "gpu", "duration": "1h", "title": "ann's"}).json()["id"]


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


def class_of(app: RunningApp) -> str:
    """A class of the course that is there, by its id."""
    with app.client("admin-token") as client:
        made = client.post("courses/ml/classes", json=BODIES["POST courses/{name}/classes"])
        return str(made.json()["id"])


def test_every_call_has_its_row_here():
    assert {f"{row.method} {row.path}" for row in TABLE} == set(EXPECTED)


def test_every_page_has_its_rows_here():
    found = {
        f"{method} {pattern}"
        for pattern, handler, *_ in pages.routes()
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE")
        if getattr(handler, method.lower()) is not RequestHandler._unimplemented_method
    }
    assert found == set(PAGES)


def page_address(pattern: str, booked: str, job: str, scan: str, a_class: str = "") -> str:
    """An address that the pattern is for."""
    one = {"jobs": job, "scans": scan, "courses": a_class or booked}.get(pattern.partition("/")[0], booked)
    path = (
        pattern.replace("([a-z0-9-]+)", "ml")
        .replace("([a-z0-9]+)", one)
        .replace("([A-Za-z0-9][A-Za-z0-9._-]*)", "gpu-a")
    )
    return re.sub(r"\((\w+)\|[^)]*\)", r"\1", path).replace("\\.", ".")


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_who_may_see_a_page_or_send_its_form(method: str, app: RunningApp, booked: str, ann: httpx.Client):
    wrong = []
    job = submit(ann)["id"]
    begin(app.site, job, NOW)
    scan = ann.post("scans", json=SCAN).json()["id"]
    courses.apply(app.site, course_yaml.parse(COURSE), actor=Actor("root", admin=True), now=NOW)
    a_class = class_of(app)
    for caller, token in CALLERS.items():
        with app.client(token, Accept="text/html") as client:
            for call in (one for one in PAGES if one.startswith(f"{method} ")):
                address = app.url + PREFIX + page_address(call.partition(" ")[2], booked, job, scan, a_class)
                answer = client.request(method, address, data=FORMS.get(call))
                status, expected = answer.status_code, PAGES[call][caller]
                # After an owner gave it back the next one is told that it is over: let in, and refused for that alone.
                as_expected = status < 300 or status in (303, 400, 409) if expected == "in" else status == expected
                to_login = answer.headers.get("Location", "").startswith("/hub/api/oauth2/authorize")
                if not as_expected or to_login != (expected == 302):
                    wrong.append(f"{call} as {caller}: {status}, not {expected}")
    assert wrong == []


def test_who_is_no_admin_finds_no_way_to_the_admins_pages(app: RunningApp, booked: str):
    for caller, token in CALLERS.items():
        if PAGES["GET "][caller] != "in":
            continue
        with app.client(token, Accept="text/html") as client:
            page = client.get(app.url + PREFIX).text
        assert (f'href="{PREFIX}admin"' in page) == (PAGES["GET admin"][caller] == "in"), caller


def test_who_has_nothing_to_do_with_courses_finds_no_way_to_them(app: RunningApp, booked: str):
    courses.apply(app.site, course_yaml.parse(COURSE), actor=Actor("root", admin=True), now=NOW)
    for caller, token in CALLERS.items():
        if PAGES["GET "][caller] != "in":
            continue
        with app.client(token, Accept="text/html") as client:
            page = client.get(app.url + PREFIX).text
        assert (f'href="{PREFIX}courses"' in page) == (COURSE_SEERS[caller] == "in"), caller


def test_who_runs_no_course_finds_no_way_to_the_images(app: RunningApp, booked: str):
    for caller, token in CALLERS.items():
        if PAGES["GET "][caller] != "in":
            continue
        with app.client(token, Accept="text/html") as client:
            page = client.get(app.url + PREFIX).text
        assert (f'href="{PREFIX}images"' in page) == (PAGES["GET images"][caller] == "in"), caller


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
