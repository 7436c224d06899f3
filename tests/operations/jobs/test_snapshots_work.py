"""Which snapshots are needed is found without a look at what has ended."""

from __future__ import annotations

from sqlalchemy import insert

from mlmp_spawner.operations.site import Site
from mlmp_spawner.store import job_code
from mlmp_spawner.store.tables import job
from tests.operations.conftest import NOW
from tests.operations.jobs.queueing import submitted

STEPS = 1000
"""Of the database, after each of which it is counted."""


def test_finding_what_no_open_job_needs_takes_no_longer_however_many_have_ended(site: Site) -> None:
    first = submitted(site, code=f"{0:064x}")
    with site.engine.begin() as connection:
        row = dict(connection.execute(job.select()).mappings().one())
        ended = [{**row, "id": f"j{n}", "ended_at": NOW, "code": f"{n % 50:064x}"} for n in range(1000)]
        connection.execute(insert(job), ended)
        for n in range(50):
            job_code.keep(connection, "eve", f"{n:064x}", 1, now=NOW)
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += STEPS
        return 0

    with site.engine.connect() as connection:
        driver = connection.connection.driver_connection
        assert driver is not None
        if site.engine.dialect.name == "sqlite":  # the other one does not count its steps
            driver.set_progress_handler(count, STEPS)
        found = job_code.unused(connection, owner="eve")
        if site.engine.dialect.name == "sqlite":
            driver.set_progress_handler(None, 0)
    assert len(found) == 49 and first.code not in [one[1] for one in found]
    assert steps < 20 * STEPS
