"""MLMP on the cluster, installed by Helm as an admin does it, and people who use it through the proxy."""

from __future__ import annotations

import base64
import os
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from kubernetes import client
from kubernetes.client.models import V1Pod

from mlmp_spawner.kube import labels
from tests.cluster.rig.cluster import Cluster
from tests.live import Person, wait_for

CHART = Path(__file__).parents[2] / "helm" / "mlmp"
RESOURCE = os.environ.get("MLMP_TEST_RESOURCE", "nvidia.com/gpu")
SLOT = "mlmp.dev/slot"
"""Only counted in bookings: the cluster knows nothing of it."""
GATEWAY = "ssh.mlmp.test:22"
"""As people would reach the SSH gateway, if this name were known."""
API = "/services/mlmp/api/v1/reservations"
PAGES = {"hub": "/hub/login", "service": "/services/mlmp/api/v1/health"}
"""What parts answer to everybody."""
TIMEOUT = 240


class Release:
    """One installation. ``url``: of the proxy's Service, which this machine has to reach."""

    def __init__(self, cluster: Cluster, namespace: str, values: Mapping[str, Any], *, name: str = "mlmp") -> None:
        self.cluster, self.namespace, self.name = cluster, namespace, name
        self.core = cluster.core()
        self.values = dict(values)
        self.people: dict[str, Person] = {}

    # -- what an admin does ---------------------------------------------------------------------------------------

    def helm(self, *arguments: str, values: Mapping[str, Any] | None = None, check: bool = True) -> str:
        """Runs helm in the namespace; what it wrote. A failure carries all of it."""
        command = ["helm", f"--kubeconfig={self.cluster.kubeconfig}", "--namespace", self.namespace, *arguments]
        given = None if values is None else yaml.safe_dump(dict(values))
        command += ["--values", "-"] * (given is not None)
        done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=TIMEOUT + 60)
        assert done.returncode == 0 or not check, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def install(self, chart: Path = CHART) -> str:
        """Installs it, or upgrades it to ``chart`` and the values as they are now; returns when all is reached."""
        said = self.helm(
            "upgrade", "--install", self.name, str(chart), "--wait", f"--timeout={TIMEOUT}s", values=self.values
        )
        for part in PAGES:
            self.wait_reached(part)
        return said

    def uninstall(self) -> str:
        """Uninstalls it; returns when its own pods are gone."""
        return self.helm("uninstall", self.name, "--wait", f"--timeout={TIMEOUT}s")

    def scale(self, part: str, replicas: int, *, wait: bool = True) -> None:
        """``hub``, ``service``, ``proxy`` or ``enforcer``: 0 takes it away, 1 brings it back."""
        apps = client.AppsV1Api(self.core.api_client)
        apps.patch_namespaced_deployment_scale(f"{self.name}-{part}", self.namespace, {"spec": {"replicas": replicas}})
        if wait:
            self.wait_ready(part, replicas)

    def wait_ready(self, part: str, replicas: int = 1, seconds: float = 120) -> None:
        """Waits until so many pods of a part are ready, no other is left, and people reach what they should."""

        def settled() -> bool:
            pods = self.pods_of(part)
            ready = [
                pod
                for pod in pods
                if pod.metadata.deletion_timestamp is None
                and any(each.type == "Ready" and each.status == "True" for each in pod.status.conditions or ())
            ]
            return len(ready) == len(pods) == replicas

        wait_for(settled, seconds, f"{replicas} of {part}")
        if replicas and part in PAGES:
            self.wait_reached(part)

    def wait_reached(self, part: str, seconds: float = 60) -> None:
        """Waits until a part answers through the proxy: nodes learn of a pod only after it was ready."""
        with httpx.Client(base_url=self.url, timeout=10) as browser:

            def answers() -> bool:
                try:
                    return browser.get(PAGES[part]).status_code == 200
                except httpx.TransportError:  # nodes learn of the proxy as late
                    return False

            wait_for(answers, seconds, f"an answer from {self.url} at {PAGES[part]}")

    def pods_of(self, part: str) -> list[V1Pod]:
        """The pods of a part of MLMP."""
        selector = f"app.kubernetes.io/instance={self.name},app.kubernetes.io/component={part}"
        return self.core.list_namespaced_pod(self.namespace, label_selector=selector).items

    def logs(self, part: str) -> str:
        """What a part of MLMP said."""
        return "\n".join(
            self.core.read_namespaced_pod_log(pod.metadata.name, self.namespace) for pod in self.pods_of(part)
        )

    def secret(self, key: str) -> str:
        """One of the secrets that the chart made."""
        found = self.core.read_namespaced_secret(f"{self.name}-secrets", self.namespace)
        return base64.b64decode(found.data[key]).decode()

    def close(self) -> None:
        """Ends people's connections."""
        for person in self.people.values():
            person.api.close()
            person.browser.close()

    # -- what people do -------------------------------------------------------------------------------------------

    @cached_property
    def url(self) -> str:
        """The proxy's address."""
        found = self.core.read_namespaced_service(f"{self.name}-proxy", self.namespace)
        return f"http://{found.spec.cluster_ip}:{found.spec.ports[0].port}/"

    @property
    def users(self) -> str:
        """The namespace of users' pods."""
        return self.values.get("users", {}).get("namespace") or self.namespace

    @cached_property
    def admin_password(self) -> str:
        """Of ``admin``."""
        return self.secret("admin-password")

    @cached_property
    def user_password(self) -> str:
        """Of everybody else."""
        return self.secret("user-password")

    def api(self, user: str) -> Person:
        """Somebody, logged in; ``.api`` is an httpx client with their token, ``.browser`` one with their cookies."""
        if user not in self.people:
            password = self.admin_password if user == "admin" else self.user_password
            self.people[user] = Person(self, user, password)  # type: ignore[arg-type] # of a site, it asks the url only
        return self.people[user]

    @property
    def token(self) -> str:
        """The admin's."""
        return self.api("admin").token

    def book(self, user: str, seconds: float, **asked: Any) -> dict[str, Any]:
        """A booking from now on."""
        return self.api(user).book(seconds, **asked)

    def start(self, reservation: Mapping[str, Any], *, seconds: float = 120, wait: bool = True) -> dict[str, Any]:
        """Starts the server of a booking through the service; the reservation as it is once the server runs.

        As a person would, it asks again while the last server still stops.
        """
        person = self.api(reservation["owner"])

        def taken() -> dict[str, Any] | None:
            answer = person.api.post(f"{API}/{reservation['id']}/start")
            if answer.status_code == 409 and "pending stop" in answer.json()["detail"]:
                return None
            assert answer.status_code < 300, f"{answer.status_code}: {answer.text}"
            return answer.json()

        started = wait_for(taken, 60, f"the start of {reservation['id']}")
        return self.wait_for_state(reservation, "running", seconds) if wait else started

    def units(self, node: str) -> int:
        """How many GPUs can be booked on a node."""
        (found,) = self.values["catalog"]["nodes"][node]["accelerators"][:1]
        return int(found["count"])

    def reservation(self, reservation: Mapping[str, Any]) -> dict[str, Any]:
        """A booking as it is now."""
        answer = self.api(reservation["owner"]).api.get(f"{API}/{reservation['id']}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def wait_for_state(self, reservation: Mapping[str, Any], state: str, seconds: float = 120) -> dict[str, Any]:
        """Waits until the server of a booking is ``running``, ``none`` …"""

        def reached() -> dict[str, Any] | None:
            now = self.reservation(reservation)
            return now if now["server_state"] == state else None

        return wait_for(reached, seconds, f"server_state {state!r} of {reservation['id']}")

    def pod_of(self, reservation: Mapping[str, Any]) -> V1Pod | None:
        """The pod of a booking's server."""
        found = self.core.list_namespaced_pod(
            self.users, label_selector=f"{labels.KIND}={labels.SERVER},{labels.RESERVATION}={reservation['id']}"
        ).items
        assert len(found) <= 1, f"{len(found)} pods of {reservation['id']}"
        return found[0] if found else None

    def wait_gone(self, reservation: Mapping[str, Any], seconds: float) -> float:
        """Waits until the pod of a booking is gone; when that was, in seconds since the epoch."""
        wait_for(lambda: self.pod_of(reservation) is None, seconds, f"the end of the pod of {reservation['id']}")
        return time.time()


def values_for(cluster: Cluster, **changed: Any) -> dict[str, Any]:
    """Values with the images under test, the nodes as they are, and times short enough for tests."""
    return {
        "image": _image(cluster, "hub"),
        "database": {"postgresql": {"image": _image(cluster, "postgresql"), "storage": storage_of(cluster)}},
        "catalog": catalog_for(cluster),
        # Servers may use a core each, and ask for so little that many find room on a small machine.
        "hub": {"config": {"MLMP": {"stop_lead": 5.0, "tick": 1.0}, "MLMPKubeSpawner": {"requested_share": 0.05}}},
        "service": {"seeAllPods": True},
        "ssh": {"gateway": {"enabled": True, "address": GATEWAY}},
        **changed,
    }


def catalog_for(cluster: Cluster, resource: str = RESOURCE) -> dict[str, Any]:
    """What the nodes have, bookable for some seconds, without limits."""
    nodes = {
        node.metadata.name: {
            "accelerators": [
                {"resource": resource, "model": "A100", "count": int(node.status.allocatable[resource])},
                {"resource": SLOT, "count": 32},
            ],
            "cpus": 8,
            "memory": "16GiB",
        }
        for node in cluster.core().list_node().items
        if int(node.status.allocatable.get(resource, 0))
    }
    profile = {"cpus": 1, "memory": "512MiB", "min_duration": "5s", "default_duration": "10m"}
    missing = f"{cluster.registry}/mlmp/no-such-image:1"
    return {
        "nodes": nodes,
        "images": {"lab": {"reference": cluster.images["lab"]}, "missing": {"reference": missing}},
        "profiles": {
            "gpu": {"title": "GPU", "images": ["lab", "missing"], "resource": resource} | profile,
            "cpu": {"title": "CPU", "images": ["lab"], "resource": SLOT} | profile,
        },
        "order": ["gpu", "cpu"],
    }


def storage_of(cluster: Cluster) -> str | None:
    """The size of a claim; None where the cluster makes no volumes by itself."""
    classes = client.StorageV1Api(cluster.core().api_client).list_storage_class().items
    default = "storageclass.kubernetes.io/is-default-class"
    return "1Gi" if any((each.metadata.annotations or {}).get(default) == "true" for each in classes) else None


def _image(cluster: Cluster, name: str) -> dict[str, str]:
    reference, _, tag = cluster.images[name].rpartition(":")
    return {"name": reference, "tag": tag, "pullPolicy": "Always"}


def new_namespace(core: client.CoreV1Api, name: str) -> str:
    """A namespace in which nothing runs that Pod Security ``restricted`` refuses."""
    full = f"{name}-{uuid.uuid4().hex[:6]}"
    enforced = {"pod-security.kubernetes.io/enforce": "restricted"}
    core.create_namespace({"metadata": {"name": full, "labels": enforced}})
    return full


@pytest.fixture(scope="session")
def release(cluster: Cluster, core: client.CoreV1Api) -> Iterator[Release]:
    """MLMP for the whole run. A test that changes it puts it back as it was."""
    namespace = new_namespace(core, "mlmp")
    made = Release(cluster, namespace, values_for(cluster))
    made.install()
    yield made
    made.close()
    if "MLMP_TEST_KEEP" not in os.environ:
        made.uninstall()
        core.delete_namespace(namespace)
