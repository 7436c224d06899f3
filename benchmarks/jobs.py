"""Jobs: what one costs over the same script run by hand, and what a long queue costs the service.

*By hand*: a script with a fixed amount of work, as a job of a real ``mlmp up`` (from the call that submits it until
the API says that it has ended) and by ``python work.py``, in turns. What is not its work, the start and the end, is
told apart from its work: on a machine that does other things too, only the former means something.
``python -m benchmarks.jobs --seconds 60 600`` measures other amounts of work than the short one of ``make bench``.

*The queue*: 10,000 jobs of 200 people in 20 groups, most of them unlike each other, wait on 64 nodes of 8 units with
2,000 bookings. Submissions and pages beside the same with a hundred that wait, in turns: the ratio is what the length
costs.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from sqlalchemy import insert

from benchmarks import database
from benchmarks.common import Report, in_turns, median, note, noted
from mlmp_spawner.jobs.files import JobFiles
from mlmp_spawner.operations.jobs import deciding
from mlmp_spawner.operations.jobs.submit import Submission, draft, submit
from mlmp_spawner.operations.site import Actor
from mlmp_spawner.operations.site import Site as Database
from mlmp_spawner.rules import job_manifest
from mlmp_spawner.store import jobs as store
from mlmp_spawner.store import tables
from mlmp_spawner.store.transaction import transaction
from mlmp_spawner.units import DAY
from tests.databases import PostgreSQL, postgresql_programs
from tests.jobs.people import Submitter
from tests.live import Site
from tests.web.harness import PREFIX, RunningApp
from tests.web.job_parts import make_jobs

WORK = """\
import hashlib, sys, time
began, data = time.time(), b"work"
for _ in range(int(sys.argv[1])):
    data = hashlib.sha256(data * 256).digest()
print(began, time.time(), flush=True)
"""
SHORT = 10
"""Seconds of work in ``make bench``."""
FEW, MANY = 100, 10_000
"""A full page of the list is shown of both."""
MINE = 60
BOOKINGS = 2_000
PEOPLE, GROUPS = 200, 20
NOW = database.NOW
HALF_LIFE = 7 * DAY


def run(report: Report, *, quick: bool) -> None:
    """Both. ``quick``: a second of work, and 300 that wait."""
    by_hand(report, [1 if quick else SHORT], pairs=1 if quick else 3)
    count, rounds = (300, 2) if quick else (MANY, 30)
    with tempfile.TemporaryDirectory(prefix="mlmp-bench-") as folder:
        sqlite = Path(folder)
        _queue(report, "sqlite", lambda n: f"sqlite:///{sqlite / f'{n}.sqlite'}", sqlite, count, rounds)
        if postgresql_programs() is None:
            note("no PostgreSQL here; on Debian and Ubuntu: apt-get install postgresql")
            return
        server = PostgreSQL(durable=True)
        try:
            _queue(report, "postgresql", lambda _: server.create(template=None), sqlite, count, rounds)
        finally:
            server.stop()


# -- over the same script by hand -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Took:
    """Seconds: all of it, and of that the work itself."""

    all: float
    work: float


def by_hand(report: Report, seconds: Sequence[int], *, pairs: int) -> None:
    """A job beside its script by hand, for each amount of work."""
    with tempfile.TemporaryDirectory(prefix="mlmp-bench-") as folder, _up(Path(folder) / "site") as site:
        script = Path(folder) / "work.py"
        script.write_text(WORK)
        eve = Submitter(site.person("eve"))
        code = eve.code(work_py=WORK)
        _as_job(eve, code, 1, 1)  # the first fills the caches
        for length in seconds:
            rounds = _rounds(script, length)
            jobs, bare = [], []
            for number in range(pairs):
                bare.append(_bare(script, rounds))
                jobs.append(_as_job(eve, code, rounds, length))
                note(f"{length} s of work, pair {number + 1}: {jobs[-1].all:.2f} s, by hand {bare[-1].all:.2f} s")
            _tell(report, f"job of {length} s", jobs, bare)


def _tell(report: Report, what: str, jobs: Sequence[Took], bare: Sequence[Took]) -> None:
    def add(name: str, part: Callable[[Took], float], goal: str = "") -> None:
        ours, theirs = median([part(one) for one in jobs]), median([part(one) for one in bare])
        report.add(f"{what}: {name}", ours, "s", versus=theirs, goal=goal)

    add("all of it, beside its script by hand", lambda took: took.all, "ratio <= 1.01 at 600 s")
    add("its work alone", lambda took: took.work, "ratio ~ 1")
    add("all but its work", lambda took: took.all - took.work)
    more = median([one.all - one.work for one in jobs]) - median([one.all - one.work for one in bare])
    report.add(f"{what}: start and end, as a part of its work", more / median([one.work for one in bare]), "of it")


@contextmanager
def _up(folder: Path) -> Iterator[Site]:
    site = Site(folder)
    try:
        yield site.start()
    finally:
        site.close()


def _rounds(script: Path, seconds: int) -> int:
    """How much work takes so long here."""
    trial = 200_000
    return round(trial * seconds / min(_bare(script, trial).work for _ in range(3)))


def _bare(script: Path, rounds: int) -> Took:
    began = time.perf_counter()
    command = [sys.executable, str(script), str(rounds)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return Took(time.perf_counter() - began, _work(done.stdout))


def _as_job(eve: Submitter, code: str, rounds: int, seconds: int) -> Took:
    began = time.perf_counter()
    job = eve.submit(script="work.py", arguments=[str(rounds)], code=code)
    # Asked seldom enough that asking costs nothing, and often enough to be exact to a thousandth.
    pause = max(0.05, seconds / 1000)
    while (found := eve.look(job))["state"] != "ended":
        time.sleep(pause)
    took = time.perf_counter() - began
    assert found["outcome"] == "succeeded", found
    return Took(took, _work(eve.log(job)))


def _work(printed: str) -> float:
    began, ended = map(float, printed.split())
    return ended - began


# -- a long queue ---------------------------------------------------------------------------------------------------


def _queue(report: Report, name: str, new: Callable[[int], str], folder: Path, count: int, rounds: int) -> None:
    """All figures of one database."""
    files = JobFiles(folder / "jobs")
    sites = {size: database.site(new(size)) for size in (FEW, count)}
    for size, site in sites.items():
        with noted(f"{name}: {size} jobs wait"):
            _fill(site, size)
    what = f"{name}, {count} jobs wait"
    asked = {size: _submitting(site, files, random.Random(size)) for size, site in sites.items()}
    took = {size: 1000 / median(found) for size, found in in_turns(asked, rounds).items()}
    report.add(f"{what}: submissions, beside {FEW} that wait", took[count], "1/s", versus=took[FEW])
    _decisions(report, what, sites, count, rounds)
    _answers(report, what, sites, folder, count, rounds)
    for site in sites.values():
        site.engine.dispose()


def _fill(site: Database, size: int) -> None:
    database.load(site.engine, BOOKINGS)
    chance = random.Random(size)
    with transaction(site.engine) as connection:
        people = [{"id": database.USERS + n, "name": person} for n, person in enumerate(("ann", "root"))]
        connection.execute(insert(tables.users), people)
        made = [draft(connection, site, _asked(chance), _actor(n), NOW - size + n)[0] for n in range(size)]
        # Of all jobs some are hers who looks at the pages.
        mine = [replace(job, owner="ann", owner_id=database.USERS) for job in made[:MINE]]
        store.insert_jobs(connection, [*mine, *made[MINE:]], {})


def _asked(chance: random.Random) -> Submission:
    manifest = {"profile": "gpu", "command": ["python", "train.py"], "name": f"train-{chance.randrange(1000)}",
                "units": chance.choice((1, 2, 4, 8)), "workers": chance.choice((1, 1, 1, 2, 4)),
                "hours": chance.randint(1, 2880) / 60, "preemptible": chance.random() < 0.7}  # fmt: skip
    return Submission(job_manifest.parse(manifest))


def _actor(number: int) -> Actor:
    return Actor(f"user{number % PEOPLE}", frozenset({f"group{number % GROUPS}"}))


def _submitting(site: Database, files: JobFiles, chance: random.Random) -> Callable[[int], object]:
    return lambda number: submit(site, _asked(chance), files=files, actor=_actor(number), now=NOW)


def _decisions(report: Report, what: str, sites: Mapping[int, Database], count: int, rounds: int) -> None:
    """A decision, reading included, where something changed, and where nothing did."""
    decided = {size: deciding.decide(site, HALF_LIFE, NOW) for size, site in sites.items()}
    for name, when, known in (("a decision", NOW, False), ("a look where nothing changed", NOW + 1, True)):
        works = {size: partial(_decide, site, when, decided[size] if known else None) for size, site in sites.items()}
        took = {size: median(found) for size, found in in_turns(works, max(2, rounds // 3), warm_up=1).items()}
        goal = "" if known else "value < 2000 ms, a tick"
        report.add(f"{what}: {name}, beside {FEW} that wait", took[count], "ms", versus=took[FEW], goal=goal)


def _decide(site: Database, when: int, last: deciding.Decided | None, _: int) -> None:
    found = deciding.decide(site, HALF_LIFE, when, last=last)
    assert (found is None) == (last is not None)


def _answers(report: Report, what: str, sites: Mapping[int, Database], folder: Path, count: int, rounds: int) -> None:
    """Pages and lists as they are sent."""
    with ExitStack() as open_apps:
        clients = {}
        for size, site in sites.items():
            app = open_apps.enter_context(RunningApp(site, NOW))
            decided = deciding.decide(site, HALF_LIFE, NOW)
            assert decided is not None
            app.context.jobs = replace(make_jobs(folder), outlook=decided.outlook.get)
            clients[size] = open_apps.enter_context(app.client("ann-token", Accept="text/html, application/json"))
            clients[size].base_url = app.url + PREFIX
        for path in ("jobs", "jobs?show=everybody", "api/v1/jobs", "api/v1/jobs?state=open"):
            works = {
                size: lambda _, client=client, path=path: client.get(path).raise_for_status()
                for size, client in clients.items()
            }
            took = {size: median(found) for size, found in in_turns(works, rounds, warm_up=3).items()}
            report.add(f"{what}: GET {path}, beside {FEW} that wait", took[count], "ms", versus=took[FEW])


def main() -> None:
    """Only jobs beside their script by hand, with as much work as is asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.jobs", description=main.__doc__)
    parser.add_argument("--seconds", type=int, nargs="+", default=[60, 600], help="of work; default: 60 600")
    parser.add_argument("--pairs", type=int, default=3, help="how often each is run; default: 3")
    arguments = parser.parse_args()
    report = Report()
    try:
        by_hand(report, arguments.seconds, pairs=arguments.pairs)
    finally:
        report.table()


if __name__ == "__main__":
    main()
