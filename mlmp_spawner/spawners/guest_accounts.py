"""Accounts of this machine for guests: one for each, which nobody can log in with, gone with all its files afterwards.

The account has no password and no shell, so that SSH keys that a guest leaves lead nowhere, and expires by itself.
What they may go on with is ended with their
time (:func:`leave`), the rest when they are erased. Everything here is done as root, after their servers are gone.
"""

from __future__ import annotations

import os
import pwd
import secrets
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
EVERYBODYS = tuple(map(Path, ("/tmp", "/var/tmp", "/dev/shm", "/dev/mqueue", "/run/lock")))  # noqa: S108
"""Where everybody may leave files, queues of messages too."""
CRONTABS = tuple(map(Path, ("/var/spool/cron/crontabs", "/var/spool/cron", "/var/lib/systemd/linger")))
"""Where files of a user's name start something without the user."""
AT_JOBS = tuple(map(Path, ("/var/spool/cron/atjobs", "/var/spool/cron/atspool", "/var/spool/at")))
MAIL = (Path("/var/mail"), Path("/var/spool/mail"))
IPC = {"shm": "-m", "sem": "-s", "msg": "-q"}
"""What of System V outlives processes, by its file of /proc/sysvipc; with ipcrm's option for it."""
FIRST_NUMBER, LAST_NUMBER = 0x7000_0000, 0x7FFF_FFFE
"""The numbers of guests' accounts: nobody else is given these, and one drawn at random does not come back soon, so
that nobody owns what a former guest left."""
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
        "useradd", *_number(), "--no-log-init", "--no-create-home", "--home-dir", str(HOMES / name), "--user-group",
        "--shell", NO_SHELL, "--comment", ABOUT, "--expiredate", day.date().isoformat(), name,
    )  # fmt: skip


def leave(name: str) -> None:
    """Ends every process of the account and all that would start one; its files stay.

    :raises Unavailable: a part is not gone yet. :raises NotAllowed: the account is somebody else's.
    """
    found = _find(name)
    if found is None:
        return
    _run("usermod", "--expiredate", "1", name)  # from now on cron, at and su refuse
    for place in CRONTABS:
        _remove_named(place, name)
    for place in AT_JOBS:
        _remove_of(place, found.pw_uid)
    _end_processes(found.pw_uid)


def erase(name: str) -> None:
    """Besides, removes what the account left, and then itself. Again: goes on where it was.

    :raises Unavailable: a part is not gone yet. :raises NotAllowed: the account is somebody else's.
    """
    found = _find(name)
    if found is None:
        return
    leave(name)
    _remove_ipc(found.pw_uid)
    home = HOMES / name
    if os.path.lexists(home):
        _remove(home)
    for place in EVERYBODYS:
        _remove_of(place, found.pw_uid)
    for place in MAIL:
        _remove_named(place, name)
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


def _number() -> list[str]:
    """What says which number an account gets; nothing where the machine has no such numbers, as in a container."""
    with open("/proc/self/uid_map", encoding="ascii") as lines:
        spans = [[int(field) for field in line.split()] for line in lines]
    if not any(first <= FIRST_NUMBER and first + count > LAST_NUMBER for first, _, count in spans):
        return []
    number = FIRST_NUMBER + secrets.randbelow(LAST_NUMBER - FIRST_NUMBER)
    return ["--uid", str(number), "--key", f"GID_MIN={FIRST_NUMBER}", "--key", f"GID_MAX={LAST_NUMBER}"]


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


def _remove_ipc(uid: int) -> None:
    """Removes shared memory, semaphores and queues of System V that an account made or owns."""
    for kind, option in IPC.items():
        with suppress(FileNotFoundError):
            columns, *rows = (line.split() for line in Path(f"/proc/sysvipc/{kind}").read_text("ascii").splitlines())
            owners = columns.index("uid"), columns.index("cuid")
            for row in rows:
                if str(uid) in [row[at] for at in owners]:
                    _run("ipcrm", option, row[columns.index("perms") - 1])


def _remove_named(place: Path, name: str) -> None:
    with suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError):
        (place / name).unlink()


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
