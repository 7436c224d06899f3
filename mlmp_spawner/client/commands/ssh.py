"""``mlmp ssh``, ``ssh-config``: OpenSSH's own client, by the way that the hub guards.

What only people see is imported where it is needed: a ProxyCommand is to be there soon.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import click

from mlmp_spawner import units
from mlmp_spawner.client import config
from mlmp_spawner.client import ssh as files
from mlmp_spawner.client.completion import BOOKING
from mlmp_spawner.client.models import Reservation, Ssh
from mlmp_spawner.client.problems import NotReachable
from mlmp_spawner.client.session import Session, command
from mlmp_spawner.errors import MLMPError, NotAllowed, NotFound, NotNow


@command(context_settings={"allow_interspersed_args": False})
@click.argument("id", type=BOOKING)
@click.argument("command", nargs=-1)
@click.option("-t", "--tty", is_flag=True, help="Give the command a terminal.")
@click.option("--proxy", is_flag=True, help="ID is a host name: standard input and output become its connection.")
def ssh(session: Session, id: str, command: tuple[str, ...], tty: bool, proxy: bool) -> None:
    """A shell in the server of booking ID, or a command there, by OpenSSH's own client.

    The first time, a key of this computer is made and registered. Options come before ID. For scp, rsync, port
    forwarding and editors: mlmp ssh-config.
    """
    if proxy:
        _be_proxy(session, id)
        return
    if session.json:
        raise click.UsageError("'mlmp ssh' gives what the server says: there is no JSON")
    client = session.client
    found = client.reservation(id)
    _, about = _ask(session)
    _check_running(found)
    host = files.host_of(about, str(found.raw.get("server") or ""))
    where = files.place()
    files.certify(client, where)
    files.write_config(where, about)
    words = [files.program("ssh"), "-F", str(where.config), "-o", f"CertificateFile={files.quoted(where.certificate)}"]
    words += ["-t"] * tty
    _become([*words, host, *command])


@command(name="ssh-config")
@click.option("--gateway", is_flag=True, help="By the hub's SSH gateway instead of 'mlmp ssh'.")
@click.option("--include", is_flag=True, help="Have ~/.ssh/config include it, by a line at its top.")
def ssh_config(session: Session, gateway: bool, include: bool) -> None:
    """Write a configuration for OpenSSH's client: then ssh, scp, rsync and editors find your servers by name.

    A key of this computer is made and registered the first time. Nothing of yours is changed without --include.
    """
    client = session.client
    _, about = _ask(session)
    where = files.place()
    files.certify(client, where)
    files.write_config(where, about, gateway=gateway)
    mine = Path.home() / ".ssh" / "config"
    included = files.include(where, mine) if include else files.includes(where, mine)
    if session.json:
        from mlmp_spawner.client import show

        show.print_json({"file": str(where.config), "host": about.principal, "included": included})
        return
    session.say(f"Written: {where.config}")
    if not included:
        session.say(f"At the top of {mine}, or by --include:")
        session.say(f"  {files.include_line(where)}")
    session.say(f"Then: ssh {about.principal}")
    session.say(f"A server that has a name: ssh {about.principal}--NAME")


def _enabled(about: Ssh) -> Ssh:
    """:raises NotAllowed: the hub has no SSH."""
    if not about.enabled:
        raise NotAllowed("SSH is switched off on this hub.", hint="JupyterLab has a terminal: mlmp open ID")
    return about


def _check_running(found: Reservation) -> None:
    """:raises NotAllowed: it is another's. :raises NotNow: its server does not run."""
    if not found.mine:
        raise NotAllowed("This is somebody else's booking; SSH reaches your own servers.", hint="Yours: mlmp ls")
    if found.server_state == "running":
        return
    if found.state == "active" and (found.stops_at or found.end) <= units.now():
        raise NotNow("The booking ends just now, and its server has stopped.", hint="What is free: mlmp free")
    if found.state == "active":
        doing = {"starting": "is still starting", "stopping": "is being stopped"}
        raise NotNow(f"Its server {doing.get(found.server_state, 'does not run')}.", hint=f"mlmp start {found.id}")
    from mlmp_spawner.client import show

    raise NotNow(f"Its server does not run: the booking is {show.state(found)}.", hint=f"mlmp show {found.id}")


def _become(words: list[str]) -> None:
    """ssh in our place: its terminal, its signals, its exit status."""
    sys.stdout.flush()
    sys.stderr.flush()
    if os.name == "posix":
        os.execv(words[0], words)  # noqa: S606 the words are not of a shell
    sys.exit(subprocess.call(words))


# -- ProxyCommand ----------------------------------------------------------------------------------------------------


def _be_proxy(session: Session, host: str) -> None:
    """Carries the connection until it ends.

    :raises NotFound: the host is none of the caller's servers. :raises MLMPError: why there is no way.
    """
    import asyncio

    from mlmp_spawner.client import dial
    from mlmp_spawner.client.short_token import short_token

    # Ctrl-C is for ssh: of a shared connection in the background too, of which this is a part.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    access = config.load()
    user, about = files.remembered(files.place(), access) or _ask(session)
    server = files.server_of(about, host)
    if server is None:
        raise NotFound(
            f"{host[:80]!r} is none of your servers; yours are {about.principal} and {about.principal}--NAME.",
            hint="Your bookings: mlmp ls",
        )
    try:
        token = short_token(access, user, server)
        asyncio.run(dial.join_standard_streams(dial.way_to(access.url, user, server), token))
    except dial.NoWay as error:
        raise _why(session, user, server, error) from error
    except dial.Cut as error:
        raise NotReachable(f"The connection to {host} was ended ({error.reason}).", hint="mlmp ls") from error


def _ask(session: Session) -> tuple[str, Ssh]:
    """Who the caller is, and how SSH reaches their servers. :raises NotAllowed: the hub has no SSH."""
    client = session.client
    about = _enabled(client.ssh())
    user = client.me().name
    files.remember(files.place(), client.access, user, about)
    return user, about


def _why(session: Session, user: str, server: str, error: Exception) -> MLMPError:
    """Why a server is not reached, as the bookings tell it."""
    _enabled(session.client.ssh())
    mine = [
        one
        for one in session.client.reservations(owner=user, state="active")
        if one.mine and str(one.raw.get("server") or "") == server
    ]
    if not mine:
        return NotNow("No booking of yours is under way there.", hint="What is free: mlmp free; yours: mlmp ls")
    try:
        _check_running(mine[0])
    except MLMPError as told:
        return told
    return NotReachable(
        f"The server runs, but its SSH does not answer ({error}).",
        hint="Its image may have no OpenSSH server; JupyterLab has a terminal too.",
    )
