"""The folder of a Spark session in its user's home, and which of these are left over from drivers that were killed.

A driver holds a lock on its folder as long as it lives. Servers of one user on several machines share the home, and
not each file server shares locks: so who clears looks at folders of this machine (in a cluster: of pods of this name)
alone.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
from pathlib import Path

LOCK = "lock"


def take(folder: Path) -> int:
    """Makes it, which nobody else may enter, and holds it as long as this process lives; the descriptor of the lock.

    :raises OSError: the file system refuses.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise
    os.write(lock, socket.gethostname().encode())  # only now may anybody ask who holds it
    return lock


def clear_dead(folders: Path) -> None:
    """Removes those of drivers on this machine that are gone."""
    for lock in folders.glob(f"*/{LOCK}"):
        if _is_dead(lock):
            shutil.rmtree(lock.parent, ignore_errors=True)


def _is_dead(lock: Path) -> bool:
    try:
        with lock.open("rb") as file:
            if file.read(300) != socket.gethostname().encode():
                return False
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:  # held, or gone meanwhile
        return False
    return True
