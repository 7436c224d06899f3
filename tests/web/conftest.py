"""The application on a small site, on both databases."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from sqlalchemy import insert

from mlmp_spawner.operations.site import Site
from mlmp_spawner.store.engine import make_engine
from mlmp_spawner.store.tables import users
from mlmp_spawner.store.transaction import transaction
from mlmp_spawner.web.context import Jobs
from tests.conftest import BACKENDS, database
from tests.operations.conftest import NOW, site, small_site
from tests.web.harness import RunningApp
from tests.web.job_parts import make_jobs
from tests.web.visitor import Visitor

__all__ = ["site"]


@pytest.fixture
def app(site: Site, tmp_path: Path) -> Iterator[RunningApp]:
    """The application; ``app.now`` is its time."""
    with running(site, tmp_path) as made:
        yield made


@pytest.fixture(scope="module", params=BACKENDS)
def still(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    """An application for all tests of a module that only ask, or are refused: nothing may change in it."""
    folder = tmp_path_factory.mktemp("still")
    with database(request, folder) as url:
        engine = make_engine(url)
        with running(small_site(engine, folder), folder) as made:
            yield made
        engine.dispose()


@contextmanager
def running(site: Site, folder: Path) -> Iterator[RunningApp]:
    """The application of a site, whose admin is known."""
    with transaction(site.engine) as connection:
        connection.execute(insert(users), [{"id": 10, "name": "root"}])
    with RunningApp(site, NOW) as made:
        made.context.jobs = make_jobs(folder)
        yield made


@pytest.fixture
def jobs(app: RunningApp) -> Jobs:
    """What handlers need of jobs."""
    assert app.context.jobs is not None
    return app.context.jobs


@pytest.fixture
def ann(app: RunningApp) -> Iterator[httpx.Client]:
    with app.client("ann-token") as client:
        yield client


@pytest.fixture
def ben(app: RunningApp) -> Iterator[httpx.Client]:
    with app.client("ben-token") as client:
        yield client


@pytest.fixture
def admin(app: RunningApp) -> Iterator[httpx.Client]:
    with app.client("admin-token") as client:
        yield client


@pytest.fixture
def visit(app: RunningApp) -> Iterator[Callable[[str], Visitor]]:
    visitors: list[Visitor] = []

    def make(token: str = "ann-token") -> Visitor:
        visitors.append(Visitor(app, token))
        return visitors[-1]

    yield make
    for one in visitors:
        one.http.close()
