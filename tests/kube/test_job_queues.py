"""The queues that Kueue gets: a flavor for each node, no job by quota alone, nobody evicted but by MLMP."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlmp_spawner.errors import ConfigurationError
from mlmp_spawner.kube import job_queues as queues
from mlmp_spawner.kube.job_queues import MOST_NODES, NodeQuota
from mlmp_spawner.rules.job_guarantees import FIXED, POOL, Tenant

GPU = "nvidia.com/gpu"
A, B = NodeQuota("a", "host-a", 3, 64.0, 256 << 30), NodeQuota("b", "b", 0, 31.5, 128 << 30)


def test_a_flavor_is_a_node_so_that_kueue_picks_it():
    made = queues.resource_flavor(A)
    assert (made["apiVersion"], made["kind"]) == ("kueue.x-k8s.io/v1beta2", "ResourceFlavor")
    assert made["metadata"] == {"name": queues.flavor_name("a")}
    assert made["spec"] == {"nodeLabels": {"kubernetes.io/hostname": "host-a"}}


def test_the_quota_of_a_node_is_what_the_calendar_leaves():
    (group,) = queues.cluster_queue(GPU, [B, A], "users")["spec"]["resourceGroups"]
    assert group["coveredResources"] == [GPU, "cpu", "memory"], "what is not covered can't be admitted"
    quotas = {
        one["name"]: {each["name"]: each["nominalQuota"] for each in one["resources"]} for one in group["flavors"]
    }
    assert quotas == {
        queues.flavor_name("a"): {GPU: "3", "cpu": "64000m", "memory": str(256 << 30)},
        queues.flavor_name("b"): {GPU: "0", "cpu": "31500m", "memory": str(128 << 30)},
    }
    for one in group["flavors"]:
        assert [each["name"] for each in one["resources"]] == group["coveredResources"], "Kueue wants that order"


def test_no_job_starts_by_quota_alone():
    spec = queues.cluster_queue(GPU, [A], "users")["spec"]
    assert spec["admissionChecksStrategy"] == {"admissionChecks": [{"name": queues.CHECK}]}
    assert "admissionChecks" not in spec, "v1beta2 has it no more"
    assert queues.admission_check()["spec"] == {"controllerName": "mlmp.dev/calendar"}


def test_the_queue_admits_once_somebody_says_that_the_check_is_answered():
    (condition,) = queues.check_status(generation=3, now=1_800_000_000_000)["status"]["conditions"]
    assert (condition["type"], condition["status"], condition["observedGeneration"]) == ("Active", "True", 3)
    assert condition["reason"] and condition["lastTransitionTime"] == "2027-01-15T08:00:00Z"


def test_kueue_sends_jobs_away_only_for_who_is_guaranteed_units_and_takes_none_from_elsewhere():
    spec = queues.cluster_queue(GPU, [A], "users")["spec"]
    assert set(spec["preemption"].values()) == {"Never"}
    own = queues.cluster_queue(GPU, [A], "users", Tenant("own", "red"))["spec"]
    assert own["preemption"] == {"reclaimWithinCohort": "Any", "withinClusterQueue": "Never"}
    assert own["cohortName"] == spec["cohortName"], "they lend each other what they do not use"
    assert spec["namespaceSelector"] == {"matchLabels": {"kubernetes.io/metadata.name": "users"}}
    assert spec["queueingStrategy"] == "BestEffortFIFO", "one that does not fit keeps no other from starting"


def test_what_is_not_preemptible_borrows_nothing_so_that_it_is_never_sent_away():
    fixed = queues.cluster_queue(GPU, [A], "users", FIXED)["spec"]
    gpus, cpus, memory = fixed["resourceGroups"][0]["flavors"][0]["resources"]
    assert gpus["borrowingLimit"] == "0" and "borrowingLimit" not in {**cpus, **memory}
    assert set(fixed["preemption"].values()) == {"Never"}


def test_each_tenant_has_queues_of_its_own_with_names_of_their_own():
    tenants = [POOL, FIXED, Tenant("own", "red"), Tenant("own", "Red"), Tenant("own", "")]
    names = {queues.cluster_queue_name(GPU, one) for one in tenants}
    assert len(names) == len(tenants) and all(len(name) <= 63 for name in names)
    local = [queues.local_queue(GPU, "red", "users", one) for one in (POOL, FIXED, Tenant("own", "red"))]
    assert len({one["metadata"]["name"] for one in local}) == 3, "a LocalQueue can't be moved to another ClusterQueue"
    assert {one["spec"]["clusterQueue"] for one in local} < names


def test_groups_share_by_what_they_used():
    red, none = (queues.local_queue(GPU, group, "users", weight=1.5) for group in ("red", ""))
    assert red["metadata"]["namespace"] == "users" and red["metadata"]["name"] != none["metadata"]["name"]
    assert red["spec"]["clusterQueue"] == queues.cluster_queue(GPU, [A], "users")["metadata"]["name"]
    assert red["spec"]["fairSharing"] == {"weight": "1500m"}
    scope = queues.cluster_queue(GPU, [A], "users")["spec"]["admissionScope"]
    assert scope == {"admissionMode": "UsageBasedAdmissionFairSharing"}


def test_who_was_sent_away_goes_first_then_by_priority():
    values = {one["metadata"]["name"]: one["value"] for one in queues.priority_classes()}
    order = sorted(values, key=lambda name: -values[name])
    assert order == [queues.priority_name(one) for one in ("front", "high", "normal", "low")]


def test_a_queue_without_nodes_is_one_and_too_many_are_told():
    assert queues.cluster_queue(GPU, [], "users")["spec"]["resourceGroups"] == []
    many = [NodeQuota(f"n{n}", f"n{n}", 1, 1.0, 1) for n in range(MOST_NODES + 1)]
    assert queues.cluster_queue(GPU, many[1:], "users")
    with pytest.raises(ConfigurationError, match="64 nodes at most"):
        queues.cluster_queue(GPU, many, "users")


@given(st.lists(st.text(max_size=300), min_size=2, max_size=2, unique=True), st.sampled_from([GPU, "amd.com/gpu"]))
def test_every_group_has_a_name_of_its_own_that_kubernetes_takes(groups: list[str], resource: str):
    one, other = (queues.local_queue_name(resource, group) for group in groups)
    assert one != other
    for name in (one, other, queues.flavor_name("gpu-1.example.org"), queues.cluster_queue_name(resource)):
        assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", name)
        assert len(name) <= 63, "it is the value of a label too"


def test_a_long_name_can_still_be_read():
    name = queues.local_queue_name(GPU, "Deep Learning for the Life Sciences and all who work with them")
    assert name.startswith("mlmp-nvidia-com-gpu-deep-learning-for-the-life-sci") and len(name) <= 63


def test_the_same_group_has_a_queue_for_each_resource():
    assert queues.local_queue_name(GPU, "red") != queues.local_queue_name("amd.com/gpu", "red")
