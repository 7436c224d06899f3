"""Accounts of this machine for guests: one for each, which nobody can log in with, gone with all its files afterwards.

The account has no password and no shell, so that SSH keys that a guest leaves lead nowhere, and expires by itself.
Everything here is done as root, after the guest's servers are gone.
"""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import threading
import time
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path

import psutil

from mlmp_spawner.errors import NotAllowed, Unavailable
from mlmp_spawner.kube import erase_home
from mlmp_spawner.rules.guests import is_guest

HOMES = Path("/home")
ABOUT = "MLMP guest"
"""What marks an account as one of ours; no other is ever removed."""
NO_SHELL = "/usr/sbin/nologin"
EVERYBODYS = (Path("/tmp"), Path("/var/tmp"), Path("/dev/shm"))  # noqa: S108 -- to remove what guests left there
LEFT_ELSEWHERE = tuple(map(Path, ("/var/spool/cron/crontabs", "/var/spool/cron", "/var/mail", "/var/spool/mail")))
PATIENCE = 5.0
"""Seconds that killed processes may take to be gone."""
_passwd = threading.Lock()
# Each of the system's tools waits only seconds for the others, and a whole class may come at once.
TOOL = 30.0
"""Seconds that one call of the system's own tools may take."""


def make(name: str, *, until: int) -> None:
    """Makes the account, if it is not there.

    :param until: when the guest's time is over (ms UTC); the account expires the day after.
    :raises Unavailable: it can't be made now. :raises NotAllowed: somebody else has that name.
    """
    found = _find(name)
    if found is not None:
        return
    day = datetime.fromtimestamp(until / 1000, timezone.utc) + timedelta(days=2)
    _run(
        "useradd", "--no-create-home", "--home-dir", str(HOMES / name), "--user-group", "--shell", NO_SHELL,
        "--comment", ABOUT, "--expiredate", day.date().isoformat(), name,
    )  # fmt: skip


def erase(name: str) -> None:
    """Ends every process of the account, and removes its files and then itself. Again: goes on where it was.

    :raises Unavailable: a part is not gone yet. :raises NotAllowed: the account is somebody else's.
    """
    found = _find(name)
    if found is None:
        return
    _end_processes(found.pw_uid)
    home = HOMES / name
    if os.path.lexists(home):
        _remove(home)
    for place in EVERYBODYS:
        _remove_of(place, found.pw_uid)
    for place in LEFT_ELSEWHERE:
        with suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError):
            (place / name).unlink()
    _run("userdel", name)


def _find(name: str) -> pwd.struct_passwd | None:
    """:raises NotAllowed: there is an account of that name that is not one of ours."""
    try:
        found = pwd.getpwnam(name)
    except KeyError:
        return None
    ours = is_guest(name) and found.pw_uid != 0 and found.pw_gecos.startswith(ABOUT)
    if not ours or found.pw_dir != str(HOMES / name):
        raise NotAllowed(f"The account {name!r} of this machine is no guest's.", hint="Ask the people who run it.")
    return found


def _end_processes(uid: int) -> None:
    """:raises Unavailable: one does not go, as when it waits for a file server."""
    limit = time.monotonic() + PATIENCE
    while left := [process for process in psutil.process_iter(["uids", "status"]) if _is_of(process, uid)]:
        if time.monotonic() > limit:
            raise Unavailable(f"{len(left)} processes of a guest do not end.")
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
        time.sleep(0.05)


def _is_of(process: psutil.Process, uid: int) -> bool:
    uids = process.info.get("uids")
    alive = process.info.get("status") != psutil.STATUS_ZOMBIE
    return alive and uids is not None and uid in (uids.real, uids.effective)


def _remove_of(place: Path, uid: int) -> None:
    """Removes what of an account lies in a directory of everybody's."""
    with suppress(FileNotFoundError), os.scandir(place) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                if entry.stat(follow_symlinks=False).st_uid == uid:
                    _remove(Path(entry.path))


def _remove(path: Path) -> None:
    """A tree, or a file, whatever is in it.

    :raises Unavailable: a part of it stays.
    """
    try:
        around = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
        try:
            erase_home.remove(around, path.name)
        finally:
            os.close(around)
    except OSError as error:
        raise Unavailable(f"{path} can't be removed: {error.strerror}.") from error


def _run(*command: str) -> None:
    try:
        with _passwd:
            done = subprocess.run(command, capture_output=True, text=True, timeout=TOOL, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{command[0]} does not work here: {error}.") from error
    if done.returncode != 0:
        said = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise Unavailable(f"{command[0]}: {said}.")
