"""What every answer has in common: headers, errors, limits, the log."""

from __future__ import annotations

import logging
import re
import socket

import httpx
import pytest

from mlmp_spawner.operations.site import Site
from mlmp_spawner.web.context import WebSettings
from tests.operations.conftest import NOW
from tests.web.harness import API, PREFIX, RunningApp, until


def problem(answer: httpx.Response) -> dict:
    assert answer.headers["Content-Type"] == "application/problem+json", answer.text
    body = answer.json()
    assert body["status"] == answer.status_code
    assert {"type", "title", "status", "detail", "code"} <= set(body)
    assert "Traceback" not in answer.text
    return body


@pytest.mark.parametrize("path", ["me", "nothing", "health", "reservations/abc", "docs", "../../static/none.js"])
def test_security_headers_are_on_every_answer(still: RunningApp, path: str):
    with still.client() as client:
        headers = client.get(path).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "same-origin"
    assert "Server" not in headers
    if "static" not in path:
        assert headers["Cache-Control"] == "no-store"
        assert "default-src 'none'" in headers["Content-Security-Policy"]


def test_what_does_not_exist_is_a_404_and_a_wrong_method_a_405_that_names_the_right_ones(app: RunningApp):
    with app.client() as client:
        assert problem(client.get("no/such"))["code"] == "not_found"
        assert problem(client.post(app.url + PREFIX + "nowhere"))["code"] == "not_found"
        assert problem(client.get(app.url + "/elsewhere"))["code"] == "not_found"
        refused = client.put("me", json={})
        assert problem(refused)["code"] == "method_not_allowed" and refused.headers["Allow"] == "GET, HEAD"
        assert client.request("BREW", "me").status_code == 405
        assert client.options("me").status_code == 405
        head = client.head("me")
        assert head.status_code == 200 and head.content == b""


@pytest.mark.parametrize(
    "id",
    ["x", "ABCDEFGH", "aaaaaaaa'--", "%00%00%00%00%00%00%00%00", "%ff%ff%ff%ff", "..%2f..%2fetc", "a" * 31, "ü" * 9],
)
def test_an_id_that_can_be_none_is_not_found(still: RunningApp, id: str):
    with still.client() as client:
        for method, call in (("GET", ""), ("DELETE", ""), ("GET", "/history"), ("POST", "/start")):
            assert client.request(method, f"reservations/{id}{call}").status_code in (400, 404)


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"{", "application/json", 400),
        (b"", "application/json", 400),
        (b"null", "application/json", 400),
        (b"[]", "application/json", 400),
        (b'"gpu"', "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b'{"profile": "a\\u0000b"}', "application/json", 400),
        (b'{"profile": "\\ud800"}', "application/json", 400),
        (b'{"\\udfff": 1}', "application/json", 400),
        (b'{"profile": "gpu", "units": NaN}', "application/json", 400),
        (b'{"profile": "gpu", "units": 1e999}', "application/json", 400),
        (b'{"profile": "gpu", "units": ' + b"9" * 5000 + b"}", "application/json", 400),
        (b'{"profile": "gpu", "units": 99999999999999999999999}', "application/json", 400),
        (b'{"profile": "gpu", "units": true}', "application/json", 400),
        (b'{"profile": "gpu", "units": 1.5}', "application/json", 400),
        (b'{"profile": "gpu", "title": "a\\nb"}', "application/json", 400),
        (b'{"profile": "gpu", "title": "' + b"x" * 201 + b'"}', "application/json", 400),
        (b'{"profile": "gpu", "start": 5}', "application/json", 400),
        (b'{"profile": "gpu", "start": "0001-01-01T00:00:00+14:00"}', "application/json", 400),
        (b'{"profile": "gpu", "start": "9999-12-31T23:59:59-14:00"}', "application/json", 400),
        (b'{"profile": "gpu", "duration": 3600}', "application/json", 400),
        (b'{"profile": "gpu", "duration": "999999999999d"}', "application/json", 400),
        (b'{"profile": "gpu", "duration": "0s"}', "application/json", 400),
        (b'{"profile": "gpu", "duration": "-1h"}', "application/json", 400),
        (b'{"profile": "gpu", "surprise": 1}', "application/json", 400),
        (b'{"profile": "nope"}', "application/json", 400),
        (b'{"profile": "gpu", "node": "nope"}', "application/json", 400),
        (b'{"profile": "gpu", "server": "../x"}', "application/json", 400),
        (b"[" * 60_000, "application/json", 400),
        (b'{"profile": "gpu"}', "text/plain", 415),
        (b"profile=gpu", "application/x-www-form-urlencoded", 415),
        (b"--x\r\nnonsense", "multipart/form-data; boundary=x", 400),
        (b'{"profile": "' + b"x" * 70_000 + b'"}', "application/json", 413),
    ],
    ids=lambda value: str(value)[:40],
)
def test_bad_input_is_the_clients_fault_and_books_nothing(still: RunningApp, body: bytes, kind: str, status: int):
    with still.client() as client:
        answer = client.post("reservations", content=body, headers={"Content-Type": kind})
        assert answer.status_code in ({status, 415} if kind.startswith("multi") else {status}), answer.text
        assert client.get("reservations").json()["items"] == []


@pytest.mark.parametrize(
    "query",
    [
        "profile=gpu&start=%ff",
        "profile=gpu&start=2027",
        "profile=gpu&start=2027-01-01T00:00:00",
        "profile=gpu&units=x",
        "profile=gpu&units=99999999999999999999",
        "profile=gpu&units=" + "9" * 5000,
        "profile=gpu&units=-1",
        "profile=gpu&profile=gpu",
        "profile=%00",
        "profile=gpu&end=2027-01-01T00:00:00Z&start=2028-01-01T00:00:00Z",
        "profile=gpu&start=2027-01-01T00:00:00Z&end=2029-01-01T00:00:00Z",
        "profile=gpu&surprise=1",
        "",
    ],
    ids=lambda query: query[:40],
)
def test_a_bad_query_is_a_400(still: RunningApp, query: str):
    with still.client() as client:
        answer = client.get(f"availability?{query}")
        assert answer.status_code == 400, answer.text
        problem(answer)


def test_each_wrong_field_is_named(app: RunningApp):
    with app.client() as client:
        body = problem(client.post("reservations", json={"units": 0, "start": "soon", "duration": "long"}))
    assert {error["field"] for error in body["errors"]} == {"profile", "units", "start", "duration"}
    assert all(error["message"] for error in body["errors"])


def test_a_body_far_too_large_is_refused_before_it_is_read(app: RunningApp):
    host, port = app.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        head = f"POST {API}reservations HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n"
        connection.sendall(head.encode())
        assert b" 400 " in connection.recv(1000).splitlines()[0]


def test_what_was_unforeseen_shows_a_number_and_the_log_the_rest(app: RunningApp, caplog: pytest.LogCaptureFixture):
    async def broken(*_: object) -> None:
        raise RuntimeError("secret\nINFO forged line")

    app.hub.start_server = broken  # type: ignore[assignment,method-assign]
    with app.client() as client, caplog.at_level(logging.ERROR):
        made = client.post("reservations", json={"profile": "gpu"}).json()
        answer = client.post(f"reservations/{made['id']}/start")
    assert answer.status_code == 500 and "secret" not in answer.text
    number = problem(answer)["instance"].rpartition(":")[2]
    (record,) = [r for r in caplog.records if number in r.getMessage()]
    assert "secret" in record.getMessage()
    assert not any(line.startswith("INFO forged") for line in record.getMessage().splitlines())


def test_the_log_has_no_query_no_line_breaks_and_the_caller(app: RunningApp, caplog: pytest.LogCaptureFixture):
    with app.client() as client, caplog.at_level(logging.DEBUG, logger="mlmp.web"):
        client.get("nothing%0aINFO%20forged?token=secret")
        client.get("me?token=secret")
        until(lambda: len(caplog.records) >= 2)  # the line follows the answer
    lines = [r.getMessage() for r in caplog.records if r.name == "mlmp.web"]
    assert len(lines) == 2 and not any("secret" in line or "\n" in line for line in lines)
    assert re.fullmatch(r'200 GET /services/mlmp/api/v1/me "ann" [0-9.]+ ms', lines[1])


def test_who_is_too_fast_is_told_when_to_go_on_and_others_are_not_held_up(site: Site):
    with (
        RunningApp(site, NOW, WebSettings(rate=1, burst=5)) as app,
        app.client() as ann,
        app.client("ben-token") as ben,
    ):
        answers = [ann.get("me") for _ in range(8)]
        assert [a.status_code for a in answers[:5]] == [200] * 5
        refused = answers[-1]
        assert refused.status_code == 429 and int(refused.headers["Retry-After"]) >= 1
        assert problem(refused)["code"] == "too_many_requests"
        assert ben.get("me").status_code == 200


def test_health_and_metrics_tell_nothing_about_people(app: RunningApp, ann: httpx.Client):
    ann.post("reservations", json={"profile": "gpu", "title": "private title"})
    with app.client(None) as nobody:
        health = nobody.get("health")
        assert health.status_code == 200 and health.json()["database"] is True
        text = nobody.get("metrics").text
    assert 'mlmp_requests_total{method="POST",route="reservations",status="201"} 1.0' in text
    assert "ann" not in text and "private" not in text


def test_a_token_may_be_anything_and_is_still_only_refused(still: RunningApp):
    for token in ("x" * 5000, "ü\xff", "a b", "'; drop", "none"):
        with still.client(None) as client:
            answer = client.get("me", headers={b"Authorization": b"Bearer " + token.encode("latin-1")})
            assert answer.status_code == 401 and answer.headers["WWW-Authenticate"].startswith("Bearer")
