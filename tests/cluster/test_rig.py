"""The test cluster itself is what the other tests take it for."""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from tests.cluster import nfs_claims
from tests.cluster.rig.cluster import Cluster

GPU = "nvidia.com/gpu"


def eventually(true: Callable[[], Any], *, seconds: float = 60) -> Any:
    """What it returned when it was true."""
    ends = time.monotonic() + seconds
    while not (value := true()):
        assert time.monotonic() < ends, f"not within {seconds:g} s"
        time.sleep(0.2)
    return value


def pod(name: str, image: str, command: list[str], *, node: str | None = None, **resources: str) -> dict[str, Any]:
    """A pod of one container, ended at once when deleted."""
    container = {"name": "c", "image": image, "command": command, "resources": {"limits": resources}}
    spec: dict[str, Any] = {"containers": [container], "restartPolicy": "Never", "terminationGracePeriodSeconds": 0}
    if node:
        spec["nodeSelector"] = {"kubernetes.io/hostname": node}
    return {"metadata": {"name": name}, "spec": spec}


@pytest.fixture
def phase(core: client.CoreV1Api, namespace: str) -> Callable[[str], str]:
    """A pod's phase."""
    return lambda name: core.read_namespaced_pod(name, namespace).status.phase


def test_two_nodes_are_ready_and_carry_gpus_and_the_labels_of_gpu_feature_discovery(
    cluster: Cluster, core: client.CoreV1Api
) -> None:
    cluster.must_be_ours()
    nodes = {node.metadata.name: node for node in core.list_node().items}
    assert sorted(nodes) == cluster.nodes == ["node-a", "node-b"]
    assert all(
        condition.status == "True"
        for node in nodes.values()
        for condition in node.status.conditions
        if condition.type == "Ready"
    )
    eventually(lambda: core.read_node("node-b").status.allocatable.get("nvidia.com/mig-3g.40gb") == "2")
    eventually(lambda: core.read_node("node-a").status.allocatable.get(GPU) == "4")
    assert nodes["node-a"].metadata.labels["nvidia.com/gpu.product"] == "NVIDIA-A100-SXM4-80GB"


def test_a_pod_on_each_node_pulls_from_the_registry_and_resolves_services(
    cluster: Cluster, core: client.CoreV1Api, namespace: str, phase: Callable[[str], str]
) -> None:
    for node in cluster.nodes:
        command = ["getent", "hosts", "kubernetes.default.svc.cluster.local"]
        core.create_namespaced_pod(namespace, pod(f"dns-{node}", cluster.debian, command, node=node))
    for node in cluster.nodes:
        eventually(lambda name=f"dns-{node}": phase(name) in {"Succeeded", "Failed"})
        assert phase(f"dns-{node}") == "Succeeded", core.read_namespaced_pod_log(f"dns-{node}", namespace)


def test_gpus_are_counted_so_that_a_pod_too_many_waits_and_says_for_what(
    cluster: Cluster, core: client.CoreV1Api, namespace: str, phase: Callable[[str], str]
) -> None:
    cluster.must_be_ours()
    for name in ("one", "two", "three"):
        wants = pod(name, cluster.debian, ["sleep", "600"], **{GPU: "3"})
        core.create_namespaced_pod(namespace, wants)
        if name != "three":
            eventually(lambda name=name: phase(name) == "Running")
    placed = {core.read_namespaced_pod(name, namespace).spec.node_name for name in ("one", "two")}
    assert placed == {"node-a", "node-b"}

    def reason() -> str | None:
        conditions = core.read_namespaced_pod("three", namespace).status.conditions or []
        return next((c.message for c in conditions if c.type == "PodScheduled" and c.status == "False"), None)

    assert f"Insufficient {GPU}" in eventually(reason)


def test_a_claim_gets_a_volume_that_a_user_may_write(
    cluster: Cluster, core: client.CoreV1Api, namespace: str, phase: Callable[[str], str]
) -> None:
    cluster.must_be_ours()
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    core.create_namespaced_persistent_volume_claim(namespace, {"metadata": {"name": "home"}, "spec": claim})
    for node, command in (("node-a", "echo kept > /home/f"), ("node-b", "grep kept /home/f")):
        body = pod(f"home-{node}", cluster.debian, ["sh", "-c", command], node=node)
        body["spec"]["containers"][0]["volumeMounts"] = [{"name": "home", "mountPath": "/home"}]
        body["spec"]["volumes"] = [{"name": "home", "persistentVolumeClaim": {"claimName": "home"}}]
        body["spec"]["securityContext"] = {"runAsUser": 1000, "fsGroup": 1000}
        core.create_namespaced_pod(namespace, body)
        eventually(lambda name=f"home-{node}": phase(name) in {"Succeeded", "Failed"})
        assert phase(f"home-{node}") == "Succeeded", core.read_namespaced_pod_log(f"home-{node}", namespace)


def test_gpus_and_pods_outlive_a_killed_kubelet(
    cluster: Cluster, core: client.CoreV1Api, namespace: str, phase: Callable[[str], str]
) -> None:
    kubelet = cluster.node("node-a").kubelet
    before = kubelet.pids
    core.create_namespaced_pod(namespace, pod("stays", cluster.debian, ["sleep", "600"], node="node-a"))
    eventually(lambda: phase("stays") == "Running")
    kubelet.kill()
    eventually(lambda: kubelet.pids and kubelet.pids != before)
    # A container that the new kubelet started proves that it has taken over.
    core.create_namespaced_pod(namespace, pod("after", cluster.debian, ["true"], node="node-a", **{GPU: "1"}))
    eventually(lambda: phase("after") == "Succeeded")
    assert core.read_node("node-a").status.allocatable[GPU] == "4"
    assert core.read_namespaced_pod("stays", namespace).status.container_statuses[0].restart_count == 0


def test_the_api_server_stops_and_comes_back_with_all_it_knew(
    cluster: Cluster, core: client.CoreV1Api, namespace: str
) -> None:
    cluster.api_server.stop()
    with pytest.raises((HTTPError, ApiException)):
        core.list_namespace(_request_timeout=2)
    cluster.api_server.start()
    assert core.read_namespace(namespace).metadata.name == namespace


class TestTheNfsServer:
    @pytest.fixture
    def run(self, cluster: Cluster, core: client.CoreV1Api, namespace: str) -> Iterator[Callable[..., str]]:
        """Runs a shell command in a pod that sees a folder of an export below /nfs; what it wrote."""
        with ExitStack() as volumes:
            claims: dict[str, str] = {}

            def begin(command: str, *, node: str, uid: int = 1000, path: str) -> str:
                if path not in claims:
                    name = f"claim-{uuid.uuid4().hex[:6]}"
                    claims[path] = volumes.enter_context(nfs_claims.claim(cluster, namespace, name, path))
                body = pod(f"nfs-{uuid.uuid4().hex[:6]}", cluster.debian, ["sh", "-c", command], node=node)
                body["spec"]["containers"][0]["volumeMounts"] = [{"name": "nfs", "mountPath": "/nfs"}]
                body["spec"]["volumes"] = [{"name": "nfs", "persistentVolumeClaim": {"claimName": claims[path]}}]
                body["spec"]["securityContext"] = {"runAsUser": uid, "runAsGroup": uid}
                core.create_namespaced_pod(namespace, body)
                return str(body["metadata"]["name"])

            yield begin

    @pytest.fixture
    def said(
        self, core: client.CoreV1Api, namespace: str, phase: Callable[[str], str], run: Callable[..., str]
    ) -> Callable[..., str]:
        """The same, once it is over."""

        def said(*command: str, **where: Any) -> str:
            name = run(*command, **where)
            eventually(lambda: phase(name) in {"Succeeded", "Failed"})
            return str(core.read_namespaced_pod_log(name, namespace))

        return said

    def test_shows_the_same_files_on_both_nodes_and_to_their_owner_only(
        self, cluster: Cluster, said: Callable[..., str]
    ) -> None:
        folder = nfs_claims.folder(cluster, "/homes", f"rig-{uuid.uuid4().hex[:6]}")
        shutil.chown(mkdir(folder / "ann", 0o700), 1000, 1000)
        first, second = cluster.nodes[:2]
        path = f"/homes/{folder.name}"
        assert said("umask 0; echo kept > /nfs/ann/f && ls -l /nfs/ann/f", node=first, path=path).startswith(
            "-rw-rw-rw-"
        )
        assert said("cat /nfs/ann/f", node=second, path=path) == "kept\n"
        assert "Permission denied" in said("cat /nfs/ann/f 2>&1", uid=1001, node=second, path=path)
        assert (folder / "ann" / "f").stat().st_uid == 1000

    def test_lets_root_write_where_it_is_not_squashed_and_nobody_where_all_is_read_only(
        self, cluster: Cluster, said: Callable[..., str]
    ) -> None:
        node = cluster.nodes[0]
        make = "touch /nfs/f-$$ 2>&1; mkdir -m 700 /nfs/d-$$ 2>&1; stat -c %u /nfs/d-$$; rm -r /nfs/?-$$"
        assert said(make, uid=0, node=node, path="/homes").splitlines()[0] == "0"
        assert said(make, uid=0, node=node, path="/squashed").splitlines()[0] == "65534"
        assert "Read-only" in said("touch /nfs/f 2>&1", uid=0, node=node, path="/shared")

    def test_is_waited_for_while_it_is_away(
        self, cluster: Cluster, run: Callable[..., str], phase: Callable[[str], str]
    ) -> None:
        folder = nfs_claims.folder(cluster, "/homes", f"rig-{uuid.uuid4().hex[:6]}", 0o777)
        file = folder / "log"
        every = "for i in $(seq 30); do echo $i >> /nfs/log; sleep 0.1; done"
        name = run(every, node=cluster.nodes[0], path=f"/homes/{folder.name}")
        eventually(lambda: file.exists() and file.read_text())
        cluster.nfs.stop()
        written = file.read_text()
        time.sleep(4)  # longer than the rest of it would take
        assert phase(name) == "Running"
        assert file.read_text() == written
        cluster.nfs.start()
        eventually(lambda: phase(name) == "Succeeded")
        assert file.read_text().split() == [str(number) for number in range(1, 31)]


def mkdir(path: Path, mode: int) -> Path:
    """A folder with just this mode."""
    path.mkdir()
    path.chmod(mode)
    return path
