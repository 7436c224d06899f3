"""Kueue as it was seen to behave, and as unhelpful as it may be: any order, any flavor that has quota.

It is told and asked by the same JSON as the real one. Quota is all that it knows; who waits for an answer keeps it.
What one queue leaves unused the others borrow, as far as they may, and who reclaims has borrowers evicted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from mlmp_spawner.kube.job_pods import GATE, POD_GROUP, QUEUE
from mlmp_spawner.kube.job_queues import CHECK
from mlmp_spawner.units import to_iso

Json = dict[str, Any]
Choose = Callable[[Sequence[Any]], Any]


@dataclass
class Queue:
    """A ClusterQueue. ``borrows``: whether it may use more than its quota; ``reclaims``: whether it gets back what
    others borrow of that."""

    quotas: dict[str, int] = field(default_factory=dict)
    borrows: bool = True
    reclaims: bool = False


class PlayedKueue:
    """:param choose: of several possibilities the one that happens."""

    def __init__(self, choose: Choose) -> None:
        self.choose = choose
        self.queues: dict[str, Queue] = {}
        self.local: dict[str, str] = {}
        self.items: dict[str, Json] = {}
        self.units: dict[str, int] = {}
        self.version = 0
        self.now = 0

    # -- what it is told ------------------------------------------------------------------------------------------

    def apply_queue(self, queue: Json) -> None:
        """A ClusterQueue. What is running beyond a lowered quota goes on."""
        spec = queue["spec"]
        made = Queue(reclaims=spec.get("preemption", {}).get("reclaimWithinCohort") == "Any")
        for group in spec["resourceGroups"]:
            resource = group["coveredResources"][0]
            for flavor in group["flavors"]:
                (quota,) = (one for one in flavor["resources"] if one["name"] == resource)
                made.quotas[flavor["name"]] = int(quota["nominalQuota"])
                made.borrows = quota.get("borrowingLimit") != "0"
        self.queues[queue["metadata"]["name"]] = made

    def apply_local(self, queue: Json) -> None:
        """A LocalQueue."""
        name, target = queue["metadata"]["name"], queue["spec"]["clusterQueue"]
        assert self.local.setdefault(name, target) == target, "it is immutable"

    def submit(self, objects: Sequence[Json], resource: str) -> None:
        """A Job, or a group of pods, of which it makes a Workload."""
        runs = [one for one in objects if one["kind"] in ("Job", "Pod")]
        first = runs[0]["metadata"]
        group = first["labels"].get(POD_GROUP)
        specs = [one["spec"]["template"]["spec"] if one["kind"] == "Job" else one["spec"] for one in runs]
        names = (
            ["main"] if group is None else [one["metadata"]["annotations"]["kueue.x-k8s.io/role-hash"] for one in runs]
        )
        name = group or f"job-{first['name']}-x"
        gate = {GATE: first["annotations"][GATE]} if GATE in first["annotations"] else {}
        self.items[name] = {
            "metadata": {
                "name": name, "namespace": first["namespace"], "uid": f"uid-{name}", "annotations": gate,
                "ownerReferences": [] if group else [{"kind": "Job", "name": first["name"]}],
            },
            "spec": {
                "active": True,
                "queueName": first["labels"][QUEUE],
                "podSets": [{"name": one, "template": {"spec": spec}} for one, spec in zip(names, specs, strict=True)],
            },
            "status": {},
        }  # fmt: skip
        self.units[name] = int(specs[0]["containers"][0]["resources"]["limits"][resource])
        self._changed(name)

    def ungate(self, job: str) -> None:
        """The patch that takes the annotation from a Job."""
        name = f"job-{job}-x"
        self.items[name]["metadata"]["annotations"] = {}
        self._changed(name)

    def patch(self, patch: Json) -> None:
        """A patch of a Workload, or of its status."""
        name = patch["metadata"]["name"]
        assert patch["metadata"]["resourceVersion"] == self.items[name]["metadata"]["resourceVersion"], "409"
        if "spec" in patch:
            self.items[name]["spec"] |= patch["spec"]
            if not patch["spec"]["active"]:
                self._evict(name, "Deactivated")
        else:
            (entry,) = patch["status"]["admissionChecks"]
            assert self._state(name) == "Pending" and entry["state"] == "Ready"
            sets = [one["name"] for one in self.items[name]["spec"]["podSets"]]
            assert [one["name"] for one in entry["podSetUpdates"]] == sets
            self.items[name]["status"]["admissionChecks"] = [entry]
            self.items[name]["status"]["conditions"].append({"type": "Admitted", "status": "True"})
        self._changed(name)

    def delete(self, name: str) -> None:
        """The Job, or the pods, and with them the Workload."""
        del self.items[name]

    # -- what it does ---------------------------------------------------------------------------------------------

    def reserve(self) -> None:
        """Gives quota to those that may ask, in any order, until none of them fits, or it is tired of it."""
        while ways := self._ways():
            chosen = self.choose([None, *ways])
            if chosen is None:
                return
            name, flavors = chosen
            for flavor in set(flavors):
                self._reclaim(name, flavor, flavors.count(flavor) * self.units[name])
            sets = self.items[name]["spec"]["podSets"]
            assigned = [
                {"name": one["name"], "flavors": {"gpu": flavor}} for one, flavor in zip(sets, flavors, strict=True)
            ]
            self.items[name]["status"] = {
                "admission": {"podSetAssignments": assigned},
                "conditions": [
                    {"type": "QuotaReserved", "status": "True"},
                    self._evicted("False", "QuotaReserved"),
                ],
                "admissionChecks": [{"name": CHECK, "state": "Pending"}],
            }
            self._changed(name)

    def flavors(self, name: str) -> list[str]:
        """Those that it has given one."""
        assigned = self.items[name]["status"].get("admission", {}).get("podSetAssignments", ())
        return [one["flavors"]["gpu"] for one in assigned]

    def used(self, queue: str, flavor: str) -> int:
        """Units of a flavor that the jobs of a ClusterQueue have."""
        mine = (name for name in self.items if self._queue(name) == queue)
        return sum(self.flavors(name).count(flavor) * self.units[name] for name in mine)

    def _queue(self, name: str) -> str | None:
        return self.local.get(self.items[name]["spec"]["queueName"])

    def _ways(self) -> list[tuple[str, tuple[str, ...]]]:
        ways = [
            (name, flavors)
            for name, item in self.items.items()
            if item["spec"]["active"] and not item["metadata"]["annotations"] and not self.flavors(name)
            if self._queue(name) in self.queues and not self._finished(name)
            for flavors in product(self._flavors(name), repeat=len(item["spec"]["podSets"]))
        ]
        fits = [way for way in ways if self._fits(*way, self._left)]
        return fits or [way for way in ways if self._fits(*way, self._with_reclaimed)]

    def _flavors(self, name: str) -> list[str]:
        return sorted(self.queues[self._queue(name) or ""].quotas)

    def _fits(self, name: str, flavors: Sequence[str], left: Callable[[str, str], int]) -> bool:
        return all(flavors.count(one) * self.units[name] <= left(self._queue(name) or "", one) for one in flavors)

    def _left(self, queue: str, flavor: str) -> int:
        """What a queue may still use."""
        free = sum(one.quotas.get(flavor, 0) - self.used(name, flavor) for name, one in self.queues.items())
        if self.queues[queue].borrows:
            return free
        return min(free, self.queues[queue].quotas.get(flavor, 0) - self.used(queue, flavor))

    def _with_reclaimed(self, queue: str, flavor: str) -> int:
        """What it may have if who borrows of its own gives that back."""
        if not self.queues[queue].reclaims:
            return self._left(queue, flavor)
        own = self.queues[queue].quotas.get(flavor, 0) - self.used(queue, flavor)
        borrowed = sum(self.units[name] for name in self._borrowers(queue, flavor))
        return max(self._left(queue, flavor), min(own, self._left(queue, flavor) + borrowed))

    def _borrowers(self, queue: str, flavor: str) -> list[str]:
        """Jobs in queues that use more of a flavor than their quota."""
        over = {n for n, one in self.queues.items() if n != queue and self.used(n, flavor) > one.quotas.get(flavor, 0)}
        return [name for name in self.items if self._queue(name) in over and flavor in self.flavors(name)]

    def _reclaim(self, name: str, flavor: str, units: int) -> None:
        queue = self._queue(name) or ""
        while self._left(queue, flavor) < units:
            self._evict(self.choose(self._borrowers(queue, flavor)), "Preempted")

    def _evict(self, name: str, reason: str) -> None:
        """It has no quota any more, and the check is asked anew."""
        self.items[name]["status"] = {"conditions": [self._evicted("True", reason)]}
        self._changed(name)

    def _evicted(self, status: str, reason: str) -> Json:
        return {"type": "Evicted", "status": status, "reason": reason, "lastTransitionTime": to_iso(self.now)}

    def _finished(self, name: str) -> bool:
        return any(one["type"] == "Finished" for one in self.items[name]["status"].get("conditions", ()))

    def _state(self, name: str) -> str:
        (entry,) = self.items[name]["status"].get("admissionChecks", [{"state": ""}])
        return str(entry["state"])

    def _changed(self, name: str) -> None:
        self.version += 1
        self.items[name]["metadata"]["resourceVersion"] = str(self.version)
