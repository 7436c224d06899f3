"""A real spawner of ours makes manifests: whatever is configured, they hold what was booked. No cluster is asked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kubernetes_asyncio.client import V1Container
from kubernetes_asyncio.config import kube_config
from sqlalchemy import Engine
from traitlets.config import Config

from mlmp_spawner.deadlines import Deadline
from mlmp_spawner.errors import Invalid
from mlmp_spawner.operations.admission import Admission
from mlmp_spawner.operations.site import Site
from mlmp_spawner.rules.catalog import Catalog, LimitRules, Limits, Profile, Share
from mlmp_spawner.rules.reservations import Allocation, Reservation
from mlmp_spawner.spawners import choices
from mlmp_spawner.spawners.choices import Choice
from mlmp_spawner.spawners.kube import MLMPKubeSpawner, latest_end
from mlmp_spawner.units import HOUR, now

GPU = "nvidia.com/gpu"


@pytest.fixture(autouse=True, scope="module")
def kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cluster that is nowhere: the client wants a name for it."""
    path = tmp_path_factory.mktemp("kube") / "config"
    path.write_text(
        json.dumps(
            {
                "current-context": "none", "users": [{"name": "none", "user": {}}],
                "clusters": [{"name": "none", "cluster": {"server": "http://127.0.0.1:9"}}],
                "contexts": [{"name": "none", "context": {"cluster": "none", "user": "none"}}],
            }
        )
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(path))  # read from KUBECONFIG at its import
        yield


def made(config: dict[str, Any] | None = None, **booked: Any) -> MLMPKubeSpawner:
    """A spawner whose start was admitted: two GPUs on gpu-2 for four hours."""
    spawner = MLMPKubeSpawner(config=Config({"MLMPKubeSpawner": config or {}}), _mock=True)
    spawner.user = SimpleNamespace(
        name="ann@x.org", id=1, url="/user/ann/", escaped_name="ann", groups=[], settings={}, server_url=lambda _: "/",
    )  # fmt: skip
    spawner.hub = SimpleNamespace(base_url="/hub/", api_url="http://hub/hub/api", url="http://hub/", public_host="")
    spawner.oauth_client_allowed_scopes = []
    spawner.api_token = "secret"
    begin = now()
    said: dict[str, Any] = {"units": 2, "resource": GPU} | booked
    reservation = Reservation(
        "abcdefgh2345", "ann@x.org", "gpu", said["resource"], said["units"], begin, begin + 4 * HOUR,
        allocations=(Allocation("abcdefgh2345", "gpu-2", said["resource"], said["units"], begin, begin + 4 * HOUR),),
    )  # fmt: skip
    deadline = Deadline(reservation.end - 30_000, reservation.end)
    spawner._admitted = Admission(reservation, "gpu-2", (), deadline)
    spawner.server_id = reservation.id
    spawner._share = Share(8.0, 64 << 30)
    spawner._resource = GPU if said["resource"] == GPU else ""
    spawner._latest_end = reservation.end
    return spawner


async def manifest(spawner: MLMPKubeSpawner) -> dict[str, Any]:
    """The pod as the cluster would get it: the same steps as in a start."""
    await spawner.load_user_options()
    pod = await spawner.modify_pod_hook(spawner, await spawner.get_pod_manifest())
    return cast(dict[str, Any], spawner.api.api_client.sanitize_for_serialization(pod))


def resources(pod: dict[str, Any]) -> dict[str, Any]:
    """What the server asks for."""
    return cast(dict[str, Any], pod["spec"]["containers"][0]["resources"])


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


class TestChoices:
    PROFILES: tuple[dict[str, Any], ...] = (
        {"display_name": "Plain", "slug": "plain"},
        {
            "display_name": "With options", "slug": "options",
            "profile_options": {
                "image": {
                    "choices": {
                        "new": {"kubespawner_override": {"image": "lab:2"}},
                        "old": {"kubespawner_override": {"image": "lab:1"}},
                    },
                    "unlisted_choice": {"enabled": True, "kubespawner_override": {"image": "{value}"}},
                },
                "tools": {"choices": {"all": {}, "few": {}}},
            },
        },
    )  # fmt: skip

    async def image(self, **options: Any) -> str:
        """The image that comes of a choice."""
        spawner = made({"profile_list": list(self.PROFILES)})
        spawner._choice, _ = choices.split(options)
        return str((await manifest(spawner))["spec"]["containers"][0]["image"])

    async def test_are_kubespawners_own(self) -> None:
        assert await self.image(kube_profile="options") == "lab:2"
        assert await self.image(kube_profile="options", kube_options={"image": "old"}) == "lab:1"
        assert await self.image(kube_profile="options", kube_options={"image--unlisted-choice": "mine:3"}) == "mine:3"

    async def test_do_not_mix_with_the_catalogs_profile(self) -> None:
        spawner = made({"profile_list": list(self.PROFILES)})
        spawner.user_options = {"profile": "gpu", "duration": "4h"}
        await manifest(spawner)
        assert spawner.user_options == {"profile": "gpu", "duration": "4h"}

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"kube_profile": "plian"}, "did you mean 'plain'"),
            ({"kube_profile": 7}, "slug"),
            ({"kube_profile": "plain", "kube_options": {"image": "old"}}, "there is no 'image'"),
            ({"kube_profile": "options", "kube_options": {"image": "odl"}}, "did you mean 'old'"),
            ({"kube_profile": "options", "kube_options": {"tools--unlisted-choice": "x"}}, "only what is listed"),
            ({"kube_profile": "options", "kube_options": ["image"]}, "option"),
            ({"kube_options": {"image": ["old"]}}, "option"),
        ],
    )
    async def test_that_are_not_there_are_refused_with_those_that_are(
        self, options: dict[str, Any], said: str
    ) -> None:
        known = await made({"profile_list": list(self.PROFILES)})._profiles()
        with pytest.raises(Invalid, match=said):
            choices.check(choices.split(options)[0], known)

    def test_where_there_are_none_none_can_be_made(self) -> None:
        choices.check(Choice(), [])
        with pytest.raises(Invalid, match="no such choice"):
            choices.check(Choice("plain"), [])

    def test_come_out_of_the_form_with_the_options_of_the_chosen_profile_alone(self) -> None:
        form = {
            "kube_profile": ["options"], "kube_option:options:image": ["old"], "kube_option:plain:image": ["new"],
            "kube_option:options:tools--unlisted-choice": [""], "duration:gpu": ["3600s"],
        }  # fmt: skip
        ours, rest = choices.from_form(form)
        assert ours == {"kube_profile": "options", "kube_options": {"image": "old"}}
        assert rest == {"duration:gpu": ["3600s"]}

    async def test_are_part_of_our_form_not_instead_of_it(self) -> None:
        spawner = made({"profile_list": list(self.PROFILES)})
        form = {"kube_profile": ["plain"], "duration:gpu": ["3600s"], "_xsrf": ["x"]}
        assert spawner.run_options_from_form(form) == {"profile": "gpu", "duration": "3600s", "kube_profile": "plain"}
        assert spawner.options_form is not None
        assert "KubeSpawner" not in str(spawner.options_form)

    async def test_are_shown_in_the_form_without_trusting_what_they_are_called(self) -> None:
        hostile = {"display_name": "<script>alert(1)</script>", "slug": "x"}
        spawner = made({"profile_list": [hostile, *self.PROFILES]})
        html = spawner._render("profile_list.html", profiles=await spawner._profiles(), chosen=Choice("plain"))
        assert "<script>" not in html
        assert '<option value="plain" selected>' in html
        assert 'name="kube_option:options:image"' in html
        assert 'name="kube_option:options:image--unlisted-choice"' in html

    def test_what_they_try_beyond_is_listed_for_check(self) -> None:
        found = choices.beyond(
            [
                {"display_name": "Fine", "kubespawner_override": {"image": "x", "environment": {"A": "1"}}},
                {
                    "display_name": "Big",
                    "kubespawner_override": {"mem_limit": "1T", "extra_pod_config": {"hostPID": True}},
                },
                {
                    "display_name": "More",
                    "profile_options": {
                        "gpu": {"choices": {"8": {"kubespawner_override": {"extra_resource_limits": {GPU: "8"}}}}}
                    },
                },
            ]
        )
        assert [line.partition(" ")[0] for line in found] == ["Big:", "Big:", "More,"]
        assert "mem_limit: memory comes from the booking" in found[0]
        assert "hostPID" in found[1]
        assert found[2].startswith("More, gpu: 8: extra_resource_limits")
        assert choices.beyond([]) == []


async def test_a_start_that_is_found_after_a_restart_of_the_hub_has_steps_too() -> None:
    spawner = made()
    spawner.say(50, "The image is being pulled")
    steps = spawner.progress()
    assert (await anext(steps))["message"] == "The image is being pulled"
    await steps.aclose()
