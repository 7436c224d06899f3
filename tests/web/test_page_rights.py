"""Who may see which page and send its form: every page against every kind of caller."""

from __future__ import annotations

import re

import httpx
import pytest
from tornado.web import RequestHandler

from mlmp_spawner.operations.courses import courses
from mlmp_spawner.operations.site import Actor
from mlmp_spawner.rules import course_yaml
from mlmp_spawner.web.pages import routes as pages
from tests.operations.conftest import NOW
from tests.web.callers import (
    ADMINS,
    BOOKERS,
    CALLERS,
    COURSE,
    COURSE_SEERS,
    LET_IN,
    OWNERS,
    PUBLIC_KEY,
    RUNNERS,
    SCAN,
    TEACHERS,
    THEMSELVES,
    booked,
    class_of,
    images,
)
from tests.web.harness import PREFIX, RunningApp
from tests.web.job_parts import begin, submit

__all__ = ["booked", "images"]

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
