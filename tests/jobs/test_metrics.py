"""What a job measured, read from the files of its attempts: not more of them than is good for the service."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlmp_spawner.jobs import metrics
from mlmp_spawner.jobs.files import JobFiles
from mlmp_spawner.jobs.metrics import MOST_READ, measured, used
from mlmp_spawner.rules.job_manifest import parse
from mlmp_spawner.rules.job_metrics import MOST_POINTS

MANIFEST = parse(
    {"profile": "gpu", "script": "a.py", "metrics": [{"pattern": r"s(?P<step>\d+) l=(?P<loss>\S+)"}, {
        "json_lines": "m.jsonl"}]}
).normal()  # fmt: skip


@pytest.fixture
def files(tmp_path: Path) -> JobFiles:
    made = JobFiles(tmp_path)
    for attempt in ("a-1", "a-2"):
        made.log(attempt).parent.mkdir(parents=True)
    return made


def test_log_and_lines_of_all_attempts_are_one(files: JobFiles) -> None:
    files.log("a-1").write_text("s1 l=5\ns2 l=4\ns3 l=3\n")
    files.log("a-2").write_text("going on at 3\ns3 l=3.5\n")
    files.metrics("a-2").write_text('{"at": 7, "step": 3, "values": {"lr": 0.1}}\n')
    found = measured(files, ["a-1", "a-2"], MANIFEST)
    assert (found["loss"].steps, found["loss"].values) == ((1, 2, 3), (5, 4, 3.5))
    assert found["lr"].at == (7,)
    assert measured(files, ["a-1"], MANIFEST)["loss"].values == (5, 4, 3)


def test_its_own_lines_win_over_its_log(files: JobFiles) -> None:
    files.log("a-1").write_text("s1 l=5\n")
    files.metrics("a-1").write_text('{"at": 7, "step": 1, "values": {"loss": 5.25}}\n')
    assert measured(files, ["a-1"], MANIFEST)["loss"].values == (5.25,)


def test_what_it_used_is_over_time(files: JobFiles) -> None:
    files.usage("a-1").write_text('{"at": 7, "step": null, "values": {"memory": 5}}\n')
    assert used(files, ["a-1", "a-2", "a-3"])["memory"].at == (7,)


def test_nothing_is_there_before_it_begins_or_once_it_is_dropped(files: JobFiles) -> None:
    assert measured(files, ["b-1"], MANIFEST) == {} == used(files, [])


def test_of_much_the_end_is_read(files: JobFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "MOST_READ", 1000)
    for attempt, first in (("a-1", 0), ("a-2", 500)):
        files.log(attempt).write_text("".join(f"s{n:04} l={n}\n" for n in range(first, first + 500)))
    assert measured(files, ["a-1", "a-2"], MANIFEST)["loss"].steps == tuple(
        range(1000 - 1000 // len("s0000 l=000\n"), 1000)
    )
    assert MOST_READ == 16 << 20


def test_a_file_of_the_most_that_is_read_is_read(files: JobFiles) -> None:
    line = '{"at": 1, "step": 1, "values": {"a": 1, "b": 2, "c": 3}}\n'
    files.metrics("a-1").write_text(line * (MOST_READ // len(line) + 10))
    assert len(measured(files, ["a-1"], MANIFEST)["c"].values) <= MOST_POINTS
