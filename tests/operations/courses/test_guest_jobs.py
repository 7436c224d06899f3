"""Jobs of guests: what of them a course allows, and that nothing of them is left."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from mlmp_spawner.errors import NotAllowed, OverLimit
from mlmp_spawner.jobs.files import JobFiles
from mlmp_spawner.operations import guest_ends, history
from mlmp_spawner.operations.courses import guests
from mlmp_spawner.operations.guest_ends import GuestEnds
from mlmp_spawner.operations.jobs import cancel, listing, of_guests, scans, snapshots
from mlmp_spawner.operations.jobs.scans import Wish
from mlmp_spawner.operations.jobs.submit import Submission, check, resubmit, submit
from mlmp_spawner.operations.site import Actor, Site, new_id
from mlmp_spawner.rules.job_manifest import parse
from mlmp_spawner.rules.jobs import Attempt, Job
from mlmp_spawner.rules.reservations import Reservation
from mlmp_spawner.store import jobs, reservations
from mlmp_spawner.store.tables import job, job_code, reservation, scan
from mlmp_spawner.store.transaction import read, transaction
from mlmp_spawner.units import HOUR, MINUTE
from tests.operations.conftest import NOW, admin, ann
from tests.operations.courses.test_courses import apply
from tests.operations.courses.test_guest_ends import DELAY, END, PlayedHub, come, found

SHA256 = "a" * 64
NAME = "karls-thesis"
COMMAND = {"profile": "gpu", "command": ["sleep", "1"], "hours": 1, "grace": "1s", "name": NAME}


@pytest.fixture
def files(tmp_path: Path) -> JobFiles:
    made = JobFiles(tmp_path / "jobs")
    made.prepare()
    return made


@pytest.fixture
def guest(site: Site) -> Actor:
    """A guest of a course that allows each four unit-hours, and the seconds that their jobs get to end."""
    apply(site, guests=5, guest_jobs=4.01)
    return guests.as_known(site, Actor(come(site)))


def asked(**manifest: Any) -> Submission:
    return Submission(parse({**COMMAND, **manifest}))


def put(site: Site, files: JobFiles, by: Actor, *, at: int = NOW, code: str | None = None, **manifest: Any) -> Job:
    wanted = asked(**manifest)
    return submit(site, Submission(wanted.manifest, code), files=files, actor=by, now=at)


def run_job(site: Site, wanted: str, at: int, until: int | None) -> None:
    """A first attempt of a job of one unit, which succeeds at ``until``; None: it runs on."""
    one = listing.get(site, wanted)
    end = at + one.length + one.grace
    holding = Reservation(
        new_id(), one.owner, one.profile, one.resource, 1, at, end, kind="job", owner_id=one.owner_id, title=one.name,
        node_count=1, created_at=at,
    )  # fmt: skip
    attempt = Attempt(one.id, 1, holding.id, ("gpu-a",), at + one.length, end, at, started_at=at)
    with transaction(site.engine) as connection:
        reservations.insert_reservation(connection, holding)
        jobs.insert_attempt(connection, attempt, [])
        if until is not None:
            jobs.update_attempt(connection, attempt, ended_at=until, reason="succeeded")
            jobs.update_job(connection, one, ended_at=until, outcome="succeeded", reason="succeeded")


def wish(rows: int) -> Wish:
    return Wish(COMMAND, {"lr": [float(one) for one in range(rows)]})


def spoken_for(site: Site, name: str, now: int = NOW) -> float:
    with read(site.engine) as connection:
        return of_guests.reckoned(connection, name, now) / HOUR


def test_what_waits_counts_until_it_is_over_and_then_what_it_used(site: Site, files: JobFiles, guest: Actor) -> None:
    first = put(site, files, guest, hours=2)
    put(site, files, guest, hours=2)
    with pytest.raises(OverLimit) as refused:
        put(site, files, guest, hours=1)
    (numbers,) = refused.value.problem()["limits"]
    assert (numbers["limit"], numbers["allowed"], numbers["used"], numbers["asked"]) == ("guest_jobs", 4.01, 4, 1)
    assert "4.01 unit-hours in all: 4.00 are used" in refused.value.detail
    run_job(site, first.id, NOW, NOW + HOUR)
    assert spoken_for(site, guest.name, NOW + HOUR) == pytest.approx(3, abs=0.01)
    put(site, files, guest, at=NOW + HOUR, hours=1)
    with pytest.raises(OverLimit):
        put(site, files, guest, at=NOW + HOUR, hours=0.5)


def test_a_cancelled_job_counts_for_what_it_used_alone(site: Site, files: JobFiles, guest: Actor) -> None:
    waits = put(site, files, guest, hours=4)
    cancel.cancel(site, waits.id, actor=guest, now=NOW)
    assert spoken_for(site, guest.name) == 0


def test_workers_retries_and_grace_count_too(site: Site, files: JobFiles, guest: Actor) -> None:
    put(site, files, guest, hours=0.5, workers=2, retries=1, grace="10m")
    assert spoken_for(site, guest.name) == pytest.approx(2 * 2 * (0.5 + 10 / 60))


def test_a_scan_counts_with_all_its_rows_or_is_refused_whole(site: Site, files: JobFiles, guest: Actor) -> None:
    with pytest.raises(OverLimit, match="asks for 5"):
        scans.submit(site, wish(5), files=files, actor=guest, now=NOW)
    with pytest.raises(OverLimit):
        check(site, asked(), actor=guest, now=NOW, count=5)
    assert listing.page(site, owner=guest.name)[0] == []
    scans.submit(site, wish(4), files=files, actor=guest, now=NOW)
    assert spoken_for(site, guest.name) == pytest.approx(4, abs=0.01)


def test_a_guest_submits_only_so_many_that_all_of_them_are_kept(
    site: Site, files: JobFiles, guest: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(of_guests, "MOST", 3)
    made = scans.submit(site, wish(3), files=files, actor=guest, now=NOW)
    scans.cancel(site, made.scan.id, actor=guest, now=NOW)
    with pytest.raises(OverLimit, match="3 jobs in all"):
        put(site, files, guest, hours=0.1)


def test_jobs_of_guests_always_make_way_and_come_before_nobody(site: Site, files: JobFiles, guest: Actor) -> None:
    with pytest.raises(NotAllowed, match="make way for bookings"):
        put(site, files, guest, preemptible=False)
    with pytest.raises(NotAllowed, match="no priority above normal"):
        put(site, files, guest, priority="high")
    assert put(site, files, guest, priority="low").preemptible


def test_a_guest_uses_only_the_profiles_of_the_course_also_when_submitting_again(
    site: Site, files: JobFiles, guest: Actor
) -> None:
    gpu = site.catalog.profiles["gpu"]
    both = {"gpu": gpu, "big": gpu.model_copy(update={"name": "big", "max_units": 2})}
    wider = replace(site, catalog=site.catalog.model_copy(update={"profiles": both}))
    with pytest.raises(NotAllowed):
        put(wider, files, guest, profile="big")
    first = put(wider, files, guest)
    assert resubmit(wider, first.id, files=files, actor=guest, now=NOW).profile == "gpu"
    apply(wider, profile="big", guests=5, guest_jobs=4.01)
    now = guests.as_known(wider, Actor(guest.name))
    with pytest.raises(NotAllowed):
        resubmit(wider, first.id, files=files, actor=now, now=NOW)
    with pytest.raises(NotAllowed):
        resubmit(wider, first.id, files=files, actor=admin, now=NOW)


def test_where_the_course_says_nothing_guests_run_no_jobs(site: Site, files: JobFiles) -> None:
    apply(site, guests=5)
    guest = guests.as_known(site, Actor(come(site)))
    with pytest.raises(NotAllowed, match="Guests of this course run no jobs"):
        put(site, files, guest)
    assert put(site, files, ann).owner == "ann"


async def test_at_the_end_of_their_time_jobs_are_cancelled_and_none_follows(
    site: Site, files: JobFiles, guest: Actor
) -> None:
    runs, waits = put(site, files, guest, hours=2), put(site, files, guest)
    made = scans.submit(site, wish(1), files=files, actor=guest, now=NOW)
    run_job(site, runs.id, NOW + HOUR, None)
    ends = GuestEnds(lambda: site, PlayedHub(), DELAY, files)
    await ends.look(END)
    assert listing.get(site, waits.id).outcome == "cancelled"
    assert listing.get(site, made.last[0].id if made.last[0] else "").outcome == "cancelled"
    running = listing.get(site, runs.id)
    assert running.cancel_asked_at == END and running.live is not None and running.live.stop_at == END
    with pytest.raises(NotAllowed, match="Your time as a guest is over"):
        put(site, files, guest, at=END - 1)  # asked before, and written only now


def left_of(site: Site, files: JobFiles, name: str) -> list[str]:
    """All that there is of somebody's jobs: rows, files, words in the history."""
    with read(site.engine) as connection:
        rows = [
            f"{table.name}: {row}"
            for table in (job, scan, job_code)
            for row in connection.execute(select(table).where(table.c.owner == name)).all()
        ]
        titles = connection.execute(select(reservation.c.title).where(reservation.c.owner == name)).scalars().all()
    said = [
        str(one.details) for one in history.since(site.engine, 0) if one.owner == name and NAME in str(one.details)
    ]
    kept = [str(path) for path in files.root.rglob("*") if path.is_file()]
    return [*rows, *filter(None, titles), *said, *kept]


async def over(site: Site, files: JobFiles, guest: Actor, tmp_path: Path) -> None:
    """A job of a guest that ran, with log, numbers and code."""
    sent = tmp_path / "sent"
    sent.write_bytes(b"print('Karl')")
    snapshots.keep(site, files, SHA256, sent, owner=guest, now=NOW)
    ran = put(site, files, guest, code=SHA256)
    scans.submit(site, wish(1), files=files, actor=guest, now=NOW)
    run_job(site, ran.id, NOW, NOW + MINUTE)
    files.log(f"{ran.id}-1").parent.mkdir()
    files.log(f"{ran.id}-1").write_text("Karl's loss\n")
    files.metrics(f"{ran.id}-1").write_text("{}\n")


@pytest.mark.parametrize("killed_in", ["", "remove_logs", "drop", "_forget_titles", "_erase_jobs", "_erased"])
async def test_nothing_of_their_jobs_is_left_after_the_erasure_wherever_the_service_was_killed(
    site: Site, files: JobFiles, guest: Actor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_in: str
) -> None:
    await over(site, files, guest, tmp_path)
    assert len(left_of(site, files, guest.name)) >= 8
    hub = PlayedHub()
    ends = GuestEnds(lambda: site, hub, DELAY, files)
    await ends.look(END)

    def killed(*_: object) -> None:
        raise MemoryError("killed here")

    where = {"remove_logs": files, "drop": snapshots, "_forget_titles": of_guests}
    if killed_in:
        with monkeypatch.context() as broken:
            broken.setattr(where.get(killed_in, guest_ends), killed_in, killed)
            await ends.look(END + DELAY)
        gone = found(site, guest.name)
        assert gone is not None and gone.erased_at is None
    await ends.look(END + DELAY)
    assert left_of(site, files, guest.name) == []
    gone = found(site, guest.name)
    assert gone is not None and gone.erased_at == END + DELAY


async def test_what_still_ends_is_waited_for_before_the_account_goes(
    site: Site, files: JobFiles, guest: Actor
) -> None:
    runs = put(site, files, guest)
    run_job(site, runs.id, NOW, None)
    hub = PlayedHub()
    ends = GuestEnds(lambda: site, hub, DELAY, files)
    await ends.look(END + DELAY)
    assert hub.ended == [guest.name] and hub.erased == []
    assert [one.id for one in listing.page(site, owner=guest.name)[0]] == [runs.id]
