"""``mlmp check``: everything that is wrong with configuration, catalog and machine, or cluster, at once."""

from __future__ import annotations

import fcntl
import os
from contextlib import closing, suppress
from dataclasses import asdict
from pathlib import Path

import click
from jupyterhub.app import JupyterHub
from jupyterhub.auth import Authenticator, PAMAuthenticator
from jupyterhub.proxy import ConfigurableHTTPProxy
from jupyterhub.spawner import LocalProcessSpawner, Spawner
from platformdirs import user_data_path
from traitlets.config import Config

from mlmp_spawner.admin import accounts, check_system_users
from mlmp_spawner.admin.node import find_node, installed_proxy
from mlmp_spawner.client import show
from mlmp_spawner.client.session import Session, command
from mlmp_spawner.lab import sshd
from mlmp_spawner.operations import check as rules
from mlmp_spawner.operations.check import Finding, ToCheck
from mlmp_spawner.settings import MLMP, load_config, shared_file
from mlmp_spawner.spawners.hub import OneMachine
from mlmp_spawner.spawners.local import MLMPLocalSpawner
from mlmp_spawner.spawners.system_users import SystemUserSpawner

IN_USERS_IMAGES = ("jupyterlab", "jupyter-server-proxy", "nbgitpuller", "papermill", "tensorboard")
"""What a hub in a cluster goes without."""
CLASSES = {
    known.__name__: known
    for known in (
        MLMP, MLMPLocalSpawner, JupyterHub, Spawner, LocalProcessSpawner, Authenticator, ConfigurableHTTPProxy,
        PAMAuthenticator, SystemUserSpawner,
    )
}  # fmt: skip


@command(name="check")
@click.option("--data", type=click.Path(file_okay=False, path_type=Path), envvar="MLMP_DATA", help="As for mlmp up.")
@click.option("--catalog", type=click.Path(path_type=Path), help="As for mlmp up.")
@click.option(
    "--config", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Your jupyterhub_config.py.  [default: the one in the data directory, if it is there]",
)  # fmt: skip
@click.option("--host", default="127.0.0.1", show_default=True, help="As for mlmp up.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="As for mlmp up.")
@click.option(
    "--auth", default="shared-password", type=click.Choice(["shared-password", "dummy", "pam"]), help="As for mlmp up."
)
@click.option("--account", default=accounts.NAME, show_default=True, help="As for mlmp up.")
@click.option("--simulate", is_flag=True, help="As for mlmp up.")
@click.option("--kubernetes", is_flag=True, help="Look at the cluster that KUBECONFIG names instead of this machine.")
@click.option(
    "--namespace", metavar="NAME", help="With --kubernetes: of users' pods.  [default: c.MLMP.namespace]",
)  # fmt: skip
def check(
    session: Session, data: Path | None, catalog: Path | None, config: Path | None, host: str, port: int, auth: str,
    account: str, simulate: bool, kubernetes: bool, namespace: str | None,
) -> None:  # fmt: skip
    """List everything that is wrong with configuration, catalog and this machine, or the cluster.

    With --kubernetes only --catalog, --config and --namespace count; inside one of MLMP's pods none is needed.
    Exit status: 0 or 2; 3 where the cluster does not answer.
    """
    if kubernetes:
        _answer(session, of_cluster(catalog, config, namespace))
        return
    if namespace:
        raise click.UsageError("--namespace goes with --kubernetes")
    usual = accounts.DATA if auth == "pam" else user_data_path("mlmp", appauthor=False)
    data = (data or usual).absolute()
    catalog = catalog or shared_file("profiles")
    own = data / "jupyterhub_config.py"
    machine = OneMachine(str(data), str(catalog), host=host, port=port, auth=auth, simulate=simulate)
    runs = up_runs(data)
    found = rules.check(
        ToCheck(
            data=data,
            catalog=catalog,
            db_url=machine.db_url,
            config=config or (own if own.exists() else None),
            classes=CLASSES,
            programs=(find_node,),
            host=host,
            ports=() if runs else (port,),
            several_accounts=auth == "pam",
            simulate=simulate,
        )
    )
    found += _remarks(data, runs, ssh=bool(_said(config or own, "MLMP", "ssh", default=True)))
    if auth == "pam":
        found += check_system_users.findings(data, catalog, account, _pam_service(config or own))
        found.sort(key=lambda finding: not finding.wrong)
    _answer(session, found)


def of_cluster(catalog: Path | None, config: Path | None, namespace: str | None) -> list[Finding]:
    """What is wrong with a hub on Kubernetes.

    :raises ConfigurationError: no cluster is configured. :raises Unavailable: it does not answer.
    """
    # Their libraries are those of the extra [kube].
    from kubespawner import KubeSpawner

    from mlmp_spawner.admin import check_cluster
    from mlmp_spawner.admin.cluster import Cluster
    from mlmp_spawner.spawners.kube import MLMPKubeSpawner

    config = config or (check_cluster.CONFIG if check_cluster.CONFIG.exists() else None)
    said = check_cluster.load(config)
    settings = said.get("MLMP", Config())
    folder = catalog or Path(settings.get("catalog") or shared_file("profiles"))
    what = ToCheck(
        data=folder,
        catalog=folder,
        db_url=str(settings.get("db_url", "")),
        config=config,
        classes=CLASSES | {"KubeSpawner": KubeSpawner, "MLMPKubeSpawner": MLMPKubeSpawner},
        extras=("hub", "kube"),
        elsewhere=IN_USERS_IMAGES,
    )
    where = namespace or str(settings.get("namespace") or MLMP.namespace.default_value)
    return rules.wrong_first(
        [*check_cluster.findings(Cluster(), said, folder, where), *rules.check_beside_cluster(what)]
    )


def _pam_service(config: Path) -> str:
    """The name of the PAM service, by the admin's configuration."""
    return str(_said(config, "PAMAuthenticator", "service", default=PAMAuthenticator.service.default_value))


def _said(config: Path, name: str, trait: str, *, default: object) -> object:
    """What the admin's configuration says of one setting."""
    try:
        return load_config(config).get(name, Config()).get(trait, default) if config.exists() else default
    except (Exception, SystemExit):  # noqa: BLE001 -- what is wrong with it is told elsewhere
        return default


def up_runs(data: Path) -> bool:
    """Whether an ``mlmp up`` runs with that data directory."""
    with suppress(OSError), closing(os.fdopen(os.open(data / "up.lock", os.O_RDONLY | os.O_CLOEXEC))) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _remarks(data: Path, runs: bool, *, ssh: bool) -> list[Finding]:
    found = []
    if runs:
        found.append(Finding("address", f"mlmp up runs with {data}", wrong=False))
    if installed_proxy(data) is None:
        message = "configurable-http-proxy is not installed; `mlmp up` gets it with npm at its first start"
        found.append(Finding("programs", message, wrong=False))
    if ssh and sshd.find() is None:
        message = "sshd is not installed, so nobody reaches their server by SSH; JupyterLab is not touched by that"
        found.append(Finding("programs", message, f"{sshd.INSTALL}; or set c.MLMP.ssh = False", wrong=False))
    return found


def _answer(session: Session, found: list[Finding]) -> None:
    wrong = [finding for finding in found if finding.wrong]
    if session.json:
        remarks = [finding for finding in found if not finding.wrong]
        show.print_json(
            {"ok": not wrong, "wrong": [_plain(f) for f in wrong], "remarks": [_plain(f) for f in remarks]}
        )
        _exit(wrong)
        return
    for finding in found:
        session.say(f"{'wrong' if finding.wrong else 'note '}  {finding.subject}: {finding.message}")
        if finding.hint:
            session.say(f"       -> {finding.hint}")
    things = "1 thing is" if len(wrong) == 1 else f"{len(wrong)} things are"
    session.say(f"{things} wrong." if wrong else "Nothing is wrong.")
    _exit(wrong)


def _exit(wrong: list[Finding]) -> None:
    if wrong:
        click.get_current_context().exit(2)


def _plain(finding: Finding) -> dict[str, str]:
    return {key: value for key, value in asdict(finding).items() if key != "wrong"}
