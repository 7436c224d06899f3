"""A cluster as far as jobs see one: objects, what makes pods of them, Kueue, and nodes that run the program of a pod
as a process of this machine.

As unhelpful as the real one may be: what was deleted is gone as soon as nothing of it runs, with all it could tell.
"""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import AsyncIterator, Callable, Mapping
from itertools import count
from typing import Any

from mlmp_spawner import units
from mlmp_spawner.deadlines import Deadline
from mlmp_spawner.errors import Changed, NotFound, Unavailable
from mlmp_spawner.kube.job_pods import GATE, MAIN
from mlmp_spawner.kube.job_queues import HOSTNAME
from mlmp_spawner.kube.labels import ATTEMPT, deadline_annotations
from mlmp_spawner.units import SECOND, to_iso
from tests.jobs.played_pod import PlayedPod, second
from tests.jobs.small_backend import end_all

Json = dict[str, Any]

KUEUES = "kueue.x-k8s.io/managed"
"""The finalizer of pods in a group."""


class PlayedCluster:
    """:class:`~mlmp_spawner.kube.objects.Objects`, and all that acts on them.

    :param let_in: until when an attempt may run, asked once all of its objects are there; None: not now.
    ``silent``: it does not answer. ``breaks``: after how many lines logs break off, one after the other. ``stuck``:
    what every program waits for that does not come. ``podless``: no pods are made of Jobs. ``asked``: of which kinds
    somebody has listed or changed objects.
    """

    def __init__(self, let_in: Callable[[str], Deadline | None] = lambda attempt: None) -> None:
        self.let_in = let_in
        self.silent = False
        self.breaks: list[int] = []
        self.stuck: Json | None = None
        self.podless = False
        self.objects: dict[tuple[str, str], Json] = {}
        self.asked_for_logs = 0
        self.asked: set[str] = set()
        self._numbers = count(1)
        self._nodes: dict[str, PlayedPod] = {}
        node = {"metadata": {"name": "here", "labels": {HOSTNAME: "here.example"}}}
        self.objects["Node", "here"] = node

    # -- the objects -----------------------------------------------------------------------------------------------

    async def create(self, item: Mapping[str, Any]) -> bool:
        """Makes one."""
        self._answer()
        key = (item["kind"], item["metadata"]["name"])
        if key in self.objects:
            if self.objects[key]["metadata"].get("deletionTimestamp"):
                raise Unavailable("object is being deleted")
            return False
        made = copy.deepcopy(dict(item))
        made["metadata"] |= {"uid": f"uid-{next(self._numbers)}", "creationTimestamp": second(units.now())}
        if item["kind"] == "Pod":
            made["metadata"]["finalizers"] = [KUEUES]
            made["status"] = {"phase": "Pending"}
        self.objects[key] = made
        self._changed(made)
        if item["kind"] in ("Job", "Pod"):
            self._let_in(item["metadata"]["labels"][ATTEMPT])
        return True

    async def apply(self, item: Mapping[str, Any], manager: str, *, status: bool = False) -> Json:
        """Nothing here needs it."""
        raise NotImplementedError

    async def patch(self, item: Mapping[str, Any]) -> Json:
        """Merges."""
        self._answer()
        self.asked.add(item["kind"])
        found = self.objects.get((item["kind"], item["metadata"]["name"]))
        if found is None:
            raise NotFound("not found")
        for field in ("uid", "resourceVersion"):
            if item["metadata"].get(field, found["metadata"][field]) != found["metadata"][field]:
                raise Changed("another one")
        _merge(found, item)
        self._changed(found)
        if item["kind"] == "Pod":
            self._go(found)
        return copy.deepcopy(found)

    async def metadata(self, kind: str, selector: str = "") -> list[Json]:
        """Lists."""
        return [one["metadata"] for one in await self.items(kind, selector)]

    async def items(self, kind: str, selector: str = "") -> list[Json]:
        """Lists."""
        self._answer()
        self.asked.add(kind)
        wanted = {tuple(one.split("=")) for one in selector.split(",") if one}
        return [
            copy.deepcopy(one)
            for (of, _), one in self.objects.items()
            if of == kind and wanted <= set((one["metadata"].get("labels") or {}).items())
        ]

    async def delete(self, kind: str, name: str, *, uid: str = "", grace: int | None = None) -> None:
        """Deletes, and what belongs to it."""
        self._answer()
        found = self.objects.get((kind, name))
        if found is None or (uid and found["metadata"]["uid"] != uid):
            return
        if kind == "Pod":
            self._delete_pod(found, grace)
            return
        del self.objects[kind, name]
        if kind == "Job":
            for pod in self.pods(found["metadata"]["labels"][ATTEMPT]):
                self._delete_pod(pod, None)

    async def log(self, pod: str, container: str, *, since: int | None = None) -> AsyncIterator[bytes]:
        """Reads a log, as it comes."""
        self._answer()
        assert container == MAIN
        self.asked_for_logs += 1
        running = self._nodes.get(pod)
        if running is None or running.process is None:
            raise NotFound("its container has not begun")
        begun, new_line = 0, True
        while True:
            over, sent = running.over, b""
            for at, text in running.log[begun:]:
                begun += 1
                if at >= (since or 0) * 1_000_000:
                    sent += (b"%s %s" % (_stamp(at), text)) if new_line else text
                    new_line = text.endswith(b"\n")
                if self.breaks and begun >= self.breaks[0]:
                    self.breaks.pop(0)
                    yield sent
                    raise Unavailable("the connection broke")
            if sent:
                yield sent
            if over:
                return
            if pod not in self._nodes and begun == len(running.log):  # what was sent before is on its way
                raise Unavailable("the connection broke")
            await asyncio.sleep(0.01)

    # -- what the test sees and does -------------------------------------------------------------------------------

    def pods(self, attempt: str) -> list[Json]:
        """Those of an attempt."""
        found = [one for (kind, _), one in self.objects.items() if kind == "Pod"]
        return [one for one in found if one["metadata"]["labels"][ATTEMPT] == attempt]

    def left_of(self, attempt: str) -> set[str]:
        """Kinds of which there is an object of an attempt."""
        return {kind for (kind, name) in self.objects if kind != "Node" and attempt in name}

    def lose(self, attempt: str) -> None:
        """The pods are gone at once, and nobody says how they ended."""
        while end_all(attempt, 9):
            pass
        for pod in self.pods(attempt):
            self._nodes.pop(pod["metadata"]["name"], None)
            del self.objects["Pod", pod["metadata"]["name"]]
        self._pod_is_gone(attempt)

    async def end(self) -> None:
        """Everything ends."""
        for running in list(self._nodes.values()):
            end_all(running.attempt, 9)
            running.task.cancel()
        await asyncio.gather(*(one.task for one in self._nodes.values()), return_exceptions=True)

    # -- what makes pods of them -----------------------------------------------------------------------------------

    def _let_in(self, attempt: str) -> None:
        job = self.objects.get(("Job", f"mlmp-job-{attempt}"))
        pods = self.pods(attempt)
        if job is None and len(pods) < int(pods[0]["metadata"]["annotations"]["kueue.x-k8s.io/pod-group-total-count"]):
            return
        deadline = self.let_in(attempt)
        if deadline is not None:
            self.begin(attempt, deadline)

    def begin(self, attempt: str, deadline: Deadline) -> None:
        """Kueue lets it in."""
        said = deadline_annotations(deadline)
        job = self.objects.get(("Job", f"mlmp-job-{attempt}"))
        if job is None:
            for pod in self.pods(attempt):
                pod["metadata"]["annotations"] |= said
                del pod["spec"]["schedulingGates"]
                self._start(pod)
            return
        job["spec"]["suspend"] = False
        job["metadata"]["annotations"].pop(GATE, None)
        job["status"] = {"startTime": to_iso(units.now() // SECOND * SECOND)}
        if self.podless:
            return
        pod = copy.deepcopy(job["spec"]["template"])
        pod["metadata"] |= {"name": f"{job['metadata']['name']}-x1y2z", "uid": f"uid-{next(self._numbers)}"}
        pod["metadata"]["annotations"] |= said
        pod |= {"kind": "Pod", "status": {"phase": "Pending"}}
        self.objects["Pod", pod["metadata"]["name"]] = pod
        self._start(pod)

    def deactivate(self, attempt: str) -> None:
        """Kueue takes it back."""
        job = self.objects.get(("Job", f"mlmp-job-{attempt}"))
        if job is not None:
            job["spec"]["suspend"] = True
            job["status"] = {}
        for pod in self.pods(attempt):
            if not pod["spec"].get("schedulingGates") and not _is_over(pod):
                self._delete_pod(pod, None)

    def _delete_pod(self, pod: Json, grace: int | None) -> None:
        seconds = pod["spec"].get("terminationGracePeriodSeconds", 30) if grace is None else grace
        now = units.now()
        pod["metadata"]["deletionTimestamp"] = to_iso((now + seconds * SECOND) // SECOND * SECOND)
        pod["metadata"]["deletionGracePeriodSeconds"] = seconds
        running = self._nodes.get(pod["metadata"]["name"])
        if running is not None and not running.over:
            running.stop(seconds)
        self._go(pod)

    def _go(self, pod: Json) -> None:
        """A pod that was deleted is gone once nothing of it runs, and nobody holds it."""
        name = pod["metadata"]["name"]
        running = self._nodes.get(name)
        held = pod["metadata"].get("finalizers") and not _is_over(pod)
        if pod["metadata"].get("deletionTimestamp") and (running is None or running.over) and not held:
            self.objects.pop(("Pod", name), None)
            self._nodes.pop(name, None)
            self._pod_is_gone(pod["metadata"]["labels"][ATTEMPT])

    def _pod_is_gone(self, attempt: str) -> None:
        """No Job tries again; one that was suspended has not failed."""
        job = self.objects.get(("Job", f"mlmp-job-{attempt}"))
        if job is not None and not job["spec"]["suspend"]:
            job["status"]["conditions"] = [{"type": "Failed", "status": "True"}]

    def _start(self, pod: Json) -> None:
        pod["spec"]["nodeName"] = "here"
        self._nodes[pod["metadata"]["name"]] = PlayedPod(self, pod)

    def changed(self, pod: Json) -> None:
        """Its node has written what became of it."""
        self._changed(pod)
        self._go(pod)

    def environment(self, pod: Json, container: Json) -> dict[str, str]:
        """Of a container, with what its entries refer to."""
        found = {}
        for entry in container["env"]:
            source = entry.get("valueFrom") or {}
            if "secretKeyRef" in source:
                said = source["secretKeyRef"]
                found[entry["name"]] = self.objects["Secret", said["name"]]["stringData"][said["key"]]
            elif "fieldRef" in source:
                field = source["fieldRef"]["fieldPath"]
                known = pod["metadata"]["annotations"]
                found[entry["name"]] = "here" if field == "spec.nodeName" else known[field.split("'")[1]]
            else:
                found[entry["name"]] = entry["value"].replace("$$", "$")
        return found

    def _changed(self, item: Json) -> None:
        item["metadata"]["resourceVersion"] = str(next(self._numbers))

    def _answer(self) -> None:
        if self.silent:
            raise Unavailable("The played cluster does not answer.")


def _is_over(pod: Json) -> bool:
    return pod["status"].get("phase") in ("Succeeded", "Failed")


def _merge(into: Json, patch: Mapping[str, Any]) -> None:
    for key, value in patch.items():
        if isinstance(value, Mapping):
            _merge(into.setdefault(key, {}), value)
        elif value is None:
            into.pop(key, None)
        else:
            into[key] = value


def _stamp(at: int) -> bytes:
    """Nanoseconds as nodes write them."""
    whole, part = divmod(at, 10**9)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(whole))}.{part:09}Z".encode()
