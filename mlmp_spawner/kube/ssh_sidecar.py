"""The SSH server in a container of its own beside a user's server: the same files, without the units.

Pure, as :mod:`mlmp_spawner.kube.confinement`, after which it is added: what it has is ours to say. It listens at a
socket in a folder that both containers see; the Jupyter server carries a WebSocket to it, as it does to an SSH server
of its own.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mlmp_spawner.kube.confinement import SERVER

Json = dict[str, Any]

NAME = "ssh"
"""The container, and the volume of its socket."""
FOLDER = "/run/mlmp-ssh"
SOCKET = f"{FOLDER}/listener/socket"
"""In a folder of the listener's own: the volume's root is the node's, and can't be closed to others."""
SOCKET_VARIABLE = "MLMP_SSH_SOCKET"
"""Tells the Jupyter server that somebody else listens, and where."""

_DEVICES = "NVIDIA_VISIBLE_DEVICES"
_OTHER_PROGRAMS = ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH")


@dataclass(frozen=True, slots=True)
class Sidecar:
    """The container as it is configured: ``resources`` with limits and requests, as Kubernetes writes them."""

    image: str
    pull_policy: str | None = None
    resources: Mapping[str, Any] = field(default_factory=dict)


def with_ssh(pod: Mapping[str, Any], sidecar: Sidecar) -> Json:
    """The pod with the container, which sees the files and the environment of the server's.

    It is an init container that is restarted by itself: whatever becomes of it, the server's is not touched.
    """
    made = copy.deepcopy(dict(pod))
    spec = made["spec"]
    server = next(one for one in spec["containers"] if one.get("name") == SERVER)
    server["env"] = _said(server.get("env"), {SOCKET_VARIABLE: SOCKET})
    _make_room(spec)
    mounts = [dict(mount) for mount in server.get("volumeMounts") or ()]
    socket = {"name": NAME, "mountPath": FOLDER}
    server["volumeMounts"] = [*mounts, socket]
    spec["volumes"] = [*(spec.get("volumes") or ()), {"name": NAME, "emptyDir": {"medium": "Memory"}}]
    container = {
        "name": NAME,
        "image": sidecar.image,
        "restartPolicy": "Always",
        "env": _environment(server["env"]),
        "resources": copy.deepcopy(dict(sidecar.resources)),
        "securityContext": _security(server.get("securityContext") or {}),
        "volumeMounts": [*mounts, socket],
    }
    if sidecar.pull_policy:
        container["imagePullPolicy"] = sidecar.pull_policy
    spec["initContainers"] = [*(spec.get("initContainers") or ()), container]
    return made


def _make_room(spec: Json) -> None:
    """Nothing that was configured stays under our name: the API server would refuse two."""
    spec["volumes"] = [one for one in spec.get("volumes") or () if one.get("name") != NAME]
    spec["initContainers"] = [one for one in spec.get("initContainers") or () if one.get("name") != NAME]
    spec["containers"] = [one for one in spec["containers"] if one.get("name") != NAME]
    for container in (*spec["initContainers"], *spec["containers"]):
        mounts = container.get("volumeMounts") or ()
        container["volumeMounts"] = [
            mount for mount in mounts if mount.get("name") != NAME and mount.get("mountPath") != FOLDER
        ]


def _said(environment: Any, said: Mapping[str, str]) -> list[Json]:
    kept = [dict(entry) for entry in environment or () if entry.get("name") not in said]
    return kept + [{"name": name, "value": value} for name, value in said.items()]


def _environment(of_the_server: list[Json]) -> list[Json]:
    """The server's, but for where its image has its programs, and without any unit."""
    kept = [entry for entry in of_the_server if entry.get("name") not in _OTHER_PROGRAMS]
    return _said(kept, {_DEVICES: "void"})


def _security(of_the_server: Mapping[str, Any]) -> Json:
    """The same account, so that files are the same people's; else nothing that the server may be allowed."""
    account = {name: of_the_server[name] for name in ("runAsUser", "runAsGroup") if name in of_the_server}
    return {**account, "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
