"""The application on a small site, on both databases."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import httpx
import pytest
from sqlalchemy import insert

from mlmp_spawner.operations.site import Site
from mlmp_spawner.store.tables import users
from mlmp_spawner.store.transaction import transaction
from tests.operations.conftest import NOW, site
from tests.web.harness import RunningApp
from tests.web.visitor import Visitor

__all__ = ["site"]


@pytest.fixture
def app(site: Site) -> Iterator[RunningApp]:
    """The application; ``app.now`` is its time."""
    with transaction(site.engine) as connection:
        connection.execute(insert(users), [{"id": 10, "name": "root"}])
    with RunningApp(site, NOW) as running:
        yield running


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
