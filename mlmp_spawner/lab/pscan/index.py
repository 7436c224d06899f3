"""The files below a root, and nothing but what really is below it: no link is followed, neither here nor there."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from mlmp_spawner.errors import Invalid, NotFound

MOST_FILES = 500_000
DEEPEST = 40
"""Folders below the root."""


@dataclass(slots=True)
class Listing:
    """What is below a root.

    ``files``: paths relative to it, with ``/``. ``links``: symbolic links that were left out. ``unreadable``: what was
    closed. ``cut``: there is more than was looked at. Names that begin with a dot are left out.
    """

    files: list[str] = field(default_factory=list)
    links: int = 0
    unreadable: int = 0
    cut: bool = False


def root_of(text: str, home: Path) -> Path:
    """The folder that a person names: absolute, or below ``home``.

    :raises Invalid: no text for a folder.
    :raises NotFound: there is none.
    """
    if "\0" in text or len(text) > 4000:
        raise Invalid.field("root", "is no name of a folder")
    try:
        path = (home / Path(text or ".").expanduser()).resolve()
        if not path.is_dir():
            raise NotFound(f"There is no folder {text!r}.", hint="Name one from your home on, or beginning with /.")
    except (OSError, RuntimeError, UnicodeError) as error:  # a loop of links, nobody's home, not for us to read
        raise NotFound(f"The folder {text!r} can't be opened: {error}") from None
    return path


def walk(root: Path, most: int = MOST_FILES) -> Listing:
    """All files below the root, in the order of the file system."""
    found = Listing()
    waiting = [("", 0)]
    while waiting:
        folder, depth = waiting.pop()
        for entry in _entries(root, folder, found):
            kind = _kind(entry)
            if kind == "link":
                found.links += 1
            elif kind == "closed":
                found.unreadable += 1
            elif kind == "folder":
                if depth < DEEPEST:
                    waiting.append((f"{folder}{entry.name}/", depth + 1))
                else:
                    found.cut = True
            elif len(found.files) >= most:
                found.cut = True
                return found
            elif kind == "file":
                found.files.append(folder + entry.name)
    return found


def _entries(root: Path, folder: str, found: Listing) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(f"{root}/{folder}") as entries:
            for entry in entries:
                if not entry.name.startswith("."):
                    yield entry
    except OSError:
        found.unreadable += 1


def _kind(entry: os.DirEntry[str]) -> str:
    """``link``, ``folder``, ``file``, ``closed`` or ``other``. Some file systems tell it only if they are asked."""
    try:
        if entry.is_symlink():
            return "link"
        if entry.is_dir(follow_symlinks=False):
            return "folder"
        return "file" if entry.is_file(follow_symlinks=False) else "other"
    except OSError:
        return "closed"


def open_file(root: Path, path: str) -> int:
    """A file below the root, open for reading; the caller closes it.

    Folder by folder, none of them by a link: who exchanges one meanwhile leads nowhere either.

    :raises NotFound: there is no such file, or it is no plain one.
    """
    names = path.split("/")
    if not path or any(name in ("", ".", "..") or "\0" in name for name in names) or len(names) > DEEPEST + 1:
        raise _none(path)
    where = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    opened: list[int] = []
    try:
        opened.append(os.open(root, where | os.O_DIRECTORY))
        for name in names[:-1]:
            opened.append(os.open(name, where | os.O_DIRECTORY, dir_fd=opened[-1]))
        # Without O_NONBLOCK a named pipe would wait for its writer.
        found = os.open(names[-1], where | os.O_NONBLOCK, dir_fd=opened[-1])
    except (OSError, UnicodeError):
        raise _none(path) from None
    finally:
        for one in opened:
            with suppress(OSError):
                os.close(one)
    if not stat.S_ISREG(os.fstat(found).st_mode):
        os.close(found)
        raise _none(path)
    return found


def read(root: Path, path: str, most: int) -> tuple[bytes, int]:
    """The beginning of a file, ``most`` bytes, and how many it has.

    :raises NotFound: as :func:`open_file`.
    """
    with open(open_file(root, path), "rb") as file:
        return file.read(most), os.fstat(file.fileno()).st_size


def _none(path: str) -> NotFound:
    return NotFound(f"There is no file {path!r} below this folder; links are not followed.")
