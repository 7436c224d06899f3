"""OpenSSH's sshd as its user runs it: where the program is, its configuration, and the options of one connection."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from mlmp_spawner.errors import ConfigurationError

NAME = "sshd_config"
PLACES = "/usr/sbin:/usr/local/sbin:/sbin"
INSTALL = "On Debian and Ubuntu: apt-get install openssh-server"

_NOT_PASSED = {"PWD", "OLDPWD", "SHLVL", "_", "TERM", "DISPLAY", "MAIL"}
# What each session has of its own.

_PRIVILEGE_SEPARATION = Path("/run/sshd")


def find() -> str | None:
    """The path of sshd; None where it is not installed. It is seldom on a user's PATH."""
    return shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:{PLACES}")


def program() -> str:
    """The path of sshd.

    :raises ConfigurationError: it is not installed, or this uid has no account, whom sshd never lets in.
    """
    found = find()
    if found is None:
        raise ConfigurationError([f"There is no sshd here, so no SSH. {INSTALL}"])
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        raise ConfigurationError(
            [f"The account of this server (uid {os.getuid()}) is not in /etc/passwd, and sshd lets in only who is."]
        ) from None
    return found


def write(directory: Path, environment: Mapping[str, str]) -> Path:
    """Writes sshd's configuration and returns its path. Who may come in is in files beside it.

    :raises ConfigurationError: sshd does not take it.
    """
    path = directory / NAME
    path.write_text("\n".join(lines(directory, environment)) + "\n", errors="surrogateescape")
    path.chmod(0o600)
    if os.geteuid() == 0:
        _PRIVILEGE_SEPARATION.mkdir(mode=0o755, exist_ok=True)  # as its unit of systemd does
    checked = subprocess.run(
        [program(), "-t", "-f", str(path)], capture_output=True, text=True, errors="replace",
        stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    if checked.returncode != 0:
        raise ConfigurationError([f"sshd does not start: {checked.stderr.strip()[-500:]}"])
    return path


def lines(directory: Path, environment: Mapping[str, str]) -> list[str]:
    """The lines of the configuration. Keys only, one account only, everything of the user's own files ignored."""
    session = Path(__file__).with_name("session.sh")
    return [
        f"HostKey {quoted(directory / 'host_key')}",
        "AuthenticationMethods publickey",
        "PubkeyAuthentication yes",
        "PasswordAuthentication no",
        "KbdInteractiveAuthentication no",
        "UsePAM no",
        "PermitRootLogin prohibit-password",
        *([f"AllowUsers {pwd.getpwuid(0).pw_name}"] if os.geteuid() == 0 else []),  # root's sshd could become anybody
        f"AuthorizedKeysFile {quoted(literal(directory / 'authorized_keys'))}",
        f"TrustedUserCAKeys {quoted(directory / 'authority')}",
        "StrictModes no",  # what it would look at is in a directory that nobody else gets into
        "PermitUserRC no",
        "PermitUserEnvironment no",
        "LoginGraceTime 30",
        "ClientAliveInterval 30",  # who is gone without a word goes in two minutes
        "ClientAliveCountMax 4",
        "MaxAuthTries 20",  # an agent may hold many keys
        "MaxSessions 100",  # over one connection: editors open many
        "AllowTcpForwarding yes",
        "AllowStreamLocalForwarding yes",
        "AllowAgentForwarding yes",
        "X11Forwarding no",
        "PrintMotd no",
        "PrintLastLog no",
        "UseDNS no",
        "PidFile none",
        "LogLevel INFO",  # it tells which key was accepted
        "Subsystem sftp internal-sftp",
        f"ForceCommand /bin/sh {_for_shell(session)}",
        set_env(environment),
    ]  # fmt: skip


def set_env(environment: Mapping[str, str]) -> str:
    """The variables of JupyterLab for each session; values of several lines can't be passed."""
    passed = {
        name: value for name, value in environment.items()
        if name not in _NOT_PASSED and not name.startswith("SSH_") and not set("\r\n\0") & set(name + value)
    }  # fmt: skip
    return "SetEnv " + " ".join(quoted(f"{name}={value}") for name, value in sorted(passed.items()))


def quoted(word: str | Path) -> str:
    """One argument of sshd's configuration."""
    return '"' + str(word).replace("\\", "\\\\").replace('"', '\\"') + '"'


def literal(path: Path) -> str:
    """A path where sshd puts something for each per cent sign."""
    return str(path).replace("%", "%%")


def _for_shell(path: Path) -> str:
    """For a line that sshd takes as it is, and the account's shell reads, whichever that may be."""
    return "'" + str(path).replace("'", "'\\''") + "'"


def account() -> str:
    """The name of the account that all this runs as, and so the only one that can log in."""
    return pwd.getpwuid(os.getuid()).pw_name
