"""A real spawner of ours makes manifests: whatever is configured, they hold what was booked. No cluster is asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kubernetes_asyncio.client import V1Container
from sqlalchemy import Engine

from mlmp_spawner.operations.site import Site
from mlmp_spawner.rules.catalog import Catalog, LimitRules, Limits, Profile, Share
from mlmp_spawner.spawners.kube import MLMPKubeSpawner, latest_end
from mlmp_spawner.units import HOUR, now
from tests.spawners.pod_manifests import GPU, kubeconfig, made, manifest, resources

__all__ = ["kubeconfig"]

WHOLE = {
    "limits": {"cpu": "8000m", "memory": str(64 << 30), GPU: "2"},
    "requests": {"cpu": "7200m", "memory": str(round((64 << 30) * 0.9)), GPU: "2"},
}


async def test_a_pod_has_what_was_booked() -> None:
    pod = await manifest(made())
    assert resources(pod) == WHOLE
    assert pod["metadata"]["labels"]["mlmp.dev/kind"] == "server"
    assert pod["metadata"]["labels"]["mlmp.dev/reservation"] == "abcdefgh2345"
    assert pod["metadata"]["labels"]["component"] == "singleuser-server"
    assert pod["metadata"]["annotations"]["mlmp.dev/owner"] == "ann@x.org"
    assert pod["metadata"]["annotations"]["mlmp.dev/server-name"] == ""
    said = {entry["name"]: entry.get("value") for entry in pod["spec"]["containers"][0]["env"]}
    assert said["MLMP_NODE"] == "gpu-2"
    assert said["MLMP_RESERVATION_ID"] == "abcdefgh2345"
    assert said["OMP_NUM_THREADS"] == "8"


async def test_by_itself_it_satisfies_pod_security_restricted() -> None:
    spec = (await manifest(made()))["spec"]
    server = spec["containers"][0]["securityContext"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert server["allowPrivilegeEscalation"] is False
    assert server["capabilities"] == {"drop": ["ALL"]}
    assert server["runAsUser"] == 1000
    assert spec["automountServiceAccountToken"] is False


async def test_ssh_is_in_the_servers_container_where_nothing_else_is_said() -> None:
    assert not (await manifest(made()))["spec"].get("initContainers")


@pytest.mark.parametrize("elsewhere", ["none", "environment"])
async def test_as_a_sidecar_it_is_beside_the_server_whatever_profiles_and_hooks_say(elsewhere: str) -> None:
    spawner = made({"ssh_mode": "sidecar", "ssh_image": "registry.example.org/ssh:1", "image_pull_policy": "Always"})
    spawner.ssh_mode = elsewhere
    (ssh,) = (await manifest(spawner))["spec"]["initContainers"]
    assert (ssh["image"], ssh["imagePullPolicy"]) == ("registry.example.org/ssh:1", "Always")
    assert "nvidia.com/gpu" not in ssh["resources"]["limits"]
    assert {entry["name"]: entry.get("value") for entry in ssh["env"]}["MLMP_NODE"] == "gpu-2"


async def test_what_a_profile_is_merged_into_is_nobody_elses_and_stays_as_it_is_configured() -> None:
    override = {"ssh_resources": {"limits": {"memory": "9Ti"}}}
    greedy = made({"ssh_mode": "sidecar", "profile_list": [{"display_name": "x", "kubespawner_override": override}]})
    for spawner in (greedy, greedy, made({"ssh_mode": "sidecar"})):
        (ssh,) = (await manifest(spawner))["spec"]["initContainers"]
        assert ssh["resources"]["limits"]["memory"] == "1Gi"
        assert spawner.ssh_resources["limits"]["memory"] == "1Gi"


async def test_the_runtime_class_that_is_configured_wins_and_without_one_profiles_say_it() -> None:
    override = {"extra_pod_config": {"runtimeClassName": "nvidia"}}
    assert (await manifest(made(override)))["spec"]["runtimeClassName"] == "nvidia"
    assert (await manifest(made(override | {"runtime_class": "gvisor"})))["spec"]["runtimeClassName"] == "gvisor"
    assert "runtimeClassName" not in (await manifest(made()))["spec"]


async def test_the_cluster_itself_ends_it_after_the_latest_end_that_the_limits_allow() -> None:
    spawner = made({"carried_on": 3600})
    spawner._latest_end = now() + 10 * HOUR
    seconds = (await manifest(spawner))["spec"]["activeDeadlineSeconds"]
    assert 11 * 3600 - 60 < seconds <= 11 * 3600
    spawner._latest_end = 0  # limits that were lowered since do not end it before its booking does
    assert (await manifest(spawner))["spec"]["activeDeadlineSeconds"] > 4 * 3600


async def test_the_limits_say_how_long_one_booking_may_become(engine: Engine) -> None:
    admitted = made()._admitted
    assert admitted is not None
    profile = Profile(name="gpu", resource=GPU, max_duration=48 * HOUR)

    def latest(limits: Limits) -> int:
        site = Site(engine, Catalog(nodes={}, profiles={"gpu": profile}, limits=LimitRules(everybody=limits)))
        return latest_end(site, admitted, frozenset()) - admitted.reservation.start

    assert latest(Limits()) == 48 * HOUR
    assert latest(Limits(max_duration=6 * HOUR)) == 6 * HOUR
    assert latest(Limits(max_duration=HOUR)) == 4 * HOUR  # never before its end now
    assert latest_end(Site(engine, Catalog(nodes={})), admitted, frozenset()) == admitted.deadline.end


async def test_what_is_only_counted_in_bookings_is_not_asked_of_the_cluster() -> None:
    spawner = made(resource="mlmp.dev/slot", units=1)
    assert set(resources(await manifest(spawner))["limits"]) == {"cpu", "memory"}


async def test_where_the_catalog_does_not_say_cores_and_memory_are_as_configured() -> None:
    spawner = made({"cpu_limit": 3, "mem_limit": "2G"})
    spawner._share = Share(None, None)
    spawner.cpu_limit = 64  # by an override
    assert resources(await manifest(spawner))["limits"] == {"cpu": "3.0", "memory": str(2 << 30), GPU: "2"}


async def test_nothing_starts_without_a_booking() -> None:
    spawner = made()
    spawner._admitted = None
    with pytest.raises(RuntimeError, match="no pod without a booking"):
        await manifest(spawner)


def more_gpus(_: MLMPKubeSpawner, pod: Any) -> Any:
    """A hook that wants all of them, for a container of its own as well."""
    pod.spec.containers[0].resources.limits[GPU] = "8"
    pod.spec.containers.append(V1Container(name="mine", resources={"limits": {GPU: "8"}}))
    pod.spec.node_name = "gpu-1"
    pod.metadata.labels["mlmp.dev/kind"] = "mine"
    pod.metadata.name = "mine"
    return pod


async def later(spawner: MLMPKubeSpawner, pod: Any) -> Any:
    """The same as a coroutine."""
    await asyncio.sleep(0)
    return more_gpus(spawner, pod)


def by_config(hook: Any) -> MLMPKubeSpawner:
    """In the configuration."""
    return made({"modify_pod_hook": hook})


def by_profile(hook: Any) -> MLMPKubeSpawner:
    """In a profile."""
    return made({"profile_list": [{"display_name": "x", "kubespawner_override": {"modify_pod_hook": lambda _: hook}}]})


def by_group(hook: Any) -> MLMPKubeSpawner:
    """As an override of a group would."""
    spawner = made()
    spawner.modify_pod_hook = hook
    return spawner


@pytest.mark.parametrize("hook", [more_gpus, later])
@pytest.mark.parametrize("way", [by_config, by_profile, by_group])
async def test_no_hook_comes_after_the_booking(way: Callable[[Any], MLMPKubeSpawner], hook: Any) -> None:
    spawner = way(hook)
    pod = await manifest(spawner)
    assert resources(pod) == WHOLE
    assert "limits" not in pod["spec"]["containers"][1]["resources"]
    assert "nodeName" not in pod["spec"]
    assert pod["metadata"]["name"] == spawner.pod_name
    assert pod["metadata"]["labels"]["mlmp.dev/kind"] == "server"


OVERRIDE = st.fixed_dictionaries(
    {},
    optional={
        "cpu_limit": st.integers(1, 99),
        "cpu_guarantee": st.integers(1, 99),
        "mem_limit": st.sampled_from(["1T", "1G"]),
        "mem_guarantee": st.sampled_from(["1T", "1G"]),
        "extra_resource_limits": st.dictionaries(st.sampled_from([GPU, "amd.com/gpu"]), st.just("9")),
        "extra_resource_guarantees": st.dictionaries(st.sampled_from([GPU, "amd.com/gpu"]), st.just("9")),
        "extra_container_config": st.just({"resources": {"claims": [{"name": "all"}], "limits": {GPU: "9"}}}),
        "extra_pod_config": st.sampled_from(
            [{"hostNetwork": True}, {"nodeName": "gpu-1"}, {"resourceClaims": [{"name": "a"}]}]
        ),
        "extra_containers": st.just([{"name": "mine", "resources": {"limits": {GPU: "9"}}}]),
        "init_containers": st.just([{"name": "first", "resources": {"limits": {GPU: "9"}}}]),
        "node_selector": st.just({"kubernetes.io/hostname": "gpu-1"}),
        "node_affinity_required": st.just(
            [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["gpu-1"]}]}]
        ),
        "priority_class_name": st.just("system-node-critical"),
        "privileged": st.just(True),
        "automount_service_account_token": st.just(True),
        "extra_labels": st.just({"mlmp.dev/reservation": "another"}),
        "extra_annotations": st.just({f"mlmp.dev/{name}": "2099-01-01T00:00:00Z" for name in ("ends-at", "stops-at")}),
        "environment": st.just({"MLMP_RESERVATION_ID": "another", "NVIDIA_VISIBLE_DEVICES": "all", "MINE": "kept"}),
        "namespace": st.just("kube-system"),
        "component_label": st.just("hidden"),
        "requested_share": st.just(0.0),
        "carried_on": st.just(1e9),
        "volumes": st.just([{"name": "all", "hostPath": {"path": "/"}}]),
        "image": st.just("mine:2"),
    },
)  # fmt: skip


@settings(deadline=None, max_examples=30)
@given(OVERRIDE)
def test_no_profile_raises_what_was_booked(override: dict[str, Any]) -> None:
    async def check() -> None:
        plain = await manifest(made())
        pod = await manifest(made({"profile_list": [{"display_name": "Mine", "kubespawner_override": override}]}))
        spec = pod["spec"]
        assert resources(pod) == WHOLE
        for other in [*spec["containers"][1:], *spec.get("initContainers", [])]:
            assert "limits" not in other["resources"]
        assert pod["metadata"]["labels"].items() >= plain["metadata"]["labels"].items()
        assert pod["metadata"]["namespace"] == plain["metadata"]["namespace"]
        terms = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
        assert [term["matchFields"][0]["values"] for term in terms] == [["gpu-2"]]
        assert abs(spec["activeDeadlineSeconds"] - plain["spec"]["activeDeadlineSeconds"]) < 60
        assert not {"nodeName", "hostNetwork", "resourceClaims", "priorityClassName"} & set(spec)
        assert not any("hostPath" in volume for volume in spec["volumes"])
        assert not spec["containers"][0]["securityContext"].get("privileged")
        assert pod["metadata"]["annotations"]["mlmp.dev/ends-at"] < "2099"
        said = {entry["name"]: entry.get("value") for entry in spec["containers"][0]["env"]}
        assert said["MLMP_RESERVATION_ID"] == "abcdefgh2345"
        assert "NVIDIA_VISIBLE_DEVICES" not in said
        assert said.get("MINE") == ("kept" if "environment" in override else None)
        assert spec["containers"][0].get("image") == override.get("image", plain["spec"]["containers"][0]["image"])

    asyncio.run(check())


async def test_what_the_admin_configured_for_all_may_be_of_the_node() -> None:
    data = {"name": "data", "hostPath": {"path": "/data/{username}"}}
    config = {
        "volumes": [data],
        "volume_mounts": [{"name": "data", "mountPath": "/data"}],
        "priority_class_name": "users",
    }
    spec = (await manifest(made(config)))["spec"]
    assert spec["volumes"][0]["hostPath"]["path"].startswith("/data/ann-x-org")
    assert spec["containers"][0]["volumeMounts"] == [{"name": "data", "mountPath": "/data"}]
    assert spec["priorityClassName"] == "users"


async def test_a_start_that_is_found_after_a_restart_of_the_hub_has_steps_too() -> None:
    spawner = made()
    spawner.say(50, "The image is being pulled")
    steps = spawner.progress()
    assert (await anext(steps))["message"] == "The image is being pulled"
    await steps.aclose()
