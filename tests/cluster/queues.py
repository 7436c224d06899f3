"""Queues of jobs on the real cluster, filled and answered by hand: what Kueue does with them is then looked at."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from mlmp_spawner.deadlines import Deadline
from mlmp_spawner.kube import job_queues
from mlmp_spawner.kube.job_queues import HOSTNAME, MANAGER, NodeQuota, flavor_name
from mlmp_spawner.kube.workloads import Workload, active, ready, ungated, workload
from mlmp_spawner.rules.job_guarantees import POOL, Tenant
from mlmp_spawner.units import now
from tests.cluster.hub_here import wait_for
from tests.cluster.rig.certificates import key, path
from tests.cluster.rig.places import API

Json = dict[str, Any]

_CLUSTER_WIDE = {"ResourceFlavor", "ClusterQueue", "AdmissionCheck", "WorkloadPriorityClass", "Cohort"}
_PLURALS = {"WorkloadPriorityClass": "workloadpriorityclasses", "NetworkPolicy": "networkpolicies"}
_APPLY = "application/apply-patch+yaml"
_MERGE = "application/merge-patch+json"

POLITE = """
import os, signal, sys, time
def told(*_):
    print("told", flush=True); time.sleep(2); print("saved", flush=True); sys.exit(0)
signal.signal(signal.SIGTERM, told)
print("runs until", os.environ["MLMP_JOB_ENDS_AT"], "on", os.environ["MLMP_NODE"], flush=True)
while True: time.sleep(0.1)
"""
"""A worker that takes two seconds to save when it is told to end."""
MEET = """
import os, socket, time
rank, where = int(os.environ["RANK"]), (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
if rank == 0:
    with socket.create_server(("", where[1])) as server:
        other, _ = server.accept()
        print("met", other.recv(100).decode(), flush=True)
else:
    ends = time.monotonic() + 120
    while True:
        try:
            other = socket.create_connection(where, timeout=5); break
        except OSError:
            if time.monotonic() > ends: raise
            time.sleep(0.2)
    other.sendall(f"{rank} of {os.environ['WORLD_SIZE']} on {os.environ['MLMP_NODE']}".encode())
print("on", os.environ["MLMP_NODE"], flush=True)
"""
"""Two workers that find each other."""


class Api:
    """The API server, asked as its admin, in plain JSON: what our own client does is judged by another."""

    def __init__(self, namespace: str) -> None:
        context = ssl.create_default_context(cafile=str(path("ca")))
        context.load_cert_chain(path("admin"), key("admin"))
        self.namespace = namespace
        self.http = httpx.Client(base_url=API, verify=context, trust_env=False, timeout=30)

    def ask(
        self, method: str, url: str, body: Json | None = None, kind: str = "application/json", **query: Any
    ) -> Any:
        """What it answers; an answer that is none fails the test with all that it says."""
        answer = self.http.request(method, url, json=body, params=query, headers={"Content-Type": kind})
        assert answer.status_code < 300, f"{method} {url}: {answer.status_code} {answer.text}"
        return answer.json()

    def create(self, made: Json) -> httpx.Response:
        """Makes an object; the answer, whatever it is."""
        return self.http.post(self.place(made, named=False), json=made)

    def apply(self, made: Json, status: bool = False) -> Json:
        """Server-side apply, as MLMP does it."""
        place = self.place(made) + "/status" * status
        return dict(self.ask("PATCH", place, made, _APPLY, fieldManager=MANAGER, force="true"))

    def place(self, made: Mapping[str, Any], *, named: bool = True) -> str:
        """The address of an object, or of all of its kind."""
        version, kind, metadata = made["apiVersion"], made["kind"], made["metadata"]
        root = f"/apis/{version}" if "/" in version else f"/api/{version}"
        within = "" if kind in _CLUSTER_WIDE else f"/namespaces/{metadata.get('namespace') or self.namespace}"
        plural = _PLURALS.get(kind, f"{kind.lower()}s")
        return f"{root}{within}/{plural}" + (f"/{metadata['name']}" if named else "")

    def pods(self, attempt: str) -> list[Json]:
        """Those of an attempt, by name."""
        found = self.ask(
            "GET", f"/api/v1/namespaces/{self.namespace}/pods", labelSelector=f"mlmp.dev/attempt={attempt}"
        )
        return sorted(found["items"], key=lambda pod: pod["metadata"]["name"])

    def log(self, pod: str, container: str = "notebook") -> str:
        """What a container has said; nothing where it has none yet."""
        answer = self.http.get(f"/api/v1/namespaces/{self.namespace}/pods/{pod}/log", params={"container": container})
        return answer.text if answer.status_code == 200 else ""


@dataclass
class Queues:
    """The queue of one resource in a namespace, and MLMP's part of it: whose turn it is, told by a test.

    ``nodes``: of each its label of that name.
    """

    api: Api
    resource: str
    nodes: Mapping[str, str]

    def open(self, quotas: Mapping[str, int], *, memory: int = 64 << 30) -> None:
        """All objects of the queue, with so many units of each node."""
        for made in (job_queues.admission_check(), *job_queues.priority_classes()):
            self.api.apply(made)
        check = self.api.ask("GET", self.api.place(job_queues.admission_check()))
        active = job_queues.check_status(generation=check["metadata"]["generation"], now=now())
        self.api.apply(active, status=True)
        self.give(quotas, memory=memory)

    def give(self, quotas: Mapping[str, int], *, tenant: Tenant = POOL, memory: int = 64 << 30) -> None:
        """What jobs may have from now on. ``tenant``: in whose queue, which is made where it is not there."""
        given = [NodeQuota(node, self.nodes[node], units, 8.0, memory) for node, units in quotas.items()]
        for node in given:
            self.api.apply(job_queues.resource_flavor(node))
        self.api.apply(job_queues.cluster_queue(self.resource, given, self.api.namespace, tenant))
        self.api.apply(job_queues.local_queue(self.resource, tenant.group, self.api.namespace, tenant))

    def submit(self, objects: Iterable[Json], *, wake: bool = True) -> None:
        """Makes all objects of an attempt. ``wake``: a Job may ask at once."""
        for made in objects:
            answer = self.api.create(made)
            assert answer.status_code == 201, f"{made['kind']}: {answer.status_code} {answer.text}"
            if wake and made["kind"] == "Job":
                self.ungate(made["metadata"]["name"])

    def ungate(self, job: str) -> None:
        """Lets a Job ask for the first time."""
        self.api.ask("PATCH", f"/apis/batch/v1/namespaces/{self.api.namespace}/jobs/{job}", ungated(), _MERGE)

    def of(self, attempt: str) -> Workload | None:
        """An attempt's Workload."""
        return next((one for _, one in self._known() if one.attempt == attempt), None)

    def raw(self, attempt: str) -> Json:
        """The same as Kueue has it."""
        return next(item for item, one in self._known() if one.attempt == attempt)

    def wait_asks(self, attempt: str, seconds: float = 60) -> Workload:
        """Waits until it has quota and waits for the answer."""
        wait_for(lambda: (one := self.of(attempt)) is not None and one.asks, seconds, f"{attempt}'s question")
        return self.known(attempt)

    def answer(self, attempt: str, *, stop_in: int = 600, end_in: int = 660) -> Deadline:
        """Lets it start; till when it may run, in seconds from now on."""
        deadline = Deadline(now() + stop_in * 1000, now() + end_in * 1000)
        labels = {flavor_name(node): {HOSTNAME: hostname} for node, hostname in self.nodes.items()}
        self._repeat(lambda: (ready(self.wait_asks(attempt), deadline, labels, now=now()), "/status", _APPLY))
        return deadline

    def say(self, attempt: str, **check: Any) -> None:
        """Another answer than MLMP ever gives, to see what would come of it."""

        def answer() -> tuple[Json, str, str]:
            made = ready(self.wait_asks(attempt), Deadline(now(), now()), {}, now=now())
            made["status"]["admissionChecks"][0] |= check
            return made, "/status", _APPLY

        self._repeat(answer)

    def activate(self, attempt: str, wanted: bool) -> None:
        """Holds it or lets it ask."""
        self._repeat(lambda: (active(self.known(attempt), wanted), "", _MERGE))

    def known(self, attempt: str) -> Workload:
        """Waits until Kueue has made an attempt's Workload."""
        found = wait_for(lambda: self.of(attempt), 60, f"a Workload of {attempt}")
        assert isinstance(found, Workload)
        return found

    def _repeat(self, patch: Callable[[], tuple[Json, str, str]]) -> None:
        """Patches what was just read; where that has changed meanwhile it is read anew, as at MLMP's next look."""
        for _ in range(20):
            made, part, kind = patch()
            query = {"fieldManager": MANAGER, "force": "true"} if kind == _APPLY else {}
            answer = self.api.http.patch(
                self.api.place(made) + part, json=made, params=query, headers={"Content-Type": kind}
            )
            if answer.status_code != 409:
                assert answer.status_code == 200, answer.text
                return
            time.sleep(0.05)
        raise AssertionError("it changes all the time")

    def node_of(self, attempt: str) -> list[str]:
        """Where Kueue lets its workers run."""
        known = self.of(attempt)
        flavors = {flavor_name(node): node for node in self.nodes}
        return list((known.nodes(flavors) if known else None) or ())

    def _known(self) -> Iterable[tuple[Json, Workload]]:
        place = f"/apis/{job_queues.GROUP}/{job_queues.VERSION}/namespaces/{self.api.namespace}/workloads"
        for item in self.api.ask("GET", place)["items"]:
            known = workload(item)
            if known is not None:
                yield item, known
