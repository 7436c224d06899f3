"""The calls of a job's pods: their own code, and their own numbers, by a token that is good for nothing else."""

from __future__ import annotations

import json
import logging
from typing import Any

import httpx
import pytest

from mlmp_spawner.operations.site import Site
from mlmp_spawner.rules.jobs import Attempt
from mlmp_spawner.throttle import Throttle
from mlmp_spawner.units import MINUTE
from mlmp_spawner.web.api.job_pods import AT_ONCE, LARGEST_NUMBERS, LAST_NUMBERS
from mlmp_spawner.web.context import Jobs
from tests.operations.conftest import NOW
from tests.web.harness import RunningApp, until
from tests.web.job_parts import CODE, SHA256, begin, end, submit

LINES = [
    {"at": NOW, "step": 1, "values": {"loss": 0.5}},
    {"at": NOW, "used": {"cpu": 1.5, "memory": 4096}},
    {"at": NOW + 1000, "step": 2, "values": {"loss": 0.25}},
]
BODY = b"".join(json.dumps(line).encode() + b"\n" for line in LINES)


@pytest.fixture
def attempt(site: Site, ann: httpx.Client) -> Attempt:
    """One of a job of ann's, under way."""
    ann.put(f"jobs/code/{SHA256}", content=CODE)
    job = submit(ann, code=SHA256, command=None, script="train.py")
    return begin(site, job["id"], NOW)


def call(app: RunningApp, method: str, path: str, token: str | None, **more: Any) -> httpx.Response:
    """As a pod calls: with a header, and nothing of a login."""
    headers = {} if token is None else {"Authorization": f"token {token}"}
    with app.client(None) as client:
        return client.request(method, f"pods/jobs/{path}", headers=headers, **more)


def code(app: RunningApp, attempt: str, token: str | None) -> httpx.Response:
    return call(app, "GET", f"{attempt}/code", token)


def send(app: RunningApp, attempt: str, token: str | None, body: bytes = BODY, **query: Any) -> httpx.Response:
    return call(app, "POST", f"{attempt}/metrics", token, content=body, params=query)


def test_a_pod_fetches_its_code(app: RunningApp, jobs: Jobs, attempt: Attempt):
    answer = code(app, attempt.id, jobs.tokens.make(attempt.id))
    assert answer.status_code == 200 and answer.content == CODE
    assert answer.headers["Content-Type"] == "application/gzip"


def test_what_pods_send_is_shown_as_that_of_any_job(app: RunningApp, jobs: Jobs, attempt: Attempt, ann: httpx.Client):
    token = jobs.tokens.make(attempt.id)
    for _ in range(2):  # its answer was lost
        assert send(app, attempt.id, token).status_code == 204
    found = ann.get(f"jobs/{attempt.job}/metrics").json()
    assert found["series"]["loss"]["values"] == [0.5, 0.25] and found["series"]["loss"]["steps"] == [1, 2]
    assert {name: one["values"] for name, one in found["usage"].items()} == {"cpu": [1.5], "memory": [4096.0]}


def test_numbers_that_come_all_the_time_do_not_fill_the_log(
    app: RunningApp, jobs: Jobs, attempt: Attempt, caplog: pytest.LogCaptureFixture
):
    def told() -> list[str]:
        return [one.getMessage() for one in caplog.records if "/metrics" in one.getMessage()]

    with caplog.at_level(logging.INFO, "mlmp.web"):
        send(app, attempt.id, jobs.tokens.make(attempt.id))
        send(app, attempt.id, "0" * 64)
        until(told)  # what is answered is written down afterwards, one after the other
    (line,) = told()
    assert line.startswith("40")


def test_workers_are_told_apart(app: RunningApp, jobs: Jobs, site: Site, ann: httpx.Client):
    attempt = begin(site, submit(ann, workers=2)["id"], NOW)
    token = jobs.tokens.make(attempt.id)
    for worker in ("1", "0"):
        body = json.dumps({"at": NOW, "used": {"cpu": 2}}).encode()
        assert send(app, attempt.id, token, body, worker=worker).status_code == 204
    assert ann.get(f"jobs/{attempt.job}/metrics").json()["usage"]["cpu"]["values"] == [4.0]


@pytest.mark.parametrize("query", [{"worker": "x"}, {"worker": "-1"}, {"worker": "1"}, {"other": "1"}])
def test_a_worker_is_the_number_of_one_that_the_job_has(
    app: RunningApp, jobs: Jobs, attempt: Attempt, query: dict[str, str]
):
    assert send(app, attempt.id, jobs.tokens.make(attempt.id), **query).status_code == 400


@pytest.mark.parametrize("token", [None, "ann-token", "admin-token", "0" * 64])
def test_no_other_token_opens_it(app: RunningApp, jobs: Jobs, attempt: Attempt, token: str | None):
    assert code(app, attempt.id, token).status_code == 401
    assert send(app, attempt.id, token).status_code == 401
    assert not jobs.files.metrics(attempt.id).exists()


def test_the_token_of_one_attempt_is_not_that_of_another(
    app: RunningApp, jobs: Jobs, site: Site, attempt: Attempt, ann: httpx.Client
):
    other = begin(site, submit(ann)["id"], NOW)
    assert code(app, attempt.id, jobs.tokens.make(other.id)).status_code == 401
    assert send(app, other.id, jobs.tokens.make(attempt.id)).status_code == 401


def test_the_token_opens_nothing_else(app: RunningApp, jobs: Jobs, attempt: Attempt):
    token = jobs.tokens.make(attempt.id)
    with app.client(token) as client:
        for path in ("jobs", "me", f"jobs/{attempt.job}", f"jobs/{attempt.job}/code", f"jobs/{attempt.job}/logs"):
            assert client.get(path).status_code == 401


@pytest.mark.parametrize("name", ["x", "-1", "..-1", "abc-0", "a" * 100 + "-1", "abc-1-1"])
def test_what_is_no_attempt_is_none_whoever_made_a_token_for_it(app: RunningApp, jobs: Jobs, name: str):
    assert code(app, name, jobs.tokens.make(name)).status_code == 401


def test_an_attempt_that_has_not_begun_has_nothing(app: RunningApp, jobs: Jobs, attempt: Attempt):
    for one in (f"{attempt.job}-2", "nosuchjob-1"):
        assert code(app, one, jobs.tokens.make(one)).status_code == 404
        assert send(app, one, jobs.tokens.make(one)).status_code == 404
        assert not jobs.files.metrics(one).parent.exists()


def test_the_last_numbers_come_after_the_end_and_then_no_more(
    app: RunningApp, jobs: Jobs, site: Site, attempt: Attempt
):
    end(site, attempt, NOW + MINUTE)
    token = jobs.tokens.make(attempt.id)
    assert code(app, attempt.id, token).status_code == 404
    app.now = NOW + MINUTE + LAST_NUMBERS - 1
    assert send(app, attempt.id, token).status_code == 204
    app.now += 1
    assert send(app, attempt.id, token).status_code == 404


def test_a_job_without_code_has_none_to_fetch(app: RunningApp, jobs: Jobs, site: Site, ann: httpx.Client):
    one = begin(site, submit(ann)["id"], NOW)
    assert code(app, one.id, jobs.tokens.make(one.id)).status_code == 404


def test_too_much_at_once_is_refused(app: RunningApp, jobs: Jobs, attempt: Attempt):
    token = jobs.tokens.make(attempt.id)
    assert send(app, attempt.id, token, b"x" * (LARGEST_NUMBERS + 1)).status_code == 413
    jobs.pods = Throttle(0.001, 1)
    assert send(app, attempt.id, token).status_code == 204
    refused = send(app, attempt.id, token)
    assert refused.status_code == 429 and int(refused.headers["Retry-After"]) > 0
    jobs.pods = Throttle(0, 1)
    jobs.open[f"code of {attempt.id}"] = AT_ONCE
    assert code(app, attempt.id, token).status_code == 429


def test_short_lines_without_end_are_refused_before_they_are_read(app: RunningApp, jobs: Jobs, attempt: Attempt):
    token, body = jobs.tokens.make(attempt.id), b"{}\n" * (LARGEST_NUMBERS // 3)
    assert send(app, attempt.id, token, body).status_code == 204, "as many as there may be at once, but not again"
    refused = send(app, attempt.id, token, body)
    assert refused.status_code == 429 and int(refused.headers["Retry-After"]) > 0
    assert "lines" in refused.json()["detail"]


def test_where_there_are_no_jobs_no_pod_gets_anything(app: RunningApp, jobs: Jobs, attempt: Attempt):
    token = jobs.tokens.make(attempt.id)
    app.context.jobs = None
    assert code(app, attempt.id, token).status_code == send(app, attempt.id, token).status_code == 409


def test_where_jobs_were_switched_off_those_that_still_run_are_served(app: RunningApp, jobs: Jobs, attempt: Attempt):
    token = jobs.tokens.make(attempt.id)
    app.context.jobs, app.context.former_jobs = None, jobs
    assert code(app, attempt.id, token).status_code == 200
    assert send(app, attempt.id, token).status_code == 204
