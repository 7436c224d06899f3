"""Kueue as it was seen to behave, and as unhelpful as it may be: any order, any flavor that has quota.

It is told and asked by the same JSON as the real one. Quota is all that it knows; who waits for an answer keeps it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any

from mlmp_spawner.kube.job_pods import GATE, POD_GROUP
from mlmp_spawner.kube.job_queues import CHECK

Json = dict[str, Any]
Choose = Callable[[Sequence[Any]], Any]


class PlayedKueue:
    """:param choose: of several possibilities the one that happens."""

    def __init__(self, choose: Choose) -> None:
        self.choose = choose
        self.quotas: dict[str, int] = {}
        self.items: dict[str, Json] = {}
        self.units: dict[str, int] = {}
        self.version = 0

    # -- what it is told ------------------------------------------------------------------------------------------

    def apply_queue(self, queue: Json) -> None:
        """A ClusterQueue. What is running beyond a lowered quota goes on."""
        for group in queue["spec"]["resourceGroups"]:
            resource = group["coveredResources"][0]
            for flavor in group["flavors"]:
                quota = {one["name"]: one["nominalQuota"] for one in flavor["resources"]}
                self.quotas[flavor["name"]] = int(quota[resource])

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
                self.items[name]["status"] = {}  # evicted: no quota, and the check is asked anew
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
            sets = self.items[name]["spec"]["podSets"]
            assigned = [
                {"name": one["name"], "flavors": {"gpu": flavor}} for one, flavor in zip(sets, flavors, strict=True)
            ]
            self.items[name]["status"] = {
                "admission": {"podSetAssignments": assigned},
                "conditions": [{"type": "QuotaReserved", "status": "True"}],
                "admissionChecks": [{"name": CHECK, "state": "Pending"}],
            }
            self._changed(name)

    def flavors(self, name: str) -> list[str]:
        """Those that it has given one."""
        assigned = self.items[name]["status"].get("admission", {}).get("podSetAssignments", ())
        return [one["flavors"]["gpu"] for one in assigned]

    def _ways(self) -> list[tuple[str, tuple[str, ...]]]:
        left = dict(self.quotas)
        for name in self.items:
            for flavor in self.flavors(name):
                left[flavor] -= self.units[name]
        return [
            (name, flavors)
            for name, item in self.items.items()
            if item["spec"]["active"] and not item["metadata"]["annotations"] and not item["status"]
            for flavors in product(left, repeat=len(item["spec"]["podSets"]))
            if self._fits(left, flavors, self.units[name])
        ]

    @staticmethod
    def _fits(left: Mapping[str, int], flavors: Sequence[str], units: int) -> bool:
        return all(flavors.count(one) * units <= left[one] for one in flavors)

    def _state(self, name: str) -> str:
        (entry,) = self.items[name]["status"].get("admissionChecks", [{"state": ""}])
        return str(entry["state"])

    def _changed(self, name: str) -> None:
        self.version += 1
        self.items[name]["metadata"]["resourceVersion"] = str(self.version)
