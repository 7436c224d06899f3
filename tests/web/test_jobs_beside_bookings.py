"""Where bookings are shown over HTTP, jobs are shown as jobs, and nobody learns more of another's than of bookings."""

from __future__ import annotations

import httpx
import pytest

from mlmp_spawner.units import HOUR, to_iso
from tests.operations.conftest import NOW
from tests.operations.jobs.running import attempt_of, run_job
from tests.web.harness import PREFIX, RunningApp


def test_bookings_are_listed_without_jobs_and_jobs_where_they_are_asked_for(app: RunningApp, ann: httpx.Client):
    job = run_job(app.site, "gpu-b", now=NOW, owner="ben")
    mine = ann.post("reservations", json={"profile": "gpu"}).json()
    assert [one["id"] for one in ann.get("reservations").json()["items"]] == [mine["id"]]
    (found,) = ann.get("reservations", params={"kind": "job"}).json()["items"]
    assert (found["id"], found["kind"], found["owner"], found["title"]) == (job.reservation, "job", "ben", None)
    assert found["stops_at"] is None
    assert ann.get("reservations", params={"kind": "x"}).status_code == 400


def test_a_booking_takes_the_units_of_a_job_and_they_are_shown_as_free(app: RunningApp, ann: httpx.Client):
    job = run_job(app.site, "gpu-a", now=NOW, owner="ben", units=4)
    span = {"start": to_iso(NOW), "end": to_iso(NOW + 8 * HOUR)}
    assert ann.get("timeline", params=span).json()["summary"].startswith("6 of 6 free now")
    steps = ann.get("availability", params={"profile": "gpu", "node": "gpu-a", **span}).json()["nodes"][0]["steps"]
    assert [step["free"] for step in steps] == [4]
    body = {"profile": "gpu", "units": 4, "start": to_iso(NOW + HOUR), "duration": "1h"}
    assert ann.post("reservations", json=body).status_code == 201
    assert attempt_of(app.site, job).kill_at == NOW + HOUR
    (bar, booked) = sorted(ann.get("timeline", params=span).json()["bars"], key=lambda bar: bar["start"])
    assert (bar["kind"], bar["preemptible"], bar["end"], bar["title"]) == ("job", True, to_iso(NOW + HOUR), None)
    assert (booked["kind"], booked["preemptible"]) == ("session", False)


def test_what_a_job_holds_can_t_be_given_back_as_a_booking(app: RunningApp, ben: httpx.Client):
    job = run_job(app.site, "gpu-a", now=NOW, owner="ben")
    answer = ben.delete(f"reservations/{job.reservation}")
    assert answer.status_code == 409 and "Cancel the job" in answer.json()["hint"]
    assert attempt_of(app.site, job) == job


def test_the_page_of_what_a_job_holds_leads_to_the_job(app: RunningApp):
    job = run_job(app.site, "gpu-a", now=NOW, owner="ben")
    with app.client("ben-token", Accept="text/html") as client:
        answer = client.get(f"{app.url}{PREFIX}bookings/{job.reservation}")
    assert (answer.status_code, answer.headers["Location"]) == (302, f"{PREFIX}jobs/{job.job}")


@pytest.mark.parametrize("by", ["user", "profile"])
def test_the_report_counts_jobs_apart(app: RunningApp, admin: httpx.Client, ben: httpx.Client, by: str):
    run_job(app.site, "gpu-a", now=NOW, owner="ben", units=2)
    app.now = NOW + 2 * HOUR
    span = {"from": to_iso(NOW), "to": to_iso(app.now), "by": by}
    for client in (admin, ben):
        found = client.get("usage", params=span).json()
        assert (found["total"]["booked"], found["total"]["jobs"]) == (0, 4)
        assert found["utilisation"] == round(4 / 12, 4)
    with app.client("ben-token", Accept="text/html") as browser:
        text = browser.get(f"{app.url}{PREFIX}usage").text
    assert "Jobs had 4 h of the time that nobody booked." in text and "usage-jobs" in text


def test_a_node_that_is_taken_away_says_what_becomes_of_its_jobs(app: RunningApp, admin: httpx.Client):
    run_job(app.site, "gpu-a", now=NOW, owner="ben")
    items = [{"start": to_iso(NOW + HOUR), "end": to_iso(NOW + 2 * HOUR), "reason": "fans"}]
    found = admin.put("nodes/gpu-a/outages", json={"items": items}).json()
    assert [hit["outcome"] for hit in found["hits"]] == ["yielded"]
