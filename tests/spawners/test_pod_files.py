"""A server's pod runs as its user's account, with their files; what was made for it is remembered."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from kubernetes_asyncio.client.exceptions import ApiException

from mlmp_spawner.errors import ConfigurationError, NotAllowed, Unavailable
from mlmp_spawner.kube.home_pods import Home
from mlmp_spawner.rules.storage import directory_name
from mlmp_spawner.spawners import pod_files
from mlmp_spawner.spawners.kube import MLMPKubeSpawner
from tests.spawners.pod_manifests import kubeconfig, made, manifest

__all__ = ["kubeconfig"]

STORAGE = {"claim": "homes", "home": "/home/jovyan"}
FOLDERS = {**STORAGE, "folders": {"namespace": "system", "claim": "homes", "image": "hub:1"}}


def logged_in(spawner: MLMPKubeSpawner, about: dict[str, Any] | None) -> MLMPKubeSpawner:
    async def get_auth_state() -> dict[str, Any] | None:
        return about

    spawner.user.get_auth_state = get_auth_state
    return spawner


async def test_the_home_is_the_folder_of_the_owner_however_a_profile_or_a_hook_would_have_it() -> None:
    def hook(_: Any, pod: Any) -> Any:
        pod.spec.volumes = [{"name": "home", "persistentVolumeClaim": {"claimName": "homes"}}]
        pod.spec.containers[0].volume_mounts = [{"name": "home", "mountPath": "/home/jovyan", "subPath": "bob"}]
        return pod

    profile = {
        "display_name": "Bob's",
        "default": True,
        "kubespawner_override": {"storage": {"claim": "homes", "home": "/"}, "volume_mounts": []},
    }
    spec = (await manifest(made({"storage": STORAGE, "modify_pod_hook": hook, "profile_list": [profile]})))["spec"]
    (mount,) = spec["containers"][0]["volumeMounts"]
    assert (mount["mountPath"], mount["subPath"]) == ("/home/jovyan", directory_name("ann@x.org"))


async def test_uid_and_gid_are_as_the_login_says() -> None:
    spawner = made({"storage": STORAGE, "uid_from": "oauth_user.uid", "gid_from": "oauth_user.gids.main"})
    logged_in(spawner, {"oauth_user": {"uid": "4711", "gids": {"main": 815}}})
    await spawner._run_as_their_account()
    pod = await manifest(spawner)
    server = pod["spec"]["containers"][0]
    assert (server["securityContext"]["runAsUser"], server["securityContext"]["runAsGroup"]) == (4711, 815)
    assert "jovyan:x:4711:815::/home/jovyan:/bin/bash\n" in pod["metadata"]["annotations"]["mlmp.dev/passwd"]
    assert any(mount["mountPath"] == "/etc/passwd" and mount["readOnly"] for mount in server["volumeMounts"])


OTHERS: list[dict[str, Any]] = [
    {"uid": 666},
    {"gid": 666},
    {"fs_gid": 666, "supplemental_gids": [666]},
    {"uid_from": "", "gid_from": ""},
    {"container_security_context": {"runAsUser": 666, "runAsGroup": 666}},
    {"pod_security_context": {"runAsUser": 666, "runAsGroup": 666, "fsGroup": 666, "supplementalGroups": [666]}},
    {"extra_container_config": {"securityContext": {"runAsUser": 666}}},
    {"extra_pod_config": {"securityContext": {"runAsUser": 666, "supplementalGroups": [666]}}},
    {"extra_containers": [{"name": "mine", "securityContext": {"runAsUser": 666}}]},
    {"init_containers": [{"name": "mine", "securityContext": {"runAsGroup": 666}}]},
    {"modify_pod_hook": lambda _: as_another},
]


def as_another(_: Any, pod: Any) -> Any:
    """A hook."""
    pod.spec.containers[0].security_context = {"runAsUser": 666}
    pod.spec.security_context = {"supplementalGroups": [666], "fsGroup": 666}
    return pod


@pytest.mark.parametrize("override", OTHERS, ids=lambda override: next(iter(override)))
@pytest.mark.parametrize(
    ("config", "account"),
    [
        ({"storage": FOLDERS, "uid": 1001, "gid": 100}, (1001, 100)),
        ({"uid_from": "uid", "gid_from": "gid"}, (4711, 815)),
        ({"storage": FOLDERS | {"scratch": {"size": "1Gi", "type": "claim"}}, "uid_from": "uid"}, (4711, 4711)),
    ],
    ids=["homes", "login", "both"],
)
async def test_no_profile_says_as_whom_a_server_runs_that_has_somebodys_files(
    config: dict[str, Any], account: tuple[int, int], override: dict[str, Any]
) -> None:
    profile = {"display_name": "Other", "default": True, "kubespawner_override": override}
    spawner = logged_in(made({**config, "profile_list": [profile]}), {"uid": 4711, "gid": 815})
    await spawner._run_as_their_account()
    spec = (await manifest(spawner))["spec"]
    for context in [spec, *spec["containers"], *spec.get("initContainers", [])]:
        assert (context["securityContext"]["runAsUser"], context["securityContext"]["runAsGroup"]) == account
    assert "666" not in str(spec["securityContext"])


async def test_a_group_may_say_where_the_login_has_its_members_numbers() -> None:
    spawner = logged_in(made({"storage": STORAGE}), {"uid": 4711})
    spawner.uid_from = "uid"  # as the hub applies a group's settings, before the start
    await spawner._run_as_their_account()
    pod = await manifest(spawner)
    assert pod["spec"]["containers"][0]["securityContext"]["runAsUser"] == 4711
    assert "jovyan:x:4711:4711:" in pod["metadata"]["annotations"]["mlmp.dev/passwd"]


async def test_groups_that_are_configured_for_all_stay() -> None:
    config = {"storage": FOLDERS, "supplemental_gids": [50], "pod_security_context": {"supplementalGroups": [51]}}
    spawner = made(config)
    await spawner._run_as_their_account()
    assert (await manifest(spawner))["spec"]["securityContext"]["supplementalGroups"] == [51]


async def test_a_privileged_container_of_the_admins_stays_roots() -> None:
    driver = {"name": "driver", "securityContext": {"privileged": True, "runAsUser": 0}}
    spawner = made({"storage": FOLDERS, "extra_containers": [driver]})
    await spawner._run_as_their_account()
    assert (await manifest(spawner))["spec"]["containers"][1]["securityContext"] == driver["securityContext"]


async def test_without_files_of_somebodys_a_profile_may_say_it() -> None:
    profile = {"display_name": "Other", "default": True, "kubespawner_override": {"uid": 1234}}
    spawner = made({"profile_list": [profile]})
    await spawner._run_as_their_account()
    assert (await manifest(spawner))["spec"]["containers"][0]["securityContext"]["runAsUser"] == 1234


async def test_nothing_with_somebodys_files_is_made_before_it_is_known_as_whom() -> None:
    with pytest.raises(RuntimeError, match="as whom it runs"):
        await manifest(made({"storage": FOLDERS}))


async def test_where_everybody_has_the_same_account_the_image_names_it() -> None:
    pod = await manifest(made({"storage": STORAGE}))
    assert "mlmp.dev/passwd" not in pod["metadata"]["annotations"]
    assert [mount["mountPath"] for mount in pod["spec"]["containers"][0]["volumeMounts"]] == ["/home/jovyan"]


async def test_nothing_starts_for_whom_the_login_says_no_number() -> None:
    spawner = made({"uid_from": "oauth_user.uid"})
    with pytest.raises(NotAllowed, match="no number for oauth_user"):
        await logged_in(spawner, {"oauth_user": {}})._run_as_their_account()
    with pytest.raises(NotAllowed, match="keeps nothing about"):
        await logged_in(spawner, None)._run_as_their_account()


async def test_storage_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="storage: claim"):
        made({"storage": {"claim": "No Claim"}})


async def test_that_a_folder_was_made_is_remembered_over_stops_and_restarts_of_the_hub() -> None:
    spawner = made({"storage": STORAGE})
    spawner.load_state({"home": "homes/ann:1000:1000", "kubespawner_version": "7"})
    spawner.clear_state()
    assert spawner.get_state()["home"] == "homes/ann:1000:1000"


NUMBERED = {"uid_from": "oauth_user.uid", "gid_from": "oauth_user.gid", "guest_uid": 64999}


async def test_a_guest_runs_as_the_number_of_guests_and_others_as_the_login_says() -> None:
    guest = logged_in(made({"storage": FOLDERS, **NUMBERED}), None)
    guest.user.name = "guest-k7m29qxf3h"
    await guest._run_as_their_account()
    context = (await manifest(guest))["spec"]["containers"][0]["securityContext"]
    assert (context["runAsUser"], context["runAsGroup"]) == (64999, 64999)
    with pytest.raises(NotAllowed, match="keeps nothing about"):
        await logged_in(made({"storage": FOLDERS, **NUMBERED}), None)._run_as_their_account()


async def test_no_profile_says_as_whom_guests_run() -> None:
    profile = {"display_name": "Other", "default": True, "kubespawner_override": {"guest_uid": 4711}}
    guest = logged_in(made({"storage": FOLDERS, **NUMBERED, "profile_list": [profile]}), None)
    guest.user.name = "guest-k7m29qxf3h"
    await guest.load_user_options()
    await guest._run_as_their_account()
    assert guest.uid == 64999


class PlayedClaims:
    """The claims of a namespace. ``held``: a pod that still ends uses them."""

    def __init__(self, *there: str, held: bool = False) -> None:
        self.there, self.held = set(there), held

    async def delete_namespaced_persistent_volume_claim(self, name: str, namespace: str) -> None:
        self._look(name)
        if not self.held:
            self.there.remove(name)

    async def read_namespaced_persistent_volume_claim(self, name: str, namespace: str) -> None:
        self._look(name)

    def _look(self, name: str) -> None:
        if name not in self.there:
            raise ApiException(status=404)


DYNAMIC = {"storage_pvc_ensure": True, "pvc_name_template": "home-{username}"}


async def test_a_guest_s_own_claim_is_erased_and_no_other() -> None:
    spawner = made(DYNAMIC)
    spawner.api = claims = PlayedClaims(spawner.pvc_name, "home-ben")
    await spawner.erase_guest()
    await spawner.erase_guest()
    assert claims.there == {"home-ben"}


async def test_a_claim_that_is_still_used_is_not_told_to_be_erased() -> None:
    spawner = made(DYNAMIC)
    spawner.api = claims = PlayedClaims(spawner.pvc_name, held=True)
    with pytest.raises(Unavailable):
        await spawner.erase_guest()
    claims.held = False
    await spawner.erase_guest()
    assert claims.there == set()


async def test_where_somebody_else_makes_the_folders_no_erasure_is_claimed() -> None:
    with pytest.raises(ConfigurationError):
        await made({"storage": STORAGE}).erase_guest()


async def test_where_nobody_has_files_there_is_nothing_to_erase() -> None:
    await made().erase_guest()


class PlayedHomes:
    """What would be erased in the claim."""

    done: ClassVar[list[tuple[str, Home]]] = []

    def __init__(self, *_: Any) -> None:
        self.done.clear()

    async def erase(self, home: Home) -> None:
        self.done.append(("erase", home))


async def test_after_a_restart_of_the_hub_a_guest_s_folder_is_erased_as_the_account_that_it_belongs_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pod_files, "Homes", PlayedHomes)
    guest = logged_in(made({"storage": FOLDERS, **NUMBERED}), None)
    guest.user.name = "guest-k7m29qxf3h"
    await guest.erase_guest()
    assert PlayedHomes.done == [("erase", Home("guest-k7m29qxf3h", 64999, 64999))]
