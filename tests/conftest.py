"""Fixtures that all tests share: real databases, one per test, on SQLite and on PostgreSQL."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Engine

from mlmp_spawner.store.engine import make_engine
from tests.databases import PostgreSQL, postgresql_programs, sqlite_copy, sqlite_template

BACKENDS = ("sqlite", "postgresql")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With CI=true nothing is skipped: what would be has failed."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("CI") == "true":
        report.outcome = "failed"
        report.longrepr = f"CI=true, and this would be skipped: {report.longrepr}"
    return report


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """A PostgreSQL cluster for the session, with a template database."""
    if postgresql_programs() is None:
        pytest.skip("no PostgreSQL here; on Debian and Ubuntu: apt-get install postgresql")
    server = PostgreSQL()
    try:
        server.create_template()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def sqlite_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with our schema, to be copied."""
    return sqlite_template(tmp_path_factory.mktemp("sqlite") / "template.sqlite")


@contextmanager
def database(request: pytest.FixtureRequest, folder: Path) -> Iterator[str]:
    """The URL of a fresh database on the backend that is the fixture's parameter, for as long as it lasts."""
    if request.param == "sqlite":
        yield sqlite_copy(request.getfixturevalue("sqlite_file"), folder / "mlmp.sqlite")
        return
    server: PostgreSQL = request.getfixturevalue("postgresql")
    url = server.create()
    yield url
    server.drop(url)


@pytest.fixture(params=BACKENDS)
def db_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a fresh database with a hub's table ``users`` and our schema; the test runs on each backend."""
    with database(request, tmp_path) as url:
        yield url


@pytest.fixture(params=BACKENDS)
def empty_db_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database; the test runs on each backend."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'empty.sqlite'}"
        return
    server: PostgreSQL = request.getfixturevalue("postgresql")
    url = server.create(template=None)
    yield url
    server.drop(url)


@pytest.fixture
def engine(db_url: str) -> Iterator[Engine]:
    """An engine on a fresh database; the test runs on each backend."""
    made = make_engine(db_url, pool_size=20)
    yield made
    made.dispose()
