"""The cluster's network: a bridge on this machine, a network namespace per node and one for the NFS server, routes."""

from __future__ import annotations

import subprocess

from .console import run
from .places import BRIDGE, HOST, NFS, NODES, SERVICES, NfsPlace, NodePlace


def up() -> None:
    """The machine reaches nodes, pods and ClusterIPs; nodes and pods reach the machine, and nothing beyond it."""
    run("ip", "link", "add", BRIDGE, "type", "bridge")
    run("ip", "address", "add", f"{HOST}/24", "dev", BRIDGE)
    run("ip", "link", "set", BRIDGE, "up")
    plug(NFS)
    for node in NODES:
        plug(node)
        inside = ("ip", "-n", node.netns)
        for other in NODES:
            if other != node:
                run(*inside, "route", "add", other.pods, "via", other.address)
        run("ip", "netns", "exec", node.netns, "sysctl", "-qw", "net.ipv4.ip_forward=1")
        run("ip", "route", "replace", node.pods, "via", node.address)
    # kube-proxy of the first node translates what the machine sends to services.
    run("ip", "route", "replace", SERVICES, "via", NODES[0].address)


def plug(place: NodePlace | NfsPlace) -> None:
    """A network namespace with a cable to the bridge."""
    run("ip", "netns", "add", place.netns)
    run("ip", "link", "add", place.interface, "type", "veth", "peer", "name", "eth0", "netns", place.netns)
    run("ip", "link", "set", place.interface, "master", BRIDGE, "up")
    inside = ("ip", "-n", place.netns)
    run(*inside, "link", "set", "lo", "up")
    run(*inside, "link", "set", "eth0", "up")
    run(*inside, "address", "add", f"{place.address}/24", "dev", "eth0")
    run(*inside, "route", "add", "default", "via", HOST)


def down() -> None:
    """Removes what of it there is; the routes go with the bridge."""
    for place in (NFS, *NODES):
        _try("ip", "link", "delete", place.interface)
        _try("ip", "netns", "delete", place.netns)
    _try("ip", "link", "delete", BRIDGE)


def _try(*command: str) -> None:
    subprocess.run(command, capture_output=True)
