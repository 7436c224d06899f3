"""``mlmp check --kubernetes``, of jobs: whether Kueue is there, as jobs need it, and whether its queues are ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from typing import Any

import yaml
from traitlets.config import Config

from mlmp_spawner.admin.cluster import Cluster
from mlmp_spawner.kube.job_queues import GROUP, VERSION
from mlmp_spawner.operations.check import Finding
from mlmp_spawner.rules.values import quoted

TRIED = "0.19"
"""The version of Kueue that all of this was tried with."""
FRAMEWORKS = ("batch/job", "pod")
"""What Kueue has to look after: a job of one worker, and one of several."""
HOW = "docs/how-to/jobs-on-kubernetes.md"
INSTALL = (
    "helm upgrade --install kueue oci://registry.k8s.io/kueue/charts/kueue --version 0.19.2 --namespace kueue-system "
    f"--create-namespace --wait --values helm/kueue/values.yaml; see {HOW}"
)
VALUES = f"give Kueue's chart helm/kueue/values.yaml; see {HOW}"

_MANAGER = "app.kubernetes.io/name=kueue,control-plane=controller-manager"
_CONFIG = ("kueue-manager-config", "controller_manager_config.yaml")
_OF_PODS = ("mpod.kb.io", "mjob.kb.io")
_NAME = "kubernetes.io/metadata.name"

Part = Callable[[], Iterator[Finding]]


def parts(cluster: Cluster, config: Config, namespace: str) -> list[Part]:
    """What is to be looked at, each by itself: one account may see this, another that. Nothing where no jobs run."""
    if not config.get("MLMP", Config()).get("jobs", False):
        return []
    served = cache(partial(cluster.serves, GROUP, VERSION))

    def where_it_is(part: Part) -> Part:
        return lambda: part() if served() else iter(())

    return [
        lambda: iter(()) if served() else _missing(),
        where_it_is(lambda: _queues(cluster, namespace)),
        where_it_is(lambda: _installed(cluster)),
        where_it_is(lambda: _webhooks(cluster)),
    ]


def _missing() -> Iterator[Finding]:
    message = f"jobs are on, and this cluster has no Kueue ({GROUP}/{VERSION}), so none can start"
    yield Finding("jobs", message, f"{INSTALL}; or jobs.enabled: false")


def _installed(cluster: Cluster) -> Iterator[Finding]:
    """Whether it runs, in which version, and what it was told."""
    found = cluster.deployments(_MANAGER)
    if not found:
        message = "its Deployment was not found, so its version and configuration were not looked at"
        yield Finding("kueue", message, wrong=False)
        return
    metadata, status = found[0].get("metadata") or {}, found[0].get("status") or {}
    version = str((metadata.get("labels") or {}).get("app.kubernetes.io/version", "")).removeprefix("v")
    if not version.startswith(f"{TRIED}."):
        message = f"version {quoted(version)} is installed; MLMP was tried with {TRIED}"
        yield Finding("kueue", message, "what it does with jobs may differ", wrong=False)
    if not status.get("readyReplicas"):
        where = f"kubectl --namespace {metadata.get('namespace')} get pods"
        yield Finding("kueue", "none of its pods is ready: what runs goes on, and nothing starts", where)
    yield from _told(cluster.config_map(str(metadata.get("namespace", "")), _CONFIG[0]))


def _told(kept: Mapping[str, str] | None) -> Iterator[Finding]:
    try:
        config = yaml.safe_load((kept or {})[_CONFIG[1]])
        frameworks = (config.get("integrations") or {}).get("frameworks") or ()
    except (KeyError, AttributeError, yaml.YAMLError):
        yield Finding("kueue", f"its configuration ({_CONFIG[0]}) can't be read, so it was not looked at", wrong=False)
        return
    lacking = [name for name in FRAMEWORKS if name not in frameworks]
    if lacking:
        message = f"integrations.frameworks lacks {' and '.join(lacking)}, so such jobs would not wait for their turn"
        yield Finding("kueue", message, VALUES)
    if not config.get("admissionFairSharing"):
        message = "admissionFairSharing is not configured, so what a group's jobs have used does not count"
        yield Finding("kueue", message, VALUES)


def _webhooks(cluster: Cluster) -> Iterator[Finding]:
    """Whether it has a say in what is none of its business."""
    wide = [
        one for one in cluster.mutating_webhooks()
        if one.get("name") in _OF_PODS and one.get("failurePolicy") == "Fail" and not one.get("objectSelector")
    ]  # fmt: skip
    if wide:
        message = "its webhooks are asked about every pod and Job: while it is down, no server can start either"
        hint = "kubectl apply --server-side --force-conflicts --filename helm/kueue/webhooks.yaml"
        yield Finding("kueue", message, hint)


def _queues(cluster: Cluster, namespace: str) -> Iterator[Finding]:
    """Whether those that MLMP made are of this MLMP, and take jobs."""
    for queue in cluster.all_of(GROUP, VERSION, "clusterqueues"):
        name = str((queue.get("metadata") or {}).get("name", ""))
        if not name.startswith("mlmp-"):
            continue
        wanted = (((queue.get("spec") or {}).get("namespaceSelector") or {}).get("matchLabels") or {}).get(_NAME)
        if wanted and wanted != namespace:
            message = f"the ClusterQueue {name} is for jobs in {wanted}, not in {namespace}"
            hint = f"one MLMP in a cluster can run jobs; of one that is gone: kubectl delete clusterqueue {name}"
            yield Finding("kueue", message, hint, wrong=False)  # of other units it is in nobody's way
            continue
        said = _inactive(queue.get("status") or {})
        if said:
            yield Finding("kueue", f"the ClusterQueue {name} takes no jobs: {said}", "is the service of MLMP up?")


def _inactive(status: Mapping[str, Any]) -> str:
    for condition in status.get("conditions") or ():
        if condition.get("type") == "Active" and condition.get("status") == "False":
            return str(condition.get("message") or condition.get("reason") or "it is not active")
    return ""
