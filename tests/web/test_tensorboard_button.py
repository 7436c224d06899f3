"""The way from the pages of jobs and scans to TensorBoard in one's own server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.browser.played import booked, running
from tests.web.harness import PREFIX, RunningApp
from tests.web.job_parts import SLEEP
from tests.web.job_rows import Rows
from tests.web.visitor import Visitor, text

Visit = Callable[..., Visitor]


@pytest.fixture
def rows(app: RunningApp, tmp_path: Path) -> Rows:
    return Rows.of(app, tmp_path)


def scan_of(app: RunningApp) -> str:
    with app.client("ann-token") as client:
        answer = client.post("scans", json={"manifest": SLEEP, "parameters": {"lr": [0.1, 0.01]}})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def test_where_a_server_runs_the_button_leads_into_it(app: RunningApp, rows: Rows, visit: Visit):
    job = rows.add()
    rows.attempt(job)
    scan = scan_of(app)
    running(app, booked(app, start=app.now, hours=1))
    ann = visit()
    assert f'/user/ann/mlmp/tensorboard?job={job.id}"' in ann.get(f"jobs/{job.id}")
    assert f'/user/ann/mlmp/tensorboard?scan={scan}"' in ann.get(f"scans/{scan}")


def test_where_none_runs_it_says_so_and_offers_to_start_the_booked_one(app: RunningApp, rows: Rows, visit: Visit):
    job = rows.add()
    rows.attempt(job)
    found = booked(app, start=app.now, hours=1)
    page = visit().get(f"jobs/{job.id}")
    assert "none is running. Start it, then come back here." in text(page)
    assert f'action="{PREFIX}bookings/{found.id}/start"' in page


def test_without_a_booking_it_offers_to_book_one(rows: Rows, visit: Visit):
    job = rows.add()
    rows.attempt(job)
    assert "Book a server" in text(visit().get(f"jobs/{job.id}"))


def test_a_job_that_never_began_has_no_such_button(rows: Rows, visit: Visit):
    assert "TensorBoard runs in" not in text(visit().get(f"jobs/{rows.add().id}"))


def test_an_admin_is_not_led_to_somebody_elses_results(rows: Rows, visit: Visit):
    job = rows.add()
    rows.attempt(job)
    assert 'id="tensorboard"' not in visit("admin-token").get(f"jobs/{job.id}")
