"""A cluster with Kueue in which jobs run: a back-end and what the look asks of Kueue, played by one JSON for both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from mlmp_spawner.errors import Changed, NotFound, Unavailable
from mlmp_spawner.jobs.base import LogPart, Order, Seen
from mlmp_spawner.kube.files import Account
from mlmp_spawner.kube.job_pods import Surroundings, Work, name_of, objects
from mlmp_spawner.kube.job_queues import MANAGER
from mlmp_spawner.kube.workloads import Workload, workload
from mlmp_spawner.rules.jobs import Reason
from mlmp_spawner.rules.storage import Storage
from tests.kube.played_kueue import Choose, PlayedKueue

AROUND = Surroundings("users", "http://hub/", "", "lab", Storage(claim="homes"), "ann", Account(1000))


@dataclass
class Pods:
    """What there is of an attempt. ``times``: when it ends, once somebody has said so."""

    order: Order
    seen: Seen
    item: str
    times: tuple[int, int] | None = None


@dataclass
class PlayedCluster:
    """A back-end, and the Kueue of the look. ``polite`` jobs end as soon as they are told to.

    ``silent``: it does not answer. ``lost_answers``: an answer that lets something in does not arrive.
    """

    choose: Choose
    now: int = 0
    polite: bool = True
    silent: bool = False
    lost_answers: bool = False
    queues: bool = True
    pods: dict[str, Pods] = field(default_factory=dict)
    applied: list[Mapping[str, Any]] = field(default_factory=list)
    ran: list[str] = field(default_factory=list)
    let_in: list[str] = field(default_factory=list)
    active: bool = False

    def __post_init__(self) -> None:
        self.kueue = PlayedKueue(self.choose)

    def _answer(self) -> None:
        if self.silent:
            raise Unavailable("The played cluster does not answer.")

    # -- the back-end -------------------------------------------------------------------------------------------

    async def submit(self, order: Order) -> None:
        self._answer()
        if order.id in self.pods:
            return
        work = Work(
            order.id, order.job, order.number, order.owner, order.manifest, "torch", order.resource, order.units,
            order.workers, order.nodes, order.length, order.grace, queue=order.queue, priority=order.priority,
        )  # fmt: skip
        self.kueue.submit(objects(work, AROUND, order.secrets, "token"), order.resource)
        item = name_of(order.id) if order.workers > 1 else f"job-{name_of(order.id)}-x"
        self.pods[order.id] = Pods(order, Seen(order.id, "queued"), item)

    async def state(self, attempt: str) -> Seen | None:
        self._answer()
        return self.pods[attempt].seen if attempt in self.pods else None

    async def list(self) -> dict[str, Seen]:
        self._answer()
        return {attempt: one.seen for attempt, one in self.pods.items()}

    async def logs(self, attempt: str, start: int, limit: int) -> LogPart:
        self._answer()
        return LogPart(b"", 0, 0, 0, True)

    async def cancel(self, attempt: str, *, stop_at: int, kill_at: int) -> None:
        self._answer()
        one = self.pods.get(attempt)
        if one is None or one.seen.phase == "ended":
            return
        times = one.times or (stop_at, kill_at)
        one.times = min(times[0], stop_at), min(times[1], kill_at)
        if one.times[0] <= self.now and one.seen.phase == "queued":
            del self.pods[attempt]
            self.kueue.delete(one.item)
        elif one.times[0] <= self.now:
            self._deactivate(one)

    async def forget(self, attempt: str) -> None:
        self._answer()
        one = self.pods.pop(attempt, None)
        if one is not None:
            assert one.seen.phase == "ended"
            self.kueue.delete(one.item)

    # -- what the look asks of Kueue ------------------------------------------------------------------------------

    async def workloads(self) -> list[Workload]:
        self._answer()
        return [one for item in self.kueue.items.values() if (one := workload(item)) is not None]

    async def cluster_queues(self) -> list[dict[str, Any]]:
        self._answer()
        known = {one["metadata"]["name"]: dict(one) for one in self.applied if one["kind"] == "ClusterQueue"}
        mine = {"managedFields": [{"manager": MANAGER}]}
        return [{**one, "metadata": {**one["metadata"], **mine}} for one in known.values()]

    async def apply(self, objects: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        self._answer()
        for one in objects:
            self.applied.append(one)
            if one["kind"] == "ClusterQueue":
                self.kueue.apply_queue(dict(one))
            elif one["kind"] == "LocalQueue":
                self.kueue.apply_local(dict(one))
        return [{**one, "metadata": {**one["metadata"], "generation": 1}} for one in objects]

    async def status(self, patch: Mapping[str, Any]) -> dict[str, Any]:
        self._answer()
        if patch["kind"] == "AdmissionCheck":
            self.active = True
            return dict(patch)
        if self.lost_answers:
            raise Unavailable("The answer was lost.")
        self._check(patch)
        self.kueue.patch(dict(patch))
        (attempt,) = (name for name, one in self.pods.items() if one.item == patch["metadata"]["name"])
        self.let_in.append(attempt)
        return dict(patch)

    async def change(self, patch: Mapping[str, Any]) -> dict[str, Any]:
        self._answer()
        self._check(patch)
        self.kueue.patch(dict(patch))
        return dict(patch)

    async def ungate(self, attempt: str) -> None:
        self._answer()
        if attempt not in self.pods:
            raise NotFound(f"There is no Job {attempt}.")
        self.kueue.ungate(name_of(attempt))

    def _check(self, patch: Mapping[str, Any]) -> None:
        item = self.kueue.items.get(patch["metadata"]["name"])
        if item is None:
            raise NotFound("There is no such Workload.")
        if item["metadata"]["resourceVersion"] != patch["metadata"]["resourceVersion"]:
            raise Changed("It is another version by now.")

    def _deactivate(self, one: Pods) -> None:
        item = self.kueue.items[one.item]
        if item["spec"]["active"]:
            version = item["metadata"]["resourceVersion"]
            self.kueue.patch({"metadata": {"name": one.item, "resourceVersion": version}, "spec": {"active": False}})

    # -- what happens -------------------------------------------------------------------------------------------

    def pass_time(self, now: int) -> None:
        """It is ``now``: Kueue does what it can, what was let in runs, and whose time is over has ended."""
        self.now = self.kueue.now = now
        if self.active:
            self.kueue.reserve()
        for attempt, one in self.pods.items():
            known = workload(self.kueue.items[one.item])
            assert known is not None
            if one.seen.phase == "queued" and known.admitted:
                self.ran.append(attempt)
                one.seen = replace(one.seen, phase="running", started_at=now)
            elif one.seen.phase == "running":
                late = one.times is not None and now >= one.times[1]
                if late or (self.polite and not known.admitted):
                    self.end(attempt, "vanished", None)

    def running(self) -> dict[str, Order]:
        """What runs just now."""
        return {name: one.order for name, one in self.pods.items() if one.seen.phase == "running"}

    def node_of(self, attempt: str) -> tuple[str, ...]:
        """The flavors that an attempt has."""
        return tuple(self.kueue.flavors(self.pods[attempt].item))

    def end(self, attempt: str, reason: Reason = "succeeded", status: int | None = 0) -> None:
        """An attempt ends now."""
        one = self.pods[attempt]
        one.seen = replace(one.seen, phase="ended", ended_at=self.now, reason=reason, exit_status=status)
