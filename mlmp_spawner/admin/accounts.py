"""``mlmp up --auth pam``: root runs the hub, an account of its own runs proxy and service; who owns which directory.

What root reads, writes or runs is root's: an account that could change it would be root itself. The service's account
owns three directories, for the database, for the deadlines and for what it keeps of jobs; it reads the others by its
group.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mlmp_spawner.errors import ConfigurationError

NAME = "mlmp"
DATA = Path("/var/lib/mlmp")
MAY_BECOME_ROOT = ("sudo", "wheel")
"""Whoever can become root anyway is an admin, unless other groups are named."""

_MAY_LIE_THERE = {"jupyterhub_config.py", "lost+found"}
# As the account: is Python there, with our packages? Are the files readable, and the processes of others to be seen?
_TRY = """
import os, sys
import mlmp_spawner.settings
for path in sys.argv[1:]:
    open(path).close()
os.listdir(f"/proc/{os.getppid()}")
"""


@dataclass(frozen=True, slots=True)
class Account:
    """An account of the system, as numbers."""

    name: str
    uid: int
    gid: int

    @property
    def environment(self) -> dict[str, str]:
        """What it should know of itself; it has no home."""
        return {"USER": self.name, "LOGNAME": self.name, "HOME": "/"}


def check_root() -> None:
    """:raises ConfigurationError: this is not root."""
    if os.geteuid() != 0:
        raise ConfigurationError(
            ["--auth pam starts servers as their users, which only root can: run it by sudo or, better, by systemd"]
        )


def find(name: str = NAME) -> Account:
    """The account that proxy and service run as.

    :raises ConfigurationError: there is none, it is root's, or it shares its group with others.
    """
    make = f"useradd --system --user-group --no-create-home --home-dir / --shell /usr/sbin/nologin {name}"
    try:
        found = pwd.getpwnam(name)
    except KeyError:
        raise ConfigurationError(
            [f"there is no account {name!r}, as which proxy and service run. Make it: {make}"]
        ) from None
    if found.pw_uid == 0:
        raise ConfigurationError([f"--account {name}: that is root, but proxy and service need no root. Make: {make}"])
    group = grp.getgrgid(found.pw_gid)
    others = {each.pw_name for each in pwd.getpwall() if each.pw_gid == found.pw_gid} | set(group.gr_mem)
    if others - {name}:
        problem = f"the group {group.gr_name!r} of account {name!r} is that of others too: "
        raise ConfigurationError(
            [f"{problem}{', '.join(sorted(others - {name})[:5])}. It needs one of its own: {make}"]
        )
    return Account(name, found.pw_uid, found.pw_gid)


def owners(account: Account) -> dict[str, tuple[int, int, int]]:
    """What is in the data directory: uid, gid and mode of each directory."""
    return {
        ".": (0, account.gid, 0o2750),
        "servers": (0, account.gid, 0o2750),
        "logs": (0, 0, 0o700),
        "logs/servers": (0, 0, 0o700),
        "db": (account.uid, account.gid, 0o700),
        "deadlines": (account.uid, account.gid, 0o700),
        "jobs": (account.uid, account.gid, 0o700),
    }


def prepare(data: Path, account: Account) -> None:
    """Makes the data directory and what is in it, each with its owner.

    :raises ConfigurationError: something else is there, or root would run what others may change.
    """
    if data.is_dir() and not (data / "up.json").exists() and {each.name for each in data.iterdir()} - _MAY_LIE_THERE:
        raise ConfigurationError([f"--data {data}: that directory has other things in it; take an empty one"])
    data.mkdir(parents=True, exist_ok=True)
    for name, (uid, gid, mode) in owners(account).items():
        folder = data / name
        folder.mkdir(exist_ok=True)
        os.chown(folder, uid, gid, follow_symlinks=False)
        os.chmod(folder, mode)
    check_config(data / "jupyterhub_config.py")


def check_config(path: Path) -> None:
    """:raises ConfigurationError: others than root may change what root's hub runs."""
    for part in (path, *path.resolve().parents) if path.exists() else ():
        status = part.stat()
        sticky = stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX
        if status.st_uid != 0 or (status.st_mode & 0o022 and not sticky):
            problem = f"{path} is run by root, but others than root may change {part}: "
            raise ConfigurationError([f"{problem}chown root {part} && chmod go-w {part}"])


def make_database(file: Path, account: Account) -> None:
    """Makes the file of the database, the account's from the first byte on; SQLite's other files get its owner."""
    try:
        os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))
    except FileExistsError:
        return
    os.chown(file, account.uid, account.gid, follow_symlinks=False)


def check_reach(account: Account, files: Sequence[Path]) -> None:
    """Tries, as the account, what proxy and service need.

    :raises ConfigurationError: it can't run our Python, read one of ``files``, or see the processes of others.
    """
    command = [sys.executable, "-I", "-c", _TRY, *map(str, files)]
    try:
        tried = subprocess.run(
            command, user=account.uid, group=account.gid, extra_groups=[], cwd="/", env=account.environment,
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    except PermissionError:
        place = f"the account {account.name} can't run {sys.executable}, and no more can users"
        raise ConfigurationError([f"{place}: install MLMP where all may read it, such as /opt/mlmp"]) from None
    if tried.returncode == 0:
        return
    said = (tried.stderr.strip().splitlines() or [f"exit status {tried.returncode}"])[-1]
    if "/proc/" in said:
        said = "it can't see the processes of others: mount /proc without hidepid, or with gid= of its group"
    elif "PermissionError" in said:
        said = f"{said}; chgrp {account.name} it and chmod g+r, and g+x the directories around it"
    elif "ModuleNotFoundError" in said or "init_fs_encoding" in tried.stderr:
        said = f"it can't read MLMP at {sys.prefix} ({said}): install it where all may read it, such as /opt/mlmp"
    raise ConfigurationError([f"account {account.name}: {said}"])


def admin_groups(named: Sequence[str]) -> list[str]:
    """The groups of admins: those named, else the ones whose members may become root.

    :raises ConfigurationError: one that is named is not there.
    """
    missing = [name for name in named if not _is_group(name)]
    if missing:
        raise ConfigurationError([f"there is no group {name!r}: groupadd {name}" for name in missing])
    return list(named) or [name for name in MAY_BECOME_ROOT if _is_group(name)]


def _is_group(name: str) -> bool:
    try:
        grp.getgrnam(name)
    except KeyError:
        return False
    return True
