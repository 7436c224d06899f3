"""The stops of servers that are under way: one for each server, and nobody waits for it to be over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any


class StopsUnderWay:
    """What the service is stopping just now, by server id."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    def begin(self, server_id: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Starts ``work``, unless the server's stop is on its way already."""
        task = self._tasks.get(server_id)
        if task is None or task.done():
            self._tasks[server_id] = asyncio.create_task(work())

    def forget(self, live: Iterable[str]) -> list[str]:
        """Clears away the stops that are over, of servers that are not in ``live``; returns whose."""
        over = [key for key, task in self._tasks.items() if task.done() and key not in live]
        for server_id in over:
            del self._tasks[server_id]
        return over

    async def over(self) -> None:
        """Returns when all that are under way now are over."""
        await asyncio.gather(*self._tasks.values())

    async def cancel(self) -> None:
        """Ends them as they are."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
