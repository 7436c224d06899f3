"""Scans over HTTP, on both databases."""

from __future__ import annotations

import csv
from dataclasses import replace
from typing import Any

import httpx
import pytest

from mlmp_spawner.rules.catalog import LimitRules, Limits
from mlmp_spawner.store import jobs as store
from mlmp_spawner.store.transaction import transaction
from tests.operations.conftest import NOW
from tests.web.harness import API, RunningApp
from tests.web.job_parts import SLEEP, begin, end
from tests.web.job_rows import Rows

LR = {"lr": [0.1, 0.01, 0.001]}
FILE = """\
profile: gpu
command: [sleep, "60"]
hours: 1
scan: {parameters: {lr: [0.1, 0.01]}, out: "r/{lr}"}
"""


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


def test_a_dry_run_says_what_the_limits_refuse(app: RunningApp, ann: httpx.Client, monkeypatch: pytest.MonkeyPatch):
    limited = app.site.catalog.model_copy(update={"limits": LimitRules(everybody=Limits(open_jobs=2))})
    monkeypatch.setattr(app.context, "site", replace(app.site, catalog=limited))
    refused = ann.post("scans?dry_run=1", json={"manifest": SLEEP, "parameters": LR})
    assert refused.status_code == 403 and "this asks for 3 more" in refused.json()["detail"]


@pytest.mark.parametrize("manifest", [FILE, {**SLEEP, "scan": {"parameters": {"lr": [0.1, 0.01]}, "out": "r/{lr}"}}])
def test_a_manifest_with_a_part_scan_says_all_of_it(ann: httpx.Client, manifest: Any):
    made = ann.post("scans", json={"manifest": manifest}).json()
    assert (made["size"], made["out"], made["name"]) == (2, "r/{lr}", "sleep")
    planned = ann.post("scans?dry_run=1", json={"manifest": manifest}).json()
    assert planned["manifest"]["command"] == ["sleep", "60"] and planned["scan"]["kind"] == "grid"
    again = ann.post("scans", json={"manifest": planned["manifest"], **planned["scan"]}).json()
    assert [row["parameters"] for row in again["rows"]] == [row["parameters"] for row in made["rows"]]
    twice = ann.post("scans", json={"manifest": manifest, "at_once": 2})
    assert twice.status_code == 400 and twice.json()["errors"][0]["field"] == "at_once"


@pytest.mark.parametrize(
    ("part", "told"),
    [
        ("{}", "'parameters' is missing"),
        ("{parameters: 3}", "scan.parameters"),
        ("{parameters: {x: [2024-01-01]}}", "is no value"),
        ("{parameters: [{x: 1}], samples: 2}", "scan.samples"),
        ("{parameters: {x: [1]}, at_once: 0}", "scan.at_once"),
        ("{parameters: {x: [1]}, kind: grid}", "scan.kind: unknown key"),
        ("[1]", "scan: must be keys"),
    ],
)
def test_a_part_scan_that_is_wrong_is_refused_with_what_is_wrong(ann: httpx.Client, part: str, told: str):
    refused = ann.post("scans", json={"manifest": f"profile: gpu\ncommand: [x]\nscan: {part}\n"})
    assert refused.status_code == 400 and told in refused.json()["detail"], refused.text


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({}, "parameters"),
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


def test_all_rows_are_one_table_that_runs_nothing_in_a_spreadsheet(app: RunningApp, ann: httpx.Client):
    made = make(ann, {"lr": [0.1, 0.01], "note": ["=cmd()"]})
    job = made["rows"][0]["job"]
    assert app.context.jobs
    measured = [(NOW, 1, {"loss": 0.5, "=1+1": 1.0, "lr": 7.0})]
    Rows(app, app.context.jobs).measured(begin(app.site, job, NOW), measured)
    answer = ann.get(f"scans/{made['id']}/results?format=csv")
    assert answer.headers["Content-Type"].startswith("text/csv")
    assert answer.headers["Content-Disposition"] == f'attachment; filename="scan-{made["id"]}.csv"'
    rows = list(csv.reader(answer.content.decode("utf-8-sig").splitlines()))
    assert rows[0] == ["row", "lr", "note", "state", "reason", "job", "'=1+1", "loss", "lr (measured)"]
    assert rows[1][:4] == ["1", "0.1", "'=cmd()", "starting"] and rows[1][6:] == ["1.0", "0.5", "7.0"]
    assert rows[2][3:] == ["queued", "", made["rows"][1]["job"], "", "", ""]
    found = ann.get(f"scans/{made['id']}/results").json()
    assert found["metrics"] == ["=1+1", "loss", "lr"] and len(found["rows"]) == 2
    assert ann.get(f"scans/{made['id']}/results", headers={"Accept": "text/csv"}).content == answer.content


def test_a_retry_that_is_repeated_is_answered_with_the_same(app: RunningApp, ann: httpx.Client):
    made = make(ann)
    end(app.site, begin(app.site, made["rows"][0]["job"], NOW), NOW, over=False)
    with transaction(app.site.engine) as connection:
        job = store.find(connection, made["rows"][0]["job"])
        assert job
        store.update_job(connection, job, ended_at=NOW, outcome="failed", reason="exit_status")
    key = {"Idempotency-Key": "once"}
    assert [ann.post(f"scans/{made['id']}/retry", headers=key).json()["retried"] for _ in range(2)] == [1, 1]
    assert ann.get(f"scans/{made['id']}").json()["counts"] == {"queued": 3}
