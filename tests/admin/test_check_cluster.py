"""``mlmp check --kubernetes``: what is wrong between catalog, settings and cluster, all of it at once."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from click.testing import CliRunner
from traitlets.config import Config

from mlmp_spawner.admin.check_cluster import ENFORCED, findings
from mlmp_spawner.admin.cluster import Cluster
from mlmp_spawner.client.cli import cli
from mlmp_spawner.errors import NoAccess
from mlmp_spawner.operations.check import Finding
from mlmp_spawner.rules.foreign_pods import ClusterPod
from mlmp_spawner.rules.nodes import ClusterNode, Taint

GPU = "nvidia.com/gpu"
CATALOG = f"""
nodes: {{a: {{accelerators: [{{resource: {GPU}, count: 2}}], cpus: 4, memory: 8GiB}}}}
images: {{lab: {{reference: "registry.example.org/lab:1"}}}}
profiles: {{gpu: {{resource: {GPU}, cpus: 1, memory: 1GiB}}}}
"""


@dataclass
class Kept(Cluster):
    """A cluster as it is written down; ``closed``: what this account may not see."""

    inside: bool = True
    there: list[ClusterNode] = field(
        default_factory=lambda: [ClusterNode("a", units={GPU: 2}, cpus=4, memory=8 << 30)]
    )
    labels: dict[str, str] | None = field(default_factory=lambda: {ENFORCED: "restricted"})
    quota: dict[str, dict[str, str]] = field(default_factory=dict)
    rights: Collection[tuple[str, str]] = ()
    closed: Collection[str] = ()

    def nodes(self) -> list[ClusterNode]:
        return self._seen("nodes", self.there)

    def pods(self) -> list[ClusterPod] | None:
        return None if "pods" in self.closed else []

    def namespace(self, name: str) -> dict[str, str] | None:
        return self._seen("namespace", self.labels)

    def quotas(self, namespace: str) -> dict[str, dict[str, str]]:
        return self._seen("quotas", self.quota)

    def has_priority_class(self, name: str) -> bool:
        return self._seen("priority classes", name == "users")

    def has_claim(self, namespace: str, name: str) -> bool:
        return self._seen("claims", name == "homes")

    def may(self, verb: str, resource: str, *, namespace: str = "") -> bool:
        return (verb, resource) in self.rights

    def _seen(self, what, answer):  # type: ignore[no-untyped-def]
        if what in self.closed:
            raise NoAccess(f"The Kubernetes cluster does not let this account read {what}.")
        return answer


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    (tmp_path / "all.yaml").write_text(CATALOG)
    return tmp_path


def found(cluster: Cluster, catalog: Path, **spawner: object) -> list[Finding]:
    return findings(cluster, Config({"KubeSpawner": Config(spawner)}), catalog, "lab")


def test_of_a_cluster_on_which_nothing_is_wrong_nothing_is_said(catalog: Path):
    assert found(Kept(), catalog, priority_class_name="users") == []


def test_everything_that_is_wrong_is_said_at_once(catalog: Path):
    cluster = Kept(
        there=[ClusterNode("a", ready=False, units={GPU: 1}, cpus=4, memory=8 << 30)],
        labels={},
        quota={"small": {"requests.cpu": "500m"}},
        rights=[("patch", "nodes")],
    )
    said = found(
        cluster, catalog, priority_class_name="user", profile_list=[],
        volumes=[
            {"name": "x", "persistentVolumeClaim": {"claimName": "home"}},
            {"name": "y", "persistentVolumeClaim": {"claimName": "homes"}},
            {"name": "z", "persistentVolumeClaim": {"claimName": "claim-{username}"}},
        ],
    )  # fmt: skip
    assert [(one.subject, one.message) for one in said if one.wrong] == [
        ("rights", "MLMP's account may change nodes"),
        ("namespace", "lab: Pod Security enforces nothing for users' pods"),
        ("priority class", "there is no PriorityClass user, which users' pods ask for: none can start"),
        ("volumes", "there is no PersistentVolumeClaim home in lab, which users' pods mount"),
        ("nodes", "a: it is not ready in the cluster"),
        ("nodes", "a: 2 nvidia.com/gpu in the catalog, 1 in the cluster"),
        ("quota", "quota 'small' lets profile 'gpu' never start: it needs 1 of cpu, 0.5 are allowed"),
    ]
    assert all(one.hint for one in said if one.wrong and "not ready" not in one.message)


def test_with_few_rights_the_rest_is_looked_at_all_the_same_and_it_is_said_what_was_not(catalog: Path):
    (remark, pods) = found(Kept(closed=("namespace", "quotas", "pods")), catalog)
    assert not remark.wrong and not pods.wrong
    assert "may not list" not in remark.message
    assert {pods.subject, remark.subject} == {"nodes", "rights"}
    (wrong,) = [one for one in found(Kept(closed=("nodes",)), catalog) if one.wrong]
    assert wrong.subject == "nodes", "without nodes the service can do nothing"


def test_a_catalog_that_is_wrong_is_told_beside_what_the_cluster_says(tmp_path: Path):
    (tmp_path / "profiles.yaml").write_text("profiles: {gpu: {resource: 5}}\n")
    assert {one.subject for one in found(Kept(labels=None), tmp_path)} == {"catalog", "namespace"}


def test_a_taint_that_the_settings_tolerate_keeps_nobody_off(catalog: Path):
    cluster = Kept(there=[ClusterNode("a", units={GPU: 2}, cpus=4, memory=8 << 30, taints=(Taint("team", "x"),))])
    assert [one.wrong for one in found(cluster, catalog)] == [True]
    assert found(cluster, catalog, tolerations=[{"key": "team", "operator": "Exists"}, "strange"]) == []


def test_without_a_cluster_it_is_said_how_one_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    result = CliRunner().invoke(cli, ["check", "--kubernetes", "--catalog", str(tmp_path)])
    assert result.exit_code == 2 and "set KUBECONFIG" in result.stderr


def test_a_namespace_goes_with_a_cluster():
    assert CliRunner().invoke(cli, ["check", "--namespace", "lab"]).exit_code == 2


def test_programs_get_the_reason_too_when_nobody_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path)))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    result = CliRunner().invoke(cli, ["check", "--kubernetes", "--json", "--catalog", str(tmp_path)])
    assert result.exit_code == 3 and json.loads(result.stdout)["status"] == 503


def kubeconfig(folder: Path, server: str = "http://127.0.0.1:9") -> Path:
    """Of a cluster at an address at which nobody listens."""
    file = folder / "kubeconfig"
    context = {"name": "x", "context": {"cluster": "x", "user": "x"}}
    document = {
        "apiVersion": "v1", "kind": "Config", "current-context": "x", "contexts": [context],
        "clusters": [{"name": "x", "cluster": {"server": server}}], "users": [{"name": "x", "user": {}}],
    }  # fmt: skip
    file.write_text(json.dumps(document))
    return file
