"""What the service asks the hub before a job's pods are made: as whom they run, and with which files.

The hub knows it by what makes servers' pods, callables of its configuration and the login included, and it alone has
the right to make somebody's folder. So the service gets neither that right nor anything else that a login keeps.
"""

from __future__ import annotations

import asyncio
from typing import Any

from jupyterhub.apihandlers.base import APIHandler
from jupyterhub.user import User
from tornado import web
from traitlets.config import Config

from mlmp_spawner.errors import ConfigurationError, MLMPError, Unavailable
from mlmp_spawner.spawners.hub import SERVICE
from mlmp_spawner.spawners.kube import MLMPKubeSpawner

SCOPE = "custom:mlmp:surroundings"
"""What the token of whoever asks needs; the service has it, and no user."""
PATH = r"/api/mlmp/users/([^/]+)/surroundings"
PATIENCE = 12.0
"""Seconds that making the folder may take in one call; it is asked for again, and goes on."""


class SurroundingsHandler(APIHandler):
    """``POST users/NAME/surroundings``: the user's folder is there afterwards."""

    async def post(self, name: str) -> None:
        """What :func:`surroundings` tells; refusals have the sentence of ours."""
        if SCOPE not in self.expanded_scopes:
            raise web.HTTPError(403, f"This needs the scope {SCOPE}")
        user = self.find_user(name)
        if user is None:
            raise web.HTTPError(404, f"There is no user {name!r}")
        try:
            self.write(await asyncio.wait_for(surroundings(_fresh(user)), PATIENCE))
        except asyncio.TimeoutError:
            raise _refusal(Unavailable("The folder of its owner is not made yet.")) from None
        except MLMPError as error:
            raise _refusal(error) from error


def serve(c: Config) -> None:
    """Adds it to the hub, and the right to ask to the role of the service, which has to be configured before."""
    c.JupyterHub.extra_handlers = [*c.JupyterHub.get("extra_handlers", []), (PATH, SurroundingsHandler)]
    c.JupyterHub.custom_scopes = {
        **c.JupyterHub.custom_scopes, SCOPE: {"description": "As whom and with which files a user's jobs run"},
    }  # fmt: skip
    c.JupyterHub.load_roles = [
        {**role, "scopes": [*role["scopes"], SCOPE]} if role["name"] == SERVICE else role
        for role in c.JupyterHub.load_roles
    ]


async def surroundings(spawner: MLMPKubeSpawner) -> dict[str, Any]:
    """The fields of :class:`mlmp_spawner.kube.job_pods.Surroundings` that the hub knows, as JSON.

    :param spawner: as it is configured; no choice of its user's is in it.
    :raises MLMPError: the user has no files here, or what they run as can't be known.
    """
    storage, folder = spawner.files, spawner.folder
    if not storage.claim:
        claim, folder, home = _mounted_home(spawner)
        storage = storage.model_copy(update={"claim": claim, "home": home})
    account = await spawner.move_in()
    secrets = [one if isinstance(one, str) else one["name"] for one in spawner.image_pull_secrets or ()]
    return {
        "namespace": spawner.namespace,
        "url": spawner.mlmp_url or str(spawner.public_hub_url).removesuffix("hub/"),
        "storage": storage.model_dump(mode="json", exclude={"folders"}),
        "folder": folder,
        "account": {
            "uid": account.uid, "gid": account.gid, "groups": sorted(account.groups), "fs_group": account.fs_group,
            "of_login": account.of_login,
        },
        "pull_policy": spawner.image_pull_policy or "IfNotPresent",
        "pull_secrets": secrets,
        "requested_share": spawner.requested_share,
        "priority_class": spawner.priority_class_name or "",
        "runtime_class": spawner.runtime_class,
        "tolerations": list(spawner.tolerations),
    }  # fmt: skip


def _fresh(user: User) -> MLMPKubeSpawner:
    """A spawner of the user's with nothing in it that a start of theirs chose."""
    user.get_or_create_spawner("", "")  # for the row that one needs
    spawner = user._new_spawner("")
    if not isinstance(spawner, MLMPKubeSpawner):
        raise ConfigurationError(
            [f"c.JupyterHub.spawner_class is {type(spawner).__name__}: jobs run beside pods alone"]
        )
    return spawner


def _mounted_home(spawner: MLMPKubeSpawner) -> tuple[str, str, str]:
    """The claim that KubeSpawner's own settings mount as the home, what of it, and where."""
    home = spawner.files.home
    claims = {}
    for one in spawner._expand_all(spawner._sorted_dict_values(spawner.volumes)):
        claim = (one.get("persistentVolumeClaim") or {}).get("claimName")
        if claim:
            claims[one["name"]] = claim
    for mount in spawner._expand_all(spawner._sorted_dict_values(spawner.volume_mounts)):
        if mount["mountPath"].rstrip("/") == home.rstrip("/") and mount["name"] in claims:
            return str(claims[mount["name"]]), str(mount.get("subPath") or ""), home
    raise ConfigurationError(
        [f"users have no home in this cluster: no claim is mounted at {home}, and a job's code and results are there"]
    )


def _refusal(error: MLMPError) -> web.HTTPError:
    return web.HTTPError(error.status, error.detail.replace("%", "%%"))
