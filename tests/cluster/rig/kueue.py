"""Kueue, which queues training jobs: its own chart, with the values that our docs tell, on the image built here."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from . import binaries, images
from .console import RigError, run, step, wait_until
from .control_plane import kubectl
from .places import ADMIN, BIN, PROJECT

NAMESPACE = "kueue-system"
MANAGER = "kueue-controller-manager"
VALUES = PROJECT / "helm" / "kueue"
#: Answered by the webhooks of pods and of Jobs, where they answer.
_PROBES = (
    {"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [{"name": "main", "image": "none"}]}},
    {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "spec": {
            "suspend": True,
            "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "none"}]}},
        },
    },
)


def installed() -> bool:
    """Whether it was installed here, whole or not."""
    return not _fails("get", "crd", "workloads.kueue.x-k8s.io")


def up() -> None:
    """Installs it, or puts it back as it has to be; returns when it answers. RigError where it was not built."""
    if not binaries.folder("kueue").is_dir():
        raise RigError("this cluster was brought up without Kueue: python -m tests.cluster.rig up --with-kueue")
    with step("Kueue"):
        install()
        run(*kubectl(), "apply", "--server-side", "--force-conflicts", "-f", VALUES / "webhooks.yaml")
        start()


def install() -> None:
    """The part of its chart alone."""
    name, _, tag = images.kueue().rpartition(":")
    image = {"repository": name, "tag": tag, "pullPolicy": "IfNotPresent"}
    probe = {"initialDelaySeconds": 0, "periodSeconds": 1}
    manager = {"image": image, "podSecurityContext": {"runAsUser": 65532}}  # of the image here nobody is the user
    ours = {"controllerManager": {"manager": manager, "readinessProbe": probe}}
    run(
        BIN / "helm", f"--kubeconfig={ADMIN}", "--namespace", NAMESPACE, "upgrade", "--install", "kueue", _chart(),
        "--create-namespace", "--values", VALUES / "values.yaml", "--values", "-", text_in=json.dumps(ours),
    )  # fmt: skip


def stop() -> None:
    """Takes its program away: what is installed stays, and its webhooks answer nobody."""
    _scale(0)
    wait_until(lambda: not _pods(), "the end of Kueue", seconds=60, every=0.3)


def start() -> None:
    """Brings its program back; returns when its webhooks answer."""
    _scale(1)
    wait_until(answers, "Kueue's answer", seconds=180, every=0.5)


def kill() -> None:
    """Its pod goes as in a crash of its node; another one comes by itself."""
    run(*kubectl(), "-n", NAMESPACE, "delete", "pods", "--all", "--force", "--grace-period=0")


def answers() -> bool:
    """Whether what names a queue can be made now: its webhooks answer, and the API server trusts them."""
    return not any(
        _fails("create", "--dry-run=server", "-f", "-", text=json.dumps(_named(probe))) for probe in _PROBES
    )


def _named(probe: dict[str, object]) -> dict[str, object]:
    labels = {"kueue.x-k8s.io/queue-name": "none"}
    return probe | {"metadata": {"name": "kueue-probe", "namespace": "default", "labels": labels}}


def _scale(replicas: int) -> None:
    run(*kubectl(), "-n", NAMESPACE, "scale", f"deployment/{MANAGER}", f"--replicas={replicas}")


def _pods() -> str:
    return run(*kubectl(), "-n", NAMESPACE, "get", "pods", "-o", "name").strip()


def _fails(*words: str, text: str | None = None) -> bool:
    return bool(subprocess.run([*kubectl(), *words], input=text, text=True, capture_output=True).returncode)


def _chart() -> Path:
    """From the module that the program was built from."""
    env = {**os.environ, "GOFLAGS": "-mod=readonly", "GOWORK": "off"}
    said = run("go", "mod", "download", "-json", "sigs.k8s.io/kueue", env=env, folder=binaries.SOURCES / "kubernetes")
    return Path(json.loads(said)["Dir"]) / "charts" / "kueue"
