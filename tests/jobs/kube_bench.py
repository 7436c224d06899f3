"""The back-end on pods, in a played cluster."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest

from mlmp_spawner import units
from mlmp_spawner.deadlines import Deadline
from mlmp_spawner.errors import MLMPError
from mlmp_spawner.jobs.base import Order
from mlmp_spawner.jobs.files import JobFiles
from mlmp_spawner.jobs.kube import KubeJobs
from mlmp_spawner.kube.files import Account
from mlmp_spawner.kube.job_pods import Surroundings
from mlmp_spawner.rules.job_manifest import for_job
from mlmp_spawner.rules.storage import Storage
from mlmp_spawner.units import HOUR, SECOND
from tests.jobs.contract import (
    running_here,
)
from tests.jobs.played_cluster import PlayedCluster
from tests.jobs.played_job_kueue import PlayedKueue


class KubeBench:
    """The back-end on a played cluster, which lets everything in at once, unless ``waits``; ``closed``: whether
    network policies keep pods apart there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.waits = False
        self.closed = False
        self.orders: dict[str, Order] = {}
        self.cluster = PlayedCluster(self._let_in)
        self.kueue = PlayedKueue(self.cluster)
        self.files = JobFiles(folder / "jobs")
        self.files.prepare()
        self.ahead = 0
        self.backend = self._connect()
        self._numbers = count(1)
        self._looks = asyncio.ensure_future(self._look())

    async def _look(self) -> None:
        """As the queue of the service does, again and again."""
        while True:
            with suppress(MLMPError):
                await self.backend.list()
            await asyncio.sleep(0.05)

    def _connect(self) -> KubeJobs:
        return KubeJobs(self.cluster, self.files, self._surroundings, lambda attempt: "t", self.kueue,
                        clock=lambda: units.now() + self.ahead)  # fmt: skip

    async def _surroundings(self, owner: str) -> Surroundings:
        home = Storage(claim="homes", home=str(self.folder / "home"))
        account = Account(1000)
        return Surroundings("users", "http://hub/", "http://mlmp/", "mlmp/lab:1", home, owner, account,
                            closed=self.closed)  # fmt: skip

    def _let_in(self, attempt: str) -> Deadline | None:
        order = self.orders.get(attempt)
        return None if order is None or self.waits else Deadline(order.stop_at, order.kill_at)

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
        workers: int = 1,
    ) -> Order:
        job, stop_at = f"pod{self.folder.name[-8:].replace('_', '')}{next(self._numbers)}", units.now() + stop_in
        said = {"command": command or ["sh", "-c", script], "environment": environment or {}}
        manifest = for_job(said | {"checkpoint": "c/{id}", "outputs": "o/{id}"}, job)
        order = Order(
            f"{job}-1", job, 1, "eve", manifest, (), stop_at, stop_at + grace, grace, secrets=secrets or {},
            log_limit=log_limit, resource="nvidia.com/gpu", workers=workers, nodes=frozenset({"here"}),
            length=stop_in, image="torch:2", queue="lq",
        )  # fmt: skip
        self.orders[order.id] = order
        return order

    async def restart(self) -> None:
        await self.backend.close()
        self.backend = self._connect()

    def running(self, order: Order) -> int:
        return running_here(order)

    async def end(self) -> None:
        self._looks.cancel()
        await self.backend.close()
        await self.cluster.end()


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[KubeBench]:
    made = KubeBench(tmp_path)
    yield made
    await made.end()
