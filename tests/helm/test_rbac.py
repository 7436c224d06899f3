"""What each part may ask of the API server: exactly this, and nothing more."""

from __future__ import annotations

from typing import Any

import pytest

from tests.helm.chart import Manifest, names, of, pods, render

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("helm")]

IN_USERS_NAMESPACE = {
    "mlmp-hub": {"pods": "create delete get list watch", "events": "get list watch"},
    "mlmp-service": {"pods": "create delete get list patch watch", "events": "get list"},
    "mlmp-enforcer": {"pods": "delete list"},
}
KUEUE = "kueue.x-k8s.io"
FOR_JOBS = {
    "pods/log": "get",
    "configmaps": "create delete list patch",
    "secrets": "create delete",
    "services": "create delete",
    "networking.k8s.io/networkpolicies": "create delete",
    "batch/jobs": "create delete list patch",
    f"{KUEUE}/workloads": "list patch",
    f"{KUEUE}/workloads/status": "patch",
    f"{KUEUE}/localqueues": "create patch",
}
"""What the service has more in the users' namespace where jobs run. Whoever may make pods there reads its Secrets."""
QUEUES = ("clusterqueues", "resourceflavors", "workloadpriorityclasses", "admissionchecks")
WITHOUT_TOKEN = {"mlmp-proxy", "mlmp-postgresql", "mlmp-test"}


def rules(manifest: Manifest) -> dict[str, str]:
    """Resource, with its group unless that is the core's -> verbs; none by name."""
    found: dict[str, str] = {}
    for rule in manifest["rules"]:
        assert rule.keys() == {"apiGroups", "resources", "verbs"}
        (group,) = rule["apiGroups"]
        for name in rule["resources"]:
            resource = f"{group}/{name}" if group else name
            found[resource] = " ".join(sorted({*found.get(resource, "").split(), *rule["verbs"]}))
    return found


def rights(manifests: list[Manifest]) -> dict[str, dict[str, Any]]:
    """Service account -> its rights by namespace ("*": in the whole cluster), as bound."""
    found: dict[str, dict[str, Any]] = {}
    for binding in manifests:
        if binding["kind"] not in ("RoleBinding", "ClusterRoleBinding"):
            continue
        role = of(manifests, binding["roleRef"]["kind"], binding["roleRef"]["name"])
        where = binding["metadata"].get("namespace", "*")
        assert role["metadata"].get("namespace", "*") == where
        for subject in binding["subjects"]:
            assert (subject["kind"], subject["namespace"]) == ("ServiceAccount", "mlmp")
            assert where not in found.setdefault(subject["name"], {})
            found[subject["name"]][where] = rules(role)
    return found


def test_each_service_account_has_exactly_the_rights_of_the_table() -> None:
    manifests = render()
    expected = {name: {"mlmp": table} for name, table in IN_USERS_NAMESPACE.items()}
    expected["mlmp-service"]["*"] = {"nodes": "get list watch"}
    assert rights(manifests) == expected
    assert names(manifests, "ServiceAccount") == set(expected)


def test_with_a_namespace_of_users_the_rights_are_there_and_not_in_the_releases_own() -> None:
    found = rights(render({"users": {"namespace": "students"}}))
    assert {name: set(table) for name, table in found.items()} == {
        "mlmp-hub": {"students"}, "mlmp-service": {"students", "*"}, "mlmp-enforcer": {"students"}
    }  # fmt: skip


def test_the_hub_may_make_claims_only_where_users_have_one_each() -> None:
    found = rights(render({"users": {"storage": {"type": "dynamic"}}}))
    claims = {"persistentvolumeclaims": "create delete get"}  # to delete: those of guests
    assert found["mlmp-hub"]["mlmp"] == IN_USERS_NAMESPACE["mlmp-hub"] | claims


def test_the_hub_may_make_pods_in_the_releases_namespace_only_where_folders_are_made_there() -> None:
    nfs = {"type": "nfs", "nfs": {"server": "10.1.2.3", "path": "/exports/homes"}}
    found = rights(render({"users": {"namespace": "students", "storage": nfs}}))
    assert found["mlmp-hub"] == {
        "students": IN_USERS_NAMESPACE["mlmp-hub"],
        "mlmp": {"pods": "create delete get list"},
    }
    shared = rights(render({"users": {"namespace": "students", "storage": {"type": "shared"}}}))
    assert set(shared["mlmp-hub"]) == {"students"}


def test_pods_of_other_namespaces_are_listed_only_where_an_admin_wants_it() -> None:
    found = rights(render({"service": {"seeAllPods": True}}))
    assert found["mlmp-service"]["*"] == {"nodes": "get list watch", "pods": "list"}


def test_the_status_of_nodes_is_written_only_where_an_admin_lets_jobs_have_units_of_mlmps_own() -> None:
    homes = {"users": {"storage": {"type": "shared", "existingClaim": "homes"}}}
    for enabled, expected in ((True, "patch"), (False, None)):
        found = rights(render(homes | {"jobs": {"enabled": enabled, "declareUnits": True}}))
        assert found["mlmp-service"]["*"].get("nodes/status") == expected


def test_with_jobs_the_service_alone_may_more_and_what_kueue_has_for_the_cluster_is_all_that_it_may_everywhere() -> (
    None
):
    homes = {"type": "nfs", "nfs": {"server": "10.1.2.3", "path": "/exports/homes"}}
    values = {"users": {"namespace": "students", "storage": homes}}
    without, found = rights(render(values)), rights(render(values | {"jobs": {"enabled": True}}))
    assert {name for name in found if found[name] != without.get(name)} == {"mlmp-service", "mlmp-end-jobs"}
    ended = ("configmaps", "services", "networking.k8s.io/networkpolicies", "batch/jobs", f"{KUEUE}/localqueues")
    assert found["mlmp-end-jobs"] == {
        "students": {"pods": "delete list patch", "secrets": "delete", **dict.fromkeys(ended, "delete list")},
        "*": {f"{KUEUE}/{name}": "delete list" for name in QUEUES},
    }
    assert found["mlmp-service"] == {
        "students": IN_USERS_NAMESPACE["mlmp-service"] | FOR_JOBS,
        "*": {
            "nodes": "get list watch",
            **{f"{KUEUE}/{name}": "create patch" for name in QUEUES},
            f"{KUEUE}/clusterqueues": "create list patch",
            f"{KUEUE}/admissionchecks/status": "patch",
        },
    }


def test_nobody_else_has_a_token() -> None:
    made = pods(render())
    without = {name for name, pod in made.items() if pod["spec"].get("automountServiceAccountToken") is False}
    accounts = {name: pod["spec"].get("serviceAccountName") for name, pod in made.items() if name not in without}
    assert without == WITHOUT_TOKEN
    assert accounts == {name: name for name in IN_USERS_NAMESPACE}


def test_what_ends_jobs_is_there_after_an_uninstall_alone_and_gone_when_it_has_done_so() -> None:
    homes = {"type": "shared", "existingClaim": "homes"}
    made = [
        each for each in render({"jobs": {"enabled": True}, "users": {"storage": homes}})
        if each["metadata"]["labels"]["app.kubernetes.io/component"] == "end-jobs"
    ]  # fmt: skip
    assert sorted({each["kind"] for each in made}) == [
        "ClusterRole", "ClusterRoleBinding", "Job", "Role", "RoleBinding", "ServiceAccount",
    ]  # fmt: skip
    for each in made:
        annotations = each["metadata"]["annotations"]
        assert annotations["helm.sh/hook"] == "post-delete"
        assert "hook-succeeded" in annotations["helm.sh/hook-delete-policy"]
    weights = {each["kind"]: int(each["metadata"]["annotations"]["helm.sh/hook-weight"]) for each in made}
    assert max(weights, key=lambda kind: weights[kind]) == "Job", "it has its rights when it starts"
