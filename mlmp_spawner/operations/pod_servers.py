"""The users' servers on a Kubernetes cluster, as the clock sees and reaches them.

What runs is known from the pods with our labels; when it ends is told by annotations on them. A server is stopped
through the hub, so that pages and proxy know at once; when the hub is silent, refuses, or knows nothing of it, by
deleting the pod. While the cluster does not answer nothing is concluded: every method raises ``Unavailable``.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import replace

from mlmp_spawner import units
from mlmp_spawner.deadlines import Deadline
from mlmp_spawner.errors import MLMPError, Unavailable
from mlmp_spawner.hub import HubClient
from mlmp_spawner.kube.pods import Pods, ServerPod, grace, on_its_way
from mlmp_spawner.operations.clock import RunningServer
from mlmp_spawner.operations.stops import StopsUnderWay

log = logging.getLogger(__name__)


class PodServers:
    """:class:`~mlmp_spawner.operations.clock.Servers` on a cluster.

    :param silent_after: seconds that the hub gets to bring a pod on its way out. ``answers``: whether the cluster did
        the last time it was asked what runs.
    """

    def __init__(self, pods: Pods, hub: HubClient, *, silent_after: float = 10.0) -> None:
        self.pods = pods
        self.hub = hub
        self.silent_after = silent_after
        self.answers = False
        self._seen: dict[str, list[ServerPod]] = {}
        self.stops = StopsUnderWay()
        self._asked: dict[str, float] = {}
        self._unknown: set[str] = set()

    async def running(self) -> dict[str, RunningServer]:
        """The servers whose pod is there, be it waiting for its image or being deleted."""
        try:
            found = await self.pods.servers()
        except Unavailable:
            self.answers = False
            raise
        self.answers = True
        self._complain({pod.name for pod in found if not pod.server_id})
        self._seen = {}
        for pod in found:
            if pod.server_id and not pod.finished:
                self._seen.setdefault(pod.server_id, []).append(pod)
        return {server_id: _server(pods) for server_id, pods in self._seen.items()}

    async def publish(self, server_id: str, deadline: Deadline) -> bool:
        """Writes the deadline on the pod, if it differs; False where an enforcer may have acted before."""
        pods = self._seen.get(server_id, [])
        if not pods or any(pod.deadline != deadline for pod in pods):
            pods = await self._look(server_id)
        in_time = True
        for pod in pods:
            if pod.deadline != deadline:
                await self.pods.publish(pod, deadline)
            in_time = in_time and _in_time(pod)
        self._seen[server_id] = [replace(pod, deadline=deadline) for pod in pods]
        return in_time

    async def stop(self, running: RunningServer, deadline: Deadline) -> None:
        """Asks the hub; a stop on its way is not asked for again, and nobody waits for it to be over."""
        self.stops.begin(running.server_id, lambda: self._stop(running, deadline))

    async def forget(self, live: set[str]) -> None:
        """What is published goes with the pod; only what is known here of past stops is cleared away."""
        for server_id in self.stops.forget(live):
            self._asked.pop(server_id, None)

    async def close(self) -> None:
        """Closes the connection to the cluster."""
        await self.stops.cancel()
        await self.pods.close()

    async def _stop(self, running: RunningServer, deadline: Deadline) -> None:
        try:
            if self._left(await self._look(running.server_id), deadline):
                await self._ask_hub(running)
                await self._delete(running, deadline)
        except MLMPError as error:
            log.warning("could not stop %s, tried again: %s", running.server_id, error.detail)
        except Exception:
            log.exception("stopping %s failed; tried again", running.server_id)

    async def _ask_hub(self, running: RunningServer) -> None:
        """Returns when the hub has done it, or has had its time; then its pods are looked at."""
        begun = self._asked.setdefault(running.server_id, time.monotonic())
        left = self.silent_after - (time.monotonic() - begun)
        if not running.owner or left <= 0:
            return
        try:
            if not await asyncio.wait_for(self.hub.stop_server(running.owner, running.server), left):
                return
            why = "it says that it runs no longer"
        except (MLMPError, asyncio.TimeoutError) as error:
            why = str(error) or "it is silent"
        # It counts as asked all the time that it has: no more is to be expected of it.
        self._asked[running.server_id] = begun - self.silent_after
        log.info("the hub was asked to stop %s: %s", running.server_id, why)

    async def _delete(self, running: RunningServer, deadline: Deadline) -> None:
        """Deletes what the hub, in its time, has not brought on its way."""
        if time.monotonic() - self._asked[running.server_id] < self.silent_after:
            return
        for pod in self._left(await self._look(running.server_id), deadline):
            seconds = grace(deadline, units.now())
            if await self.pods.delete(pod, grace=seconds):
                log.warning("stopped %s past the hub: pod %s deleted, %d s to end", pod.server_id, pod.name, seconds)

    def _left(self, pods: list[ServerPod], deadline: Deadline) -> list[ServerPod]:
        """The pods that nobody ends in time yet."""
        now = units.now()
        return [pod for pod in pods if not on_its_way(pod, deadline, now)]

    async def _look(self, server_id: str) -> list[ServerPod]:
        return [pod for pod in await self.pods.servers(server_id) if not pod.finished]

    def _complain(self, names: set[str]) -> None:
        for name in sorted(names - self._unknown):
            log.warning("pod %s is labelled as a server, but not with which: it is left alone", name)
        self._unknown = names


def _server(pods: list[ServerPod]) -> RunningServer:
    leaves = all(pod.deleting_at is not None for pod in pods)
    return RunningServer(pods[0].server_id, pods[0].owner, pods[0].server, leaves=leaves)


def _in_time(pod: ServerPod) -> bool:
    """Whether no enforcer can have acted by the deadline on a pod yet; one that is ahead may have deleted it."""
    former = pod.deadline
    return former is None or units.now() < (former.acts_at if pod.deleting_at is None else former.stop_at)
