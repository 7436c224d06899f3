"""What runs before and beside a job's program in its pod, from MLMP's own image: it has the same account, and no unit.

What *prepares* fetches the code and makes the directories (:mod:`mlmp_spawner.lab.job_pod`); what *measures* sends
what the program measures and uses (:mod:`mlmp_spawner.lab.job_sidecar`): it ends with the program, and keeps no pod
alive. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]

PREPARE = "mlmp_spawner.lab.job_pod"
MEASURE = "mlmp_spawner.lab.job_sidecar"
FOLDER = "/run/mlmp"
"""What the containers of a pod share."""
GPU_USE = (
    "if command -v nvidia-smi >/dev/null 2>&1; then nvidia-smi --query-gpu=index,utilization.gpu,memory.used "
    f"--format=csv,noheader,nounits -l 10 </dev/null >{FOLDER}/gpu 2>/dev/null & fi; true"
)
"""Run by a shell in the container that has the GPUs, writes each tenth second a line for each of them. It holds
nothing open that whoever started it would wait for, and is no failure where there is no such program."""

_PREPARING = {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"cpu": "1", "memory": "512Mi"}}
_MEASURING = {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"cpu": "500m", "memory": "256Mi"}}


@dataclass(frozen=True, slots=True)
class Beside:
    """What both have to know.

    ``secret``, ``key``: where the token of the attempt is; ``folders``: those that are made; ``directory``: where the
    program starts; ``code``: the SHA-256 of its snapshot; ``metrics``: as the manifest names them; ``rank``: which
    worker it is; ``workers``: the names of all of them, where there are several.
    """

    attempt: str
    secret: str
    key: str
    api_url: str
    home: str
    folder: str
    folders: tuple[str, ...]
    directory: str
    code: str | None
    metrics: Sequence[Mapping[str, str]]
    rank: int
    workers: tuple[str, ...] = ()


def containers(about: Beside, ours: Mapping[str, Any]) -> list[Json]:
    """Both, without their files. :param ours: what is the same for all containers from our image."""
    prepare, measure = ["python3", "-I", "-m", PREPARE], ["python3", "-I", "-m", MEASURE]
    return [
        {"name": "prepare", "command": prepare, "env": _preparing(about), "resources": _PREPARING, **ours},
        {"name": "measure", "command": measure, "env": _measuring(about), "resources": _MEASURING, **ours,
         "restartPolicy": "Always"},
    ]  # fmt: skip


def share_files(spec: Json, main: Json, home: str) -> None:
    """Gives both their files: what prepares has the home; what measures reads all that the program may write to."""
    prepare, measure = spec["initContainers"]
    files, beside = main["volumeMounts"], {"name": "beside", "mountPath": FOLDER}
    prepare["volumeMounts"] = [*(dict(one) for one in files if one["mountPath"] == home), beside]
    measure["volumeMounts"] = [*({**one, "readOnly": True} for one in files), beside]
    main["volumeMounts"] = [*files, beside]
    spec["volumes"] = [*spec["volumes"], {"name": "beside", "emptyDir": {"sizeLimit": "64Mi"}}]


def literal(text: str) -> str:
    """Kubernetes would put a variable's value in place of ``$(NAME)``."""
    return text.replace("$", "$$")


def _preparing(about: Beside) -> list[Json]:
    told = {
        "MLMP_JOB_FOLDER": about.folder,
        "MLMP_JOB_FOLDERS": json.dumps(about.folders),
        "MLMP_JOB_CODE": about.code or "",
        "MLMP_JOB_CODE_URL": f"{about.api_url}pods/jobs/{about.attempt}/code",
        "MLMP_JOB_WORKERS": json.dumps(about.workers),
    }
    return _environment(about, told, "MLMP_JOB_CODE_TOKEN")


def _measuring(about: Beside) -> list[Json]:
    told = {
        "MLMP_JOB_NUMBERS_URL": f"{about.api_url}pods/jobs/{about.attempt}/metrics?worker={about.rank}",
        "MLMP_JOB_GPU": f"{FOLDER}/gpu",
    }
    return _environment(about, told, "MLMP_JOB_TOKEN")


def _environment(about: Beside, told: Mapping[str, str], token: str) -> list[Json]:
    """With where the metrics are, and how far they have been read. All workers see the same files: the first reads."""
    named = [one for one in about.metrics if "tensorboard" in one or "json_lines" in one] if about.rank == 0 else []
    told = {
        **told,
        "HOME": about.home,
        "MLMP_JOB_METRICS": json.dumps(named),
        "MLMP_JOB_DIRECTORY": about.directory,
        "MLMP_JOB_SEEN": f"{FOLDER}/seen.json",
    }
    secret = {"secretKeyRef": {"name": about.secret, "key": about.key}}
    plain = [{"name": name, "value": literal(value)} for name, value in told.items()]
    return [*plain, {"name": token, "valueFrom": secret}]
