"""``mlmp enforce``: ends pods of servers and jobs past their end, knowing nothing but what is written on them.

It asks the cluster again and again which such pods there are, and deletes those whose deadline has passed: as
politely as there is time left, so that nothing runs at the end. It is the last to act, a little after hub and service
would have. It needs neither of them, no database, and no more rights than to list and delete pods in one namespace.

What a node does not end (it is cut off, or its kubelet hangs) is never deleted by force: that would only hide the pod
from the scheduler, which would give its units to somebody else while they are still in use.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from contextlib import suppress
from pathlib import Path

from mlmp_spawner import units
from mlmp_spawner.deadlines import Deadline
from mlmp_spawner.errors import Unavailable
from mlmp_spawner.kube.pods import Pods, ServerPod, grace, on_its_way
from mlmp_spawner.units import MINUTE, SECOND, format_duration

log = logging.getLogger("mlmp.enforce")

AT_ONCE = 20
"""How many pods are deleted at the same time."""
AGAIN = 0.2
"""Seconds until the next look where a pod changed between being seen and being deleted."""
LATE = 15 * SECOND
"""How long after its end a pod that is still there is worth a word; repeated every so often."""


def must_end(pod: ServerPod, now: int) -> Deadline | None:
    """The deadline by which a pod is to be deleted now; None where it is to be left alone."""
    deadline = pod.deadline
    if pod.attempt and pod.finished:
        return None  # it tells how the job ended, which the service may not have read yet
    if deadline is None or now < deadline.acts_at or on_its_way(pod, deadline, now):
        return None
    return deadline


class Enforcer:
    """Looks, deletes, and says what it did.

    :param every: the longest that it waits between two looks, in seconds.
    :param alive: a file that is touched after each look that the cluster answered.
    """

    def __init__(self, pods: Pods, *, every: float = 3.0, alive: Path | None = None) -> None:
        self.pods = pods
        self.every = every
        self.alive = alive
        self._silent_since: int | None = None
        self._unreadable: set[str] = set()
        self._said: dict[str, int] = {}

    async def run(self) -> None:
        """Looks for ever; no failure ends it."""
        while True:
            try:
                wait = await self.look(units.now())
            except Exception:
                log.exception("looking failed; tried again")
                wait = self.every
            await asyncio.sleep(wait)

    async def look(self, now: int) -> float:
        """One look, and what follows from it; returns after how many seconds the next one is due."""
        try:
            pods = await self.pods.servers()
        except Unavailable as error:
            self._no_answer(error, now)
            return min(self.every, 1.0)
        self._answered(now)
        self._complain(pods, now)
        room = asyncio.Semaphore(AT_ONCE)
        done = await asyncio.gather(*(self._end(pod, room, now) for pod in pods if must_end(pod, now)))
        if not all(done):
            return AGAIN
        coming = [pod.deadline.acts_at - now for pod in pods if pod.deadline and pod.deadline.acts_at > now]
        return min([self.every, *(left / 1000 for left in coming)])

    async def _end(self, pod: ServerPod, room: asyncio.Semaphore, now: int) -> bool:
        """Deletes a pod; False where it must be looked at anew.

        Only if it is exactly as it was seen: its deadline may have been moved meanwhile.
        """
        assert pod.deadline is not None
        seconds = grace(pod.deadline, now)
        try:
            async with room:
                deleted = await self.pods.delete(pod, grace=seconds, unchanged=True)
        except Unavailable as error:
            log.error("could not delete pod %s of %r, tried again: %s", pod.name, pod.owner, error.detail)
            return True
        if deleted:
            log.warning(
                "deleted pod %s (%s of %r): its stop was due %s ago; %d s to end", pod.name,
                pod.attempt or pod.server_id, pod.owner, format_duration(max(0, now - pod.deadline.stop_at)), seconds,
            )  # fmt: skip
        return deleted

    def _no_answer(self, error: Unavailable, now: int) -> None:
        if self._silent_since is None:
            self._silent_since = now
            log.error("nobody can be stopped by me now, tried again: %s", error.detail)

    def _answered(self, now: int) -> None:
        if self._silent_since is not None:
            log.warning("the cluster answers again, after %s", format_duration(now - self._silent_since))
            self._silent_since = None
        if self.alive is not None:
            try:
                self.alive.touch()
            except OSError as error:
                log.error("can't touch %s: %s", self.alive, error)

    def _complain(self, pods: list[ServerPod], now: int) -> None:
        """Says once what has no end, and every minute what outlives its end. A job that has no node yet has none."""
        pods = [pod for pod in pods if not (pod.attempt and (pod.finished or not pod.node))]
        for pod in pods:
            if pod.deadline is None:
                if pod.uid not in self._unreadable:
                    log.warning("pod %s has no deadline that can be read: left alone", pod.name)
                continue
            over = now - pod.deadline.end
            if over >= LATE and now >= self._said.get(pod.uid, 0) + MINUTE:
                self._said[pod.uid] = now
                log.error(
                    "pod %s is there %s after its end: node %s does not end it", pod.name, format_duration(over),
                    pod.node or "(none)",
                )  # fmt: skip
        self._unreadable = {pod.uid for pod in pods if pod.deadline is None}
        self._said = {pod.uid: self._said[pod.uid] for pod in pods if pod.uid in self._said}


async def enforce(enforcer: Enforcer) -> None:
    """Runs it until SIGTERM or SIGINT, which end it at once."""
    loop, running = asyncio.get_running_loop(), asyncio.ensure_future(enforcer.run())
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, running.cancel)
    try:
        with suppress(asyncio.CancelledError):
            await running
    finally:
        await enforcer.pods.close()
