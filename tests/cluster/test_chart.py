"""The life of an installation: installed, upgraded under a running server, tested, uninstalled."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from mlmp_spawner import units
from tests.cluster.conftest import delete_namespace
from tests.cluster.release import CHART, Release, new_namespace, storage_of, values_for
from tests.cluster.rig.cluster import Cluster

LATE = 15
"""Seconds after its end at which nothing of a server may be left."""


@dataclass
class Life:
    """What was seen of one installation."""

    release: Release
    notes: str = ""
    pod: dict[str, list[str]] = field(default_factory=dict)
    """Uid of the user's pod, before and after the upgrade."""
    parts: dict[str, list[str]] = field(default_factory=dict)
    """Part -> names of its pods, before and after."""
    secrets: list[dict[str, str]] = field(default_factory=list)
    answered: int = 0
    """Status of the user's server, through the proxy, after the upgrade."""
    evicted: int = 0
    """What the API server said to an eviction of the user's pod."""
    rights: dict[tuple[str, str, str], bool] = field(default_factory=dict)
    tests: str = ""
    overdue: float = 0.0
    """Seconds between the end of the booking and the pod being gone."""
    claims: list[set[str]] = field(default_factory=list)
    """Claims before the uninstall, and after."""
    left: set[str] = field(default_factory=set)
    """Pods after the uninstall."""
    kept_secrets: dict[str, str] = field(default_factory=dict)


@pytest.fixture(scope="module")
def life(cluster: Cluster, core: client.CoreV1Api, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    """All of it, once; the tests say what had to be."""
    namespace, users = new_namespace(core, "life"), new_namespace(core, "life-users")
    values = values_for(cluster, users={"namespace": users, "storage": _storage(cluster)})
    seen = Life(Release(cluster, namespace, values))
    try:
        _live(seen, _previous(tmp_path_factory.mktemp("previous")), users)
        yield seen
    finally:
        seen.release.close()
        seen.release.helm("uninstall", "mlmp", "--ignore-not-found", check=False)
        for name in (users, namespace):
            delete_namespace(core, name)


def _storage(cluster: Cluster) -> dict[str, Any]:
    return {"type": "dynamic", "size": "1Gi"} if storage_of(cluster) else {"type": "none"}


def _previous(folder: Path) -> Path:
    """The chart as of another version."""
    copy = Path(shutil.copytree(CHART, folder / "mlmp"))
    chart = yaml.safe_load((copy / "Chart.yaml").read_text())
    (copy / "Chart.yaml").write_text(yaml.safe_dump(chart | {"version": "0.0.1", "appVersion": "0.0.1"}))
    return copy


def _live(seen: Life, previous: Path, users: str) -> None:
    release, core = seen.release, seen.release.core
    release.values["hub"]["config"]["MLMP"]["stop_lead"] = 3.0
    seen.notes = release.install(previous)
    booking = release.book("ann", 150)
    release.start(booking)
    _look(seen, booking)
    release.values["hub"]["config"]["MLMP"]["stop_lead"] = 5.0
    release.install()
    _look(seen, booking)
    seen.answered = release.api("ann").browser.get("/user/ann/lab").status_code
    pod = release.pod_of(booking)
    assert pod is not None
    seen.evicted = _evict(core, pod)
    seen.rights = {(who, verb, what): _may(release, who, verb, what, users) for who, verb, what in RIGHTS}
    seen.tests = release.helm("test", "mlmp", "--logs")
    seen.overdue = release.wait_gone(booking, 180) - units.from_iso(booking["end"]) / 1000
    seen.claims.append(_claims(core, release))
    release.uninstall()
    seen.claims.append(_claims(core, release))
    found = core.list_namespaced_pod(release.namespace).items
    seen.left = {pod.metadata.name for pod in found if pod.metadata.deletion_timestamp is None}
    kept = core.read_namespaced_secret("mlmp-secrets", release.namespace)
    seen.kept_secrets = kept.data


def _look(seen: Life, booking: dict[str, Any]) -> None:
    release = seen.release
    pod = release.pod_of(booking)
    seen.pod.setdefault("uid", []).append(pod.metadata.uid if pod else "gone")
    for part in ("hub", "proxy", "service", "enforcer", "postgresql"):
        names = sorted(each.metadata.name for each in release.pods_of(part))
        seen.parts.setdefault(part, []).append(" ".join(names))
    seen.secrets.append(release.core.read_namespaced_secret("mlmp-secrets", release.namespace).data)


def _evict(core: client.CoreV1Api, pod: client.V1Pod) -> int:
    name, namespace = pod.metadata.name, pod.metadata.namespace
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": namespace}}
    try:
        core.create_namespaced_pod_eviction(name, namespace, body, dry_run="All")
    except ApiException as error:
        return int(error.status)
    return 201


def _may(release: Release, who: str, verb: str, what: str, users: str) -> bool:
    """What the API server thinks of it. ``what``: ``pods`` in the users' namespace, ``own:pods`` in the release's."""
    place, _, resource = what.rpartition(":")
    where = {"": users, "own": release.namespace, "all": ""}[place]
    review = client.V1SubjectAccessReview(
        spec=client.V1SubjectAccessReviewSpec(
            user=f"system:serviceaccount:{release.namespace}:{who}",
            resource_attributes=client.V1ResourceAttributes(verb=verb, resource=resource, namespace=where),
        )
    )
    api = client.AuthorizationV1Api(release.core.api_client)
    return bool(api.create_subject_access_review(review).status.allowed)


def _claims(core: client.CoreV1Api, release: Release) -> set[str]:
    return {
        claim.metadata.name
        for namespace in (release.namespace, release.users)
        for claim in core.list_namespaced_persistent_volume_claim(namespace).items
    }


RIGHTS = {
    ("mlmp-hub", "create", "pods"): True,
    ("mlmp-hub", "create", "own:pods"): False,
    ("mlmp-hub", "get", "secrets"): False,
    ("mlmp-hub", "get", "own:secrets"): False,
    ("mlmp-hub", "list", "all:nodes"): False,
    ("mlmp-service", "patch", "pods"): True,
    ("mlmp-service", "list", "all:nodes"): True,
    ("mlmp-service", "patch", "all:nodes"): False,
    ("mlmp-service", "delete", "all:pods"): False,
    ("mlmp-service", "get", "own:secrets"): False,
    ("mlmp-enforcer", "list", "pods"): True,
    ("mlmp-enforcer", "delete", "pods"): True,
    ("mlmp-enforcer", "create", "pods"): False,
    ("mlmp-enforcer", "delete", "own:pods"): False,
    ("mlmp-enforcer", "list", "all:nodes"): False,
    ("default", "list", "pods"): False,
}


def test_the_notes_say_how_to_log_in_and_what_comes_next(life: Life) -> None:
    assert "port-forward service/mlmp-proxy" in life.notes
    assert "helm test mlmp" in life.notes
    assert "admin-password" in life.notes


def test_an_upgrade_that_changes_a_setting_restarts_hub_and_service_and_cuts_no_connection(life: Life) -> None:
    changed = {part for part, (before, after) in life.parts.items() if before != after}
    assert changed == {"hub", "service"}


def test_a_server_lives_through_an_upgrade(life: Life) -> None:
    before, after = life.pod["uid"]
    assert before == after
    assert life.answered == 200


def test_an_upgrade_keeps_the_secrets(life: Life) -> None:
    assert life.secrets[0] == life.secrets[1]


def test_a_server_that_lived_through_the_upgrade_is_gone_at_its_end(life: Life) -> None:
    assert -LATE < life.overdue < LATE


def test_helm_test_passes(life: Life) -> None:
    assert "Phase:          Succeeded" in life.tests, life.tests


def test_a_drain_waits_for_running_servers(life: Life) -> None:
    assert life.evicted == 429


def test_the_api_server_gives_each_part_its_rights_and_no_more(life: Life) -> None:
    assert life.rights == RIGHTS


def test_an_uninstall_deletes_none_of_what_users_have_saved(life: Life) -> None:
    before, after = life.claims
    assert after == before
    if storage_of(life.release.cluster):
        assert {"mlmp-home-ann", "data-mlmp-postgresql-0"} <= after
    assert life.kept_secrets == life.secrets[1]


def test_an_uninstall_leaves_no_pod(life: Life) -> None:
    assert life.left <= {"mlmp-test"}
