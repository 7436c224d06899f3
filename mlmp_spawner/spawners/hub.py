"""One machine's JupyterHub, as ``mlmp up`` runs it: what was chosen at its start, and the configuration of it all."""

from __future__ import annotations

import json
import os
import pwd
import re
import secrets
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from traitlets.config import Config

from mlmp_spawner.errors import ConfigurationError

SERVICE = "mlmp"
LOGINS = {"pam": "mlmp_spawner.logins.pam.PAMLogin"}
"""The authenticator of each ``mlmp up --auth`` that is not JupyterHub's own."""
SCOPES = {
    "custom:mlmp:book": {"description": "Book, start and stop one's own servers"},
    "custom:mlmp:courses": {"description": "Make courses"},
    "custom:mlmp:admin": {"description": "Run the machines: bookings of all, catalog, limits, maintenance"},
    "custom:mlmp:guests": {"description": "End guests, and erase what they leave"},
}
FOR_EVERYBODY = {f"access:services!service={SERVICE}", "custom:mlmp:book"}
"""What every user may do, and what a server's own token may do besides what it could anyway."""

OF_THE_SERVICE = [
    "list:users", "read:users:groups", "read:servers", "start:servers", "delete:servers", "proxy",
    "admin:groups",  # a group for each course
    "custom:mlmp:guests",
]  # fmt: skip
TO_MAKE_USERS = "admin:users"
# What a person's login at the service may carry; nobody gets more than they have.
OF_ITS_PAGES = [*sorted(FOR_EVERYBODY), "custom:mlmp:courses", "custom:mlmp:admin", "admin-ui", "read:users!user"]

# Neither slash nor backslash, nothing that can't be seen or that turns the direction of writing.
USERNAMES = (
    r"[^/\\\x00-\x1f\x7f-\x9f\xad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\uffff\ud800-\udfff]{1,255}\Z"
)


_HOSTNAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*")
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}  # noqa: S104
"""What means all addresses of a machine, and how one reaches it from there."""


@dataclass(frozen=True, slots=True)
class OneMachine:
    """What ``mlmp up`` was told and what it keeps from one start to the next: ports and secrets.

    The ports stay, since users' servers that run on through a restart know the hub by them.
    """

    data: str
    catalog: str
    host: str = "127.0.0.1"
    port: int = 8000
    auth: str = "shared-password"
    simulate: bool = False
    hub_port: int = 0
    proxy_api_port: int = 0
    service_port: int = 0
    ssh_host: str = ""
    ssh_port: int | None = None
    """Of the SSH gateway; None: there is none."""
    account: str = ""
    """Under pam: the account of proxy and service, whose group may read this."""
    admin_groups: list[str] = field(default_factory=list)
    allowed_groups: list[str] = field(default_factory=list)
    not_enforced: dict[str, str] = field(default_factory=dict)
    """What of a booking's share can't be enforced on this machine, each with the reason."""
    admin: str = "admin"
    # shared-password wants 32 characters of an admin
    admin_password: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    user_password: str = field(default_factory=lambda: secrets.token_urlsafe(9))
    service_token: str = field(default_factory=lambda: secrets.token_hex(32))
    proxy_token: str = field(default_factory=lambda: secrets.token_hex(32))

    @property
    def db_url(self) -> str:
        """The hub's database."""
        return f"sqlite:///{database_file(Path(self.data))}"

    @property
    def local_url(self) -> str:
        """The hub's address as seen on this machine."""
        return f"http://{_bracketed(EVERYWHERE.get(self.host, self.host))}:{self.port}/"

    @property
    def ssh_gateway(self) -> str:
        """The SSH gateway as people may reach it, ``host:port``, unless an admin says better; "" where there is
        none."""
        if self.ssh_port is None:
            return ""
        host = self.ssh_host
        if host in EVERYWHERE:
            name = socket.gethostname()
            host = name if _HOSTNAME.fullmatch(name) else EVERYWHERE[host]
        return f"{_bracketed(host.lower())}:{self.ssh_port}"

    def save(self) -> Path:
        """Writes it where hub and service find it (``MLMP_UP``), for their eyes only."""
        path = Path(self.data) / "up.json"
        temporary = path.with_suffix(".new")
        temporary.unlink(missing_ok=True)
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(asdict(self), file, indent=2)
        if self.account:
            os.chown(temporary, -1, pwd.getpwnam(self.account).pw_gid)
            os.chmod(temporary, 0o640)
        os.replace(temporary, path)
        return path

    @classmethod
    def load(cls, path: Path, **changed: Any) -> OneMachine:
        """What was kept, with ``changed`` over it.

        :raises ConfigurationError: it can't be read.
        """
        try:
            kept = json.loads(path.read_text())
            known = {each.name for each in fields(cls)}
            return replace(cls(**{name: value for name, value in kept.items() if name in known}), **changed)
        except (OSError, ValueError, TypeError) as error:
            raise ConfigurationError([f"{path}: {error}"]) from error


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def database_file(data: Path) -> Path:
    """The file of the database in a data directory. Where root's hub shares it with an account, its folder is that
    account's."""
    own = data / "db"
    return own / "mlmp.sqlite" if own.is_dir() else data / "mlmp.sqlite"


def configure(c: Config, environment: Mapping[str, str] = os.environ) -> OneMachine:
    """Configures JupyterHub and MLMP for one machine, from the file that ``mlmp up`` names in ``MLMP_UP``.

    :raises ConfigurationError: there is no such file; MLMP is started by ``mlmp up``.
    """
    if not environment.get("MLMP_UP"):
        raise ConfigurationError(["MLMP_UP is not set: this configuration is for `mlmp up`"])
    up = OneMachine.load(Path(environment["MLMP_UP"]))
    data = Path(up.data)
    c.MLMP.update(
        db_url=up.db_url, catalog=up.catalog, data=up.data, simulate=up.simulate, not_enforced=up.not_enforced,
        public_url=up.local_url, ssh_gateway=up.ssh_gateway,
    )  # fmt: skip
    _configure_hub(c, up, data)
    _configure_login(c, up)
    configure_service(c, f"http://127.0.0.1:{up.service_port}", up.service_token)
    c.MLMPLocalSpawner.update(mlmp_url=up.local_url)
    if up.auth == "pam":
        c.JupyterHub.spawner_class = "mlmp_spawner.spawners.system_users.SystemUserSpawner"
        c.MLMP.update(ssh_login="{username}", guest_isolation="account")
        return up
    c.JupyterHub.spawner_class = "mlmp_spawner.spawners.local.MLMPLocalSpawner"
    if os.geteuid() == 0:
        c.Spawner.args = ["--allow-root"]  # in same-user mode the servers run as whoever started all this
    return up


def _configure_hub(c: Config, up: OneMachine, data: Path) -> None:
    configure_everywhere(c)
    c.JupyterHub.update(
        bind_url=f"http://{f'[{up.host}]' if ':' in up.host else up.host}:{up.port}/",
        hub_bind_url=f"http://127.0.0.1:{up.hub_port}/",
        db_url=up.db_url,
        cookie_secret_file=str(data / "cookie_secret"),
        trusted_downstream_ips=["127.0.0.1", "::1"],  # nginx, which tells from where people come
    )
    c.ConfigurableHTTPProxy.update(
        should_start=False, api_url=f"http://127.0.0.1:{up.proxy_api_port}", auth_token=up.proxy_token
    )


def configure_everywhere(c: Config, base_url: str = "/") -> None:
    """What holds for a hub of MLMP on one machine and on a cluster alike."""
    c.JupyterHub.update(
        cleanup_servers=False,  # a restart of the hub ends nobody's work
        init_spawners_timeout=1,  # nobody waits for one server that does not answer after a restart
        allow_named_servers=True,  # several bookings at once
        named_server_limit_per_user=20,
        template_paths=[str(Path(__file__).parent / "templates")],
        default_url=f"{base_url}services/{SERVICE}/",
    )


def _configure_login(c: Config, up: OneMachine) -> None:
    c.JupyterHub.authenticator_class = LOGINS.get(up.auth, up.auth)
    if up.auth == "pam":
        c.Authenticator.update(username_pattern=USERNAMES, blocked_users={"root", up.account})
        c.PAMAuthenticator.update(admin_groups=set(up.admin_groups), allowed_groups=set(up.allowed_groups))
        return
    c.Authenticator.update(admin_users={up.admin}, username_pattern=USERNAMES)
    if up.auth == "shared-password":
        c.SharedPasswordAuthenticator.update(user_password=up.user_password, admin_password=up.admin_password)


def let_make_users(c: Config) -> None:
    """Gives the service the right to make users of people on rosters, where the admin's configuration wants that."""
    if c.MLMP.get("roster_users"):
        c.JupyterHub.load_roles = [
            {**role, "scopes": [*role["scopes"], TO_MAKE_USERS]} if role["name"] == SERVICE else role
            for role in c.JupyterHub.load_roles
        ]


def let_in(c: Config, up: OneMachine) -> None:
    """Says who may log in where the admin's own configuration, read before, does not.

    Only for the login that ``mlmp up`` was started with: another one (GitHub …) would let the whole world in, and make
    whoever is called ``admin`` there an admin.
    """
    let_make_users(c)
    part_hosts(c, up)
    if c.JupyterHub.authenticator_class in (up.auth, LOGINS.get(up.auth)):
        c.Authenticator.setdefault("allow_all", not _names_who_may_log_in(c))
    elif c.Authenticator.get("admin_users") == {up.admin}:
        del c.Authenticator["admin_users"]


def has_own_hosts(c: Config) -> bool:
    """Whether users' servers have hosts of their own, so that the proxy has to look at hosts and not only at paths."""
    return bool(c.JupyterHub.get("subdomain_host"))


def part_hosts(c: Config, up: OneMachine) -> None:
    """Where an admin sets ``subdomain_host``, users' servers get hosts of their own, and with that another origin. The
    service stays on the hub's, as part of one site with its look and its login; who asks on this machine finds it at
    the machine's address, too.

    :raises ConfigurationError: there is an SSH gateway, which finds servers by their path at one address.
    """
    if not has_own_hosts(c):
        return
    if up.ssh_port is not None:
        raise ConfigurationError(["c.JupyterHub.subdomain_host: the SSH gateway finds servers at the hub's own host "
                                  "only; leave out --ssh-port or subdomain_host"])  # fmt: skip
    host = c.JupyterHub.subdomain_host
    names = {urlsplit(url).hostname for url in (host if "://" in host else f"https://{host}", up.local_url)}
    path, target = f"/services/{SERVICE}/", f"http://127.0.0.1:{up.service_port}"
    c.Proxy.extra_routes = {**c.Proxy.get("extra_routes", {}), **{f"{name}{path}": target for name in names}}
    c.JupyterHub.services = [
        # The host that the hub would give it has none of the hub's pages beside it: nothing leads there.
        {**one, "oauth_redirect_uri": f"{path}oauth_callback", "display": False} if one["name"] == SERVICE else one
        for one in c.JupyterHub.services
    ]


def _names_who_may_log_in(c: Config) -> bool:
    """Whether some class of login is told which users or groups to let in: then nobody else is."""
    sections = [section for section in c.values() if isinstance(section, Config)]
    return any(section.get(setting) for section in sections for setting in ("allowed_users", "allowed_groups"))


def configure_service(c: Config, url: str, token: str) -> None:
    """Makes the service known to the hub: where it is, by what token it asks, what it and its pages may do."""
    c.JupyterHub.custom_scopes = SCOPES
    c.JupyterHub.extra_user_scopes = FOR_EVERYBODY
    c.JupyterHub.services = [
        {
            "name": SERVICE,
            "url": url,
            "api_token": token,
            "oauth_no_confirm": True,
            "oauth_client_allowed_scopes": OF_ITS_PAGES,
            "display": True,
        }
    ]
    c.JupyterHub.load_roles = [{"name": SERVICE, "services": [SERVICE], "scopes": OF_THE_SERVICE}]


def environment_of_service(up: OneMachine) -> dict[str, str]:
    """What the hub would tell a service that it starts itself."""
    return {
        "JUPYTERHUB_SERVICE_NAME": SERVICE,
        "JUPYTERHUB_SERVICE_PREFIX": f"/services/{SERVICE}/",
        "JUPYTERHUB_SERVICE_URL": f"http://127.0.0.1:{up.service_port}",
        "JUPYTERHUB_API_URL": f"http://127.0.0.1:{up.hub_port}/hub/api",
        "JUPYTERHUB_API_TOKEN": up.service_token,
        "JUPYTERHUB_CLIENT_ID": f"service-{SERVICE}",
        "JUPYTERHUB_BASE_URL": "/",
    }
