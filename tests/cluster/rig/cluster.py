"""The cluster as tests see it: this project's own, or any other that KUBECONFIG names."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

from kubernetes import client, config

from . import control_plane, hardware, kueue, lifecycle, nfs
from .nodes import Node
from .places import ADMIN, BIN, NODES
from .processes import Process, frozen


class OtherClusterError(Exception):
    """A fault was asked of a cluster that is not ours to break."""


@dataclass(frozen=True)
class Cluster:
    """A cluster for tests.

    ``registry``: as pod specs name it; ``push_to``: where this machine pushes the same images to; ``images``: the
    project's images, name -> reference. ``ours``: whether its programs may be stopped.
    """

    kubeconfig: Path
    registry: str
    push_to: str
    nodes: list[str]
    images: dict[str, str] = field(default_factory=dict)
    ours: bool = False

    @property
    def debian(self) -> str:
        """A small image with a shell."""
        return f"{self.registry}/debian:bookworm-slim"

    @property
    def api_server(self) -> control_plane.ApiServer:
        """``stop()``, ``start()``, ``freeze()``, ``thaw()``; raises OtherClusterError where it isn't ours."""
        self.must_be_ours()
        return control_plane.api_server

    @property
    def etcd(self) -> Process:
        self.must_be_ours()
        return control_plane.etcd

    @property
    def controller_manager(self) -> Process:
        self.must_be_ours()
        return control_plane.controller_manager

    @property
    def scheduler(self) -> Process:
        self.must_be_ours()
        return control_plane.scheduler

    @property
    def kueue(self) -> ModuleType:
        """What queues training jobs: ``stop()``, ``start()``, ``kill()``, and ``up()``, which puts it back."""
        self.must_be_ours()
        return kueue

    @property
    def nfs(self) -> nfs.NfsServer:
        """The NFS server: where it is, and ``stop()``, ``start()``, ``freeze()``, ``thaw()``."""
        self.must_be_ours()
        return nfs.server

    def node(self, name: str) -> Node:
        """``stop()`` is a power cut; ``kubelet`` has ``kill()``, ``stop()``, ``start()``, ``freeze()``, ``thaw()``."""
        self.must_be_ours()
        return next(Node(place) for place in NODES if place.name == name)

    def set_count(self, node: str, resource: str, count: int) -> None:
        """So many of an extended resource from now on: GPUs lost or found."""
        self.must_be_ours()
        hardware.set_count(node, resource, count)

    def whole(self) -> bool:
        """Whether all of our programs run, and none is frozen."""
        programs = (control_plane.etcd, control_plane.api_server, control_plane.controller_manager,
                    control_plane.scheduler, nfs.server, *(Node(place).kubelet for place in NODES))  # fmt: skip
        return all(program.pids and not frozen(program.pids) for program in programs)

    def heal(self) -> None:
        """Starts and thaws whatever a test left stopped, and gives the nodes their GPUs back."""
        self.must_be_ours()
        for process in (nfs.server, control_plane.etcd, control_plane.api_server, control_plane.controller_manager,
                        control_plane.scheduler):  # fmt: skip
            process.thaw()
            process.start()
        for place in NODES:
            node = Node(place)
            node.thaw()
            node.kubelet.thaw()
            node.start()
            node.kubelet.start()
        hardware.install()

    def catch_up(self) -> None:
        """After the API server was away: lets its clients look anew now. By themselves they take up to a minute each,
        and an EndpointSlice that changed meanwhile may stay as it was for ever."""
        self.must_be_ours()
        for process in (control_plane.controller_manager, control_plane.scheduler):
            process.stop()
            process.start()
        for place in NODES:
            Node(place).restart_programs()
        control_plane.api_server.was_away = False

    def kubectl(self) -> list[str]:
        """The beginning of a command that asks it."""
        return ["kubectl", f"--kubeconfig={self.kubeconfig}"]

    def core(self) -> client.CoreV1Api:
        """The official client."""
        return client.CoreV1Api(config.new_client_from_config(str(self.kubeconfig)))

    def must_be_ours(self) -> None:
        """Raises OtherClusterError, by which a test is skipped, where somebody else runs it."""
        if not self.ours:
            raise OtherClusterError(
                "this test is for the cluster that make test-cluster makes: it stops parts of it, or counts its GPUs"
            )


def ours() -> Cluster | None:
    """This machine's own test cluster, where it is up."""
    if not lifecycle.is_up():
        return None
    said = json.loads(lifecycle.DESCRIPTION.read_text())
    # helm, kubectl and cyclonus by name.
    if str(BIN) not in os.environ["PATH"].split(os.pathsep):
        os.environ["PATH"] = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    del said["kept"]
    return Cluster(**{**said, "kubeconfig": Path(said["kubeconfig"])}, ours=True)


def find() -> Cluster | None:
    """What KUBECONFIG names, else this machine's own; None where there is neither."""
    named = os.environ.get("KUBECONFIG")
    if named and Path(named) != ADMIN:
        return other(Path(named))
    return ours()


def other(kubeconfig: Path) -> Cluster:
    """A cluster that somebody else runs.

    MLMP_TEST_REGISTRY names the registry in pod specs, MLMP_TEST_PUSH_TO the same for this machine, MLMP_TEST_TAG the
    tag of the project's images there.
    """
    core = client.CoreV1Api(config.new_client_from_config(str(kubeconfig)))
    registry = os.environ.get("MLMP_TEST_REGISTRY", "registry.mlmp.test")
    tag = os.environ.get("MLMP_TEST_TAG", "dev")
    return Cluster(
        kubeconfig=kubeconfig,
        registry=registry,
        push_to=os.environ.get("MLMP_TEST_PUSH_TO", registry),
        nodes=sorted(node.metadata.name for node in core.list_node().items),
        images={name: f"{registry}/mlmp/{name}:{tag}" for name in ("hub", "lab", "postgresql", "ssh")},
    )
