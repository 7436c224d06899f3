"""A pod takes what was booked and no more, whatever was configured for it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlmp_spawner.kube.confinement import Granted, Terms, confine, containers, granted, pinned, tolerating

HERE = [{"key": "metadata.name", "operator": "In", "values": ["gpu-2"]}]
GPU, MIG = "nvidia.com/gpu", "nvidia.com/mig-1g.10gb"


def terms(**changed: Any) -> Terms:
    """A booking of two GPUs on gpu-2."""
    said: dict[str, Any] = {
        "name": "jupyter-ann", "namespace": "users", "node": "gpu-2", "resources": {GPU: 2},
        "limits": {"cpu": "8000m", "memory": "64"}, "requests": {"cpu": "7200m", "memory": "57"},
        "labels": {"mlmp.dev/kind": "server"}, "annotations": {"mlmp.dev/ends-at": "then"},
        "environment": {"MLMP_NODE": "gpu-2"}, "live_for": 3600, "grace": 30,
    }  # fmt: skip
    return Terms(**said | changed)


def pod(spec: dict[str, Any] | None = None, **server: Any) -> dict[str, Any]:
    """A pod as KubeSpawner makes it, with what is tried in it."""
    return {"metadata": {"name": "x"}, "spec": {"containers": [{"name": "notebook", **server}], **(spec or {})}}


def server_of(made: dict[str, Any]) -> dict[str, Any]:
    """The container of the server."""
    return next(one for one in made["spec"]["containers"] if one["name"] == "notebook")


def test_a_plain_pod_gets_what_was_booked_and_tried_nothing() -> None:
    made, beyond = confine(pod(image="lab:1"), terms())
    assert beyond == []
    assert server_of(made)["resources"] == {
        "limits": {"cpu": "8000m", "memory": "64", GPU: "2"},
        "requests": {"cpu": "7200m", "memory": "57", GPU: "2"},
    }
    assert server_of(made)["env"] == [{"name": "MLMP_NODE", "value": "gpu-2"}]
    assert made["metadata"] == {
        "name": "jupyter-ann", "namespace": "users",
        "labels": {"mlmp.dev/kind": "server"}, "annotations": {"mlmp.dev/ends-at": "then"},
    }  # fmt: skip
    assert made["spec"]["activeDeadlineSeconds"] == 3600
    assert made["spec"]["terminationGracePeriodSeconds"] == 30
    assert made["spec"]["automountServiceAccountToken"] is False


class TestTheNode:
    def terms_of(self, affinity: Any) -> list[dict[str, Any]]:
        """The required terms."""
        made = pinned(affinity, "gpu-2")
        return made["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]

    def test_is_required_by_its_name(self) -> None:
        assert self.terms_of(None) == [{"matchFields": HERE}]

    def test_and_the_admins_conditions_hold_together_in_each_term(self) -> None:
        mine = [{"matchExpressions": [{"key": key, "operator": "Exists"}]} for key in ("ssd", "fast")]
        required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": mine}}
        found = self.terms_of({"nodeAffinity": required})
        assert found == [term | {"matchFields": HERE} for term in mine]

    def test_is_not_widened_by_another_nodes_name_or_by_an_empty_term(self) -> None:
        other = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["gpu-9"]}]}
        required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [other, {}]}}
        assert self.terms_of({"nodeAffinity": required}) == [{"matchFields": HERE}]

    def test_leaves_what_is_preferred_and_what_is_about_pods(self) -> None:
        theirs = {
            "podAntiAffinity": {"x": 1},
            "nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [1]},
        }
        made = pinned(theirs, "gpu-2")
        assert made["podAntiAffinity"] == {"x": 1}
        assert made["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"] == [1]

    def test_is_tolerated_with_its_taint_for_gpus(self) -> None:
        mine = {"key": "mine", "operator": "Exists"}
        gpus = {"key": GPU, "operator": "Exists", "effect": "NoSchedule"}
        assert tolerating([mine], {}) == [mine, gpus]
        assert tolerating([gpus], {GPU: 1}) == [gpus]
        assert tolerating(None, {MIG: 1}) == [gpus, gpus | {"key": MIG}]


@pytest.mark.parametrize(
    ("spec", "server"),
    [
        ({"nodeName": "gpu-1"}, {}),
        ({"hostNetwork": True}, {}),
        ({"hostPID": True}, {}),
        ({"hostIPC": True}, {}),
        ({"automountServiceAccountToken": True}, {}),
        ({"priorityClassName": "system-node-critical"}, {}),
        ({"priority": 2000000000}, {}),
        ({"activeDeadlineSeconds": 10**9}, {}),
        ({"resourceClaims": [{"name": "gpu", "resourceClaimName": "all"}]}, {}),
        ({"resources": {"limits": {"cpu": "64"}}}, {}),
        ({"volumes": [{"name": "v", "hostPath": {"path": "/dev"}}]}, {"volumeMounts": [{"name": "v"}]}),
        ({"volumes": [{"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}]}, {}),
        ({"initContainers": [{"name": "i", "resources": {"limits": {GPU: "1"}}}]}, {}),
        ({"initContainers": [{"name": "i", "env": [{"name": "NVIDIA_VISIBLE_DEVICES", "value": "all"}]}]}, {}),
        ({"initContainers": [{"name": "i", "securityContext": {"privileged": True}}]}, {}),
        ({}, {"resources": {"limits": {GPU: "8"}, "requests": {GPU: "8"}}}),
        ({}, {"resources": {"limits": {"amd.com/gpu": "1"}}}),
        ({}, {"resources": {"claims": [{"name": "gpu"}]}}),
        ({}, {"securityContext": {"privileged": True}}),
        ({}, {"ports": [{"containerPort": 8888, "hostPort": 80}]}),
        ({}, {"env": [{"name": "NVIDIA_VISIBLE_DEVICES", "value": "all"}]}),
    ],
)
def test_what_is_tried_beyond_is_taken_out_and_named(spec: dict[str, Any], server: dict[str, Any]) -> None:
    made, beyond = confine(pod(spec, **server), terms())
    assert len(beyond) >= 1
    again, nothing = confine(made, terms())
    assert again == made
    assert nothing == []
    assert_confined(made)


def test_what_the_admins_own_settings_say_stays() -> None:
    may = granted(
        [{"name": "tools", "securityContext": {"privileged": True}}],
        [{"name": "data", "hostPath": {"path": "/data"}}],
        {"hostNetwork": True, "hostPID": False},
    )
    assert may == Granted(frozenset({"/data"}), frozenset({"hostNetwork"}), frozenset({"tools"}))
    tried = pod(
        {
            "hostNetwork": True, "hostPID": True,
            "volumes": [
                {"name": "a", "hostPath": {"path": "/data"}}, {"name": "b", "hostPath": {"path": "/data/../etc"}},
            ],
            "initContainers": [{"name": "tools", "securityContext": {"privileged": True}}],
        },
        volumeMounts=[{"name": "a"}, {"name": "b"}],
        securityContext={"privileged": True},
    )  # fmt: skip
    made, beyond = confine(tried, terms(granted=may))
    assert made["spec"]["hostNetwork"] is True
    assert "hostPID" not in made["spec"]
    assert [volume["name"] for volume in made["spec"]["volumes"]] == ["a"]
    assert server_of(made)["volumeMounts"] == [{"name": "a"}]
    assert made["spec"]["initContainers"][0]["securityContext"]["privileged"]
    assert not server_of(made)["securityContext"].get("privileged")
    assert len(beyond) == 3


def test_image_command_environment_mounts_and_secrets_are_the_profiles_own() -> None:
    theirs = {
        "image": "other:1", "command": ["x"], "env": [{"name": "MINE", "value": "1"}],
        "volumeMounts": [{"name": "home", "mountPath": "/home/ann"}],
        "resources": {"limits": {"ephemeral-storage": "9Gi"}},
    }  # fmt: skip
    volumes = [{"name": "home", "persistentVolumeClaim": {"claimName": "ann"}}]
    made, beyond = confine(pod({"volumes": volumes, "runtimeClassName": "nvidia"}, **theirs), terms())
    assert beyond == []
    assert made["spec"]["volumes"] == volumes
    assert made["spec"]["runtimeClassName"] == "nvidia"
    server = server_of(made)
    assert {"name": "MINE", "value": "1"} in server["env"]
    assert server["resources"]["limits"]["ephemeral-storage"] == "9Gi"
    assert (server["image"], server["command"], server["volumeMounts"]) == ("other:1", ["x"], theirs["volumeMounts"])


@pytest.mark.parametrize("booked", [{}, {"amd.com/gpu": 1}], ids=["none", "another's"])
def test_no_gpu_of_nvidias_is_seen_where_none_was_booked(booked: dict[str, int]) -> None:
    made, _ = confine(pod({"containers": [{"name": "notebook"}, {"name": "side"}]}), terms(resources=booked))
    for container in containers(made["spec"]):
        assert {"name": "NVIDIA_VISIBLE_DEVICES", "value": "void"} in container["env"]
    with_gpus, _ = confine(pod({"containers": [{"name": "notebook"}, {"name": "side"}]}), terms())
    told = [[entry["name"] for entry in one["env"]] for one in containers(with_gpus["spec"])]
    assert told == [["MLMP_NODE"], ["NVIDIA_VISIBLE_DEVICES"]]


AMOUNTS = st.dictionaries(
    st.sampled_from([GPU, MIG, "amd.com/gpu", "cpu", "memory", "hugepages-2Mi"]), st.integers(0, 99)
)
RESOURCES = st.fixed_dictionaries(
    {}, optional={"limits": AMOUNTS, "requests": AMOUNTS, "claims": st.just([{"name": "g"}])}
)
CONTAINER = st.fixed_dictionaries(
    {"name": st.sampled_from(["notebook", "side", "other"])},
    optional={
        "resources": RESOURCES,
        "securityContext": st.fixed_dictionaries({}, optional={"privileged": st.booleans()}),
        "env": st.lists(
            st.fixed_dictionaries(
                {
                    "name": st.sampled_from(["NVIDIA_VISIBLE_DEVICES", "MLMP_NODE", "A"]),
                    "value": st.text("al0,", max_size=3),
                }
            ),
            max_size=3,
        ),
        "ports": st.lists(
            st.fixed_dictionaries({"containerPort": st.just(1)}, optional={"hostPort": st.just(2)}), max_size=2
        ),
    },
)
SPEC = st.fixed_dictionaries(
    {"containers": st.lists(CONTAINER, min_size=1, max_size=3, unique_by=lambda one: one["name"])},
    optional={
        "initContainers": st.lists(CONTAINER, max_size=2),
        "nodeName": st.just("gpu-1"),
        "hostNetwork": st.booleans(),
        "hostPID": st.booleans(),
        "hostIPC": st.booleans(),
        "automountServiceAccountToken": st.booleans(),
        "priorityClassName": st.sampled_from(["", "high"]),
        "priority": st.integers(0, 10),
        "activeDeadlineSeconds": st.integers(1, 10**9),
        "resourceClaims": st.lists(st.just({"name": "g"})),
        "resources": RESOURCES,
        "tolerations": st.none() | st.lists(st.just({"key": "a"})),
        "volumes": st.lists(
            st.sampled_from([{"name": "a", "hostPath": {"path": "/"}}, {"name": "b", "emptyDir": {}}])
        ),
    },
)


@given(SPEC)
def test_nothing_that_is_configured_raises_what_was_booked(spec: dict[str, Any]) -> None:
    tried = {"metadata": {"name": "x", "labels": {"mlmp.dev/kind": "mine"}}, "spec": spec}
    before = copy.deepcopy(tried)
    made, _ = confine(tried, terms())
    assert tried == before
    assert_confined(made)
    assert confine(made, terms()) == (made, [])


def assert_confined(made: dict[str, Any]) -> None:
    """What holds for every pod under :func:`terms`."""
    spec = made["spec"]
    assert made["metadata"]["labels"]["mlmp.dev/kind"] == "server"
    assert not {"nodeName", "resourceClaims", "resources", "priority", "priorityClassName"} & set(spec)
    assert not any(spec.get(name) for name in ("hostNetwork", "hostPID", "hostIPC"))
    assert spec["automountServiceAccountToken"] is False
    assert spec["activeDeadlineSeconds"] == 3600
    assert not any("hostPath" in volume for volume in spec.get("volumes") or ())
    for term in spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][
        "nodeSelectorTerms"
    ]:
        assert term["matchFields"] == HERE
    units = 0
    for container in containers(spec):
        resources = container["resources"]
        assert not resources.get("claims")
        assert not (container.get("securityContext") or {}).get("privileged")
        assert not any("hostPort" in port for port in container.get("ports") or ())
        for kind in ("limits", "requests"):
            assert {name for name in resources.get(kind) or {} if "/" in name} <= {GPU}
        units += int((resources.get("limits") or {}).get(GPU, 0))
        said = {entry["name"]: entry["value"] for entry in container["env"]}
        if GPU in (resources.get("limits") or {}):
            assert container["name"] == "notebook"
            assert "NVIDIA_VISIBLE_DEVICES" not in said
            assert (resources["limits"]["cpu"], resources["limits"]["memory"]) == ("8000m", "64")
            assert said["MLMP_NODE"] == "gpu-2"
        else:
            assert said["NVIDIA_VISIBLE_DEVICES"] == "void"
    assert units <= 2
