"""Jobs on this machine do what every back-end does, below ``mlmp run``s that a starter of ``mlmp up`` begins."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mlmp_spawner.jobs.base import Order
from mlmp_spawner.jobs.local import LocalJobs
from mlmp_spawner.units import HOUR, SECOND
from tests.jobs.contract import BackendContract, running_here
from tests.jobs.workplace import Workplace


class LocalBench:
    """The local back-end at a workplace."""

    def __init__(self, place: Workplace) -> None:
        self.place = place
        self.backend = place.backend

    async def order(
        self,
        script: str,
        *,
        stop_in: int = HOUR,
        grace: int = 10 * SECOND,
        environment: dict[str, str] | None = None,
        secrets: dict[str, str] | None = None,
        command: list[str] | None = None,
        log_limit: int = 1 << 20,
    ) -> Order:
        return self.place.order(
            stop_in=stop_in, grace=grace, environment=environment or {}, secrets=secrets,
            command=command or ["sh", "-c", script], log_limit=log_limit,
        )  # fmt: skip

    async def restart(self) -> None:
        self.place.kill()
        self.place.start()
        self.backend = LocalJobs(self.place.files)

    def running(self, order: Order) -> int:
        return running_here(order)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    made = Workplace.make(tmp_path_factory.mktemp("jobs"))
    made.start()
    yield made
    made.close()


class TestLocalJobs(BackendContract):
    @pytest.fixture
    def bench(self, place: Workplace) -> LocalBench:
        return LocalBench(place)
