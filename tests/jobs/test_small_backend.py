"""The contract on a back-end of a hundred lines: what another one would have to do, and no more."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path

import pytest

from mlmp_spawner import units
from mlmp_spawner.jobs.base import Order, Place
from mlmp_spawner.units import HOUR, SECOND
from tests.jobs.contract import BackendContract, running_here
from tests.jobs.small_backend import SmallBackend, end_all


class SmallBench:
    """The small back-end in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.backend = SmallBackend(folder)
        self.orders: list[Order] = []
        self._numbers = count(1)

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
        job, stop_at = f"small{self.folder.name}{next(self._numbers)}", units.now() + stop_in
        manifest = {"command": command or ["sh", "-c", script], "environment": environment or {}}
        order = Order(f"{job}-1", job, 1, "eve", manifest, (Place("here"),), stop_at, stop_at + grace, grace,
                      secrets=secrets or {}, log_limit=log_limit)  # fmt: skip
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
