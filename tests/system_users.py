"""Real users of this machine for tests, each gone afterwards, and a way for them to run our Python."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
PAM = Path("/etc/pam.d")

# In a mount namespace of its own: each closed directory is replaced by an open one with only what is needed of it.
_OPEN = """\
closed=$1 needed=$2 hidden=$(mktemp -d); shift 2
set -e
for place in $needed; do mkdir -p "$hidden$place"; mount --bind "$place" "$hidden$place"; done
mount -t tmpfs -o mode=755 tmpfs "$closed"
for place in $needed; do mkdir -p "$place"; mount --bind "$hidden$place" "$place"; done
exec "$@"
"""


def why_not() -> str:
    """Why there can be no users of the system here; empty if there can."""
    if os.geteuid() != 0:
        return "needs root: it makes users of the system and removes them"
    missing = [name for name in ("useradd", "userdel", "chpasswd", "unshare") if shutil.which(name) is None]
    if missing or not PAM.is_dir():
        return f"needs {', '.join(missing) or PAM}"
    return ""


@dataclass(frozen=True, slots=True)
class SystemUser:
    """A user of this machine."""

    name: str
    password: str

    @property
    def uid(self) -> int:
        """Its number."""
        return pwd.getpwnam(self.name).pw_uid

    @property
    def gid(self) -> int:
        """The number of its group."""
        return pwd.getpwnam(self.name).pw_gid

    @property
    def home(self) -> Path:
        """Its home."""
        return Path(pwd.getpwnam(self.name).pw_dir)

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Runs a command as this user, as it were by ssh."""
        return subprocess.run(
            command, user=self.uid, group=self.gid, extra_groups=[], cwd="/", capture_output=True, text=True,
            timeout=30, check=False,
        )  # fmt: skip

    def starts(self, *command: str) -> subprocess.Popen[bytes]:
        """Starts something of this user's that has nothing to do with us."""
        return subprocess.Popen(
            command, user=self.uid, group=self.gid, extra_groups=[], cwd="/", start_new_session=True
        )


@contextmanager
def system_user(*options: str) -> Iterator[SystemUser]:
    """Makes a user with a password and a home, and removes both."""
    made = SystemUser(f"mlmpt{secrets.token_hex(4)}", secrets.token_urlsafe(9))
    subprocess.run(["useradd", "--create-home", *options, made.name], check=True, capture_output=True)
    try:
        subprocess.run(["chpasswd"], input=f"{made.name}:{made.password}", text=True, check=True)
        yield made
    finally:
        subprocess.run(["userdel", "--force", "--remove", made.name], check=False, capture_output=True)


@contextmanager
def service_account() -> Iterator[SystemUser]:
    """An account for proxy and service."""
    made = SystemUser(f"mlmps{secrets.token_hex(4)}", "")
    options = ["--system", "--user-group", "--no-create-home", "--home-dir", "/", "--shell", "/usr/sbin/nologin"]
    subprocess.run(["useradd", *options, made.name], check=True, capture_output=True)
    try:
        yield made
    finally:
        subprocess.run(["userdel", "--force", made.name], check=False, capture_output=True)


@contextmanager
def pam_service() -> Iterator[str]:
    """A PAM service that asks for the password of the system and does not wait after a wrong one."""
    name = f"mlmp-test-{secrets.token_hex(4)}"
    (PAM / name).write_text("auth required pam_unix.so nodelay\naccount required pam_unix.so\n")
    try:
        yield name
    finally:
        (PAM / name).unlink()


def runnable_by_all() -> list[str]:
    """What ``mlmp up`` is started by so that users can run our Python and read our code, wherever these are."""
    needed = {str(Path(place).resolve()) for place in (sys.base_prefix, sys.prefix, REPOSITORY)}
    closed = [str(part) for place in needed for part in (Path(place), *Path(place).parents) if _closed(part)]
    if not closed:
        return []
    top = min(closed, key=len)
    below = " ".join(place for place in needed if place.startswith(f"{top}/"))
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", _OPEN, "sh", top, below]


def _closed(path: Path) -> bool:
    return not path.stat().st_mode & 0o001
