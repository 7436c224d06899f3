"""Jobs as pods of a cluster: a Job for one worker, a group of pods for several, which Kueue lets in.

All objects of an attempt are made before anybody knows when it starts, and each attempt has its own: what was sent
away never comes back. What is seen follows from the objects alone (:mod:`mlmp_spawner.jobs.pod_attempts`); what must
outlive them is noted on a ConfigMap of the attempt, and what was printed is kept by the service
(:mod:`mlmp_spawner.jobs.pod_logs`). An attempt counts as ended once its log is whole, too.

Its end comes by annotations on its pods, which every enforcer reads; once it is due it is told to Kueue, which makes
the cluster send SIGTERM, and at last to the pods themselves.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import replace
from typing import Any

from mlmp_spawner import units
from mlmp_spawner.deadlines import Deadline
from mlmp_spawner.errors import Changed, Invalid, MLMPError, NotFound, Unavailable
from mlmp_spawner.jobs.base import LogPart, Order, Seen
from mlmp_spawner.jobs.files import JobFiles
from mlmp_spawner.jobs.kueue import Kueue
from mlmp_spawner.jobs.pod_attempts import (
    BEGAN,
    LOG_LIMIT,
    TALKS_WITH,
    WHOLE,
    WORKERS,
    Known,
    about_to_go,
    all_known,
    gated,
    look_at,
    outcome_note,
    unnoted,
)
from mlmp_spawner.jobs.pod_logs import PodLogs
from mlmp_spawner.jobs.pod_outcomes import Ended, how_ended, to_be_ended
from mlmp_spawner.kube.job_network import name_at_server
from mlmp_spawner.kube.job_pods import RECORD, Surroundings, Work, name_of, objects
from mlmp_spawner.kube.job_queues import HOSTNAME
from mlmp_spawner.kube.labels import ATTEMPT, JOB, KIND, deadline_annotations, deadline_of
from mlmp_spawner.kube.objects import Objects
from mlmp_spawner.kube.workloads import Workload, active
from mlmp_spawner.units import MINUTE, SECOND, from_iso

log = logging.getLogger(__name__)

LAST_WORDS = 1.0
"""Seconds for which a look waits until what was printed last is there; the next look goes on."""
LAST_CHANCE = 10.0
"""Seconds for which an attempt that is forgotten is waited for in the same way."""
TRIES = 4
"""How often a change is tried that somebody else's was in the way of."""
HALF_MADE_FOR = 10 * MINUTE
"""How long (ms) objects of an attempt stay that nobody goes on making: its job may be gone."""
NODES_KNOWN_FOR = 5 * MINUTE / SECOND
WORKLOADS_KNOWN_FOR = 1.0
"""Seconds."""
SHORT_OF = SECOND
"""A pod that goes no more than this (ms) after its end is on its way."""


class KubeJobs:
    """:class:`~mlmp_spawner.jobs.base.Backend` in a cluster with Kueue.

    :param cluster: of the namespace of users' pods. :param surroundings: of an owner. :param token: of an attempt's
        pods. :param clock: ms UTC.
    """

    queues = True

    def __init__(
        self,
        cluster: Objects,
        files: JobFiles,
        surroundings: Callable[[str], Awaitable[Surroundings]],
        token: Callable[[str], str],
        kueue: Kueue,
        *,
        clock: Callable[[], int] = units.now,
    ) -> None:
        self.files = files
        self._cluster = cluster
        self._surroundings = surroundings
        self._token = token
        self._kueue = kueue
        self._clock = clock
        self._logs = PodLogs(cluster, files)
        self._noted: dict[str, tuple[Ended, int | None]] = {}
        self._hostnames: dict[str, str] = {}
        self._hostnames_read = float("-inf")
        self._workloads_known: Sequence[Workload] = ()
        self._workloads_read = float("-inf")
        self._reading = asyncio.Lock()

    # -- the five verbs --------------------------------------------------------------------------------------------

    async def submit(self, order: Order) -> None:
        """Makes its objects; it starts once it is let in.

        :raises MLMPError: they can't be made now; what was made stays, and is gone on from.
        """
        before = await self._find(order.id)
        if before.record is not None and before.record.whole:
            return
        around = await self._surroundings(order.owner)
        work = work_of(order, await self._labels(order.nodes))
        for item in objects(work, around, order.secrets, self._token(order.id)):
            if item["kind"] == RECORD:
                said = {WORKERS: str(order.workers), LOG_LIMIT: str(order.log_limit)}
                said |= {TALKS_WITH: order.server} if order.server else {}
                item["metadata"] = {**item["metadata"], "annotations": said}
            await self._cluster.create(item)
        await self._note(order.id, {WHOLE: "true"})

    async def state(self, attempt: str) -> Seen | None:
        """What is seen of one."""
        return await self._look_at(await self._find(attempt))

    async def list(self) -> dict[str, Seen]:
        """All of which there is anything."""
        found = await self._all(f"{KIND}={JOB}")
        seen = await asyncio.gather(*map(self._look_at, found.values()))
        return {one.id: one for one in seen if one is not None}

    async def logs(self, attempt: str, start: int, limit: int) -> LogPart:
        """A part of what was read of its log so far."""
        whole = self.files.log_is_whole(attempt)
        return await asyncio.to_thread(self.files.read_log, attempt, start, limit, complete=whole)

    async def cancel(self, attempt: str, *, stop_at: int, kill_at: int) -> None:
        """Writes when it ends where its enforcers look, and ends it where that is due. What has not started goes."""
        known = await self._find(attempt)
        if known.record is None and known.job is None and not known.pods:
            return
        former, wanted = known.deadline, Deadline(stop_at, kill_at)
        if former is not None:
            wanted = Deadline(min(former.stop_at, stop_at), min(former.end, kill_at))
        await self._publish(known, wanted)
        await self._end_in_time(known, wanted)

    async def forget(self, attempt: str) -> None:
        """Deletes its objects. What still runs is not forgotten."""
        known = await self._find(attempt)
        if not all(gated(pod) or how_ended(pod) is not None for pod in known.pods):
            return
        await self._logs.finish(attempt, LAST_CHANCE)
        await self._remove(known)

    async def close(self) -> None:
        """Ends the reading of logs, which begins anew with the next look of whoever comes after."""
        await self._logs.close()

    # -- what is seen ----------------------------------------------------------------------------------------------

    async def _find(self, attempt: str) -> Known:
        found = await self._all(f"{KIND}={JOB},{ATTEMPT}={attempt}")
        return found.get(attempt) or Known(attempt)

    async def _all(self, selector: str) -> dict[str, Known]:
        # The records first: one that is not seen was made after, or its attempt is gone.
        records = await self._cluster.metadata(RECORD, selector)
        jobs = await self._cluster.items("Job", selector)
        return all_known(records, jobs, await self._cluster.items("Pod", selector))

    async def _look_at(self, known: Known) -> Seen | None:
        """What is seen of it; what has to be noted, read or ended is, as far as that goes now."""
        now = self._clock()
        try:
            await self._follow_up(known, now)
        except MLMPError as error:
            log.warning("%s: %s", known.attempt, error)
        if known.record is not None and known.record.outcome is None and known.attempt in self._noted:
            outcome, started_at = self._noted[known.attempt]
            known = replace(known, record=replace(known.record, outcome=outcome, started_at=started_at))
        seen = look_at(known, now)
        if seen is not None and seen.phase == "ended" and not await self._logs.finish(known.attempt, LAST_WORDS):
            return Seen(known.attempt, "running", started_at=seen.started_at)
        return seen

    async def _follow_up(self, known: Known, now: int) -> None:
        await self._logs.follow(known)
        if known.record is None:
            return
        if known.half_made:
            if now >= known.record.made_at + HALF_MADE_FOR:
                await self._remove(known)
            return
        if known.started and not known.record.began:
            await self._note(known.attempt, {BEGAN: "true"})
        outcome = known.record.outcome
        if outcome is None:
            outcome = await self._note_outcome(known, now)
        deadline = known.deadline if outcome is None else _at_once(known, outcome, now)
        if deadline is not None:
            if outcome is None:
                await self._publish(known, deadline)
            await self._end_in_time(known, deadline)

    async def _note_outcome(self, known: Known, now: int) -> Ended | None:
        """Writes down how it ends, where its pods won't tell; None where that is not to be said yet."""
        found = unnoted(known, now) or to_be_ended(known.pods) or about_to_go(known)
        if found is None:
            return None
        await self._logs.begun(known.attempt, LAST_WORDS)
        seen = look_at(known, now)
        noted = replace(found, at=now if found.at is None else found.at), seen.started_at if seen else None
        outcome, started_at = self._noted.setdefault(known.attempt, noted)  # of two looks at once the first one counts
        await self._note(known.attempt, outcome_note(outcome, started_at))
        return outcome

    # -- its end ---------------------------------------------------------------------------------------------------

    async def _publish(self, known: Known, deadline: Deadline) -> None:
        said = deadline_annotations(deadline)
        if known.record is not None and known.record.deadline != deadline:
            await self._note(known.attempt, said)
        for pod in known.pods:
            metadata = pod["metadata"]
            # Those that wait are told by the answer that lets them in; Kueue takes no other for one that is there.
            if not gated(pod) and deadline_of(metadata.get("annotations")) != deadline:
                await self._changed("Pod", {"name": metadata["name"], "uid": metadata["uid"], "annotations": said})

    async def _end_in_time(self, known: Known, deadline: Deadline) -> None:
        """Ends it, where that is due. May come again and again."""
        now = self._clock()
        if now < deadline.stop_at:
            return
        if not known.started:
            await self._remove(known)
            return
        running = [pod for pod in known.pods if how_ended(pod) is None]
        refused = None
        if running or (known.job is not None and known.job["spec"].get("suspend") is not True):
            try:
                await self._deactivate(known.attempt)
            except MLMPError as error:  # Kueue is away, or was uninstalled: its end does not wait for that
                refused = error
        left = deadline.end - now
        for pod in running:
            if (refused or left <= 0) and not _goes_by(pod, max(deadline.end, now + 2 * SECOND)):
                # Never 0: then nobody waits until nothing of it runs.
                await self._delete_pod(pod, max(1, left // SECOND))
        if refused is not None and not running:
            raise refused

    async def _deactivate(self, attempt: str) -> None:
        """Has Kueue take back what it let in."""
        newest = False
        for _ in range(TRIES):
            found = [one for one in await self._workloads(newest=newest) if one.attempt == attempt and one.active]
            newest = True
            try:
                for one in found:
                    await self._kueue.change(active(one, False))
                    self._workloads_known = [each for each in self._workloads_known if each is not one]
            except Changed:
                continue
            except NotFound:
                pass
            return
        raise Unavailable(f"The Workload of {attempt} changes all the time; it is told to end again.")

    async def _workloads(self, *, newest: bool) -> Sequence[Workload]:
        """All of ours. Many attempts end in one look, and ask for all of them: once is enough. What was read before is
        seen to be old by the change, and what came after is ended by the next look."""
        async with self._reading:
            if newest or time.monotonic() >= self._workloads_read + WORKLOADS_KNOWN_FOR:
                self._workloads_known = await self._kueue.workloads()
                self._workloads_read = time.monotonic()
            return self._workloads_known

    async def _remove(self, known: Known) -> None:
        """Deletes all objects, the record last: as long as it is there the rest is known to be on its way."""
        if known.job is not None:
            await self._cluster.delete("Job", name_of(known.attempt))
        for pod in known.pods:
            await self._delete_pod(pod, None)
            await self._let_go(pod)
        name = name_of(known.attempt)
        if known.job is None:  # a group's, of whose pods none may be left to say so
            await self._cluster.delete("Service", name)
        if known.job is None or known.record is None or known.record.talks:
            for policy in (name, name_at_server(name)):
                await self._cluster.delete("NetworkPolicy", policy)
        for kind in ("Secret", RECORD):
            await self._cluster.delete(kind, name)
        self._noted.pop(known.attempt, None)

    async def _delete_pod(self, pod: Any, grace: int | None) -> None:
        metadata = pod["metadata"]
        await self._cluster.delete("Pod", metadata["name"], uid=metadata["uid"], grace=grace)

    async def _let_go(self, pod: Any) -> None:
        """Takes Kueue's finalizer from a pod of which nothing runs: Kueue may be away, or wait for another pod."""
        metadata = pod["metadata"]
        kept = [one for one in metadata.get("finalizers") or () if not one.startswith("kueue.x-k8s.io/")]
        if kept != list(metadata.get("finalizers") or ()):
            await self._changed("Pod", {"name": metadata["name"], "uid": metadata["uid"], "finalizers": kept})

    # -- helpers ---------------------------------------------------------------------------------------------------

    async def _note(self, attempt: str, annotations: dict[str, str]) -> None:
        await self._changed(RECORD, {"name": name_of(attempt), "annotations": annotations})

    async def _changed(self, kind: str, metadata: dict[str, Any]) -> None:
        """Changes an object's metadata; nothing happens where it is gone, or another one."""
        try:
            await self._cluster.patch({"apiVersion": "v1", "kind": kind, "metadata": metadata})
        except (Changed, NotFound):
            return

    async def _labels(self, nodes: Collection[str]) -> frozenset[str]:
        """By which label pods ask for nodes: their host names, which may be other ones."""
        if time.monotonic() >= self._hostnames_read + NODES_KNOWN_FOR or not self._hostnames.keys() >= set(nodes):
            found = await self._cluster.metadata("Node")
            self._hostnames = {one["name"]: str((one.get("labels") or {}).get(HOSTNAME) or "") for one in found}
            self._hostnames_read = time.monotonic()
        return frozenset(self._hostnames.get(node) or node for node in nodes)


def work_of(order: Order, hostnames: frozenset[str]) -> Work:
    """What an order asks for, as its objects need it.

    :param hostnames: of its nodes. :raises Invalid: nothing says in which image it runs.
    """
    if not order.image:
        raise Invalid.field("image", "is not given, and the profile has none; a job needs to know its image")
    return Work(
        id=order.id, job=order.job, number=order.number, owner=order.owner, manifest=order.manifest,
        image=order.image, resource=order.resource, units=order.units, workers=order.workers, hostnames=hostnames,
        length=order.length, grace=order.grace, cpus=order.cpus, memory=order.memory, queue=order.queue,
        priority=order.priority, secrets=tuple(sorted(order.secrets)), code=order.code, server=order.server,
    )  # fmt: skip


def _at_once(known: Known, outcome: Ended, now: int) -> Deadline:
    """When what is left of an attempt goes whose end is certain: now, and after the grace of its pods."""
    graces = [(pod.get("spec") or {}).get("terminationGracePeriodSeconds") for pod in known.pods]
    begins = now if outcome.at is None else outcome.at
    end = begins + max((one for one in graces if isinstance(one, int)), default=0) * SECOND
    return Deadline(min(begins, now), min(end, known.deadline.end) if known.deadline else end)


def _goes_by(pod: Any, at: int) -> bool:
    """Whether a pod was deleted, and with so little grace."""
    until = pod["metadata"].get("deletionTimestamp")
    return until is not None and from_iso(until) <= at + SHORT_OF
