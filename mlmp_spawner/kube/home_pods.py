"""The pods that make and erase a user's folder in the volume of all homes, and what they say. Pure.

They are the only pods of MLMP that may run as root, with the rights over files that this takes and no others. Users
have no part in them: they see the volume's root, users their own folders; the programs are ours, the names hashes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlmp_spawner.kube import erase_home, make_home, pulls
from mlmp_spawner.kube.labels import HOME, KIND
from mlmp_spawner.kube.outcomes import Fails, Going, sentence
from mlmp_spawner.kube.verdicts import said
from mlmp_spawner.rules.storage import Folders
from mlmp_spawner.units import MINUTE, from_iso

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Work:
    """What a pod does with a folder: ``kind`` is in its name, the others are for people."""

    kind: str
    program: str
    doing: str
    undone: str
    late: str


PROGRAM = Path(make_home.__file__).read_text(encoding="utf-8")
MAKE = Work("home", PROGRAM, "Making your folder", "Your folder can't be made", "Your folder was not made")
HAND_IN = Work(
    "hand-in", PROGRAM, "Making the place to hand in", "The place to hand in can't be made",
    "The place to hand in was not made",
)  # fmt: skip
ERASE = Work(
    "erase", Path(erase_home.__file__).read_text(encoding="utf-8"), "Erasing the folder",
    "The folder can't be erased", "The folder was not erased",
)  # fmt: skip
RIGHTS = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"]
"""What root keeps: to give a folder away, and to be its user where the file server lets root do nothing."""
LEFT = 10 * MINUTE
"""How long a pod that is over stays where nobody takes it away, as after a hub that was killed."""
_ROOT = "/homes"


@dataclass(frozen=True, slots=True)
class Home:
    """A folder, and the account that it shall belong to. ``around``: folders of the same account that it is in."""

    folder: str
    uid: int
    gid: int
    around: tuple[str, ...] = ()


def pod_name(home: Home, folders: Folders, work: Work = MAKE) -> str:
    """The same for the same folder and account, so that two starts make one pod."""
    told = f"{'/'.join((folders.claim, *home.around, home.folder))}:{home.uid}:{home.gid}"
    return f"mlmp-{work.kind}-{hashlib.sha256(told.encode()).hexdigest()[:16]}"


def manifest(home: Home, folders: Folders, patience: float, work: Work = MAKE) -> dict[str, Any]:
    """The pod. :param patience: seconds after which the cluster ends it."""
    what = [_ROOT, home.folder, str(home.uid), str(home.gid), *home.around]
    container = {
        "name": "home",
        "image": folders.image,
        "imagePullPolicy": folders.pull_policy,
        "command": ["python3", "-I", "-c", work.program, *what],
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"cpu": "1", "memory": "128Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"], **({"add": RIGHTS} if folders.by == "root" else {})},
        },
        "volumeMounts": [{"name": "homes", "mountPath": _ROOT}],
    }
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "activeDeadlineSeconds": max(1, round(patience)),
        "terminationGracePeriodSeconds": 1,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": _account(home, folders),
        "nodeSelector": dict(folders.node_selector),
        "tolerations": list(folders.tolerations),
        "imagePullSecrets": [{"name": name} for name in folders.pull_secrets],
        "containers": [container],
        "volumes": [{"name": "homes", "persistentVolumeClaim": {"claimName": folders.claim}}],
    }
    metadata = {"name": pod_name(home, folders, work), "labels": {KIND: HOME}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _account(home: Home, folders: Folders) -> dict[str, Any]:
    made: dict[str, Any] = {"seccompProfile": {"type": "RuntimeDefault"}}
    if folders.fs_group is not None:
        made |= {"fsGroup": folders.fs_group, "fsGroupChangePolicy": "OnRootMismatch"}
    if folders.by == "root":
        return {**made, "runAsUser": 0, "runAsGroup": 0}
    return {**made, "runAsUser": home.uid, "runAsGroup": home.gid, "runAsNonRoot": True}


def judge(pod: Json, image: str, work: Work = MAKE) -> Going | Fails | None:
    """None: it is done. Else what it waits for, or why it can't be."""
    status = pod.get("status") or {}
    if status.get("phase") == "Succeeded":
        return None
    container: Json = next(iter(status.get("containerStatuses") or ()), {})
    state = container.get("state") or {}
    if status.get("phase") == "Failed":
        if status.get("reason") == "DeadlineExceeded":
            return Fails("storage", f"{work.doing} took too long: the file server may be away.")
        message = str((state.get("terminated") or {}).get("message") or status.get("message") or "")
        return Fails("storage", f"{work.undone}.{said(message)}")
    waiting = state.get("waiting") or {}
    reason, message = str(waiting.get("reason") or ""), str(waiting.get("message") or "")
    if reason in pulls.REASONS:
        return pulls.failing(image, reason, message, ()) or Going(42, work.doing)
    if reason in ("CreateContainerConfigError", "CreateContainerError", "RunContainerError"):
        return Fails("storage", f"{work.undone}: {sentence(message)}.", patience=pulls.PATIENCE)
    for one in status.get("conditions") or ():
        if one.get("reason") == "Unschedulable":
            return Going(42, f"{work.doing}: {sentence(one.get('message'))}")
    mounting = bool((pod.get("spec") or {}).get("nodeName")) and not container.get("containerID")
    return Going(42, f"{work.doing}: waiting for the file server" if mounting else work.doing)


def is_left_over(pod: Json, now: int) -> bool:
    """Whether it has been over for long."""
    for container in (pod.get("status") or {}).get("containerStatuses") or ():
        ended = ((container.get("state") or {}).get("terminated") or {}).get("finishedAt")
        with suppress(ValueError):
            return ended is not None and from_iso(str(ended)) < now - LEFT
    return False
