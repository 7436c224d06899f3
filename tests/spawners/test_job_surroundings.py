"""What the hub tells of a person's jobs is what their servers' pods would have, without anything that they chose."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from traitlets.config import Config

from mlmp_spawner.errors import ConfigurationError, NotAllowed, Unavailable
from mlmp_spawner.spawners.hub import configure_service
from mlmp_spawner.spawners.job_surroundings import PATH, SCOPE, SurroundingsHandler, serve, surroundings
from mlmp_spawner.spawners.kube import MLMPKubeSpawner
from tests.spawners.pod_manifests import kubeconfig, made

__all__ = ["kubeconfig"]

HOMES = {"claim": "homes", "home": "/home/jovyan", "shared": {"claim": "data", "path": ""}}
OWN: dict[str, Any] = {
    "storage_pvc_ensure": True,
    "pvc_name_template": "mlmp-home-{username}",
    "volumes": [{"name": "home", "persistentVolumeClaim": {"claimName": "{pvc_name}"}}],
    "volume_mounts": [{"name": "home", "mountPath": "/home/jovyan"}],
}


def logged_in(spawner: MLMPKubeSpawner, about: dict[str, Any] | None) -> MLMPKubeSpawner:
    async def get_auth_state() -> dict[str, Any] | None:
        return about

    spawner.user.get_auth_state = get_auth_state
    return spawner


async def test_a_folder_in_the_claim_of_all_homes_is_that_of_their_servers() -> None:
    spawner = made({
        "storage": HOMES, "uid": 1001, "gid": 100, "supplemental_gids": [50], "namespace": "students",
        "mlmp_url": "http://proxy/", "image_pull_secrets": ["theirs"], "runtime_class": "gvisor",
        "priority_class_name": "users", "tolerations": [{"key": "lab"}], "requested_share": 0.5,
    })  # fmt: skip
    assert await surroundings(spawner) == {
        "namespace": "students", "url": "http://proxy/", "folder": spawner.folder,
        "storage": HOMES | {"scratch": None},
        "account": {"uid": 1001, "gid": 100, "groups": [50], "fs_group": 1000, "of_login": False},
        "pull_policy": "IfNotPresent", "pull_secrets": ["theirs"], "requested_share": 0.5, "priority_class": "users",
        "runtime_class": "gvisor", "tolerations": [{"key": "lab"}],
    }  # fmt: skip


async def test_the_account_is_the_one_that_the_login_says() -> None:
    spawner = logged_in(made({"storage": HOMES, "uid_from": "uid", "gid_from": "gid"}), {"uid": "4711", "gid": 815})
    account = (await surroundings(spawner))["account"]
    assert (account["uid"], account["gid"], account["of_login"]) == (4711, 815, True)


async def test_for_whom_the_login_says_nothing_it_is_refused() -> None:
    with pytest.raises(NotAllowed, match="keeps nothing about"):
        await surroundings(logged_in(made({"storage": HOMES, "uid_from": "uid"}), None))


class WithClaims(MLMPKubeSpawner):
    """Its cluster has the claims that were asked for, or does not answer."""

    asked: list[str]
    away = False

    async def _make_create_pvc_request(self, pvc: Any, request_timeout: float) -> bool:
        self.asked = [*getattr(self, "asked", []), pvc.metadata.name]
        return not self.away


def with_claims(config: dict[str, Any]) -> WithClaims:
    spawner = WithClaims(config=Config({"WithClaims": config}), _mock=True)
    spawner.user = SimpleNamespace(name="ann", id=1, url="/user/ann/", escaped_name="ann", groups=[], settings={})
    return spawner


async def test_a_claim_of_their_own_is_all_theirs_and_there_afterwards() -> None:
    spawner = with_claims(OWN)
    spawner.pvc_name = spawner._expand_user_properties(spawner.pvc_name_template)
    found = await surroundings(spawner)
    assert (found["storage"]["claim"], found["folder"]) == (spawner.pvc_name, "")
    assert found["storage"]["home"] == "/home/jovyan"
    assert spawner.asked == [spawner.pvc_name]


async def test_a_claim_that_is_not_there_yet_is_waited_for() -> None:
    spawner = with_claims(OWN)
    spawner.away = True
    with pytest.raises(Unavailable, match="not there yet"):
        await surroundings(spawner)


async def test_a_part_of_a_claim_that_kubespawner_mounts_as_the_home_is_theirs_alone() -> None:
    volumes = [{"name": "all", "persistentVolumeClaim": {"claimName": "claims"}}]
    mounts = [{"name": "all", "mountPath": "/home/jovyan/", "subPath": "home/{username}"}]
    found = await surroundings(with_claims({"volumes": volumes, "volume_mounts": mounts}))
    assert (found["storage"]["claim"], found["folder"]) == ("claims", "home/ann")


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"volumes": [{"name": "home", "emptyDir": {}}], "volume_mounts": OWN["volume_mounts"]},
        {"volumes": OWN["volumes"], "volume_mounts": [{"name": "home", "mountPath": "/data"}]},
    ],
    ids=["none", "not kept", "elsewhere"],
)
async def test_without_a_home_there_are_no_jobs_and_it_says_so(config: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="no home"):
        await surroundings(with_claims(config))


def test_the_service_may_ask_and_no_user_may() -> None:
    c = Config()
    configure_service(c, "http://service", "token")
    c.JupyterHub.load_roles = [*c.JupyterHub.load_roles, {"name": "grader", "scopes": ["list:users"]}]
    serve(c)
    ours, grader = c.JupyterHub.load_roles
    assert SCOPE in ours["scopes"] and SCOPE not in grader["scopes"]
    assert SCOPE in c.JupyterHub.custom_scopes
    assert SCOPE not in c.JupyterHub.get("extra_user_scopes", ())
    assert c.JupyterHub.extra_handlers == [(PATH, SurroundingsHandler)]
