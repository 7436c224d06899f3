"""A user's files in the pod of their server: home, shared data and scratch, whatever else was configured for it.

Pure, as :mod:`mlmp_spawner.kube.confinement`, after which it is added: which folder is whose is ours to say.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from shlex import quote
from typing import Any

from mlmp_spawner.kube.confinement import SERVER, containers
from mlmp_spawner.rules.hand_in import InPod
from mlmp_spawner.rules.storage import Storage, volumes

Json = dict[str, Any]

ACCOUNT = "jovyan"
"""What an account is called that only the login knows."""
NAMED = "mlmp.dev/passwd"
"""Annotation: the accounts that the server's container knows. Its own file system can't be written to for that."""


@dataclass(frozen=True, slots=True)
class Account:
    """As whom a server runs. ``gid`` None: as the image says. ``groups``: those that it is in besides."""

    uid: int
    gid: int | None = None
    groups: frozenset[int] = frozenset()
    fs_group: int | None = None
    """Whom the kubelet gives volumes to."""
    of_login: bool = False
    """Whether only the login knows it, and no image has a name for it."""


def with_files(pod: Mapping[str, Any], storage: Storage, folder: str, hand_in: Sequence[InPod] = ()) -> Json:
    """The pod with the volumes, in the container of the server alone.

    :param folder: the user's, in the claim of all homes. :param hand_in: what else is seen of that claim.
    """
    made = copy.deepcopy(dict(pod))
    spec = made["spec"]
    ours, mounts = volumes(storage, folder)
    mounts += [_handed_in(one) for one in hand_in]
    names = {one["name"] for one in ours}
    if storage.claim:  # all homes, under whatever name
        names |= {one.get("name") for one in spec.get("volumes") or () if _claim_of(one) == storage.claim}
    _make_room(spec, names, {one["mountPath"] for one in mounts})
    spec["volumes"] = [*(spec.get("volumes") or ()), *ours]
    server = next(one for one in spec["containers"] if one.get("name") == SERVER)
    server["volumeMounts"] = [*(server.get("volumeMounts") or ()), *mounts]
    _link(server, storage)
    _group(spec, storage)
    return made


def _handed_in(one: InPod) -> Json:
    said = {"name": "home", "mountPath": one.place, "subPath": one.path}
    return said if one.student else said | {"readOnly": True}


def _claim_of(volume: Mapping[str, Any]) -> str:
    return str((volume.get("persistentVolumeClaim") or {}).get("claimName") or "")


def run_as(pod: Mapping[str, Any], account: Account) -> Json:
    """The pod with this account in all its containers, but for those that the admin's own settings make privileged."""
    made = copy.deepcopy(dict(pod))
    spec = made["spec"]
    said = {"runAsUser": account.uid} | ({} if account.gid is None else {"runAsGroup": account.gid})
    for one in (spec, *containers(spec)):
        context = one["securityContext"] = dict(one.get("securityContext") or {})
        if one is spec or not context.get("privileged"):
            context.pop("runAsGroup", None)
            context.update(said)
    context = spec["securityContext"]
    groups = [gid for gid in context.pop("supplementalGroups", None) or () if gid in account.groups]
    context |= {"supplementalGroups": groups} if groups else {}
    if context.pop("fsGroup", None) is not None and account.fs_group is not None:
        context["fsGroup"] = account.fs_group
    return made


def with_account(pod: Mapping[str, Any], uid: int, gid: int, home: str) -> Json:
    """The pod with a name for its user's account, which no image can know: sshd lets in only who has one."""
    made = copy.deepcopy(dict(pod))
    metadata, spec = made["metadata"], made["spec"]
    accounts = [f"{ACCOUNT}:x:{uid}:{gid}::{home}:/bin/bash", "root:x:0:0:root:/root:/usr/sbin/nologin"]
    metadata["annotations"] = {**(metadata.get("annotations") or {}), NAMED: "\n".join(accounts) + "\n"}
    _make_room(spec, {"account"}, {"/etc/passwd"})
    item = {"path": "passwd", "fieldRef": {"fieldPath": f"metadata.annotations['{NAMED}']"}}
    spec["volumes"] = [*spec["volumes"], {"name": "account", "downwardAPI": {"items": [item]}}]
    server = next(one for one in spec["containers"] if one.get("name") == SERVER)
    mount = {"name": "account", "mountPath": "/etc/passwd", "subPath": "passwd", "readOnly": True}
    server["volumeMounts"] = [*server["volumeMounts"], mount]
    return made


def _make_room(spec: Json, names: set[str], paths: set[str]) -> None:
    """Nothing that was configured stays under our names, and nobody else mounts at our places."""
    spec["volumes"] = [one for one in spec.get("volumes") or () if one.get("name") not in names]
    for container in containers(spec):
        container["volumeMounts"] = [
            mount
            for mount in container.get("volumeMounts") or ()
            if mount.get("name") not in names
            and not (container.get("name") == SERVER and mount.get("mountPath") in paths)
        ]


def _link(server: Json, storage: Storage) -> None:
    """``~/shared`` and ``~/scratch``, made by the user's own account at each start; a hook of the admin's comes first.

    What is there under that name stays, and no failure of this keeps the server from running.
    """
    if not storage.links or (server.get("lifecycle") or {}).get("postStart"):
        return
    home = quote(storage.home)
    links = " ".join(
        f"[ -e {home}/{name} ] || ln -sn {target} {home}/{name};" for name, target in storage.links.items()
    )
    command = ["sh", "-c", f"{{ {links} }} 2>/dev/null; true"]
    server["lifecycle"] = {**(server.get("lifecycle") or {}), "postStart": {"exec": {"command": command}}}


def _group(spec: Json, storage: Storage) -> None:
    """The kubelet gives a volume to the pod's group where it can, all of it: never everybody's homes for one server.

    A folder there is its user's already; only a scratch volume of its own has to be given.
    """
    context = spec.setdefault("securityContext", {})
    if storage.claim and not (storage.scratch and storage.scratch.type == "claim"):
        context.pop("fsGroup", None)
    if "fsGroup" in context:
        context["fsGroupChangePolicy"] = "OnRootMismatch"
