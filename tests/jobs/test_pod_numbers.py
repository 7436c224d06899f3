"""Numbers that pods send: kept once, within bounds, as those of a job on one machine are."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlmp_spawner.errors import Unavailable
from mlmp_spawner.jobs import pod_numbers
from mlmp_spawner.jobs.files import JobFiles
from mlmp_spawner.jobs.metrics import measured, used
from mlmp_spawner.jobs.pod_numbers import RECENT, PodNumbers

NOW = 1_700_000_000_000
PLAIN: dict[str, Any] = {"metrics": []}


def metric(step: int, loss: Any = 0.5) -> dict[str, Any]:
    return {"at": NOW + step, "step": step, "values": {"loss": loss}}


def use(at: int = NOW, **values: Any) -> dict[str, Any]:
    return {"at": at, "used": values}


def body(*notes: Any) -> bytes:
    return b"".join(json.dumps(note).encode() + b"\n" for note in notes)


@pytest.fixture
def files(tmp_path: Path) -> JobFiles:
    made = JobFiles(tmp_path)
    made.prepare()
    return made


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []


def test_what_a_pod_sends_is_plotted_as_on_one_machine(files: JobFiles):
    PodNumbers(files).take("j-1", 0, body(metric(1), use(cpu=1.5, memory=4096), metric(2, 0.25)), now=NOW)
    assert measured(files, ["j-1"], PLAIN)["loss"].values == (0.5, 0.25)
    assert {name: one.values for name, one in used(files, ["j-1"]).items()} == {"cpu": (1.5,), "memory": (4096.0,)}
    assert files.metrics("j-1").stat().st_mode & 0o077 == 0


def test_what_comes_a_second_time_is_kept_once_also_after_a_restart(files: JobFiles):
    sent = body(metric(1), metric(2), use(cpu=1))
    PodNumbers(files).take("j-1", 0, sent, now=NOW)
    PodNumbers(files).take("j-1", 0, sent, now=NOW)
    PodNumbers(files).take("j-1", 0, body(metric(3)), now=NOW)
    assert [line["step"] for line in lines(files.metrics("j-1"))] == [1, 2, 3]
    assert len(lines(files.usage("j-1"))) == 1


def test_what_a_crash_cut_spoils_nothing_that_follows(files: JobFiles):
    PodNumbers(files).take("j-1", 0, body(metric(1)), now=NOW)
    with files.metrics("j-1").open("ab") as file:
        file.write(b'{"at": 17')
    PodNumbers(files).take("j-1", 0, body(metric(2)), now=NOW)
    assert measured(files, ["j-1"], PLAIN)["loss"].steps == (1, 2)


def test_what_several_workers_use_is_one_line_over_time(files: JobFiles):
    numbers = PodNumbers(files)
    numbers.take("j-1", 1, body(use(cpu=2, memory=100, gpu=50), use(cpu=3, memory=200, gpu=60)), now=NOW)
    assert lines(files.usage("j-1")) == [], "the first worker's clock is that of the lines"
    numbers.take("j-1", 0, body(use(NOW + 5, cpu=1, memory=1000, gpu=20)), now=NOW + 5000)
    numbers.take("j-2", 0, body(use(cpu=9)), now=NOW + 5000)
    together = {"cpu": 4.0, "memory": 1200.0, "gpu": 40.0}
    assert lines(files.usage("j-1")) == [{"at": NOW + 5, "step": None, "values": together}]


def test_a_worker_that_has_ended_counts_no_more(files: JobFiles):
    numbers = PodNumbers(files)
    numbers.take("j-1", 1, body(use(cpu=2)), now=NOW)
    numbers.take("j-1", 0, body(use(cpu=1)), now=NOW + RECENT)
    assert lines(files.usage("j-1"))[0]["values"] == {"cpu": 1.0}


@pytest.mark.parametrize(
    "line",
    [
        b"nonsense", b"[1]", b"1", b"", b"\xff", b"[" * 100_000, b'{"at": 1}', b'{"used": 1, "at": 1}',
        body(use(disk=3)), body(use(cpu=-1)), body(use(cpu=True)), body(use(cpu="1")), body(use(cpu=float("nan"))),
        body(use(cpu=float("inf"))), body({"used": {"cpu": 1}}), body(metric(1, "low")), body(metric(2**60)),
        body({**metric(1), "values": {"x" * 300_000: 1}}),
    ],
    ids=lambda line: line[:20],
)  # fmt: skip
def test_what_is_no_number_is_left_out(files: JobFiles, line: bytes):
    PodNumbers(files).take("j-1", 0, line + b"\n" + body(metric(1), use(cpu=1)), now=NOW)
    assert lines(files.metrics("j-1")) == [metric(1)]
    assert [one["values"] for one in lines(files.usage("j-1"))] == [{"cpu": 1.0}]


@given(st.lists(st.binary(max_size=300), max_size=5))
def test_whatever_comes_breaks_nothing(tmp_path_factory: pytest.TempPathFactory, sent: list[bytes]):
    files = JobFiles(tmp_path_factory.mktemp("jobs"))
    files.prepare()
    numbers = PodNumbers(files)
    for one in sent:
        numbers.take("j-1", 0, one, now=NOW)
    numbers.take("j-1", 0, body(metric(7)), now=NOW)
    assert measured(files, ["j-1"], PLAIN)["loss"].steps == (7,)


def test_no_program_fills_the_disk(files: JobFiles, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pod_numbers, "METRICS_LIMIT", 1000)
    monkeypatch.setattr(pod_numbers, "USAGE_LIMIT", 500)
    numbers = PodNumbers(files)
    for step in range(50):
        numbers.take("j-1", 0, body(metric(step), use(NOW + step, cpu=1)), now=NOW)
    assert 900 < files.metrics("j-1").stat().st_size <= 1000
    assert 400 < files.usage("j-1").stat().st_size <= 500
    assert lines(files.metrics("j-1"))[-1]["values"] == {"loss": 0.5}, "whole lines"


class Counting(PodNumbers):
    """Counts how often it looks at what the other workers use."""

    looks = 0

    def _others(self, attempt: str, worker: int, now: int) -> dict[str, tuple[float, int]]:
        self.looks += 1
        return super()._others(attempt, worker, now)


def test_thousands_of_lines_at_once_hold_up_nobody(files: JobFiles):
    numbers = Counting(files)
    for worker in range(1, 65):
        numbers.take("j-1", worker, body(use(cpu=1, gpu=100)), now=NOW)
    numbers.take("j-1", 0, body(*(use(NOW + at, cpu=2, gpu=35) for at in range(5000))), now=NOW)
    assert numbers.looks == 65, "once a request, not once a line"
    assert lines(files.usage("j-1"))[-1] == {"at": NOW + 4999, "step": None, "values": {"cpu": 66.0, "gpu": 99.0}}
    assert len(lines(files.usage("j-1"))) == 5000


def test_a_full_disk_is_told_so_that_it_is_sent_again(files: JobFiles):
    files.metrics("j-1").parent.mkdir()
    files.metrics("j-1").symlink_to("/dev/full")
    with pytest.raises(Unavailable):
        PodNumbers(files).take("j-1", 0, body(metric(1)), now=NOW)


def test_no_path_is_made_of_what_is_no_id(files: JobFiles):
    with pytest.raises(ValueError, match="form"):
        PodNumbers(files).take("../j-1", 0, body(metric(1)), now=NOW)


def test_workers_that_send_at_once_lose_nothing(files: JobFiles):
    numbers = PodNumbers(files)

    def send(rank: int) -> None:
        for step in range(50):
            numbers.take("j-1", 0, body(metric(1000 * rank + step)), now=NOW)

    threads = [threading.Thread(target=send, args=(rank,)) for rank in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(lines(files.metrics("j-1"))) == 200
