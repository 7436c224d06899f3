"""What OpenSSH's client needs to reach one's servers: a key of this computer, a configuration, whom to believe.

All of it lies in ``ssh/`` beside the kept token, for the user alone::

    ssh/identity/id_ed25519, .pub    made once; the public half is registered at the hub
    ssh/registered.json              at which hubs, for whom: a key that was removed there is not registered again
    ssh/config, known_hosts          made anew by each `mlmp ssh` and `mlmp ssh-config`
    ssh/certificate.pub              of `mlmp ssh`, for minutes
    ssh/about.json                   what the hub said of this token's owner: a ProxyCommand need not ask
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlmp_spawner import private_files
from mlmp_spawner.client import config
from mlmp_spawner.client.config import Access
from mlmp_spawner.client.models import Ssh
from mlmp_spawner.errors import Conflict, NotAllowed, NotNow, Unavailable

if TYPE_CHECKING:
    from mlmp_spawner.client.api import Client

SERVER = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
"""Names of servers that a host name can hold."""


@dataclass(frozen=True, slots=True)
class Place:
    """The directory, and what is in it."""

    directory: Path

    @property
    def key(self) -> Path:
        """The private key."""
        return self.directory / "identity" / "id_ed25519"

    @property
    def public_key(self) -> Path:
        """The public key."""
        return self.directory / "identity" / "id_ed25519.pub"

    @property
    def registered(self) -> Path:
        """Where the key was registered."""
        return self.directory / "registered.json"

    @property
    def config(self) -> Path:
        """The configuration of OpenSSH's client."""
        return self.directory / "config"

    @property
    def known_hosts(self) -> Path:
        """Whom it believes."""
        return self.directory / "known_hosts"

    @property
    def about(self) -> Path:
        """What the hub said of the owner of a token."""
        return self.directory / "about.json"

    @property
    def certificate(self) -> Path:
        """The certificate of the key, for minutes."""
        return self.directory / "certificate.pub"


def place() -> Place:
    """Where it all lies; it need not be there."""
    return Place(config.config_path().parent / "ssh")


def host_of(about: Ssh, server: str) -> str:
    """The host name of a server; ``""``: the default one. :raises NotNow: its name can't be one."""
    if not server:
        return about.principal
    if not SERVER.fullmatch(server):
        raise NotNow(f"The server's name {server[:60]!r} can't be a host name, so SSH does not reach it.")
    return f"{about.principal}--{server}"


def server_of(about: Ssh, host: str) -> str | None:
    """The server that a host name stands for; None: none of the caller's."""
    if host == about.principal:
        return ""
    server = host.removeprefix(f"{about.principal}--")
    return server if server != host and SERVER.fullmatch(server) else None


def remember(where: Place, access: Access, user: str, about: Ssh) -> None:
    """Keeps what a ProxyCommand needs to know."""
    write(where.about, json.dumps({"token": _digest(access), "user": user, "about": asdict(about)}) + "\n")


def remembered(where: Place, access: Access) -> tuple[str, Ssh] | None:
    """The owner of this token at this hub, and how SSH reaches their servers; None: not known here."""
    try:
        kept = json.loads(where.about.read_text(encoding="utf-8"))
        gateway = kept["about"]["gateway"]
        about = {**kept["about"], "gateway": gateway and {"host": gateway[0], "port": gateway[1]}}
        return (str(kept["user"]), Ssh.parse(about)) if kept["token"] == _digest(access) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _digest(access: Access) -> str:
    return hashlib.sha256(f"{access.url} {access.token}".encode()).hexdigest()


# -- the key ---------------------------------------------------------------------------------------------------------


def make_key(where: Place) -> str:
    """The public key; made where there is none.

    :raises Unavailable: no OpenSSH here, or it cannot be made.
    """
    if not where.key.exists():
        program("ssh-keygen")
        where.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryDirectory(dir=where.directory, prefix=".identity-") as made:
            one = Path(made) / "identity"
            one.mkdir(mode=0o700)
            _keygen("-q", "-t", "ed25519", "-N", "", "-C", title(), "-f", str(one / where.key.name))
            try:
                one.rename(where.key.parent)
            except OSError:  # another call was faster
                if not where.key.exists():
                    raise
    try:
        return where.public_key.read_text(encoding="utf-8").strip()
    except OSError as error:
        again = f"Make another: rm -r {shlex.quote(str(where.key.parent))}"
        raise Unavailable(f"{where.public_key} can't be read: {error.strerror}.", hint=again) from None


def fingerprint(public: str) -> str:
    """As ``ssh-keygen -l`` shows it: ``SHA256:…``."""
    digest = hashlib.sha256(base64.b64decode(public.split()[1])).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def title() -> str:
    """What the key of this computer is called."""
    name = "".join(char for char in socket.gethostname() if char.isalnum() or char in ".-_")
    return f"mlmp on {name[:100] or 'a computer'}"


def certify(client: Client, where: Place) -> None:
    """Has the key of this computer registered the first time, and a certificate for it written.

    :raises NotAllowed: it was registered and is not any more: somebody removed it.
    """
    public = make_key(where)
    me = [client.access.url, client.me().name]
    known = _registered(where)
    if fingerprint(public) not in {one["fingerprint"] for one in client.ssh_keys()}:
        if me in known:
            raise NotAllowed(
                "The key of this computer was removed from your keys, so it is not used any more.",
                hint=f"To register it again: mlmp ssh-key add {shlex.quote(str(where.public_key))}",
            )
        try:
            client.add_ssh_key(public, title())
        except Conflict as error:
            if "id" not in error.data:  # with it: another call was faster
                raise
    if me not in known:
        write(where.registered, json.dumps([*known, me]) + "\n")
    write(where.certificate, client.ssh_certificate(public) + "\n")


def _registered(where: Place) -> list[list[str]]:
    """Pairs of hub and user."""
    try:
        found = json.loads(where.registered.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return [one for one in found if isinstance(one, list)] if isinstance(found, list) else []


# -- the configuration -----------------------------------------------------------------------------------------------


def write_config(where: Place, about: Ssh, *, gateway: bool = False) -> None:
    """Writes configuration and known hosts for servers of the caller. :raises NotNow: there is no gateway."""
    if gateway and about.gateway is None:
        raise NotNow("This hub has no SSH gateway.", hint="Without: mlmp ssh-config")
    write(where.known_hosts, known_hosts(about))
    write(where.config, configuration(where, about, gateway=gateway))


def known_hosts(about: Ssh) -> str:
    """One line: hosts of the caller, and the gateway, are what the hub's SSH CA says they are."""
    names = [about.principal]
    if about.gateway:
        names.append(GATEWAY)
    return f"@cert-authority {','.join(names)} {about.authority}\n"


GATEWAY = "mlmp-gateway"
"""What the gateway is called in the configuration, and in its host key's certificate."""


def configuration(where: Place, about: Ssh, *, gateway: bool) -> str:
    """Text for OpenSSH's client."""
    common = f"""\
    IdentityFile {quoted(where.key)}
    IdentitiesOnly yes
    UserKnownHostsFile {quoted(where.known_hosts)}
    GlobalKnownHostsFile none
    StrictHostKeyChecking yes
    UpdateHostKeys no
"""
    text = "# Written by `mlmp ssh-config`, and anew by each `mlmp ssh`: changes are lost.\n"
    if gateway and about.gateway:
        host, port = about.gateway
        text += f"Host {GATEWAY}\n    HostName {host}\n    Port {port}\n    User {about.principal}\n"
        text += f"    HostKeyAlias {GATEWAY}\n{common}"
        way = f"ProxyJump {GATEWAY}"
    else:
        way = f"ProxyCommand {proxy_command()}"
    # ssh gives the name to a shell in single quotes, and older ones take any name.
    text += f"Host {about.principal} {about.principal}--* !*\\'*\n    User {about.login}\n"
    return text + f"    HostKeyAlias {about.principal}\n    {way}\n{common}"


def proxy_command() -> str:
    """The command by which ssh reaches a server: ``mlmp ssh --proxy HOST`` of this installation."""
    script = Path(sys.executable).with_name("mlmp")
    found = str(script) if script.exists() else shutil.which("mlmp")
    words = [found] if found else [sys.executable, "-m", "mlmp_spawner.client.cli"]
    command = " ".join(shlex.quote(word) for word in [*words, "ssh", "--proxy"])
    return f"{command.replace('%', '%%')} '%h'"


def include_line(where: Place) -> str:
    """The line by which a configuration includes ours."""
    return f"Include {quoted(where.config)}"


def includes(where: Place, other: Path) -> bool:
    """Whether that configuration includes ours, before any ``Host``."""
    try:
        lines = other.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    for line in lines:
        if line.strip() == include_line(where):
            return True
        if line.strip().lower().startswith(("host", "match")):
            return False
    return False


def include(where: Place, other: Path) -> bool:
    """Has that configuration include ours. :raises Unavailable: it can't be written."""
    if not includes(where, other):
        try:
            real = other.resolve()  # a link stays one
            text = real.read_text(encoding="utf-8", errors="surrogateescape") if real.exists() else ""
            mode = real.stat().st_mode & 0o777 if real.exists() else 0o600
            write(real, f"{include_line(where)}\n\n{text}")
            real.chmod(mode)
        except OSError as error:
            raise Unavailable(f"{other} can't be changed: {error.strerror}.", hint="Add the line yourself.") from None
    return True


def quoted(path: Path) -> str:
    r"""A path in ssh_config: quoted, ``%`` doubled. :raises NotNow: it holds what can't be written there."""
    text = str(path)
    if any(char in text for char in '"\n\\$'):
        raise NotNow(f"{text!r} can't be written into a configuration of SSH.", hint="Set XDG_CONFIG_HOME elsewhere.")
    return '"' + text.replace("%", "%%") + '"'


# -- programs and files ----------------------------------------------------------------------------------------------


def program(name: str) -> str:
    """The path of a program of OpenSSH. :raises Unavailable: it is not here."""
    found = shutil.which(name)
    if found is None:
        hint = "On Debian and Ubuntu: apt-get install openssh-client"
        raise Unavailable(f"{name} is not on this computer; MLMP uses OpenSSH's own client.", hint=hint)
    return found


def write(path: Path, text: str) -> None:
    """Replaces a file as a whole, readable by the user alone."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    private_files.write(path, text.encode("utf-8", "surrogateescape"))


def _keygen(*arguments: str) -> None:
    done = subprocess.run(
        [program("ssh-keygen"), *arguments], capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    if done.returncode:
        raise Unavailable(f"ssh-keygen could not make a key: {done.stderr.strip()[:300]}")
