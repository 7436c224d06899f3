"""What Kueue makes of a job, its Workload, as it is read and answered. Pure.

What was seen to go wrong decides what is never done here (facts about Kueue 0.19):

- An admission check that is left Pending keeps its quota from everybody else. So a job that can't start is *held*: by
  the annotation that keeps it from asking, before its first start, else by ``spec.active: false``, which gives quota
  back within a tenth of a second. Neither is a question that waits for an answer.
- ``Retry`` asks again at once, eight times a second; with ``requeueAfterSeconds`` it keeps quota and pods until then.
  ``Rejected`` can't be taken back. So the one answer is ``Ready``; who is called back is deactivated as well: its pods
  get SIGTERM and the grace of the job, and it never starts again, since another attempt is another Workload.
- ``podSetUpdates`` are sent with the answer even where there are none: Kueue's reset does not clear those of others.
- An answer is to a question of a certain version: Kueue resets the check when it evicts, and asks anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from mlmp_spawner.deadlines import Deadline
from mlmp_spawner.kube.job_pods import GATE, attempt_of
from mlmp_spawner.kube.job_queues import CHECK, GROUP, VERSION
from mlmp_spawner.kube.labels import deadline_annotations
from mlmp_spawner.units import from_iso, to_iso

Json = dict[str, Any]

_FOR_GOOD = "DeactivatedDueTo"
"""Kueue itself has deactivated it: at a time limit, or after too many evictions. It undoes every ``active: true``."""


@dataclass(frozen=True, slots=True)
class PodSet:
    """One worker. ``flavor``: what Kueue has given it, "" for nothing; ``selector``: what its pod asks for itself."""

    name: str
    flavor: str = ""
    selector: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Workload:
    """A Workload of ours. ``version`` changes with everything about it.

    ``check``: the state of our admission check, "" where it is not asked. ``reserved``: it has quota; ``evicted``:
    it is losing it, for ``evicted_for`` (Kueue's word); ``evicted_at``: when that last changed (ms UTC). ``gated``:
    it may not ask yet. ``lost``: why it can never start, in Kueue's words, "" where it can. ``queue``: the
    LocalQueue where it stands.
    """

    name: str
    namespace: str
    uid: str
    version: str
    attempt: str
    pod_sets: tuple[PodSet, ...] = ()
    check: str = ""
    active: bool = True
    gated: bool = False
    reserved: bool = False
    admitted: bool = False
    evicted: bool = False
    finished: bool = False
    lost: str = ""
    queue: str = ""
    evicted_for: str = ""
    evicted_at: int | None = None

    @property
    def asks(self) -> bool:
        """Whether it waits for our answer, and holds quota until it has one."""
        return self.check == "Pending" and self.counted and all(one.flavor for one in self.pod_sets)

    @property
    def counted(self) -> bool:
        """Whether its quota is taken and will stay so."""
        return self.reserved and self.active and not self.evicted and not self.finished

    @property
    def held(self) -> bool:
        """Whether it is kept from asking."""
        return self.gated or not self.active

    def nodes(self, flavors: Mapping[str, str]) -> tuple[str, ...] | None:
        """Of each worker the node that it was given; None where not all of them were.

        :param flavors: of each flavor its node.
        """
        by_rank = sorted(self.pod_sets, key=lambda one: (len(one.name), one.name))
        found = tuple(flavors.get(one.flavor, "") for one in by_rank)
        return found if found and all(found) else None


def workload(item: Mapping[str, Any], *, check: str = CHECK) -> Workload | None:
    """One as Kueue describes it; None where that is none of ours."""
    metadata, spec, status = (item.get(part) or {} for part in ("metadata", "spec", "status"))
    attempt = _attempt(metadata)
    if attempt is None or not metadata.get("uid"):
        return None
    conditions = {str(one.get("type")): one for one in status.get("conditions") or ()}
    checks = {str(one.get("name")): str(one.get("state") or "") for one in status.get("admissionChecks") or ()}
    evicted = conditions.get("Evicted", {})
    return Workload(
        name=str(metadata.get("name", "")),
        namespace=str(metadata.get("namespace", "")),
        uid=str(metadata["uid"]),
        version=str(metadata.get("resourceVersion", "")),
        attempt=attempt,
        pod_sets=_pod_sets(spec, status),
        check=checks.get(check, ""),
        active=spec.get("active") is not False,
        gated=bool((metadata.get("annotations") or {}).get(GATE)),
        reserved=_holds(conditions, "QuotaReserved"),
        admitted=_holds(conditions, "Admitted"),
        evicted=_holds(conditions, "Evicted"),
        finished=_holds(conditions, "Finished"),
        lost=_lost(conditions, checks),
        queue=str(spec.get("queueName") or ""),
        evicted_for=str(evicted.get("reason") or ""),
        evicted_at=_instant(evicted.get("lastTransitionTime")),
    )


def ready(asking: Workload, deadline: Deadline, labels: Mapping[str, Mapping[str, str]], *, now: int) -> Json:
    """The answer that lets it start, for its status: its pods learn until when they may run.

    :param labels: of each flavor those that Kueue makes its pods ask for.
    :raises ValueError: it does not ask, or its pods ask for another node: Kueue would suspend it for ever.
    """
    if not asking.asks:
        raise ValueError(f"{asking.name} does not ask: its check is {asking.check or 'not there'}")
    for one in asking.pod_sets:
        given = labels.get(one.flavor, {})
        wrong = [key for key, value in one.selector if given.get(key, value) != value]
        if wrong:
            raise ValueError(f"{asking.name}: {one.name} asks for another {wrong[0]} than that of {one.flavor}")
    annotations = deadline_annotations(deadline)
    entry = {
        "name": CHECK, "state": "Ready", "message": f"Its units are free until {to_iso(deadline.end)}.",
        "lastTransitionTime": to_iso(now),
        "podSetUpdates": [{"name": one.name, "annotations": annotations} for one in asking.pod_sets],
    }  # fmt: skip
    return _of(asking, status={"admissionChecks": [entry]})


def active(known: Workload, wanted: bool) -> Json:
    """Holds it, calls it back, or lets it ask again.

    :raises ValueError: Kueue would undo it.
    """
    if wanted and known.lost:
        raise ValueError(f"{known.name} can't start any more: {known.lost}")
    return _of(known, spec={"active": wanted})


def ungated() -> Json:
    """Lets a Job ask for the first time. For the Job; there is no way back."""
    return {"metadata": {"annotations": {GATE: None}}}


def _of(known: Workload, **parts: Any) -> Json:
    """A patch of just this version of it: what came since may have changed the question."""
    metadata = {"name": known.name, "namespace": known.namespace, "uid": known.uid, "resourceVersion": known.version}
    return {"apiVersion": f"{GROUP}/{VERSION}", "kind": "Workload", "metadata": metadata, **parts}


def _attempt(metadata: Mapping[str, Any]) -> str | None:
    """That of the Job, or of the group of pods, whose name it has."""
    owners = [str(one.get("name", "")) for one in metadata.get("ownerReferences") or () if one.get("kind") == "Job"]
    return attempt_of(owners[0] if owners else str(metadata.get("name", "")))


def _pod_sets(spec: Mapping[str, Any], status: Mapping[str, Any]) -> tuple[PodSet, ...]:
    assigned = {
        str(one.get("name")): one.get("flavors") or {}
        for one in (status.get("admission") or {}).get("podSetAssignments") or ()
    }
    made = []
    for one in spec.get("podSets") or ():
        name = str(one.get("name", ""))
        # All of one pod set's resources are of one flavor: they are one group of resources.
        flavors = set(assigned.get(name, {}).values())
        pod = ((one.get("template") or {}).get("spec") or {}).get("nodeSelector") or {}
        made.append(PodSet(name, flavors.pop() if len(flavors) == 1 else "", tuple(sorted(pod.items()))))
    return tuple(made)


def _instant(text: object) -> int | None:
    with suppress(ValueError):
        return from_iso(str(text))
    return None


def _holds(conditions: Mapping[str, Mapping[str, Any]], kind: str) -> bool:
    return conditions.get(kind, {}).get("status") == "True"


def _lost(conditions: Mapping[str, Mapping[str, Any]], checks: Mapping[str, str]) -> str:
    rejected = sorted(name for name, state in checks.items() if state == "Rejected")
    if rejected:
        return f"rejected by {rejected[0]}"
    for kind in ("Finished", "Evicted"):
        condition = conditions.get(kind, {})
        reason = str(condition.get("reason", ""))
        if condition.get("status") == "True" and (reason == "FailedToStart" or reason.startswith(_FOR_GOOD)):
            return f"{reason}: {condition.get('message', '')}".rstrip(": ")
    return ""
