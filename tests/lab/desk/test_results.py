"""Where the results of jobs and scans are, as the real service tells it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy import insert

from mlmp_spawner.client import config
from mlmp_spawner.client.api import Client
from mlmp_spawner.errors import NotAllowed, NotFound
from mlmp_spawner.lab.desk import results
from mlmp_spawner.operations import catalog_sync
from mlmp_spawner.operations.site import Site
from mlmp_spawner.store.engine import make_engine
from mlmp_spawner.store.tables import users
from mlmp_spawner.store.transaction import transaction
from tests.databases import sqlite_copy
from tests.operations.conftest import NOW, catalog
from tests.web.harness import RunningApp
from tests.web.job_parts import SLEEP
from tests.web.job_rows import Rows

Of = Callable[..., Client]


@pytest.fixture(scope="module")
def app(sqlite_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    engine = make_engine(sqlite_copy(sqlite_file, tmp_path_factory.mktemp("results") / "mlmp.sqlite"))
    with transaction(engine) as connection:
        connection.execute(insert(users), [{"id": n, "name": who} for n, who in enumerate(("ann", "ben", "root"), 1)])
    site = Site(engine, catalog(gpu_a=4))
    catalog_sync.sync(site, now=NOW)
    with RunningApp(site, NOW) as running:
        yield running
    engine.dispose()


@pytest.fixture(scope="module")
def rows(app: RunningApp, tmp_path_factory: pytest.TempPathFactory) -> Rows:
    return Rows.of(app, tmp_path_factory.mktemp("rows"))


@pytest.fixture
def client(app: RunningApp) -> Iterator[Callable[..., Client]]:
    """A client of somebody's."""
    with ExitStack() as open_ones:

        def make(token: str = "ann-token") -> Client:
            return open_ones.enter_context(Client(config.load({"MLMP_URL": f"{app.url}/", "MLMP_TOKEN": token})))

        yield make


def test_a_job_has_the_folder_it_ran_in(client: Of, rows: Rows):
    job = rows.add(name="plain")
    assert results.of_job(client(), job.id) == ("plain", {"outputs": f"mlmp-jobs/{job.id}"})


def test_and_those_that_its_manifest_names(client: Of, rows: Rows):
    manifest = {"outputs": "runs/{name}", "metrics": [{"tensorboard": "~/boards/{id}"}, {"tensorboard": "logs"}]}
    job = rows.add(name="placed", manifest=manifest)
    _, found = results.of_job(client(), job.id)
    assert found == {
        "outputs": "runs/placed", "work": f"mlmp-jobs/{job.id}", "metrics-1": f"boards/{job.id}",
    }  # fmt: skip


def test_a_folder_within_another_is_not_shown_twice(client: Of, rows: Rows):
    job = rows.add(name="within", manifest={"outputs": "mlmp-jobs/{id}/out"})
    _, found = results.of_job(client(), job.id)
    assert found == {"work": f"mlmp-jobs/{job.id}"}


def test_each_row_of_a_scan_is_named_by_its_parameters(app: RunningApp, client: Of):
    asked = {"manifest": SLEEP, "parameters": {"lr": [0.1, 0.01]}, "name": "rates", "out": "runs/lr={lr}"}
    with app.client() as ann:
        scan = ann.post("scans", json=asked).json()
    name, found = results.of_scan(client(), scan["id"])
    jobs = [row["job"] for row in scan["rows"]]
    assert name == "rates"
    assert found == {
        "lr=0.1": "runs/lr=0.1", "lr=0.1,work": f"mlmp-jobs/{jobs[0]}",
        "lr=0.01": "runs/lr=0.01", "lr=0.01,work": f"mlmp-jobs/{jobs[1]}",
    }  # fmt: skip


def test_what_is_somebody_elses_is_in_another_home(app: RunningApp, client: Of, rows: Rows):
    job = rows.add()
    with app.client() as ann:
        scan = ann.post("scans", json={"manifest": SLEEP, "parameters": {"lr": [0.1, 0.01]}}).json()
    for look, id in ((results.of_job, job.id), (results.of_scan, scan["id"])):
        with pytest.raises(NotAllowed, match="somebody else's"):
            look(client("admin-token"), id)
        with pytest.raises((NotAllowed, NotFound)):
            look(client("ben-token"), id)


@pytest.mark.parametrize("id", ["abcdefgh1234", "../me", "a/b", ""])
def test_what_is_not_there_is_told_as_such(client: Of, id: str):
    for look in (results.of_job, results.of_scan):
        with pytest.raises(NotFound):
            look(client(), id)
