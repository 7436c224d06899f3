"""``mlmp check --kubernetes``, of jobs: whether Kueue is there, as jobs need it, and whether its queues are ours."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from traitlets.config import Config

from mlmp_spawner.admin.check_cluster import findings
from mlmp_spawner.errors import NoAccess
from mlmp_spawner.kube.job_queues import cluster_queue
from mlmp_spawner.operations.check import Finding
from tests.admin.test_check_cluster import GPU, Kept, catalog
from tests.helm.chart import CHART

__all__ = ["catalog"]

VALUES = yaml.safe_load((CHART.parent / "kueue" / "values.yaml").read_text(encoding="utf-8"))
TOLD: dict[str, Any] = yaml.safe_load(VALUES["managerConfig"]["controllerManagerConfigYaml"])
QUEUED = {"matchExpressions": [{"key": "kueue.x-k8s.io/queue-name", "operator": "Exists"}]}


def queue(namespace: str = "lab", message: str = "") -> dict[str, Any]:
    """As the cluster has it. :param message: why it takes nothing."""
    state = {"type": "Active", "status": "False" if message else "True", "message": message}
    return cluster_queue(GPU, [], namespace) | {"status": {"conditions": [state]}}


@dataclass
class Kueued(Kept):
    """A cluster in which Kueue is installed as our docs say; ``closed``: what this account may not see."""

    served: bool = True
    version: str = "v0.19.2"
    ready: int = 1
    told: dict[str, Any] = field(default_factory=lambda: dict(TOLD))
    selector: dict[str, Any] | None = field(default_factory=lambda: QUEUED)
    queues: Collection[dict[str, Any]] = field(default_factory=lambda: [queue()])

    def serves(self, group: str, version: str) -> bool:
        assert (group, version) == ("kueue.x-k8s.io", "v1beta2")
        return self.served

    def all_of(self, group: str, version: str, plural: str) -> list[dict[str, Any]]:
        assert self.served, "there is no such kind"
        return self._seen(plural, list(self.queues))

    def deployments(self, labels: str) -> list[dict[str, Any]]:
        metadata = {"namespace": "kueue-system", "labels": {"app.kubernetes.io/version": self.version}}
        return self._seen("deployments", [{"metadata": metadata, "status": {"readyReplicas": self.ready}}])

    def config_map(self, namespace: str, name: str) -> dict[str, str] | None:
        assert (namespace, name) == ("kueue-system", "kueue-manager-config")
        return {"controller_manager_config.yaml": yaml.safe_dump(self.told)}

    def mutating_webhooks(self) -> list[dict[str, Any]]:
        pods = {"name": "mpod.kb.io", "failurePolicy": "Fail", "objectSelector": self.selector}
        others = [{"name": "mclusterqueue.kb.io", "failurePolicy": "Fail"}, {"name": "a.example.org"}]
        return self._seen("webhooks", [pods, *others])


def found(cluster: Kept, catalog: Path, *, jobs: bool = True) -> list[Finding]:
    return findings(cluster, Config({"MLMP": Config({"jobs": jobs})}), catalog, "lab")


def test_of_kueue_as_our_docs_install_it_nothing_is_said(catalog: Path):
    assert found(Kueued(), catalog) == []


def test_without_kueue_it_is_said_how_one_gets_it_and_nothing_where_no_jobs_are_wanted(catalog: Path):
    (wrong,) = found(Kueued(served=False), catalog)
    assert wrong.wrong and "has no Kueue" in wrong.message
    assert "helm upgrade --install kueue oci://registry.k8s.io/kueue/charts/kueue" in wrong.hint
    assert found(Kueued(served=False), catalog, jobs=False) == []


@pytest.mark.parametrize(
    ("cluster", "said", "wrong"),
    [
        (Kueued(version="v0.21.0"), "version '0.21.0' is installed; MLMP was tried with 0.19", False),
        (Kueued(ready=0), "none of its pods is ready", True),
        (Kueued(told=TOLD | {"integrations": {"frameworks": ["batch/job"]}}), "frameworks lacks pod, so", True),
        (Kueued(told=TOLD | {"integrations": None}), "lacks batch/job and pod", True),
        (Kueued(told=TOLD | {"admissionFairSharing": None}), "admissionFairSharing is not configured", True),
        (Kueued(told=["strange"]), "can't be read", False),
        (Kueued(selector={}), "its webhooks are asked about every pod and Job", True),
        (Kueued(queues=[queue(message="AdmissionCheckInactive")]), "takes no jobs: AdmissionCheckInactive", True),
        (Kueued(queues=[queue("other")]), "is for jobs in other, not in lab", False),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_what_of_it_is_wrong_is_said(cluster: Kueued, said: str, wrong: bool, catalog: Path):
    (one,) = found(cluster, catalog)
    assert said in one.message and one.wrong is wrong
    assert one.hint or not wrong


def test_queues_of_others_are_none_of_our_business(catalog: Path):
    theirs = {"metadata": {"name": "physics"}, "status": queue(message="Stopped")["status"]}
    assert found(Kueued(queues=[queue(), theirs]), catalog) == []


def test_what_the_service_s_own_account_may_not_see_is_a_remark(catalog: Path):
    (remark,) = found(Kueued(closed=("deployments", "webhooks")), catalog)
    assert not remark.wrong and "may not read deployments, read webhooks" in remark.message
    assert "admin's KUBECONFIG" in remark.hint


def test_a_cluster_that_tells_this_account_nothing_is_no_failure(catalog: Path):
    class Closed(Kueued):
        def serves(self, group: str, version: str) -> bool:
            raise NoAccess("The Kubernetes cluster does not let this account read what there is in the API.")

    (remark,) = found(Closed(), catalog)
    assert "may not read what there is in the API" in remark.message
