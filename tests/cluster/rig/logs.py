"""What is kept of a run that failed: the programs' logs, and what the cluster says of its pods."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from datetime import datetime, timezone
from functools import cache
from pathlib import Path

from .places import KEPT_LOGS, LOGS

#: Tells the tests where the run that started them keeps its logs.
VARIABLE = "MLMP_TEST_LOGS"
#: Folders of earlier failures beyond these are removed.
KEPT = 5


@cache
def folder() -> Path:
    """This run's, below ``build/test-cluster``; it is made by whoever puts something there."""
    for old in sorted(KEPT_LOGS.glob("*"))[: -KEPT + 1]:
        shutil.rmtree(old, ignore_errors=True)
    given = os.environ.get(VARIABLE)
    return Path(given) if given else KEPT_LOGS / f"{datetime.now(timezone.utc):%Y%m%dT%H%M%SZ}"


def keep_programs(folder: Path) -> None:
    """The logs of etcd, the control plane, kubelets, containerd and the rest."""
    if LOGS.exists():
        shutil.copytree(LOGS, folder / "programs", dirs_exist_ok=True)


def keep_cluster(folder: Path, kubectl: Sequence[str], namespace: str | None = None) -> None:
    """Objects, events and the containers' logs, of one namespace or of all. Nothing here raises."""
    folder.mkdir(parents=True, exist_ok=True)
    where = ["--namespace", namespace] if namespace else ["--all-namespaces"]
    for name, words in {
        "nodes.txt": ["describe", "nodes"],
        "objects.txt": ["get", "all,configmap,pvc,networkpolicy,pdb,ingress", "-o", "wide", *where],
        "events.txt": ["get", "events", "--sort-by=.lastTimestamp", *where],
        "pods.txt": ["describe", "pods", *where],
    }.items():
        (folder / name).write_text(_ask(kubectl, *words))
    try:
        pods = json.loads(_ask(kubectl, "get", "pods", "-o", "json", *where))["items"]
    except (ValueError, KeyError):
        return
    for pod in pods:
        _keep_pod(folder, kubectl, pod["metadata"]["namespace"], pod["metadata"]["name"])


def _keep_pod(folder: Path, kubectl: Sequence[str], namespace: str, pod: str) -> None:
    words = ["logs", "--namespace", namespace, pod, "--all-containers", "--prefix", "--timestamps", "--tail=5000"]
    (folder / f"{namespace}.{pod}.log").write_text(_ask(kubectl, *words))
    before = _ask(kubectl, *words, "--previous")
    if "previous terminated container" not in before:
        (folder / f"{namespace}.{pod}.previous.log").write_text(before)


def _ask(kubectl: Sequence[str], *words: str) -> str:
    try:
        done = subprocess.run([*kubectl, "--request-timeout=10s", *words], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{error}\n"
    return done.stdout + done.stderr
