"""Images on their nodes before they are needed: looks what is there, lets pods pull what is not, clears away.

All state is in the cluster, so that a look that is repeated, or the first one after a crash, does no harm: the pods of
a pull have names of their own, and what was asked for by hand is a pod that waits. What to do says
:mod:`mlmp_spawner.rules.preload`.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol

from mlmp_spawner import units
from mlmp_spawner.errors import MLMPError
from mlmp_spawner.kube.preload_pods import PullSettings
from mlmp_spawner.kube.preloading import Refused
from mlmp_spawner.operations import history
from mlmp_spawner.operations.image_states import Look, image_named, nodes_named, offered
from mlmp_spawner.operations.site import Site
from mlmp_spawner.rules import preload as rules
from mlmp_spawner.rules.preload import Key, NodeImages, Pull, PullPod
from mlmp_spawner.rules.reservations import Reservation
from mlmp_spawner.settings import MLMP
from mlmp_spawner.store import reservations as store
from mlmp_spawner.store.tables import reservation as table
from mlmp_spawner.store.transaction import read, transaction
from mlmp_spawner.units import MINUTE

log = logging.getLogger(__name__)

SELDOM, OFTEN = 10.0, 3.0
"""Seconds between two looks; often while something is being pulled."""

REFUSED_FOR = MINUTE
"""How long (ms) nothing is asked for again that the cluster refused."""


class PullCalls(Protocol):
    """The calls to the cluster, as :class:`~mlmp_spawner.kube.preloading.PreloadPods` makes them. A seam for tests."""

    async def nodes(self) -> dict[str, NodeImages]: ...
    async def pods(self) -> list[PullPod]: ...
    async def create(self, pull: Pull, *, asked_by: str = "") -> None: ...
    async def start(self, pod: PullPod, now: int) -> None: ...
    async def note(self, pod: PullPod, problem: str) -> None: ...
    async def claim(self, pod: PullPod, asked_by: str) -> None: ...
    async def delete(self, pod: PullPod) -> None: ...


class Preloads:
    """Sees to it that images are where they will be needed. ``last`` is what the last look saw.

    :param calls: to the cluster.
    """

    def __init__(self, site: Callable[[], Site], settings: MLMP, calls: PullCalls) -> None:
        self.site = site
        self.calls = calls
        self.before = None if settings.preload_before is None else round(settings.preload_before * 1000)
        self.timeout = round(settings.preload_timeout * 1000)
        self.last = Look()
        self._refused: dict[Key, tuple[int, str]] = {}
        self._looking = asyncio.Lock()
        self._due = asyncio.Event()

    async def run(self) -> None:
        """Looks again and again; no failure ends it."""
        while True:
            self._due.clear()
            await self.look()
            busy = any(pod.state in ("queued", "pulling") for pod in self.last.pods)
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._due.wait(), OFTEN if busy else SELDOM)

    async def look(self, now: int | None = None) -> Look:
        """One look, with all that follows from it. One that fails is told in ``last``; what it did not get to do, the
        next one does."""
        async with self._looking:
            try:
                self.last = await self._look(units.now() if now is None else now)
            except Exception as error:  # noqa: BLE001 -- no failure ends the loop
                said = error.detail if isinstance(error, MLMPError) else f"{type(error).__name__}: {error}"
                if self.last.problem != said:  # once, not every few seconds
                    log.warning("looking at the nodes' images failed; tried again: %s", said)
                last = self.last
                self.last = Look(last.at, last.nodes, last.pods, last.refused, said)
        return self.last

    async def ask(self, image: str, nodes: Sequence[str] | None, *, asked_by: str) -> Look:
        """Wants an image on these nodes ahead of time; None: on all on which a profile offers it.

        :raises NotFound, Invalid, Unavailable: nothing, or not all of it, was asked for.
        """
        catalog = self.site().catalog
        reference = image_named(catalog, image).reference
        wanted = nodes_named(catalog, nodes, offered(catalog, image) or tuple(catalog.nodes))
        async with self._looking:
            known = {pod.key: pod for pod in await self.calls.pods() if not pod.leaves}
            there = await self.calls.nodes()
            for pull in (Pull(node, reference) for node in wanted):
                if pull.node not in there or pull.key[1] not in there[pull.node].images:
                    await self._ask(pull, known.get(pull.key), asked_by)
        await asyncio.to_thread(self._record, "image_asked", asked_by, image, wanted)
        self._due.set()
        return await self.look()

    async def cancel(self, image: str, nodes: Sequence[str] | None, *, asked_by: str) -> Look:
        """Ends the pulls of an image on these nodes; None: on all. What a booking needs soon is pulled all the same.

        :raises NotFound, Invalid, Unavailable: nothing, or not all of it, was ended.
        """
        catalog = self.site().catalog
        reference = rules.normal(image_named(catalog, image).reference)
        wanted = nodes_named(catalog, nodes, tuple(catalog.nodes))
        meant = {(node, reference) for node in wanted}
        async with self._looking:
            for pod in await self.calls.pods():
                if pod.key in meant and pod.state != "pulled" and not pod.leaves:
                    await self.calls.delete(pod)
            self._refused = {key: said for key, said in self._refused.items() if key not in meant}
        await asyncio.to_thread(self._record, "image_called_off", asked_by, image, wanted)
        return await self.look()

    def _record(self, action: str, actor: str, image: str, nodes: Sequence[str]) -> None:
        with transaction(self.site().engine) as connection:
            history.record(connection, action, actor=actor, at=units.now(), image=image, nodes=list(nodes))

    async def _ask(self, pull: Pull, pod: PullPod | None, asked_by: str) -> None:
        if pod is not None and pod.state in ("queued", "pulling"):
            if not pod.asked_by:
                await self.calls.claim(pod, asked_by)
            return
        if pod is not None:  # a new one tries at once, the kubelet only after its back-off
            await self.calls.delete(pod)
        await self._create(pull, units.now(), asked_by=asked_by)

    async def _look(self, now: int) -> Look:
        site = self.site()
        nodes, pods = await self.calls.nodes(), await self.calls.pods()
        bookings = await asyncio.to_thread(_bookings, site, now, self.before or 0)
        wished = rules.wishes(now, bookings, site.catalog, self.before)
        self._refused = {key: said for key, said in self._refused.items() if now - said[0] < REFUSED_FOR}
        plan = rules.plan(now, wished, site.catalog, nodes, pods, timeout=self.timeout, refused=self._refused.keys())
        for pod in pods:
            if pod.state == "failing" and _gist(pod.problem) != _gist(pod.noted):
                log.warning("pulling %s to %s fails: %s", pod.reference, pod.node, pod.problem)
                await self.calls.note(pod, pod.problem)
        for pod in plan.delete:
            await self.calls.delete(pod)
        for pod in plan.start:
            await self.calls.start(pod, now)
        for pull in plan.create:
            log.info("pulling %s to %s", pull.reference, pull.node)
            await self._create(pull, now)
        if plan.delete or plan.start or plan.create:
            pods = await self.calls.pods()
        return Look(now, nodes, tuple(pods), {key: why for key, (_, why) in self._refused.items()})

    async def _create(self, pull: Pull, now: int, *, asked_by: str = "") -> None:
        try:
            await self.calls.create(pull, asked_by=asked_by)
        except Refused as error:
            log.warning("no pod may pull %s to %s: %s", pull.reference, pull.node, error.why)
            self._refused[error.key] = (now, error.why)


def _bookings(site: Site, now: int, before: int) -> list[Reservation]:
    """The bookings that begin within ``before`` ms, or have begun."""
    c = table.c
    with read(site.engine) as connection:
        return store.select_where(
            connection, store.is_booking(), store.not_given_back(), c.waiting_reason.is_(None),
            c.start <= now + before, c.end > now,
        )  # fmt: skip


def _gist(problem: str) -> str:
    """A problem without what changes from try to try: ports, sizes, times."""
    return re.sub(r"\d+", "", problem)


def settings_of(settings: MLMP) -> PullSettings:
    """How pods that pull are made: with the image pull secrets that the users' pods have."""
    return PullSettings(
        namespace=settings.namespace,
        timeout=round(settings.preload_timeout * 1000),
        secrets=_secrets(settings.config),
        priority_class=settings.preload_priority_class,
    )


def _secrets(config: Mapping[str, Any]) -> tuple[str, ...]:
    """What ``c.MLMPKubeSpawner.image_pull_secrets``, or ``c.KubeSpawner``'s, names: texts, or ``{"name": …}``."""
    for name in ("MLMPKubeSpawner", "KubeSpawner"):
        found = dict(config.get(name, {})).get("image_pull_secrets")
        if isinstance(found, (list, tuple)):
            named = (one.get("name") if isinstance(one, Mapping) else one for one in found)
            return tuple(str(one) for one in named if one)
    return ()
