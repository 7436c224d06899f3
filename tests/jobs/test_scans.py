"""A scan of trainings with all that ``mlmp up`` runs: two fail on purpose, are retried, and the best is found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page

from mlmp_spawner.client.api import Client
from mlmp_spawner.client.config import Access
from tests.browser.conftest import browser, complaints, new_page  # noqa: F401 -- fixtures
from tests.browser.people import Human
from tests.jobs import trainings
from tests.jobs.trainings import BEST, FAIL, ROWS
from tests.live import Site

AT_ONCE = 3


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(tmp_path_factory.mktemp("scans"), lab=True)
    try:
        yield made.start()
    finally:
        made.close()


@pytest.mark.faults
def test_a_scan_of_24_trainings_is_retried_browsed_and_its_best_is_found(
    site: Site,
    tmp_path: Path,
    new_page: Callable[..., Page],  # noqa: F811
) -> None:
    eve = site.person("eve")
    with Client(Access(site.url, eve.token)) as client:
        scan = trainings.submitted(client, tmp_path / "code", at_once=AT_ONCE)
        most = trainings.run(scan, {"succeeded": ROWS - 2, "failed": 2})
        assert 1 < most <= AT_ONCE
        failed = [row.parameters for row in scan.rows if row.state == "failed"]
        assert failed == FAIL
        assert scan.best("loss", lowest=True).parameters != BEST
        assert scan.retry() == 2
        trainings.run(scan, {"succeeded": ROWS})
        assert scan.best("loss", lowest=True).parameters == BEST
    person = Human(new_page(), site.url, "eve")
    person.go("book")
    person.say(profile="cpu")
    person.book()
    person.start()
    trainings.the_table_tells_the_best(person.go(f"scans/{scan.id}?metric=loss&low=1"))
    trainings.pscan_shows_all(person.page)
