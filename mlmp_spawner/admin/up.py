"""``mlmp up``: hub, proxy and service on this machine, from one command."""

from __future__ import annotations

import fcntl
import http.client
import importlib.util
import logging
import os
import secrets
import signal
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import click
from platformdirs import user_data_path
from rich.console import Console
from traitlets.config import Config

from mlmp_spawner import cgroups, private_files, processes
from mlmp_spawner.admin import accounts, db, ports
from mlmp_spawner.admin import node as nodes
from mlmp_spawner.admin.accounts import Account
from mlmp_spawner.admin.greeting import greet, is_loopback
from mlmp_spawner.admin.node import Node
from mlmp_spawner.admin.supervisor import Child, Supervisor
from mlmp_spawner.errors import ConfigurationError
from mlmp_spawner.operations.catalog_files import changed_at
from mlmp_spawner.operations.one_machine import one_machine_catalog
from mlmp_spawner.settings import MLMP, load_config, private_directory, shared_file
from mlmp_spawner.spawners.hub import EVERYWHERE, OneMachine, database_file, environment_of_service, has_own_hosts

READY_WITHIN = 60.0
STOP_WITHIN = 120.0
"""Seconds that the users' servers may take to end with ``--stop-servers``."""
OLD_LOGS = 14 * 86_400


@click.command()
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="0: any free one.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option(
    "--data", type=click.Path(file_okay=False, path_type=Path), envvar="MLMP_DATA",
    help="Where all is kept: database, homes, logs, secrets.  [default: MLMP's place among the user's data; "
    "/var/lib/mlmp with --auth pam]",
)  # fmt: skip
@click.option(
    "--catalog", type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Directory with profiles.yaml and the like.  [default: the one that comes with MLMP]",
)  # fmt: skip
@click.option(
    "--auth", default="shared-password", show_default=True, type=click.Choice(["shared-password", "dummy", "pam"]),
    help="How people log in. dummy: any name, any password. pam: as users of this machine, whose servers run as them.",
)  # fmt: skip
@click.option("--account", default=accounts.NAME, show_default=True, help="With pam: runs proxy and service.")
@click.option(
    "--admin-group", "admin_groups", multiple=True, metavar="GROUP",
    help="With pam: its members are admins; may be repeated.  [default: sudo, wheel]",
)  # fmt: skip
@click.option(
    "--allowed-group", "allowed_groups", multiple=True, metavar="GROUP",
    help="With pam: only its members may log in; may be repeated.  [default: all users of this machine]",
)  # fmt: skip
@click.option(
    "--ssh-port", type=click.IntRange(0, 65535), metavar="PORT",
    help="Run the SSH gateway there, for `ssh -J`; 0: any free port.  [default: no gateway; `mlmp ssh` needs none]",
)  # fmt: skip
@click.option("--ssh-host", metavar="ADDRESS", help="Where the SSH gateway listens.  [default: as --host]")
@click.option("--simulate", is_flag=True, help="Four simulated GPUs, bookings from a minute, no limits.")
@click.option("--force", is_flag=True, help="Listen at an address that others reach, although nobody is isolated.")
@click.option("--stop-servers", is_flag=True, help="At the end, end the users' servers too.")
def up(
    port: int, host: str, data: Path | None, catalog: Path | None, auth: str, account: str,
    admin_groups: Sequence[str], allowed_groups: Sequence[str], ssh_port: int | None, ssh_host: str | None,
    simulate: bool, force: bool, stop_servers: bool,
) -> None:  # fmt: skip
    """Run MLMP on this machine: hub, proxy and service, until Ctrl-C."""
    console = Console(highlight=False, soft_wrap=True)
    try:
        where = str((catalog or shared_file("profiles")).absolute())
        chosen: dict[str, Any] = {"host": host, "port": port, "auth": auth, "simulate": simulate, "catalog": where}
        chosen |= {"ssh_port": ssh_port, "ssh_host": ssh_host or host}
        _check_gateway(ssh_port)
        chosen["not_enforced"] = dict.fromkeys(cgroups.KINDS, "all servers run as the same account")
        own: Account | None = None
        if auth == "pam":
            chosen |= _system_users(account, admin_groups, allowed_groups)
            own = accounts.find(account)
            root = (data or accounts.DATA).absolute()
            _check_same_kind(root, auth)
            accounts.prepare(root, own)
        else:
            _check_reach("host", host, force)
            if ssh_port is not None:
                _check_reach("ssh-host", ssh_host or host, force)
            root = (data or user_data_path("mlmp", appauthor=False)).absolute()
            _check_same_kind(root, auth)
            private_directory(root)
        with _lock(root):
            machine, first = _machine(root, chosen, console)
            _run(machine, own, first, console, stop_servers=stop_servers)
    except ConfigurationError as error:
        for problem in error.problems:
            click.echo(f"mlmp up: {problem}", err=True)
        sys.exit(2)


def _system_users(account: str, admin_groups: Sequence[str], allowed_groups: Sequence[str]) -> dict[str, Any]:
    """What ``--auth pam`` wants to be known.

    :raises ConfigurationError: this is not root, or a group is missing.
    """
    accounts.check_root()
    os.umask(0o027)  # what root makes here, the account may read by its group
    return {
        "account": account,
        "admin_groups": accounts.admin_groups(admin_groups),
        "allowed_groups": accounts.admin_groups(allowed_groups) if allowed_groups else [],
        "not_enforced": cgroups.not_enforced(),
    }


def _check_reach(option: str, host: str, force: bool) -> None:
    if not is_loopback(host) and not force:
        raise ConfigurationError(
            [f"--{option} {host} can be reached by others, and in this mode nobody is isolated from anybody: whoever "
             "logs in can read and change all that your account can. Listen at 127.0.0.1, or add --force."]
        )  # fmt: skip


def _check_gateway(port: int | None) -> None:
    if port is not None and importlib.util.find_spec("asyncssh") is None:
        raise ConfigurationError(["--ssh-port: the SSH gateway needs asyncssh: pip install 'mlmp-spawner[ssh]'"])


def _check_same_kind(root: Path, auth: str) -> None:
    """:raises ConfigurationError: the data are of servers that run as others."""
    if (root / "up.json").exists():
        kept = OneMachine.load(root / "up.json").auth
        if (kept == "pam") != (auth == "pam"):
            raise ConfigurationError([f"{root} was made with --auth {kept}, and its servers run as others than with "
                                      f"--auth {auth}; choose another --data"])  # fmt: skip


class _lock:
    """Keeps a second ``mlmp up`` away from the same data.

    :raises ConfigurationError: there is one.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def __enter__(self) -> None:
        self.file = os.open(self.root / "up.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            problem = f"another `mlmp up` runs with {self.root}; end that one first, or choose another --data"
            raise ConfigurationError([problem]) from None

    def __exit__(self, *_: object) -> None:
        os.close(self.file)


def _machine(root: Path, chosen: dict[str, object], console: Console) -> tuple[OneMachine, bool]:
    """What was kept (or is made now) with what was chosen for this start; whether it is the first."""
    path = root / "up.json"
    first = not path.exists()
    kept = OneMachine(str(root), "") if first else OneMachine.load(path)
    names = ("hub_port", "proxy_api_port", "service_port")
    given = {name: getattr(kept, name) for name in names}
    for name, port in given.items():
        if not port or not ports.is_free(port, patience=3.0):
            given[name] = ports.choose(list(given.values()))
            if port:
                console.print(f"Port {port} is taken by something else; servers that run on from before will not "
                              "reach the hub until they are started again.", style="yellow")  # fmt: skip
    host, before = str(chosen["host"]), kept.port if kept.catalog else 0
    given["port"] = _public_port("port", int(str(chosen["port"])), host, before, [*given.values()])
    if chosen["ssh_port"] is not None:
        where = str(chosen["ssh_host"])
        port = _public_port("ssh-port", int(str(chosen["ssh_port"])), where, kept.ssh_port or 0, [*given.values()])
        given["ssh_port"] = port
    values = {**{name: getattr(kept, name) for name in kept.__dataclass_fields__}, **chosen, **given}
    values["data"] = str(root)
    machine = OneMachine(**values)
    machine.save()
    return machine, first


def _public_port(option: str, port: int, host: str, before: int, taken: Sequence[int]) -> int:
    """``port``, or where that is 0 the one of ``before``, or any.

    :raises ConfigurationError: nobody can listen there.
    """
    if port == 0:
        return before if before and ports.is_free(before, patience=3.0) else ports.choose(taken)
    try:
        free = ports.is_free(port, host, patience=1.0)
    except (OSError, socket.gaierror) as error:
        raise ConfigurationError([f"--host {host}: {error}"]) from None
    if not free:
        raise ConfigurationError(
            [f"port {port} is taken by another program; choose one: mlmp up --{option} {port + 1}"]
        )
    return port


def _run(machine: OneMachine, own: Account | None, first: bool, console: Console, *, stop_servers: bool) -> None:
    root = Path(machine.data)
    os.environ.update(MLMP_UP=str(root / "up.json"), MLMP_DATA=machine.data)
    config = shared_file("hub_config") / "jupyterhub_config.py"
    if own is None:
        for name in ("deadlines", "servers", "homes", "jobs", "logs", "logs/servers"):
            private_directory(root / name)
    else:
        accounts.make_database(database_file(root), own)
        needed = [root / "up.json", root / "jupyterhub_config.py", config, *Path(machine.catalog).glob("*.y*ml")]
        accounts.check_reach(own, [path for path in needed if path.exists()])
    _forget_old_logs(root / "logs" / "servers")
    given = load_config(config)  # a mistake in it is told before anything starts
    _, notes = one_machine_catalog(Path(machine.catalog), simulate=machine.simulate)
    for note in notes:
        console.print(f"Note: {note}.")
    logging.disable(logging.INFO)  # the migrations tell a lot
    db.prepare(machine.db_url)
    logging.disable(logging.NOTSET)
    node = nodes.find_node()
    proxy = nodes.installed_proxy(root)
    if proxy is None:
        with console.status("Installing the proxy with npm, once …"):
            proxy = nodes.install_proxy(node, root)
    supervisor = Supervisor(
        _children(machine, own, config, node, proxy, given),
        lambda text: console.print(text, style="yellow"),
    )
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: supervisor.stop())
    try:
        supervisor.start()
        _wait_until_ready(machine, supervisor, console)
        if not supervisor.stopping:
            greet(machine, first, console)
        _watch(machine, supervisor, console)
    finally:
        _end(root, supervisor, console, stop_servers=stop_servers)


def _children(
    machine: OneMachine, own: Account | None, config: Path, node: Node, proxy: Path, given: Config
) -> list[Child]:
    root = Path(machine.data)
    runs_as, of_account = ((own.uid, own.gid), own.environment) if own else (None, {})
    logs = root / "logs"
    hub_url = f"http://127.0.0.1:{machine.hub_port}"
    # Users' servers get the hub's PATH: our own python, jupyter and mlmp come first.
    path = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}
    # What is remembered of logins elsewhere is kept encrypted; only the hub has the key.
    path["JUPYTERHUB_CRYPT_KEY"] = os.environ.get("JUPYTERHUB_CRYPT_KEY") or _crypt_key(root)
    proxy_command = [
        node.node, str(proxy), "--ip", machine.host, "--port", str(machine.port), "--api-ip", "127.0.0.1",
        "--api-port", str(machine.proxy_api_port), "--error-target", f"{hub_url}/hub/error",
        *(["--host-routing"] if has_own_hosts(given) else []),
    ]  # fmt: skip
    children = [
        Child(
            "proxy", proxy_command, logs / "proxy.log", {"CONFIGPROXY_AUTH_TOKEN": machine.proxy_token} | of_account,
            root, runs_as,
        ),
        Child("hub", [sys.executable, "-m", "jupyterhub", "-f", str(config)], logs / "hub.log", path, root),
        Child(
            "service", [sys.executable, "-m", "mlmp_spawner.service", "--config", str(config)], logs / "service.log",
            environment_of_service(machine) | of_account, root, runs_as,
        ),
    ]  # fmt: skip
    # Where they were switched off, what runs still wants looking after, or it would never be seen to end.
    if MLMP(config=given).jobs or any((root / "jobs" / "running").glob("[!.]*.json")):
        starter = [sys.executable, "-m", "mlmp_spawner.admin.job_starter", "--config", str(config)]
        children.append(Child("job starter", starter, logs / "jobs.log", {"PATH": path["PATH"]}, root))
    if machine.ssh_port is not None:
        command = [
            sys.executable, "-m", "mlmp_spawner.ssh", "--config", str(config), "--hub", machine.local_url,
            "--host", machine.ssh_host, "--port", str(machine.ssh_port),
        ]  # fmt: skip
        children.append(Child("SSH gateway", command, logs / "ssh.log", of_account, root, runs_as))
    return children


def _crypt_key(root: Path) -> str:
    """The key that is kept in the data directory, made at the first start."""
    path = root / "crypt_key"
    if not path.exists():
        private_files.write(path, secrets.token_hex(32).encode())
    return path.read_text()


def _wait_until_ready(machine: OneMachine, supervisor: Supervisor, console: Console) -> None:
    """Waits until hub and service answer, each by itself and then through the proxy."""
    paths = {"hub": ("hub/health", machine.hub_port), "service": ("services/mlmp/api/v1/health", machine.service_port)}
    waiting = [(name, partial(_answers, f"http://127.0.0.1:{port}/{path}")) for name, (path, port) in paths.items()]
    waiting += [("proxy", partial(_answers, f"{machine.local_url}{path}")) for path, _ in paths.values()]
    if machine.ssh_port is not None:
        waiting.append(("ssh", partial(_listens, machine)))
    limit = time.monotonic() + READY_WITHIN
    with console.status("Starting …"):
        while waiting and not supervisor.stopping and time.monotonic() < limit:
            supervisor.look()
            if waiting[0][1]():
                waiting.pop(0)
            else:
                time.sleep(0.1)
    if waiting and not supervisor.stopping:
        name = waiting[0][0]
        console.print(f"The {name} does not answer yet. Its log: {machine.data}/logs/{name}.log", style="red")


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310 -- our own address
            return bool(answer.status == 200)
    except (OSError, ValueError, http.client.HTTPException):  # another program there speaks otherwise
        return False


def _listens(machine: OneMachine) -> bool:
    """Whether the SSH gateway does."""
    host = EVERYWHERE.get(machine.ssh_host, machine.ssh_host)
    try:
        with socket.create_connection((host, machine.ssh_port or 0), timeout=2):
            return True
    except OSError:
        return False


def _watch(machine: OneMachine, supervisor: Supervisor, console: Console) -> None:
    """Keeps all running; says that the catalog's files changed, which hub and service see by themselves."""
    catalog = Path(machine.catalog)
    seen = changed_at(catalog)
    while not supervisor.stopping:
        supervisor.look()
        time.sleep(0.2)
        now = changed_at(catalog)
        if now != seen:
            seen = now
            console.print("The catalog changed: it is read again.")


def _end(root: Path, supervisor: Supervisor, console: Console, *, stop_servers: bool) -> None:
    running = len(processes.running(root / "servers")), len(processes.running(root / "jobs" / "running"))
    if stop_servers and any(running):
        with console.status(f"Ending {_servers(running[0])}, {_counted(running[1], 'job')} …"):
            _end_servers(root)
    with console.status("Ending hub, proxy and service …"):
        supervisor.end()
    left, jobs = len(processes.running(root / "servers")), len(processes.running(root / "jobs" / "running"))
    if left:
        verb = "runs" if left == 1 else "run"
        console.print(f"Ended. {_servers(left)} of users {verb} on until the end of the booking; "
                      "`mlmp up` finds them again.")  # fmt: skip
    else:
        console.print("Ended.")
    if jobs:
        console.print(f"{_counted(jobs, 'job')} {'runs' if jobs == 1 else 'run'} on; those that wait begin with the "
                      "next `mlmp up`.")  # fmt: skip


def _end_servers(root: Path) -> None:
    """The servers, and the jobs, which are queued again."""
    folders = (root / "servers", root / "jobs" / "running")
    for record in (record for folder in folders for record in processes.running(folder)):
        if record.stopping is None:
            processes.send(record.identity, signal.SIGTERM)
    limit = time.monotonic() + STOP_WITHIN
    while any(processes.running(folder) for folder in folders) and time.monotonic() < limit:
        time.sleep(0.1)


def _servers(count: int) -> str:
    return _counted(count, "server")


def _counted(count: int, thing: str) -> str:
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"


def _forget_old_logs(directory: Path) -> None:
    oldest = time.time() - OLD_LOGS
    for path in directory.glob("*.log"):
        with suppress(OSError):
            if path.stat().st_mtime < oldest:
                path.unlink()
