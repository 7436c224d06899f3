"""Snapshots of code over HTTP: sent once, checked, kept within bounds, given back to nobody but their owner."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from urllib.parse import urlsplit

import httpx

from mlmp_spawner.operations.jobs import snapshots
from mlmp_spawner.operations.site import Site
from mlmp_spawner.units import DAY, MINUTE
from mlmp_spawner.web.context import Jobs
from tests.operations.conftest import NOW
from tests.web.harness import API, RunningApp, until
from tests.web.job_parts import CODE, SHA256, SLEEP, begin, end, submit


def send(client: httpx.Client, data: bytes = CODE) -> httpx.Response:
    return client.put(f"jobs/code/{hashlib.sha256(data).hexdigest()}", content=data)


def left_over(jobs: Jobs) -> list[str]:
    return [path.name for path in (jobs.files.root / "code").iterdir() if path.is_file()]


def test_what_was_sent_is_kept_and_a_job_can_run_from_it(ann: httpx.Client, jobs: Jobs):
    assert ann.head(f"jobs/code/{SHA256}").status_code == 404
    sent = send(ann)
    assert sent.status_code == 201 and sent.json() == {"sha256": SHA256, "size": len(CODE)}
    assert ann.head(f"jobs/code/{SHA256}").status_code == 200
    made = submit(ann, code=SHA256, command=None, script="train.py")
    assert made["code"] == SHA256
    back = ann.get(f"jobs/{made['id']}/code")
    assert back.content == CODE and back.headers["Content-Type"] == "application/gzip"
    assert send(ann).status_code == 201  # once more changes nothing
    assert left_over(jobs) == []


def test_what_is_larger_than_an_ordinary_body_comes_in_too(ann: httpx.Client, jobs: Jobs):
    jobs.code_limit = 4 << 20
    data = b"x" * (3 << 20)

    def pieces() -> Iterator[bytes]:  # without a length, so that it is sent in chunks
        for at in range(0, len(data), 1 << 16):
            yield data[at : at + (1 << 16)]

    sent = ann.put(f"jobs/code/{hashlib.sha256(data).hexdigest()}", content=pieces())
    assert sent.status_code == 201 and sent.json()["size"] == len(data)


def test_a_wrong_hash_is_refused_and_nothing_is_left(ann: httpx.Client, jobs: Jobs):
    wrong = ann.put(f"jobs/code/{'0' * 64}", content=CODE)
    assert wrong.status_code == 400 and SHA256 in wrong.json()["detail"]
    assert ann.put("jobs/code/..%2f..%2fetc", content=CODE).status_code == 400
    assert ann.put(f"jobs/code/{SHA256.upper()}", content=CODE).status_code == 400
    until(lambda: left_over(jobs) == [])


def test_too_much_is_refused_with_the_limit_with_and_without_a_length(ann: httpx.Client, jobs: Jobs):
    jobs.code_limit = 100_000
    data = b"x" * 200_000
    sha256 = hashlib.sha256(data).hexdigest()
    for content in (data, iter([data[:150_000], data[150_000:]])):
        refused = ann.put(f"jobs/code/{sha256}", content=content)
        assert refused.status_code == 403 and refused.json()["code"] == "over_limit"
        assert refused.json()["limits"][0]["allowed"] == 100_000
    until(lambda: left_over(jobs) == [] and not jobs.open)


def test_a_connection_that_breaks_leaves_nothing(app: RunningApp, ann: httpx.Client, jobs: Jobs):
    where = urlsplit(app.url)
    with socket.create_connection((where.hostname, where.port)) as raw:
        head = f"PUT {API}jobs/code/{SHA256} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ann-token\r\n"
        raw.sendall(f"{head}Content-Length: 50000\r\n\r\n".encode() + b"x" * 1000)
        until(lambda: left_over(jobs))
    until(lambda: left_over(jobs) == [] and not jobs.open)


def test_a_connection_stays_good_after_a_refusal(app: RunningApp, jobs: Jobs):
    address = urlsplit(app.url)
    assert address.hostname
    with closing(HTTPConnection(address.hostname, address.port or 80, timeout=30)) as connection:
        for path, method, status in (("x", "HEAD", 400), ("x", "PUT", 400), (SHA256, "HEAD", 404)):
            connection.request(method, f"{API}jobs/code/{path}", headers={"Authorization": "token ann-token"})
            refused = connection.getresponse()
            refused.read()
            assert refused.status == status
            socket_then = connection.sock
            connection.request("GET", f"{API}me", headers={"Authorization": "token ann-token"})
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 200 and connection.sock is socket_then, method


def test_another_ones_code_is_not_there_for_me(ann: httpx.Client, ben: httpx.Client, jobs: Jobs):
    send(ann)
    made = submit(ann, code=SHA256)
    assert ben.head(f"jobs/code/{SHA256}").status_code == 404
    refused = ben.post("jobs", json={"manifest": SLEEP, "code": SHA256})
    assert refused.status_code == 409 and "Send it again" in refused.json()["hint"]
    assert ben.get(f"jobs/{made['id']}/code").status_code == 403
    send(ben)
    assert ben.post("jobs", json={"manifest": SLEEP, "code": SHA256}).status_code == 201


def test_code_that_no_open_job_needs_makes_room_and_no_other(
    site: Site, ann: httpx.Client, admin: httpx.Client, jobs: Jobs
):
    assert admin.put("limits/user:ann", json={"job_logs": "2500B"}).status_code == 200
    first, second, third = (bytes([letter]) * 1000 for letter in b"abc")
    hashes = [hashlib.sha256(one).hexdigest() for one in (first, second, third)]
    assert send(ann, first).status_code == 201
    needed = submit(ann, code=hashes[0])
    assert send(ann, second).status_code == send(ann, third).status_code == 201
    kept = [ann.head(f"jobs/code/{one}").status_code for one in hashes]
    assert kept == [200, 404, 200]
    submit(ann, code=hashes[2])
    refused = send(ann, second)
    assert refused.status_code == 403 and refused.json()["limits"][0]["limit"] == "job_logs"
    end(site, begin(site, needed["id"], NOW), NOW + MINUTE)
    assert send(ann, second).status_code == 201
    gone = ann.post(f"jobs/{needed['id']}/resubmit")
    assert gone.status_code == 409 and ann.get(f"jobs/{needed['id']}/code").status_code == 404


def test_what_was_not_submitted_for_long_is_dropped_unless_a_job_needs_it(
    app: RunningApp, site: Site, ann: httpx.Client, jobs: Jobs
):
    send(ann)
    send(ann, b"other")
    submit(ann, code=SHA256)
    assert snapshots.drop_old(site, jobs.files, before=NOW + DAY) == 1
    assert ann.head(f"jobs/code/{SHA256}").status_code == 200
    assert ann.head(f"jobs/code/{hashlib.sha256(b'other').hexdigest()}").status_code == 404
