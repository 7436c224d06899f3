"""Scans over HTTP, on both databases."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from mlmp_spawner.store import jobs as store
from mlmp_spawner.store.transaction import transaction
from tests.operations.conftest import NOW
from tests.web.harness import API, RunningApp
from tests.web.job_parts import SLEEP, begin, end
from tests.web.job_rows import Rows

LR = {"lr": [0.1, 0.01, 0.001]}


def make(person: httpx.Client, parameters: Any = LR, **more: Any) -> dict[str, Any]:
    answer = person.post("scans", json={"manifest": SLEEP, "parameters": parameters} | more)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def test_a_scan_is_answered_with_its_rows_and_can_be_read_there(ann: httpx.Client):
    answer = ann.post("scans", json={"manifest": SLEEP, "parameters": LR, "at_once": 2, "name": "rates"})
    body = answer.json()
    assert answer.status_code == 201 and answer.headers["Location"] == f"{API}scans/{body['id']}"
    assert (body["name"], body["size"], body["at_once"], body["counts"]) == ("rates", 3, 2, {"queued": 3})
    assert [row["parameters"] for row in body["rows"]] == [{"lr": 0.1}, {"lr": 0.01}, {"lr": 0.001}]
    assert ann.get(f"scans/{body['id']}").json() == body
    part = ann.get(f"scans/{body['id']}?start=1&limit=1").json()
    assert [row["row"] for row in part["rows"]] == [1] and part["next_start"] == 2
    listed = ann.get("scans").json()["items"]
    assert [one["id"] for one in listed] == [body["id"]] and listed[0]["rows"] == []
    command = ann.get(f"jobs/{body['rows'][0]['job']}").json()["manifest"]["command"]
    assert command == ["sleep", "60", "--lr", "0.1"]


def test_a_dry_run_tells_the_rows_and_submits_nothing(ann: httpx.Client):
    asked = {"manifest": SLEEP, "kind": "random", "samples": 5, "seed": 3, "parameters": {"x": {"from": 0, "to": 1}}}
    found = ann.post("scans?dry_run=1", json=asked)
    assert found.status_code == 200 and found.json()["size"] == 5
    assert found.json()["rows"] == ann.post("scans?dry_run=1", json=asked).json()["rows"]
    assert ann.get("scans").json() == {"items": []} and ann.get("jobs").json()["items"] == []


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"parameters": {"x": list(range(101)), "y": list(range(100))}}, "parameters"),
        ({"parameters": {"../x": [1]}}, "parameters"),
        ({"parameters": {"x": [1, 2]}, "out": "runs"}, "out"),
        ({"parameters": {"x": ["../.."]}, "out": "runs/{x}"}, "out"),
        ({"parameters": {"x": [1]}, "at_once": 0}, "at_once"),
        ({"parameters": {"x": [1]}, "kind": "random"}, "samples"),
        ({"parameters": [{"x": 1}]}, "parameters"),
    ],
)
def test_what_is_no_scan_is_refused_and_leaves_nothing(ann: httpx.Client, asked: dict[str, Any], field: str):
    refused = ann.post("scans", json={"manifest": SLEEP} | asked)
    assert refused.status_code == 400, refused.text
    assert field in [one["field"] for one in refused.json()["errors"]]
    assert ann.get("scans").json() == {"items": []}


def test_the_failed_are_retried_and_the_rest_is_cancelled(app: RunningApp, ann: httpx.Client):
    made = make(ann)
    first = made["rows"][0]["job"]
    end(app.site, begin(app.site, first, NOW), NOW, over=False)
    with transaction(app.site.engine) as connection:
        job = store.find(connection, first)
        assert job
        store.update_job(connection, job, ended_at=NOW, outcome="failed", reason="exit_status")
    assert ann.get(f"scans/{made['id']}").json()["counts"] == {"failed": 1, "queued": 2}
    again = ann.post(f"scans/{made['id']}/retry").json()
    assert again["retried"] == 1 and again["scan"]["counts"] == {"queued": 3}
    assert ann.get(f"scans/{made['id']}").json()["rows"][0]["job"] != first
    assert ann.post(f"scans/{made['id']}/retry").json()["retried"] == 0
    gone = ann.delete(f"scans/{made['id']}").json()
    assert gone["counts"] == {"cancelled": 3} and gone["cancelled_at"]
    assert ann.post(f"scans/{made['id']}/retry").status_code == 409


def test_what_the_rows_measured_last_is_their_owners_alone(app: RunningApp, ann: httpx.Client, admin: httpx.Client):
    made = make(ann)
    job = made["rows"][1]["job"]
    assert app.context.jobs
    measured = [(NOW, 1, {"loss": 2.0}), (NOW, 2, {"loss": 0.5})]
    Rows(app, app.context.jobs).measured(begin(app.site, job, NOW), measured)
    assert [row["metrics"] for row in ann.get(f"scans/{made['id']}").json()["rows"]] == [{}, {"loss": 0.5}, {}]
    assert [row["metrics"] for row in admin.get(f"scans/{made['id']}").json()["rows"]] == [{}, {}, {}]


def test_an_address_that_is_none_is_not_found(ann: httpx.Client):
    for one in ("nosuchscan1", "..%2Fx", "A"):
        assert ann.get(f"scans/{one}").status_code == 404
