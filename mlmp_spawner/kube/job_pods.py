"""An attempt of a job as Kubernetes runs it: the objects, whole, before anything says where and when. Pure.

One worker is a ``batch/v1`` Job. Several are a group of plain pods, each a pod set of its own: Kueue gives one pod set
one flavor, which is one node here. Both wait for Kueue: a Job is suspended, a pod has its scheduling gate. Where they
run comes from the flavor; until when, from annotations that are set with the answer to the admission check
(:mod:`mlmp_spawner.kube.workloads`). Each attempt has objects of its own, so what is called back never comes back.

Users have no part in the pod: image, program and environment are the manifest's, all else is as a server's pod has it.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from mlmp_spawner.kube.confinement import SERVER, Terms, confine
from mlmp_spawner.kube.files import Account, run_as, with_account, with_files
from mlmp_spawner.kube.job_beside import GPU_USE, Beside, containers, literal, share_files
from mlmp_spawner.kube.job_network import policies
from mlmp_spawner.kube.job_queues import HOSTNAME, priority_name
from mlmp_spawner.kube.labels import ATTEMPT, JOB, KIND, OWNER, STOPS_AT
from mlmp_spawner.rules.storage import Storage
from mlmp_spawner.units import MINUTE, SECOND

Json = dict[str, Any]

MAIN = SERVER
"""The container that runs the program. What confines a server's container, and gives it its files, knows that name."""
GATE = "kueue.x-k8s.io/admission-gated-by"
"""Annotation of a Job whose turn can't come yet. It can be taken away, and not put back."""
GATED_BY = "mlmp.dev/calendar"
QUEUE = "kueue.x-k8s.io/queue-name"
POD_GROUP = "kueue.x-k8s.io/pod-group-name"
SCHEDULING_GATE = "kueue.x-k8s.io/admission"
PORT = 29500
"""Where the first worker waits for the others, as torchrun has it."""
RECORD = "ConfigMap"
"""The kind of the object on which is noted what outlives the pods: unlike Secrets, it can be read without harm."""
HOME_OF_JOBS = "mlmp-jobs"
CODE_KEY = "mlmp-code"
"""Of the token in the secret; no variable of a user can have that name."""
START = 15 * MINUTE
"""How long a pod may take to start beside all that it may run: the cluster itself ends it after that."""

_NOTICE = (
    """printf '{"reason": "asked", "kill_at": %s000, "seconds_left": %s}\\n' """
    '$(($(date +%s) + MLMP_GRACE)) $MLMP_GRACE > "$MLMP_STOP_FILE.new" && '
    'mv "$MLMP_STOP_FILE.new" "$MLMP_STOP_FILE"; true'
)


@dataclass(frozen=True, slots=True)
class Work:
    """What an attempt is, apart from where and when it runs.

    ``id``: the attempt's; ``manifest``: the job's, with its paths filled in; ``units`` of ``resource``, ``cpus``
    (cores) and ``memory`` (bytes): of each worker, None: not known, not limited. ``hostnames``: of the nodes that its
    profile has. ``length``, ``grace`` in ms. ``secrets``: names of the environment that is never shown; ``code``: the
    SHA-256 of its snapshot; ``queue``: the LocalQueue where it stands; ``priority``: one of
    :data:`mlmp_spawner.kube.job_queues.PRIORITIES`. ``server``: under which reservation the server was started that it
    talks with, "" for none.
    """

    id: str
    job: str
    number: int
    owner: str
    manifest: Mapping[str, Any]
    image: str
    resource: str
    units: int
    workers: int
    hostnames: frozenset[str]
    length: int
    grace: int
    cpus: float | None = None
    memory: int | None = None
    queue: str = ""
    priority: str = "normal"
    secrets: tuple[str, ...] = ()
    code: str | None = None
    server: str = ""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is the same for all jobs, or for all of one person.

    ``url``: of the hub, as pods reach it; ``api_url``: of the service's API, as pods reach it, with a slash at its
    end. ``image``: MLMP's own, of the containers beside the program. ``folder``, ``account``: whose files these are;
    no folder: all of the claim is theirs.
    ``requested_share``: what part of cores and memory is set aside. ``closed``: network policies keep users' pods
    apart.
    """

    namespace: str
    url: str
    api_url: str
    image: str
    storage: Storage
    folder: str
    account: Account
    pull_policy: str = "IfNotPresent"
    pull_secrets: tuple[str, ...] = ()
    requested_share: float = 0.9
    closed: bool = False
    priority_class: str = ""
    runtime_class: str = ""
    tolerations: tuple[Mapping[str, Any], ...] = field(default=())


def name_of(attempt: str) -> str:
    """What all objects of an attempt are called."""
    return f"mlmp-job-{attempt}"


def attempt_of(name: str) -> str | None:
    """The attempt whose object has this name; None for what is none of ours."""
    attempt = name.removeprefix("mlmp-job-")
    return attempt if attempt != name and attempt else None


def objects(work: Work, around: Surroundings, values: Mapping[str, str], token: str) -> list[Json]:
    """All objects of an attempt, in the order in which they are made: those that start something last.

    :param values: of its secrets, by name. :param token: lets its pods fetch the snapshot, and nothing else.
    """
    record = {"apiVersion": "v1", "kind": RECORD, "metadata": _about(work, around)}
    made = [record, _secret(work, around, values, token)]
    opened = policies(
        _about(work, around), together=work.workers > 1, server=work.server, closed=around.closed
    )  # fmt: skip
    if work.workers == 1:
        return [*made, *opened, _job(work, around)]
    pods = (_pod(work, around, rank) for rank in range(work.workers))
    return [*made, _service(work, around), *opened, *pods]


def _secret(work: Work, around: Surroundings, values: Mapping[str, str], token: str) -> Json:
    data = {name: values[name] for name in work.secrets if name in values} | {CODE_KEY: token}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": _about(work, around), "type": "Opaque",
            "stringData": data}  # fmt: skip


def _job(work: Work, around: Surroundings) -> Json:
    pod = _confined(work, around, 0)
    metadata = _about(work, around) | {"annotations": {OWNER: work.owner, GATE: GATED_BY}}
    metadata["labels"] |= _queued(work)
    labels, annotations = pod["metadata"]["labels"], pod["metadata"]["annotations"]
    spec = {
        "suspend": True,
        "parallelism": 1,
        "completions": 1,
        "backoffLimit": 0,  # what is tried again is another attempt
        "podReplacementPolicy": "Failed",  # never a second pod while the first still ends
        "template": {"metadata": {"labels": labels, "annotations": annotations}, "spec": pod["spec"]},
    }
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}


def _service(work: Work, around: Surroundings) -> Json:
    """By which workers find each other, from before they are ready on."""
    spec = {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": {ATTEMPT: work.id}}
    return {"apiVersion": "v1", "kind": "Service", "metadata": _about(work, around), "spec": spec}


def _pod(work: Work, around: Surroundings, rank: int) -> Json:
    made = _confined(work, around, rank)
    metadata, spec = made["metadata"], made["spec"]
    metadata["labels"] |= _queued(work) | {POD_GROUP: name_of(work.id)}
    metadata["annotations"] |= {
        "kueue.x-k8s.io/pod-group-total-count": str(work.workers),
        "kueue.x-k8s.io/role-hash": f"w{rank}",  # a pod set of its own, so that it may be on a node of its own
        "kueue.x-k8s.io/retriable-in-group": "false",
    }
    # Kueue adds it to what it manages; where it did not, the pod must not start.
    spec["schedulingGates"] = [{"name": SCHEDULING_GATE}]
    spec |= {"hostname": f"w{rank}", "subdomain": name_of(work.id)}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _about(work: Work, around: Surroundings) -> Json:
    return {"name": name_of(work.id), "namespace": around.namespace, "labels": _labels(work)}


def _labels(work: Work) -> dict[str, str]:
    return {KIND: JOB, ATTEMPT: work.id}


def _queued(work: Work) -> dict[str, str]:
    return {QUEUE: work.queue, "kueue.x-k8s.io/priority-class": priority_name(work.priority)}


# -- the pod of a worker ------------------------------------------------------------------------------------------


def _confined(work: Work, around: Surroundings, rank: int) -> Json:
    """Confined as a server's pod is, with its user's files and account."""
    made, _ = confine(_plain(work, around, rank), _terms(work, around, rank))
    made = with_files(made, around.storage, around.folder)
    spec = made["spec"]
    (main,) = spec["containers"]
    main.pop("lifecycle", None)  # links in the home are made by servers
    main["lifecycle"] = {"preStop": {"exec": {"command": ["sh", "-c", _NOTICE]}}}
    if work.resource.startswith("nvidia.com/"):
        main["lifecycle"]["postStart"] = {"exec": {"command": ["sh", "-c", GPU_USE]}}
    share_files(spec, main, around.storage.home)
    account = around.account
    if not around.folder:  # a claim of their own: nobody else's files are given to their group with it
        spec["securityContext"] |= {"fsGroup": account.fs_group, "fsGroupChangePolicy": "OnRootMismatch"}
    made = run_as(made, account)
    if account.of_login:
        made = with_account(made, account.uid, account.gid or account.uid, around.storage.home)
    return made


def _plain(work: Work, around: Surroundings, rank: int) -> Json:
    manifest, security = work.manifest, {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    main = {
        "name": MAIN,
        "image": work.image,
        "imagePullPolicy": around.pull_policy,
        "command": [literal(word) for word in command(manifest, _outputs(work, around))],
        "workingDir": _directory(work, around),
        "env": _environment(work, around, rank),
        "securityContext": security,
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    ours = {
        "image": around.image,
        "imagePullPolicy": around.pull_policy,
        "securityContext": security,
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    beside = Beside(
        attempt=work.id, secret=name_of(work.id), key=CODE_KEY, api_url=around.api_url, home=around.storage.home,
        folder=_folder(work, around), folders=(_checkpoints(work, around), _outputs(work, around)),
        directory=_directory(work, around), code=work.code, metrics=manifest.get("metrics") or (), rank=rank,
        workers=tuple(_address(work, each) for each in range(work.workers)) if work.workers > 1 else (),
    )  # fmt: skip
    hosts = {"key": HOSTNAME, "operator": "In", "values": sorted(work.hostnames)}
    required = {"nodeSelectorTerms": [{"matchExpressions": [hosts]}]}
    spec: Json = {
        "restartPolicy": "Never",
        "enableServiceLinks": False,
        "shareProcessNamespace": True,  # or the program would be process 1, which SIGTERM does not end by itself
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}},
        "tolerations": [dict(one) for one in around.tolerations],
        "imagePullSecrets": [{"name": name} for name in around.pull_secrets],
        "initContainers": containers(beside, ours),
        "containers": [main],
    }
    return {"metadata": {}, "spec": spec}


def _terms(work: Work, around: Surroundings, rank: int) -> Terms:
    most, aside = {}, {}
    if work.cpus is not None:
        most["cpu"] = f"{round(work.cpus * 1000)}m"
        aside["cpu"] = f"{round(work.cpus * around.requested_share * 1000)}m"
    if work.memory is not None:
        most["memory"] = str(work.memory)
        aside["memory"] = str(round(work.memory * around.requested_share))
    return Terms(
        name=f"{name_of(work.id)}-w{rank}",
        namespace=around.namespace,
        node="",
        resources={work.resource: work.units},
        limits=most,
        requests=aside,
        labels=_labels(work),
        annotations={OWNER: work.owner},
        environment={},
        live_for=(work.length + work.grace + START) // SECOND,
        grace=max(1, work.grace // SECOND),
        priority_class=around.priority_class,
        runtime_class=around.runtime_class,
    )


def command(manifest: Mapping[str, Any], outputs: str) -> list[str]:
    """The program of a job. :param outputs: where an executed notebook goes."""
    if manifest.get("script"):
        script = str(manifest["script"])
        runs = {".py": ["python", script], ".sh": ["bash", script], ".bash": ["bash", script]}
        begin = runs.get(PurePosixPath(script).suffix, [f"./{script}"])
        return [*begin, *map(str, manifest.get("arguments") or ())]
    if manifest.get("notebook"):
        notebook = str(manifest["notebook"])
        done = f"{outputs}/{PurePosixPath(notebook).stem}-done.ipynb"
        given = manifest.get("parameters") or {}
        more = ["--parameters_yaml", json.dumps(given)] if given else []
        return ["python", "-m", "papermill", notebook, done, "--log-output", "--no-progress-bar", *more]
    return [str(word) for word in manifest["command"]]


def _environment(work: Work, around: Surroundings, rank: int) -> list[Json]:
    """The manifest's, the secrets, and ours, which wins."""
    plain = {"PYTHONUNBUFFERED": "1"} | {str(k): str(v) for k, v in (work.manifest.get("environment") or {}).items()}
    ours = {
        "MLMP_URL": around.url,
        "MLMP_JOB_ID": work.job,
        "MLMP_JOB_NAME": str(work.manifest.get("name") or ""),
        "MLMP_JOB_ATTEMPT": str(work.number),
        "MLMP_PROFILE": str(work.manifest.get("profile") or ""),
        "MLMP_OUTPUT_DIR": _outputs(work, around),
        "MLMP_CHECKPOINT_DIR": _checkpoints(work, around),
        "MLMP_STOP_FILE": f"{_folder(work, around)}/.mlmp-stop-{work.number}-{rank}.json",
        "MLMP_GRACE": str(max(1, work.grace // SECOND)),
    }
    if work.workers > 1:
        ours |= {
            "MASTER_ADDR": _address(work, 0), "MASTER_PORT": str(PORT), "WORLD_SIZE": str(work.workers),
            "RANK": str(rank), "NODE_RANK": str(rank),
        }  # fmt: skip
    if "OMP_NUM_THREADS" not in plain:
        plain["OMP_NUM_THREADS"] = str(max(1, int(work.cpus or 1)))
    secret = {name: {"secretKeyRef": {"name": name_of(work.id), "key": name}} for name in work.secrets}
    told = {
        "MLMP_NODE": {"fieldRef": {"fieldPath": "spec.nodeName"}},
        "MLMP_JOB_ENDS_AT": {"fieldRef": {"fieldPath": f"metadata.annotations['{STOPS_AT}']"}},
    }
    said: dict[str, Json] = {name: {"value": value} for name, value in plain.items()}
    said |= {name: {"valueFrom": source} for name, source in secret.items()}
    said |= {name: {"value": value} for name, value in ours.items()}
    said |= {name: {"valueFrom": source} for name, source in told.items()}
    return [
        {"name": name, **({"value": literal(how["value"])} if "value" in how else how)} for name, how in said.items()
    ]


def _directory(work: Work, around: Surroundings) -> str:
    """Where it starts."""
    return posixpath.normpath(f"{_folder(work, around)}/{work.manifest.get('directory') or '.'}")


def _address(work: Work, rank: int) -> str:
    """By which a worker is found, by way of the Service."""
    return f"w{rank}.{name_of(work.id)}"


def _folder(work: Work, around: Surroundings) -> str:
    return f"{around.storage.home}/{HOME_OF_JOBS}/{work.job}"


def _checkpoints(work: Work, around: Surroundings) -> str:
    return _below_home(work, around, "checkpoint")


def _outputs(work: Work, around: Surroundings) -> str:
    return _below_home(work, around, "outputs")


def _below_home(work: Work, around: Surroundings, key: str) -> str:
    return posixpath.normpath(f"{around.storage.home}/{str(work.manifest[key]).removeprefix('~/')}")
