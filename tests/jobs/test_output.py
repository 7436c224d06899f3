"""What a job prints and notes fills no disk, and what it notes is nothing but numbers and how it ended."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlmp_spawner.jobs import output as job_output
from mlmp_spawner.jobs.output import TAIL, Log, Notes

MARKS = 300
"""Bytes that our own lines take at the most."""


class Place:
    """Files to write to, emptied for each example."""

    def __init__(self, folder: Path) -> None:
        self.path, self.cut = folder / "file", folder / "cut"
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND
        self.file, self.cut_file = os.open(self.path, flags), os.open(self.cut, flags)

    def log(self, limit: int) -> Log:
        for file in (self.file, self.cut_file):
            os.ftruncate(file, 0)
        return Log(self.file, self.cut_file, limit)

    def notes(self, limit: int = 1 << 20) -> Notes:
        os.ftruncate(self.file, 0)
        return Notes(self.file, limit)

    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.path.read_text().splitlines()]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    made = Place(tmp_path_factory.mktemp("output"))
    yield made
    os.close(made.file)
    os.close(made.cut_file)


@given(pieces=st.lists(st.integers(0, 3 * TAIL), max_size=8), limit=st.integers(0, 4 * TAIL))
def test_a_log_has_its_beginning_and_its_end_and_says_what_is_missing(
    place: Place, pieces: list[int], limit: int
) -> None:
    whole = b"".join(bytes([97 + number % 26]) * size for number, size in enumerate(pieces))
    log, at = place.log(limit), 0
    for size in pieces:
        log.add(whole[at : at + size])
        at += size
    log.end()
    kept, cut = place.path.read_bytes(), int(place.cut.read_bytes() or b"0")
    room = max(0, limit - TAIL)
    assert len(kept) <= max(limit, TAIL) + MARKS
    assert kept.startswith(whole[:room]) and kept.endswith(whole[room:][-TAIL:])
    assert cut == max(0, len(whole) - room - TAIL)
    if len(whole) <= room:
        assert kept == whole


def test_its_last_line_is_one_that_can_be_shown(place: Place) -> None:
    log = place.log(1 << 20)
    log.add(b"Traceback\n\x1b[31mValueError: \x07no such data\x1b[0m\n\n  \n")
    assert log.last_line() == "ValueError: no such data"
    assert place.log(1 << 20).last_line() == ""


def test_a_disk_that_is_full_holds_up_nobody() -> None:
    with open("/dev/full", "ab", buffering=0) as full:
        log = Log(full.fileno(), full.fileno(), 1 << 20)
        log.add(b"printed\n")
        log.end()
        assert log.last_line() == "printed"


def good(**changed: Any) -> dict[str, Any]:
    return {"at": 1_000, "step": 3, "values": {"loss": 0.5}} | changed


def test_metrics_are_kept_as_numbers(place: Place) -> None:
    notes = place.notes()
    text = json.dumps(good(values={"loss": 0.5, "name": "x", "list": [1], "flag": True, "n": 2})).encode() + b"\n"
    notes.add(text[:7])
    notes.add(text[7:] + json.dumps(good(step=None)).encode() + b"\n")
    assert place.lines() == [
        {"at": 1000, "step": 3, "values": {"loss": 0.5, "n": 2.0}},
        {"at": 1000, "step": None, "values": {"loss": 0.5}},
    ]


@pytest.mark.parametrize(
    "note",
    [
        b"nonsense", b"[1]", b"1", b"[" * 100_000, b"\xff\xfe", b'{"at": 1}',
        *(json.dumps(good(**wrong)).encode() for wrong in (
            {"at": "1"}, {"at": -1}, {"at": 2**60}, {"at": True}, {"step": 1.5}, {"step": 2**70}, {"values": [1]},
            {"values": {}}, {"values": {"loss": "low"}}, {"values": {"loss": 10**400}},
        )),
        json.dumps(good(values={"x" * 300_000: 1})).encode(),
    ],
    ids=lambda note: note[:20],
)  # fmt: skip
def test_what_is_no_metric_is_dropped(place: Place, note: bytes) -> None:
    notes = place.notes()
    notes.add(note + b"\n" + json.dumps(good()).encode() + b"\n")
    assert place.lines() == [good()]


@given(st.binary(max_size=2_000), st.lists(st.integers(0, 2_000), max_size=6))
def test_whatever_is_noted_nothing_breaks(place: Place, data: bytes, cuts: list[int]) -> None:
    notes = place.notes()
    for begin, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(data)], strict=True):
        notes.add(data[begin:end])
    notes.add(b"\n" + json.dumps(good()).encode() + b"\n")
    assert place.lines()[-1] == good()


def test_a_line_without_end_takes_no_memory(place: Place) -> None:
    notes = place.notes()
    for _ in range(40):
        notes.add(b"x" * 65_536)
    assert len(notes._rest) <= job_output.LONGEST_NOTE + 65_536
    notes.add(b"\n" + json.dumps(good()).encode() + b"\n")
    assert place.lines() == [good()]


def test_metrics_have_a_limit(place: Place) -> None:
    notes = place.notes(limit=1_000)
    for _ in range(100):
        notes.add(json.dumps(good()).encode() + b"\n")
    assert 900 < place.path.stat().st_size <= 1_000


@pytest.mark.parametrize(
    ("note", "kept"),
    [
        ({"exit_status": 3}, {"exit_status": 3}),
        ({"signal": 9}, {"signal": 9}),
        ({"exit_status": 300, "signal": 0}, {}),
        ({"exit_status": True}, {}),
        ({"reason": "start", "message": "a\nb\x1b[1mc" + "x" * 900}, {"reason": "start"}),
        ({"reason": "preempted"}, {}),  # that would be tried again for free
    ],
)
def test_how_it_ended_is_taken_as_far_as_it_can_be(place: Place, note: dict[str, Any], kept: dict[str, Any]) -> None:
    notes = place.notes()
    notes.add(json.dumps({"ended": note}).encode() + b"\n")
    message = notes.ended.pop("message", "")
    assert notes.ended == kept
    assert "\n" not in message and len(message) <= job_output.LONGEST_MESSAGE


def test_what_is_said_of_an_end_can_be_written_anywhere() -> None:
    note = json.loads('{"message": "half \\ud800 a character"}')
    assert job_output.outcome(note)["message"].encode() == b"half ? a character"
