"""JupyterHub on Kubernetes, as the Helm chart runs it: values from a mounted file, secrets from the environment.

Hub and service read the same; so what is set for ``c.MLMP`` holds for both.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml
from traitlets.config import Config

from mlmp_spawner.errors import ConfigurationError
from mlmp_spawner.rules.storage import Storage
from mlmp_spawner.spawners.hub import SERVICE, USERNAMES, configure_everywhere, configure_service, let_make_users

VALUES = "/etc/mlmp/values/values.yaml"
CATALOG = "/etc/mlmp/catalog"
AUTHORITY = "/etc/mlmp/authority/ssh-ca"
"""The private key of the SSH CA, which the service alone has."""
DATA = "/var/lib/mlmp"
"""Where the service keeps the files of jobs; it alone has that volume."""
TRIAL = "shared-password"
"""The login as long as nobody chose another: two passwords, made at the first install."""
ADMIN = "admin"

SECRETS = ("MLMP_DB_URL", "MLMP_SERVICE_TOKEN", "CONFIGPROXY_AUTH_TOKEN")
ADDED = ("services", "load_roles", "template_paths")
"""Lists of ``c.JupyterHub`` that MLMP needs itself: what the values say comes after what is there."""


@dataclass(frozen=True, slots=True)
class Users:
    """The chart's values for users' pods, with what the chart worked out itself."""

    namespace: str
    storage: str = "none"
    """``none``, ``dynamic`` (a claim for each user), ``shared`` or ``nfs`` (a folder for each user in one claim)."""
    files: dict[str, Any] = field(default_factory=dict)
    """As ``c.MLMPKubeSpawner.storage``: see :class:`mlmp_spawner.rules.storage.Storage`."""
    size: str = "10Gi"
    storage_class: str | None = None
    access_modes: list[str] = field(default_factory=lambda: ["ReadWriteOnce"])
    uid: int = 1000
    gid: int = 1000
    uid_from: str = ""
    gid_from: str = ""
    guest_uid: int = 0
    image_pull_secrets: list[str] = field(default_factory=list)
    priority_class: str = ""
    node_selector: dict[str, str] = field(default_factory=dict)
    tolerations: list[dict[str, Any]] = field(default_factory=list)
    runtime_class: str = ""
    ssh_mode: str = "environment"
    ssh_image: str = ""


@dataclass(frozen=True, slots=True)
class Cluster:
    """The part of the chart's values that hub and service read."""

    hub_url: str
    proxy_url: str
    proxy_api_url: str
    service_url: str
    users: Users
    base_url: str = "/"
    public_url: str = ""
    ssh_gateway: str = ""
    see_all_pods: bool = False
    preload_priority_class: str = ""
    jobs: dict[str, Any] = field(default_factory=dict)
    """Training jobs: whether they are ``enabled``; ``image`` and ``pull_secrets`` of what runs beside them;
    ``network_closed``: whether network policies keep users' pods apart; ``declare_units``: whether the service tells
    the cluster of MLMP's own units."""
    config: dict[str, dict[str, Any]] = field(default_factory=dict)
    extra_config: dict[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path) -> Cluster:
        """What the chart wrote.

        :raises ConfigurationError: it can't be read, or is of another release of the chart.
        """
        try:
            given = yaml.safe_load(path.read_text(encoding="utf-8"))
            users = Users(**_known(Users, given.pop("users")))
            return cls(users=users, **_known(cls, given))
        except (OSError, yaml.YAMLError, AttributeError, KeyError, TypeError) as error:
            raise ConfigurationError(
                [f"{path}: {error}; the Helm chart writes it for this release's image"]
            ) from error


def _known(of: type, given: Mapping[str, Any]) -> dict[str, Any]:
    names = {each.name for each in fields(of)}
    return {name: value for name, value in given.items() if name in names and value is not None}


def configure(c: Config, environment: Mapping[str, str] = os.environ) -> Cluster:
    """Configures JupyterHub and MLMP for a cluster.

    :param environment: ``MLMP_VALUES`` names the file of values, the others are :data:`SECRETS`.
    :raises ConfigurationError: something is missing; all of it at once.
    """
    missing = [f"{name} is not set: this configuration is for the Helm chart" for name in SECRETS
               if not environment.get(name)]  # fmt: skip
    if missing:
        raise ConfigurationError(missing)
    cluster = Cluster.load(Path(environment.get("MLMP_VALUES", VALUES)))
    c.MLMP.update(
        backend="kubernetes", db_url=environment["MLMP_DB_URL"], catalog=environment.get("MLMP_CATALOG", CATALOG),
        namespace=cluster.users.namespace, public_url=cluster.public_url, see_all_pods=cluster.see_all_pods,
        preload_priority_class=cluster.preload_priority_class, ssh_gateway=cluster.ssh_gateway,
        ssh_ca_file=environment.get("MLMP_SSH_CA", AUTHORITY), guest_isolation="pod",
    )  # fmt: skip
    _configure_jobs(c, cluster, environment)
    _configure_hub(c, cluster, environment)
    _configure_login(c, environment)
    configure_service(c, cluster.service_url, environment["MLMP_SERVICE_TOKEN"])
    _configure_users(c, cluster)
    if c.MLMP.jobs:
        from mlmp_spawner.spawners.job_surroundings import serve  # brings KubeSpawner with it

        serve(c)
    _apply(c, cluster)
    _keep_guests_apart(c)
    _let_in(c)
    let_make_users(c)
    if c.MLMP.get("look_in"):
        raise ConfigurationError(["c.MLMP.look_in: it is for one machine whose servers have hosts of their own"])
    # What the hub's own pages lead to, of the pages of the service.
    c.JupyterHub.setdefault("template_vars", {}).setdefault("has_jobs", bool(c.MLMP.jobs))
    return cluster


def _configure_jobs(c: Config, cluster: Cluster, environment: Mapping[str, str]) -> None:
    c.MLMP.jobs = bool(cluster.jobs.get("enabled"))
    if c.MLMP.jobs:
        c.MLMP.update(
            data=environment.get("MLMP_DATA", DATA),
            job_image=cluster.jobs.get("image", ""),
            job_pull_secrets=cluster.jobs.get("pull_secrets", []),
            job_network_closed=bool(cluster.jobs.get("network_closed")),
            declare_units=bool(cluster.jobs.get("declare_units")),
            job_api_url=f"{cluster.service_url}{cluster.base_url}services/{SERVICE}/api/v1/",
        )


def _configure_hub(c: Config, cluster: Cluster, environment: Mapping[str, str]) -> None:
    configure_everywhere(c, cluster.base_url)
    c.JupyterHub.update(
        base_url=cluster.base_url,
        bind_url=f"http://0.0.0.0:8000{cluster.base_url}",
        hub_bind_url="http://0.0.0.0:8081",
        hub_connect_url=cluster.hub_url,
        public_url=cluster.public_url,
        db_url=environment["MLMP_DB_URL"],
        template_vars={"mlmp_images": True},
    )
    c.ConfigurableHTTPProxy.update(
        should_start=False, api_url=cluster.proxy_api_url, auth_token=environment["CONFIGPROXY_AUTH_TOKEN"]
    )
    c.JupyterHub.spawner_class = "mlmp_spawner.spawners.kube.MLMPKubeSpawner"


def _configure_login(c: Config, environment: Mapping[str, str]) -> None:
    c.JupyterHub.authenticator_class = TRIAL
    c.Authenticator.username_pattern = USERNAMES
    c.SharedPasswordAuthenticator.update(
        user_password=environment.get("MLMP_USER_PASSWORD", ""),
        admin_password=environment.get("MLMP_ADMIN_PASSWORD", ""),
    )


def _configure_users(c: Config, cluster: Cluster) -> None:
    users = cluster.users
    c.KubeSpawner.update(
        namespace=users.namespace,
        uid=users.uid,
        gid=users.gid,
        fs_gid=users.gid,
        # The environment of a pod needs no list of all Services.
        extra_pod_config={"enableServiceLinks": False},
        image_pull_secrets=[{"name": name} for name in users.image_pull_secrets],
        priority_class_name=users.priority_class,
        node_selector=users.node_selector,
        tolerations=users.tolerations,
        delete_pvc=False,  # nobody's files go with a server or a user
    )
    c.MLMPKubeSpawner.mlmp_url = cluster.proxy_url + cluster.base_url
    c.MLMPKubeSpawner.update(runtime_class=users.runtime_class, ssh_mode=users.ssh_mode)
    if users.ssh_image:
        c.MLMPKubeSpawner.ssh_image = users.ssh_image
    c.MLMP.ssh = users.ssh_mode != "none"
    c.MLMPKubeSpawner.update(storage=users.files, uid_from=users.uid_from, gid_from=users.gid_from)
    c.MLMPKubeSpawner.guest_uid = users.guest_uid
    if users.storage == "dynamic":
        home = users.files.get("home", Storage().home)
        c.KubeSpawner.update(
            storage_pvc_ensure=True, pvc_name_template="mlmp-home-{username}", storage_capacity=users.size,
            storage_access_modes=users.access_modes, storage_class=users.storage_class,
            volumes=[{"name": "home", "persistentVolumeClaim": {"claimName": "{pvc_name}"}}],
            volume_mounts=[{"name": "home", "mountPath": home}],
        )  # fmt: skip


def _apply(c: Config, cluster: Cluster) -> None:
    """What the values say of any class, then the Python in them."""
    for name, traits in cluster.config.items():
        for trait, value in traits.items():
            if name == "JupyterHub" and trait in ADDED:
                value = [*c.JupyterHub.get(trait, []), *value]
            elif name == "JupyterHub" and trait == "custom_scopes":
                value = {**c.JupyterHub.get(trait, {}), **value}
            c[name][trait] = value
    for name, code in sorted(cluster.extra_config.items()):
        exec(compile(code, f"hub.extraConfig.{name}", "exec"), {"c": c, "get_config": lambda: c})  # noqa: S102


def _keep_guests_apart(c: Config) -> None:
    """Where the login says everybody's account there are no guests, unless there is a number for them."""
    users = c.MLMPKubeSpawner
    if users.get("uid_from") and not users.get("guest_uid"):
        c.MLMP.guest_isolation = "none"


def _let_in(c: Config) -> None:
    """With the login for trying out, whoever knows the password; with another, those whom its own settings name.

    Only there ``admin`` is the admin's name: at GitHub it may be anybody's.
    """
    if c.JupyterHub.authenticator_class == TRIAL:
        c.Authenticator.setdefault("allow_all", True)
        c.Authenticator.setdefault("admin_users", {ADMIN})
