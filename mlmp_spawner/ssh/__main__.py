"""The SSH gateway as a process: ``python -m mlmp_spawner.ssh --config jupyterhub_config.py --hub http://…``.

It has no token of its own: it enters each server by that server's, which is in the database while the server runs.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
import time
from functools import partial
from pathlib import Path

import asyncssh
from asyncssh.kex import get_kex_algs
from websockets.asyncio.client import ClientConnection

from mlmp_spawner import units
from mlmp_spawner.client.dial import dial, way_to
from mlmp_spawner.errors import ConfigurationError, Unavailable
from mlmp_spawner.operations.site import ssh_of
from mlmp_spawner.settings import MLMP, load_config
from mlmp_spawner.ssh import host_key
from mlmp_spawner.ssh.directory import DatabaseDirectory
from mlmp_spawner.ssh.gateway import Gateway
from mlmp_spawner.ssh.limits import Limits
from mlmp_spawner.ssh.settings import MLMPSSHGateway
from mlmp_spawner.ssh.visitor import Visitor
from mlmp_spawner.store import schema
from mlmp_spawner.store.engine import make_engine
from mlmp_spawner.store.transaction import Busy

log = logging.getLogger("mlmp.ssh")

DIAL_PATIENCE = 5.0
"""Seconds for which a hub's proxy that does not answer is asked again."""

SCHEMA_PATIENCE = 600.0

SIGNATURES = [
    "ssh-ed25519", "sk-ssh-ed25519@openssh.com", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521",
    "sk-ecdsa-sha2-nistp256@openssh.com", "rsa-sha2-512", "rsa-sha2-256",
]  # fmt: skip

# No finite fields: each costs some 16 ms of the one loop that all sessions share, and any stranger may ask for it.
KEY_EXCHANGES = [
    name for name in (
        "mlkem768x25519-sha256", "curve25519-sha256", "curve25519-sha256@libssh.org",
        "ecdh-sha2-nistp256", "ecdh-sha2-nistp384", "ecdh-sha2-nistp521",
    ) if name.encode() in get_kex_algs()
]  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """The entry point; the exit status: 0 told to stop, 2 wrong configuration or database."""
    parser = argparse.ArgumentParser(prog="mlmp_spawner.ssh", description="MLMP's SSH gateway, beside a JupyterHub.")
    parser.add_argument("--config", required=True, help="the hub's jupyterhub_config.py")
    parser.add_argument("--hub", default="", help="address of the hub's proxy, with the path below which the hub is")
    parser.add_argument("--host", default="", help="address to listen at; all where it is empty")
    parser.add_argument("--port", type=int, default=2222)
    parser.add_argument("--host-key", type=Path, help="its private key; ssh_host_key in MLMP's data where left out")
    parser.add_argument("--certificate", type=Path, help="of that key; beside it where left out")
    parser.add_argument("--sign", choices=["too", "only", "not"], default="too",
                        help="whether the SSH CA signs the key, if this process may read the CA's file")  # fmt: skip
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for chatty in ("asyncssh", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    try:
        return run(options)
    except ConfigurationError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        return 2


def run(options: argparse.Namespace) -> int:
    """What the options say.

    :raises ConfigurationError: something of it can't be.
    """
    config = load_config(options.config)
    settings = MLMP(config=config)
    ssh = ssh_of(settings)
    path = options.host_key or Path(ssh.ca_file).parent / "ssh_host_key"
    certificate = options.certificate or path.with_name(f"{path.name}-cert.pub")
    key = host_key.load(path)
    if options.sign != "not":
        host = ssh.gateway[0] if ssh.gateway else ""
        host_key.certify(key, certificate, authority=ssh.ca_file, host=host, now=units.now())
    if options.sign == "only":
        return 0
    if not options.hub:
        raise ConfigurationError(["--hub is not set: the address of the hub's proxy"])
    wait_for_schema(settings.db_url)
    engine = make_engine(settings.db_url)
    limits = Limits(MLMPSSHGateway(config=config))
    gateway = Gateway(DatabaseDirectory(engine), partial(_dial, options.hub), limits)
    try:
        asyncio.run(serve(gateway, options.host, options.port, key, certificate))
    except OSError as error:
        raise ConfigurationError(
            [f"can't listen at {options.host or 'all addresses'}:{options.port}: {error}"]
        ) from error
    finally:
        engine.dispose()
    return 0


def wait_for_schema(db_url: str, patience: float = SCHEMA_PATIENCE) -> None:
    """Waits until the database answers and has the tables of this version: hub or service bring it there.

    :raises ConfigurationError: it has not within ``patience`` seconds.
    """
    wanted, limit = schema.head(), time.monotonic() + patience
    while (found := _schema(db_url)) != wanted:
        if time.monotonic() > limit:
            raise ConfigurationError([f"the database has schema {found}, not {wanted}: run `mlmp db upgrade`"])
        log.info("waiting for the database: its schema is %s, not %s", found, wanted)
        time.sleep(2)


def _schema(db_url: str) -> str:
    try:
        return schema.current(db_url) or "none"
    except (Busy, Unavailable) as error:
        return f"unknown ({error})"


async def _dial(hub: str, user: str, server: str, token: str) -> ClientConnection:
    return await dial(way_to(hub, user, server), token, patience=DIAL_PATIENCE)


async def listen(
    gateway: Gateway, host: str, port: int, key: asyncssh.SSHKey, certificate: Path | None
) -> asyncssh.SSHAcceptor:
    """Begins to listen. :raises OSError: it can't be there."""
    keys = key if certificate is None else (key, certificate)
    return await asyncssh.listen(
        host, port,
        server_factory=partial(Visitor, gateway),
        server_host_keys=[keys],
        server_version="MLMP",
        kex_algs=KEY_EXCHANGES,
        signature_algs=SIGNATURES,
        compression_algs=["none"],  # what goes through is encrypted again, and does not shrink
        login_timeout=gateway.limits.settings.login_timeout,
        keepalive_interval=30, keepalive_count_max=4,
        allow_pty=False, agent_forwarding=False, x11_forwarding=False,
        gss_host=None, host_based_auth=False, password_auth=False, kbdint_auth=False,
        backlog=256,
    )  # fmt: skip


async def serve(gateway: Gateway, host: str, port: int, key: asyncssh.SSHKey, certificate: Path | None) -> None:
    """Serves until SIGTERM or SIGINT. :raises OSError: it can't listen there."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    acceptor = await listen(gateway, host, port, key, certificate)
    watching = asyncio.create_task(gateway.watch())
    log.info("listening at %s:%d", host or "*", port)
    await stop.wait()
    acceptor.close()
    gateway.close()
    watching.cancel()
    await asyncio.sleep(0.2)  # until the goodbyes are on their way


if __name__ == "__main__":
    sys.exit(main())
