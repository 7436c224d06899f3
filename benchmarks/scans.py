"""Scans: what one of 10,000 rows costs beside one of 100, on both databases, in turns: the ratio is what the length
costs.

*Submitting* is one transaction, for which on SQLite all others wait. *The list* has as many scans as it shows at most.
*A decision* is the queue's, with all rows waiting and ten at once.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from httpx import Timeout
from sqlalchemy import insert

from benchmarks import database
from benchmarks.common import Report, in_turns, median, note
from mlmp_spawner.jobs.files import JobFiles
from mlmp_spawner.operations.jobs import deciding, scans
from mlmp_spawner.operations.jobs.scans import Wish
from mlmp_spawner.operations.site import Actor, Site
from mlmp_spawner.store import jobs as store
from mlmp_spawner.store.tables import scan as table
from mlmp_spawner.store.tables import users
from mlmp_spawner.store.transaction import read, transaction
from mlmp_spawner.units import DAY
from mlmp_spawner.web.context import Jobs
from tests.databases import PostgreSQL, postgresql_programs
from tests.web.harness import PREFIX, RunningApp
from tests.web.job_parts import make_jobs

ANN = Actor("ann")
FEW, MANY = 100, 10_000
LISTED = 100
COMMAND = {"profile": "gpu", "command": ["python", "train.py"], "hours": 1}


def run(report: Report, *, quick: bool) -> None:
    """All figures for both databases."""
    many, rounds = (1_000, 1) if quick else (MANY, 5)
    directory = Path(tempfile.mkdtemp(prefix="mlmp-bench-"))
    try:
        _database(report, "sqlite", lambda n: f"sqlite:///{directory / f'{n}.sqlite'}", directory, many, rounds)
        if postgresql_programs() is None:
            note("no PostgreSQL here; on Debian and Ubuntu: apt-get install postgresql")
            return
        server = PostgreSQL(durable=True)
        try:
            _database(report, "postgresql", lambda _: server.create(template=None), directory, many, rounds)
        finally:
            server.stop()
    finally:
        shutil.rmtree(directory)


def wish(rows: int) -> Wish:
    """A scan over two parameters, each row with a directory of its own."""
    return Wish(COMMAND, {"lr": [n + 1 for n in range(rows // 10)], "bs": list(range(10))},
                out="runs/lr={lr}/bs={bs}", at_once=10)  # fmt: skip


def _database(report: Report, name: str, new: Callable[[int], str], folder: Path, many: int, rounds: int) -> None:
    sites = {rows: database.site(new(rows)) for rows in (FEW, many)}
    for site in sites.values():
        with transaction(site.engine) as connection:
            connection.execute(insert(users).values(id=database.USERS, name=ANN.name))
    jobs = make_jobs(folder / name)
    ids: dict[int, list[str]] = {rows: [] for rows in sites}

    def tell(what: str, works: dict[int, Callable[[int], object]], count: int = rounds, warm_up: int = 1) -> None:
        took = {rows: median(found) for rows, found in in_turns(works, count, warm_up=warm_up).items()}
        report.add(f"{name}: {what}, {many} rows beside {FEW}", took[many], "ms", versus=took[FEW])

    def submit(rows: int) -> Callable[[int], object]:
        return lambda _: ids[rows].append(_submitted(sites[rows], rows, jobs.files))

    tell("to submit", {rows: submit(rows) for rows in sites}, warm_up=0)
    for rows, site in sites.items():
        for one in ids[rows][1:]:
            scans.cancel(site, one, actor=ANN, now=database.NOW)
    with read(sites[many].engine) as connection:
        waiting = store.queued_briefly(connection)
    note(f"{name}: {len(waiting)} rows wait")
    decide: dict[int, Callable[[int], object]] = {
        rows: lambda _, site=site: deciding.decide(site, 7 * DAY, database.NOW) for rows, site in sites.items()
    }
    tell("a decision of the queue", decide)
    with _served(sites, jobs) as pages:
        for what, path in (("the page of one", "scans/{id}"), ("200 rows of one", "api/v1/scans/{id}"),
                           ("its counts", "api/v1/scans/{id}?limit=1"), ("the table of all rows",
                           "api/v1/scans/{id}/results?format=csv"), ("the list", "scans")):  # fmt: skip
            tell(what, {rows: lambda _, rows=rows, path=path: pages[rows](path.format(id=ids[rows][0]))
                        for rows in sites})  # fmt: skip
        for site in sites.values():
            _copies(site)
        tell(f"the list of {LISTED}", {rows: lambda _, rows=rows: pages[rows]("api/v1/scans") for rows in sites})
    cancel: dict[int, Callable[[int], object]] = {
        rows: lambda _, rows=rows: scans.cancel(
            sites[rows], _submitted(sites[rows], rows, jobs.files), actor=ANN, now=database.NOW
        )
        for rows in sites
    }
    tell("to submit and cancel", cancel, count=max(1, rounds // 2), warm_up=0)
    for site in sites.values():
        site.engine.dispose()


def _submitted(site: Site, rows: int, files: JobFiles) -> str:
    made = scans.submit(site, wish(rows), files=files, actor=ANN, now=database.NOW)
    return made.scan.id


def _copies(site: Site) -> None:
    """As many scans as the list shows, with the rows of the first."""
    with transaction(site.engine) as connection:
        first = connection.execute(table.select().limit(1)).mappings().one()
        copies = [{**first, "id": f"copy{number:08}", "created_at": number} for number in range(LISTED)]
        connection.execute(table.insert(), copies)


@contextmanager
def _served(sites: dict[int, Site], jobs: Jobs) -> Iterator[dict[int, Callable[[str], Any]]]:
    """Of each site what asks its pages as the owner of its scans."""
    asking: dict[int, Callable[[str], Any]] = {}
    with ExitStack() as opened:
        for rows, site in sites.items():
            app = opened.enter_context(RunningApp(site, database.NOW))
            app.context.jobs = jobs
            client = opened.enter_context(app.client("ann-token", Accept="text/html, application/json"))
            client.base_url, client.timeout = app.url + PREFIX, Timeout(300)
            asking[rows] = lambda path, client=client: client.get(path).raise_for_status()
        yield asking
