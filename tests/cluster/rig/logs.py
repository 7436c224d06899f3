"""What is kept of a run that failed: the programs' logs, and what the cluster says of its pods."""

from __future__ import annotations

import os
import shutil
import subprocess
from datetime import datetime, timezone
from functools import cache
from pathlib import Path

from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

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


def keep_cluster(folder: Path, kubeconfig: Path) -> None:
    """Objects, events and all containers' logs. Nothing here raises: the failure is what must be read."""
    folder.mkdir(parents=True, exist_ok=True)
    kubectl = ["kubectl", f"--kubeconfig={kubeconfig}", "--request-timeout=10s"]
    everywhere = "--all-namespaces"
    for name, words in {
        "nodes.txt": ["describe", "nodes"],
        "objects.txt": ["get", "all,configmap,pvc,networkpolicy,pdb,ingress", "-o", "wide", everywhere],
        "events.txt": ["get", "events", "--sort-by=.lastTimestamp", everywhere],
        "pods.txt": ["describe", "pods", everywhere],
    }.items():
        (folder / name).write_text(_ask(*kubectl, *words))
    try:
        core = client.CoreV1Api(config.new_client_from_config(str(kubeconfig)))
        pods = core.list_pod_for_all_namespaces(_request_timeout=10).items
    except (ApiException, HTTPError) as error:
        (folder / "pods.txt").write_text(f"{error}\n")
        return
    for pod in pods:
        for container in (pod.status.init_container_statuses or []) + (pod.status.container_statuses or []):
            name = f"{pod.metadata.namespace}.{pod.metadata.name}.{container.name}"
            (folder / f"{name}.log").write_text(_log(core, pod, container.name, previous=False))
            if container.restart_count:
                (folder / f"{name}.previous.log").write_text(_log(core, pod, container.name, previous=True))


def _log(core: client.CoreV1Api, pod: client.V1Pod, container: str, *, previous: bool) -> str:
    try:
        said = core.read_namespaced_pod_log(
            pod.metadata.name,
            pod.metadata.namespace,
            container=container,
            previous=previous,
            timestamps=True,
            tail_lines=5000,
            _request_timeout=10,
            _preload_content=False,
        )
    except (ApiException, HTTPError) as error:
        return f"{error}\n"
    return said.data.decode(errors="replace")


def _ask(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{error}\n"
    return done.stdout + done.stderr
