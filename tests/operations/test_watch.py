"""The look at this machine, with a GPU reader that reports a real process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import event, select

from mlmp_spawner import processes
from mlmp_spawner.activity import GpuWatch, UnitUse
from mlmp_spawner.operations.admission import StartOptions, admit, started
from mlmp_spawner.operations.booking import book
from mlmp_spawner.operations.requests import BookingRequest
from mlmp_spawner.operations.site import Site
from mlmp_spawner.operations.watch import Activity, Watch
from mlmp_spawner.processes import Record
from mlmp_spawner.settings import MLMP
from mlmp_spawner.store.tables import history, use
from mlmp_spawner.units import HOUR, SECOND
from tests.operations.conftest import NOW, ann, ben

EVERY = 30 * SECOND


class Gpus(GpuWatch):
    """What the test says is on them."""

    def __init__(self, uses: dict[str, UnitUse]) -> None:
        super().__init__()
        self.uses = uses

    def read(self) -> dict[str, UnitUse]:
        return self.uses


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    yield from _run()


@pytest.fixture
def other() -> Iterator[subprocess.Popen[bytes]]:
    yield from _run()


def _run() -> Iterator[subprocess.Popen[bytes]]:
    running = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", "--token=secret"])
    yield running
    running.kill()
    running.wait()


def served(site: Site, data: Path, owner: object, pid: int) -> tuple[str, str]:
    """A running server of a new booking, which is the process ``pid``; the booking and its unit."""
    booked = book(site, BookingRequest("gpu", duration=HOUR, node="gpu-a"), actor=owner, now=NOW)  # type: ignore[arg-type]
    admission = admit(site, actor=owner, server="", options=StartOptions(), now=NOW)  # type: ignore[arg-type]
    started(site, booked.id, now=NOW)
    (data / "servers").mkdir(exist_ok=True)
    record = Record(booked.id, booked.owner, "", pid, processes.identity(pid) or "")
    processes.write_record(data / "servers" / f"{booked.id}.json", record)
    return booked.id, admission.unit_ids[0]


def watch(site: Site, data: Path, gpus: Gpus, **chosen: object) -> Watch:
    settings = MLMP(data=str(data), sample_every=EVERY / SECOND, **chosen)
    return Watch(lambda: site, settings, gpus=gpus)


def told(site: Site) -> list[tuple[str, dict[str, object]]]:
    with site.engine.connect() as connection:
        rows = connection.execute(select(history).where(history.c.action.like("intruder%")).order_by(history.c.id))
        return [(row.action, {"owner": row.owner, **row.details}) for row in rows]


def test_a_server_on_its_own_unit_is_counted_and_accused_of_nothing(
    site: Site, tmp_path: Path, process: subprocess.Popen[bytes]
):
    booking, unit = served(site, tmp_path, ann, process.pid)
    looking = watch(site, tmp_path, Gpus({unit: UnitUse(80, 5, frozenset({process.pid}))}), intruders="stop")
    for at in (NOW, NOW + EVERY, NOW + 2 * EVERY):
        seen = looking.look(at)
    assert [(one.reservation, one.busy, one.by_gpu) for one in seen.bookings] == [(booking, 1, True)]
    ours = next(one for one in seen.units if one.id == unit)
    assert (ours.holder, ours.owner, ours.utilisation, ours.memory) == (booking, "ann", 80, 5)
    assert seen.intruders == () and told(site) == [] and process.poll() is None
    with site.engine.connect() as connection:
        assert sum(row.busy for row in connection.execute(select(use))) == 2 * EVERY


def test_a_server_on_somebody_elses_unit_is_named_with_its_owner_and_without_its_secrets(
    site: Site, tmp_path: Path, process: subprocess.Popen[bytes], other: subprocess.Popen[bytes]
):
    _, unit = served(site, tmp_path, ann, other.pid)
    served(site, tmp_path, ben, process.pid)
    looking = watch(site, tmp_path, Gpus({unit: UnitUse(80, 5, frozenset({process.pid}))}))
    for at in (NOW, NOW + EVERY, NOW + 2 * EVERY):
        seen = looking.look(at)
    (intruder,) = seen.intruders
    assert (intruder.pid, intruder.units, seen.owners[intruder.server_id or ""]) == (process.pid, (unit,), "ben")
    ((action, details),) = told(site)
    assert (action, details["owner"], details["units"]) == ("intruder", "ben", [unit])
    assert "secret" not in str(details)
    assert process.poll() is None


def test_where_it_is_chosen_who_is_on_a_free_unit_is_stopped(
    site: Site, tmp_path: Path, process: subprocess.Popen[bytes]
):
    looking = watch(site, tmp_path, Gpus({"GPU-gpu-b-0": UnitUse(80, 5, frozenset({process.pid}))}), intruders="stop")
    looking.look(NOW)
    looking.look(NOW + EVERY)
    process.wait(30)
    looking.enforce(NOW + EVERY + SECOND)
    assert [action for action, _ in told(site)] == ["intruder", "intruder_stopped"]
    assert looking.look(NOW + 2 * EVERY).intruders == ()


def test_what_could_not_be_written_down_is_at_the_next_look(
    site: Site, tmp_path: Path, process: subprocess.Popen[bytes]
):
    class Full(Exception):
        pass

    def full(connection: object, cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("INSERT INTO mlmp_history"):
            raise Full

    looking = watch(site, tmp_path, Gpus({"GPU-gpu-b-0": UnitUse(80, 5, frozenset({process.pid}))}))
    looking.look(NOW)
    event.listen(site.engine, "before_cursor_execute", full)
    for at in (NOW + EVERY, NOW + 2 * EVERY):
        with pytest.raises(Full):
            looking.look(at)
    event.remove(site.engine, "before_cursor_execute", full)
    looking.look(NOW + 3 * EVERY)
    looking.look(NOW + 4 * EVERY)
    ((action, details),) = told(site)
    assert (action, details["pid"], details["since"]) == ("intruder", process.pid, NOW)
    with site.engine.connect() as connection:
        assert connection.execute(select(history.c.at).where(history.c.action == action)).scalar() == NOW + EVERY


def test_before_the_first_look_nothing_is_known(site: Site, tmp_path: Path):
    assert watch(site, tmp_path, Gpus({})).last == Activity()


def test_what_was_seen_long_ago_or_only_once_says_nothing_of_now(site: Site, tmp_path: Path):
    looking = watch(site, tmp_path, Gpus({}))
    assert not looking.looks(NOW)
    looking.look(NOW)
    assert not looking.looks(NOW)
    looking.look(NOW + EVERY)
    assert looking.looks(NOW + 2 * EVERY)
    assert not looking.looks(NOW + 5 * EVERY)
