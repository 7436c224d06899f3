"""Metrics out of the files that programs write, as they grow; nothing in these files breaks anything."""

from __future__ import annotations

import math
import os
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensorboardX import SummaryWriter

from mlmp_spawner.lab import job_metrics
from mlmp_spawner.lab.job_metrics import JsonLines, TensorBoard
from mlmp_spawner.lab.tensorboard import Broken, records, scalars
from tests.live import wait_for


def values(notes: list[dict[str, Any]]) -> list[tuple[str, int | None, float]]:
    return [(name, note["step"], value) for note in notes for name, value in note["values"].items()]


def writer_to(folder: Path) -> SummaryWriter:
    """One that keeps nothing back."""
    return SummaryWriter(str(folder), max_queue=1, flush_secs=0)


def gathered(source: TensorBoard, count: int) -> list[dict[str, Any]]:
    """What is new, once so much is: the writer writes in a thread of its own."""
    found: list[dict[str, Any]] = []

    def enough() -> bool:
        found.extend(source.look())
        return len(found) >= count

    wait_for(enough, what=f"{count} numbers")
    return found


def test_scalars_that_a_real_writer_wrote_are_read_as_they_come(tmp_path: Path) -> None:
    source = TensorBoard(tmp_path / "runs")
    assert list(source.look()) == []
    with writer_to(tmp_path / "runs" / "today") as writer:
        for step in range(3):
            writer.add_scalar("loss", 1 / (step + 1), step)
        writer.add_text("note", "no number")
        writer.flush()
        first = gathered(source, 3)
        assert values(first) == [("loss", 0, 1.0), ("loss", 1, 0.5), ("loss", 2, pytest.approx(1 / 3))]
        assert all(1e12 < note["at"] < 1e14 for note in first)
        writer.add_scalars("both", {"train": 1.0, "test": 2.0}, 7)
        writer.flush()
        assert sorted(values(gathered(source, 2))) == [("both/test/both", 7, 2.0), ("both/train/both", 7, 1.0)]


def test_what_was_there_before_belongs_to_another_attempt(tmp_path: Path) -> None:
    with writer_to(tmp_path) as writer:
        writer.add_scalar("loss", 1.0, 0)
        writer.flush()
        empty = tmp_path / "not yet"
        everything = TensorBoard(empty)
        everything.folder = tmp_path
        gathered(everything, 1)
        source = TensorBoard(tmp_path)
        lines = tmp_path / "metrics.jsonl"
        lines.write_text('{"loss": 1}\n')
        json_lines = JsonLines(lines)
        writer.add_scalar("loss", 2.0, 1)
        writer.flush()
        with lines.open("a") as file:
            file.write('{"loss": 2}\n')
        assert values(gathered(source, 1)) == [("loss", 1, 2.0)]
        assert values(list(json_lines.look())) == [("loss", None, 2)]


def event_file(folder: Path) -> bytes:
    with SummaryWriter(str(folder)) as writer:
        for step in range(4):
            writer.add_scalar("loss", float(step), step)
        writer.add_histogram("weights", list(range(50)), 1)
    (path,) = folder.glob("*tfevents*")
    return path.read_bytes()


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return event_file(tmp_path_factory.mktemp("events"))


def read_all(data: bytes) -> list[tuple[str, int, float]]:
    return [(one.name, one.step, one.value) for record in records(data)[0] for one in scalars(record)]


@given(cut=st.integers(0, 2_000))
def test_however_much_of_a_file_is_there_its_whole_records_are_read(written: bytes, cut: int) -> None:
    whole = read_all(written)
    _, end = records(written[:cut])
    part = read_all(written[:cut])
    assert part == whole[: len(part)] and end <= cut
    assert part + read_all(written[end:]) == whole


@given(st.data())
def test_a_damaged_file_is_refused_and_nothing_else(written: bytes, data: st.DataObject) -> None:
    damaged = bytearray(written)
    for _ in range(data.draw(st.integers(1, 8))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = read_all(bytes(damaged))
    except Broken:
        return
    assert all(isinstance(value, float) for _, _, value in found)


@given(st.binary(max_size=300))
def test_bytes_of_any_kind_are_an_event_or_are_refused(data: bytes) -> None:
    with suppress(Broken):
        scalars(data)


def record(data: bytes) -> bytes:
    return struct.pack("<QI", len(data), 0) + data + struct.pack("<I", 0)


def field(number: int, data: bytes) -> bytes:
    assert len(data) < 128
    return bytes([number << 3 | 2, len(data)]) + data


@pytest.mark.parametrize(
    ("tensor", "value"),
    [
        (b"\x08\x01" + field(4, struct.pack("<f", 1.5)), 1.5),  # as TensorFlow writes a scalar
        (b"\x08\x01" + field(5, struct.pack("<f", 2.5)), 2.5),
        (b"\x08\x02" + field(6, struct.pack("<d", 3.5)), 3.5),
        (b"\x08\x01" + field(2, field(2, b"\x08\x01")) + field(4, struct.pack("<f", 1.5)), None),  # a vector
        (b"\x08\x07" + field(8, b"text"), None),
    ],
)
def test_a_scalar_may_be_a_tensor(tensor: bytes, value: float | None) -> None:
    event = b"\x09" + struct.pack("<d", 1.7e9) + b"\x10\x05" + field(5, field(1, field(1, b"loss") + field(8, tensor)))
    assert [(one.name, one.step, one.value) for one in scalars(event)] == ([("loss", 5, value)] if value else [])


def test_a_record_longer_than_a_look_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_metrics, "PIECE", 64 << 10)
    source, path = TensorBoard(tmp_path), tmp_path / "events.out.tfevents.1"
    event = b"\x09" + struct.pack("<d", 1.7e9) + field(5, field(1, field(1, b"loss") + b"\x15" + struct.pack("<f", 1)))
    whole = record(bytes(200_000)) + record(event)
    path.write_bytes(whole[:100_000])
    assert list(source.look()) == []
    path.write_bytes(whole)
    assert values(list(source.look()) + list(source.look())) == [("loss", 0, 1.0)]


def test_json_lines_are_numbers_by_step_and_time(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    source = JsonLines(path)
    path.write_text('{"step": 3, "loss": 0.5, "time": 1700000000.5, "note": "x", "ok": true}\nnonsense\n[1]\n{"a": 1')
    (note,) = source.look()
    assert note == {"at": 1_700_000_000_500, "step": 3, "values": {"loss": 0.5}}
    with path.open("a") as file:
        file.write(', "epoch": 2}\n{"nan": NaN}\n')
    second, third = source.look()
    assert (second["step"], second["values"]) == (2, {"a": 1})
    assert math.isnan(third["values"]["nan"])


@given(st.lists(st.binary(max_size=200), max_size=10))
def test_lines_of_any_kind_break_nothing(tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]) -> None:
    path = tmp_path_factory.mktemp("lines") / "metrics.jsonl"
    source = JsonLines(path)
    path.write_bytes(b"\n".join(lines) + b'\n{"loss": 1}\n')
    assert values(list(source.look()))[-1] == ("loss", None, 1)


def test_a_file_that_begins_anew_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"loss": 1, "longer": 2}\n')
    source = JsonLines(path)
    path.write_text('{"loss": 3}\n')
    assert values(list(source.look())) == [("loss", None, 3)]


def test_a_directory_that_is_everybodys_is_not_searched_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_metrics, "MOST_NAMES", 10)
    for number in range(20):
        (tmp_path / f"{number:02}").mkdir()
    source = TensorBoard(tmp_path)
    event_file(tmp_path / "19")
    assert list(source.look()) == []


def test_no_link_leads_out_of_the_directory(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "elsewhere").mkdir()
    os.symlink(tmp_path / "elsewhere", tmp_path / "runs" / "link")
    source = TensorBoard(tmp_path / "runs")
    event_file(tmp_path / "elsewhere")
    assert list(source.look()) == []
