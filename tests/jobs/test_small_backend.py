"""The contract on a back-end of a hundred lines: what another one would have to do, and no more."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path

import pytest

from mlmp_spawner import units
from mlmp_spawner.jobs.base import Order, Place
from tests.jobs.contract import Asked, BackendContract, Bench, running_here
from tests.jobs.small_backend import SmallBackend, end_all


class SmallBench(Bench):
    """The small back-end in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.backend = SmallBackend(folder)
        self.orders: list[Order] = []
        self._numbers = count(1)

    async def written(self, asked: Asked) -> Order:
        job, stop_at = f"small{self.folder.name}{next(self._numbers)}", units.now() + asked.stop_in
        order = Order(f"{job}-1", job, 1, "eve", asked.said, (Place("here"),), stop_at, stop_at + asked.grace,
                      asked.grace, secrets=asked.secrets, log_limit=asked.log_limit)  # fmt: skip
        self.orders.append(order)
        return order

    async def restart(self) -> None:
        self.backend = SmallBackend(self.folder)

    def running(self, order: Order) -> int:
        return running_here(order)


class TestSmallBackend(BackendContract):
    @pytest.fixture
    async def bench(self, tmp_path: Path) -> AsyncIterator[SmallBench]:
        made = SmallBench(tmp_path)
        yield made
        for order in made.orders:
            end_all(order.id, 9)
