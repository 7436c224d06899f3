"""Questions that block, asked in threads of their own: the hub has one thread for everybody, and no time to wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from mlmp_spawner.errors import Unavailable

T = TypeVar("T")

PATIENCE = 20.0
"""Seconds that an answer may take."""
AT_ONCE = 4
"""Questions under way at the same time."""


class Patience:
    """Asks somebody, and does not wait for ever.

    :param whom: who is asked, for people. :param seconds: how long an answer may take.
    """

    def __init__(self, whom: str, seconds: float = PATIENCE) -> None:
        self._whom = whom
        self._seconds = seconds
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="login")

    async def ask(self, question: Callable[[], T]) -> T:
        """The answer. :raises Unavailable: there is none in time."""
        answer = asyncio.get_running_loop().run_in_executor(self._threads, question)
        try:
            return await asyncio.wait_for(answer, self._seconds)
        except asyncio.TimeoutError as error:
            raise Unavailable(f"{self._whom} does not answer within {self._seconds:g} s.") from error
