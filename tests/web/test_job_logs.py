"""What jobs print, over HTTP: in parts, and as it comes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from queue import Queue
from threading import Barrier, Thread
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlmp_spawner.errors import Unavailable
from mlmp_spawner.jobs.base import LogPart
from mlmp_spawner.operations.site import Site
from mlmp_spawner.units import MINUTE, to_iso
from mlmp_spawner.web.api.job_logs import NUMBERS, numbers, shown, whole
from mlmp_spawner.web.context import Jobs
from tests.operations.conftest import NOW
from tests.web.harness import PREFIX, RunningApp, until
from tests.web.job_parts import QuietBackend, begin, end, printed, submit


class Following:
    """A log that is followed: the events as they come."""

    def __init__(self) -> None:
        self._events: Queue[tuple[str, dict[str, Any], str] | None] = Queue()

    def take(self, answer: httpx.Response) -> None:
        """Reads what comes, until either side ends it."""
        fields: dict[str, str] = {}
        with suppress(httpx.HTTPError):
            for line in answer.iter_lines():
                name, _, value = line.partition(": ")
                if line:
                    fields[name] = value
                elif "event" in fields:
                    self._events.put((fields["event"], json.loads(fields["data"]), fields.get("id", "")))
                    fields = {}
        self._events.put(None)

    def next(self) -> tuple[str, dict[str, Any], str]:
        """The next event."""
        found = self._events.get(timeout=30)
        assert found is not None, "it ended"
        return found

    def text(self, length: int) -> str:
        """The next text, of so many characters."""
        found = ""
        while len(found) < length:
            event, data, _ = self.next()
            assert event == "log"
            found += data["text"]
        return found

    def over(self) -> bool:
        """Whether nothing more comes, since the other side has ended it."""
        return self._events.get(timeout=30) is None


@contextmanager
def follow(client: httpx.Client, job: str, **query: Any) -> Iterator[Following]:
    headers = query.pop("headers", {})
    following = Following()
    with client.stream("GET", f"jobs/{job}/logs/stream", params=query, headers=headers) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        Thread(target=following.take, args=(answer,), daemon=True).start()
        yield following


def test_a_log_is_read_in_parts_while_it_grows_and_after_the_end(site: Site, jobs: Jobs, ann: httpx.Client):
    id = submit(ann)["id"]
    empty = {"attempt": None, "start": 0, "end": 0, "size": 0, "complete": False, "cut": 0, "text": ""}
    assert ann.get(f"jobs/{id}/logs").json() == empty
    attempt = begin(site, id, NOW, started_at=NOW)
    printed(jobs, attempt, b"epoch 1\n" * 100)
    first = ann.get(f"jobs/{id}/logs?limit=80").json()
    assert (first["start"], first["end"], first["size"], first["complete"]) == (0, 80, 800, False)
    assert first["text"] == "epoch 1\n" * 10 and first["attempt"] == 1
    assert ann.get(f"jobs/{id}/logs?start=-16").json()["text"] == "epoch 1\nepoch 1\n"
    end(site, attempt, NOW + MINUTE)
    last = ann.get(f"jobs/{id}/logs?start=80").json()
    assert (last["end"], last["complete"]) == (800, True)
    assert ann.get(f"jobs/{id}/logs?attempt=2").status_code == 404
    assert ann.get(f"jobs/{id}/logs?limit=99999999").status_code == 400


def test_the_bytes_of_a_log_can_be_had_as_they_are(site: Site, jobs: Jobs, ann: httpx.Client):
    id = submit(ann)["id"]
    attempt = begin(site, id, NOW, started_at=NOW)
    printed(jobs, attempt, b"\xff\x00raw")
    answer = ann.get(f"jobs/{id}/logs?start=1", headers={"Accept": "text/plain"})
    assert answer.content == b"\x00raw" and answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    where = [answer.headers[f"X-MLMP-Log-{name}"] for name in ("Start", "End", "Size", "Complete", "Cut")]
    assert where == ["1", "5", "5", "false", "0"]


def test_each_attempt_has_a_log_of_its_own(site: Site, jobs: Jobs, ann: httpx.Client):
    id = submit(ann)["id"]
    for number in (1, 2):
        attempt = begin(site, id, NOW, started_at=NOW)
        printed(jobs, attempt, b"try %d" % number)
        end(site, attempt, NOW + MINUTE, over=False, reason="preempted")
    assert [ann.get(f"jobs/{id}/logs?attempt={n}").json()["text"] for n in (1, 2)] == ["try 1", "try 2"]
    assert ann.get(f"jobs/{id}/logs").json()["text"] == "try 2"


def test_a_log_is_followed_as_it_is_written_until_the_attempt_has_ended(site: Site, jobs: Jobs, ann: httpx.Client):
    id = submit(ann)["id"]
    with follow(ann, id) as following:  # it waits for the first attempt
        attempt = begin(site, id, NOW, started_at=NOW)
        printed(jobs, attempt, b"one\n")
        event, data, number = following.next()
        assert (event, data["text"], data["attempt"], number) == ("log", "one\n", 1, "1.4")
        printed(jobs, attempt, "zwei ü".encode()[:-1])  # half of a character
        assert following.text(5) == "zwei "
        printed(jobs, attempt, "ü".encode()[1:] + b"\n")
        assert following.text(2) == "ü\n"
        printed(jobs, attempt, b"last words")
        end(site, attempt, NOW + MINUTE, exit_status=0)
        assert following.text(10) == "last words"
        event, data, _ = following.next()
        assert event == "end" and following.over()
        assert data == {"attempt": 1, "reason": "succeeded", "exit_status": 0, "state": "ended",
                        "outcome": "succeeded"}  # fmt: skip


def test_who_follows_again_goes_on_where_he_was(site: Site, jobs: Jobs, ann: httpx.Client):
    id = submit(ann)["id"]
    attempt = begin(site, id, NOW, started_at=NOW)
    printed(jobs, attempt, b"0123456789")
    with follow(ann, id, headers={"Last-Event-ID": "1.4"}) as following:
        assert following.text(6) == "456789"
    with follow(ann, id, start=-3) as following:
        assert following.text(3) == "789"


def test_a_place_that_does_not_answer_just_now_only_delays_what_comes(site: Site, jobs: Jobs, ann: httpx.Client):
    id = submit(ann)["id"]
    attempt = begin(site, id, NOW, started_at=NOW)
    assert isinstance(jobs.backend, QuietBackend)
    jobs.backend.refusal = Unavailable("The cluster does not answer.")
    printed(jobs, attempt, b"here")
    assert ann.get(f"jobs/{id}/logs").status_code == 503
    with follow(ann, id) as following:
        jobs.backend.refusal = None
        assert following.text(4) == "here"


def test_following_a_job_that_never_ran_ends_with_it(ann: httpx.Client):
    id = submit(ann)["id"]
    with follow(ann, id) as following:
        ann.delete(f"jobs/{id}")
        event, data, _ = following.next()
        assert (event, data["attempt"], data["outcome"]) == ("end", None, "cancelled")


def test_when_the_service_stops_nobody_follows_any_longer(app: RunningApp, site: Site, jobs: Jobs, ann: httpx.Client):
    id = submit(ann)["id"]
    printed(jobs, begin(site, id, NOW, started_at=NOW), b"here")
    with follow(ann, id) as following:
        assert following.text(4) == "here"
        app.feed.end()
        assert following.over()
    until(lambda: not jobs.open)


def test_one_person_follows_so_many_logs_at_once_and_no_more(app: RunningApp, ann: httpx.Client, ben: httpx.Client):
    app.context.settings = type(app.context.settings)(rate=0, streams_per_user=1)
    id, other = submit(ann)["id"], submit(ben)["id"]
    with follow(ann, id):
        assert ann.get(f"jobs/{id}/logs/stream").status_code == 429
        with follow(ben, other):
            pass


@given(text=st.text(), cut=st.integers(0, 400))
def test_a_part_ends_with_a_whole_character_wherever_it_is_cut(text: str, cut: int):
    data = text.encode()[:cut]
    kept = whole(data)
    assert data[:kept].decode() == text[: len(data[:kept].decode())]
    assert len(data) - kept <= 3


@given(data=st.binary(max_size=200), cuts=st.lists(st.integers(1, 20), max_size=30))
def test_no_byte_of_a_log_is_lost_or_told_twice(data: bytes, cuts: list[int]):
    read, at = b"", 0
    for length in [*cuts, len(data) + 4]:
        while True:
            end = min(len(data), at + length + 3)
            part = shown(LogPart(data[at:end], at, end, len(data), complete=True), None)
            read += data[part.start : part.end]
            assert part.start == at and part.text == data[part.start : part.end].decode("utf-8", "replace")
            at = part.end
            if length < len(data) + 4 or at == len(data):
                break
    assert read == data


@pytest.mark.parametrize("path", ["", "/logs", "/logs/stream", "/metrics", "/manifest", "/code"])
def test_what_is_not_there_is_not_found(ann: httpx.Client, path: str):
    for id in ("AAAA", "aaaaaaaaaaaa", "%2e%2e", "x" * 400):
        assert ann.get(f"jobs/{id}{path}").status_code == 404


def test_what_a_job_measured_and_used_comes_as_points_of_all_attempts_or_of_one(
    site: Site, jobs: Jobs, ann: httpx.Client
):
    id = submit(ann, metrics=[{"pattern": "loss=(?P<loss>[0-9.]+) step=(?P<step>[0-9]+)"}])["id"]
    assert ann.get(f"jobs/{id}/metrics").json() == {"series": {}, "usage": {}}
    for number in (1, 2):
        attempt = begin(site, id, NOW, started_at=NOW)
        printed(jobs, attempt, b"loss=%d.5 step=%d\n" % (number, number))
        used = {"at": NOW + number, "step": None, "values": {"cpu": 1.5}}
        jobs.files.usage(attempt.id).write_text(f"{json.dumps(used)}\n")
        end(site, attempt, NOW + MINUTE, over=False, reason="preempted")
    found = ann.get(f"jobs/{id}/metrics").json()
    assert found["series"]["loss"] == {"steps": [1, 2], "values": [1.5, 2.5], "at": [None, None]}
    assert found["usage"]["cpu"]["values"] == [1.5, 1.5] and found["usage"]["cpu"]["at"][1] == to_iso(NOW + 2)
    assert ann.get(f"jobs/{id}/metrics?attempt=2").json()["series"]["loss"]["values"] == [2.5]
    assert ann.get(f"jobs/{id}/metrics?attempt=3").status_code == 404
    assert ann.get(f"jobs/{id}/metrics?attempt=none").status_code == 400


def test_numbers_that_no_calendar_and_no_json_has_are_left_out(site: Site, jobs: Jobs, ann: httpx.Client):
    id = submit(ann)["id"]
    attempt = begin(site, id, NOW, started_at=NOW)
    printed(jobs, attempt, b"")
    lines = [
        f'{{"at": {at}, "step": 1, "values": {{"x": {x}}}}}' for at, x in ((10**18, 1), (NOW, "NaN"), (-1, "1e999"))
    ]
    jobs.files.metrics(attempt.id).write_text("\n".join([*lines, "junk", ""]))
    assert ann.get(f"jobs/{id}/metrics").status_code == 200


def test_one_person_has_numbers_read_for_so_many_requests_and_others_for_theirs(
    app: RunningApp, jobs: Jobs, ann: httpx.Client
) -> None:
    id = submit(ann)["id"]
    jobs.open["numbers of ann"] = NUMBERS
    assert ann.get(f"jobs/{id}/metrics").status_code == 429
    del jobs.open["numbers of ann"]
    jobs.open["numbers of ben"] = NUMBERS
    assert ann.get(f"jobs/{id}/metrics").status_code == 200
    with app.client("ann-token", Accept="text/html") as client:
        jobs.open["numbers of ann"] = NUMBERS
        assert client.get(f"{app.url}{PREFIX}jobs/{id}").status_code == 429


async def test_reading_numbers_leaves_threads_for_all_else(app: RunningApp, jobs: Jobs) -> None:
    at_once = [0]
    most = []
    together = Barrier(2)

    def read_them() -> None:
        at_once[0] += 1
        most.append(at_once[0])
        together.wait(60)
        at_once[0] -= 1

    await asyncio.gather(*(numbers(app.context, jobs, f"user-{n}", read_them) for n in range(8)))
    assert len(most) == 8 and max(most) <= 2
