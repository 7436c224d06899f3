"""Every page there is, found by its route: nothing keeps anybody out, it fits a phone, no text becomes markup."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, expect
from tornado.web import RequestHandler

from mlmp_spawner.operations import changes, limit_settings, outages
from mlmp_spawner.operations.changes import Changes
from mlmp_spawner.operations.courses import classes, courses
from mlmp_spawner.operations.courses.term import ClassRequest
from mlmp_spawner.operations.limit_settings import Subject
from mlmp_spawner.rules import course_yaml
from mlmp_spawner.rules.catalog import Limits
from mlmp_spawner.rules.scans import Scan
from mlmp_spawner.store import scans
from mlmp_spawner.store.transaction import transaction
from mlmp_spawner.units import DAY, HOUR
from mlmp_spawner.web.pages import routes as pages
from tests.browser.played import AXE, booked, running, serious, settled
from tests.operations.conftest import NOW, ann, ben
from tests.operations.conftest import admin as root
from tests.web.harness import PREFIX, RunningApp
from tests.web.job_rows import Rows
from tests.web.test_page_rights import page_address
from tests.web.visitor import HOSTILE, images_on_nodes

SCAN = "scanofroot12"
LOOKS = [
    ("light", 1280),
    ("dark", 390),
    pytest.param("dark", 1280, marks=pytest.mark.faults),
    pytest.param("light", 390, marks=pytest.mark.faults),
]
MORE = [
    "admin/machines/gpu-a?bookings=move&start=&end=&reason=new+driver",
    "admin/limits?name=user:ann",
    "admin/audit?person=nobody",
    "bookings?show=past",
    "book?units=4&duration=48h",
    "book?units=2&duration=4h&node=*2&when=first",
    "jobs?show=everybody&state=all",
    "jobs/compare?job=done0xxxxxxx&job=done1xxxxxxx",
]
"""Pages as they are with a query."""


@pytest.fixture
def lived_in(app: RunningApp, tmp_path: Path) -> tuple[str, str, str]:
    """A site where something happened, with hostile words everywhere; the ids of a booking, a job and a class."""
    mine = booked(app, root, start=NOW + DAY, title=HOSTILE)
    running(app, booked(app, root, hours=2, units=2, title="thesis"))
    booked(app, ann, start=NOW + 3 * HOUR, hours=30, units=3, title=HOSTILE)
    gone = booked(app, root, start=NOW + 2 * DAY)
    changes.cancel(app.site, gone.id, actor=root, now=app.now, message=HOSTILE)
    changes.change(app.site, mine.id, Changes(end=mine.end + HOUR), actor=root, now=app.now)
    theirs = booked(app, ben, start=NOW + 4 * DAY)
    changes.cancel(app.site, theirs.id, actor=root, now=app.now, message=HOSTILE)
    outages.set_outages(
        app.site, "gpu-b", [outages.Wanted(NOW + 3 * DAY, None, HOSTILE)], actor=root, now=app.now, bookings="keep"
    )
    images_on_nodes(app)
    course = {"name": "ml", "title": HOSTILE, "profile": "gpu", "seats": 2, "students": ["ann", "x" * 200]}
    courses.apply(app.site, course_yaml.parse(course), actor=root, now=app.now)
    limits = Limits(units_at_once=6, hours_per_week=40.0)
    for subject in (Subject("everybody"), Subject("group", HOSTILE)):
        limit_settings.put(app.site, subject, limits, actor=root, now=app.now)
    lesson = classes.book(app.site, ClassRequest("ml", NOW + 10 * DAY, duration=HOUR), actor=root, now=app.now)
    return mine.id, jobs_of_an_admin(app, tmp_path), lesson.id


def jobs_of_an_admin(app: RunningApp, folder: Path) -> str:
    """One that waits, one that runs for the second time and has measured something, two that are over."""
    rows = Rows.of(app, folder)
    rows.add("root", name="waits")
    for number in range(2):
        done = rows.add(
            "root", name=f"done-{number}", id=f"done{number}xxxxxxx", manifest={"arguments": [str(number)]}
        )
        rows.measured(
            rows.attempt(done, ended_at=app.now, reason="succeeded"), [(NOW + n, n, {"loss": n}) for n in range(9)]
        )
        rows.end(done, outcome="succeeded" if number else "failed", reason="exit_status", message=HOSTILE)
    job = rows.add("root", name=HOSTILE, manifest={"environment": {"A": HOSTILE}}, group=HOSTILE)
    rows.attempt(job, ended_at=app.now, reason="preempted", message=HOSTILE, log=HOSTILE)
    again = rows.attempt(job, "gpu-b", log=f"{HOSTILE}\n" * 60)
    rows.measured(again, [(NOW + n, n, {HOSTILE: n, "loss": 1 / (n + 1)}) for n in range(30)])
    rows.used(again, [(NOW + n * 10_000, None, {"gpu": 90.0, "memory": 2.0**30}) for n in range(9)])
    with transaction(app.site.engine) as connection:
        values = ({"lr": 0.1, "opt": "a"}, {"lr": 0.01, "opt": "b"})
        mine = Scan(SCAN, "root", "rates", ("lr", "opt"), 2, values, job.owner_id, 1, NOW)
        scans.insert_scan(connection, mine)
    for place in range(2):
        one = rows.add("root", name=f"rates-{place}", batch=SCAN, place=place)
        rows.measured(rows.attempt(one, ended_at=app.now, reason="succeeded"), [(NOW, 1, {"loss": place + 1.0})])
        rows.end(one, outcome="succeeded" if place else "failed", reason="exit_status")
    return job.id


def addresses(booking: str, job: str, a_class: str = "") -> list[str]:
    """One of each route that shows a page; buttons that lead on to another and files are none."""
    found = []
    for pattern, handler, *_ in pages.routes():
        shows = getattr(handler, "get", None) is not RequestHandler._unimplemented_method
        if shows and "|" not in pattern and not pattern.endswith((".csv", "/change", "start", "/log")):
            found.append(page_address(pattern, booking, job, SCAN, a_class))
    return found


@pytest.mark.parametrize(("theme", "width"), LOOKS)
def test_every_page_is_for_everybody(
    app: RunningApp, lived_in: tuple[str, str, str], person: Callable[..., Page], theme: str, width: int
):
    if not AXE.exists():
        pytest.skip("axe-core is not installed: tools/npm.sh ci")
    page = person("admin-token", color_scheme=theme, viewport={"width": width, "height": 844}, bypass_csp=True)
    page.on("dialog", lambda dialog: pytest.fail("a script of a user ran"))
    for path in [*addresses(*lived_in), *MORE]:
        page.goto(app.url + PREFIX + path)
        expect(page.locator("h1")).not_to_be_empty()
        settled(page)
        assert urlsplit(page.url).path == PREFIX + path.partition("?")[0], "it is renewed from another page's address"
        for fold in page.locator("#mlmp details").all():
            fold.evaluate("fold => { fold.open = true; }")
        assert serious(page) == [], path
        over = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert over <= 0, f"{path} scrolls sideways at {width}"


def test_every_route_of_a_page_is_looked_at():
    some = {"", "book", "timeline", "bookings", "courses/ml", "admin", "admin/audit", "admin/machines/gpu-a", "jobs/y"}
    assert some <= set(addresses("x", "y"))


def test_the_navigation_of_a_phone_leads_everywhere(app: RunningApp, person: Callable[..., Page]):
    page = person("admin-token", viewport={"width": 390, "height": 844})
    page.get_by_role("button", name="Toggle navigation").click()
    page.get_by_role("link", name="Admin").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Machines")
    page.get_by_role("link", name="Audit log").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Audit log")


def test_a_moved_start_takes_the_end_with_it(app: RunningApp, person: Callable[..., Page]):
    found = booked(app, start=NOW + DAY, hours=2)
    page = person(path=f"bookings/{found.id}")
    page.locator("#change summary").click()
    page.locator("#change-start").fill("2027-01-16T15:00")
    page.locator("#change-start").press("Tab")
    expect(page.locator("#change-end")).to_have_value("2027-01-16T17:00")
    page.locator("#change-save").click()
    expect(page.locator("#done")).to_contain_text("Changed: A100, tomorrow 15:00 – 17:00")
    page.locator("#done").get_by_role("button", name="Undo").click()
    expect(page.locator("#done")).to_contain_text("tomorrow 09:00 – 11:00")


def test_a_refused_change_says_why_and_one_click_has_what_is_possible(app: RunningApp, person: Callable[..., Page]):
    found = booked(app, start=NOW + DAY, units=3)
    booked(app, ben, start=NOW + 2 * DAY, units=4)
    page = person(path=f"bookings/{found.id}")
    page.locator("#change summary").click()
    page.locator("#change-start").fill("2027-01-17T09:00")
    page.locator("#change-end").fill("2027-01-17T10:00")
    page.locator("#change-save").click()
    expect(page.locator("#refusal")).to_contain_text("at most 2 would be free all that time")
    page.locator("#refusal [data-kind=later]").click()
    expect(page.locator("#done")).to_contain_text("Changed: 3 × A100, Sun 10:00 – 11:00")
    assert changes.get(app.site, found.id).start == NOW + 2 * DAY + HOUR


def test_a_limit_is_said_before_one_clicks_with_a_way_to_stay_within_it(app: RunningApp, person: Callable[..., Page]):
    limit_settings.put(app.site, Subject("everybody"), Limits(hours_per_week=10.0), actor=root, now=app.now)
    page = person(path="book?duration=4h&units=2")
    expect(page.locator("#would")).to_contain_text("8 h of 10 h in 7 days (this adds 8 h)")
    page.locator("#units").select_option("4")
    expect(page.locator("#over")).to_contain_text("At most 10 hours in any 7 days")
    page.locator("#over a").click()
    expect(page.locator("#book")).to_contain_text("Book 4 × A100 for 2 h 30 min")
    page.locator("#book").click()
    expect(page.locator("[data-booking]")).to_contain_text("4 × A100")


def test_maintenance_is_previewed_and_stays_so_while_things_change(app: RunningApp, person: Callable[..., Page]):
    page = person("admin-token", path="admin/machines/gpu-a")
    page.locator("#outage-reason").fill("new driver")
    page.get_by_role("button", name="Show what that would do").click()
    expect(page.locator("#preview")).to_contain_text("No booking is hit")
    booked(app, ben, start=NOW + HOUR, units=4)
    expect(page.locator("#preview")).to_contain_text("loses its place and waits for another")
    page.locator("#confirm").click()
    expect(page.locator("#away ~ ul")).to_contain_text("new driver")
    page.get_by_role("button", name="End it now").click()
    expect(page.locator("#mlmp")).to_contain_text("takes bookings, and no maintenance is planned")
