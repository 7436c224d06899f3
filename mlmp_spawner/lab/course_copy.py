"""The files of a course out of a directory of the shared data: only those that are not there yet.

It runs with the user's rights in the user's own server.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from mlmp_spawner.errors import OverLimit, Unavailable

MOST = 20_000
"""Files of one course: more are data, to be read where they are."""


def bring(source: Path, folder: Path) -> int:
    """Copies what is not there yet; how many files. Links are left out. May be killed at any time and called again.

    :raises Unavailable: the directory is not there, or a file can't be written. :raises OverLimit: it has too many.
    """
    if not source.is_dir():
        raise Unavailable(f"The course's directory {source} is not there.")
    copied = 0
    try:
        for number, path in enumerate(_files(source)):
            if number >= MOST:
                raise OverLimit(f"{source} has more than {MOST} files.", hint="Data are read where they are.")
            copied += _copy(path, folder / path.relative_to(source))
    except OSError as error:
        raise Unavailable(f"{error.filename or folder}: {error.strerror}.") from error
    folder.mkdir(parents=True, exist_ok=True)
    return copied


def _files(source: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(source):
        folders[:] = sorted(name for name in folders if not os.path.islink(os.path.join(place, name)))
        yield from (Path(place) / name for name in sorted(names))


def _copy(path: Path, target: Path) -> bool:
    """Whether it was copied: as a whole, or not at all."""
    if os.path.lexists(target) or path.is_symlink():
        return False
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        if not stat.S_ISREG(mode):
            return False
        target.parent.mkdir(parents=True, exist_ok=True)
        number, temporary = tempfile.mkstemp(dir=target.parent, prefix=".mlmp-fetching-")
        try:
            with open(number, "wb") as new:
                shutil.copyfileobj(file, new)
                os.fchmod(new.fileno(), 0o700 if mode & 0o100 else 0o600)
            return _put(temporary, target)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(temporary)


def _put(temporary: str, target: Path) -> bool:
    """Under its name, unless something has that by now."""
    try:
        os.link(temporary, target)
    except FileExistsError:
        return False
    except OSError:  # a file system without hard links
        if os.path.lexists(target):
            return False
        os.rename(temporary, target)
    return True
