"""The code of a job, packed as it is now: what is edited afterwards changes nothing of a job that waits.

:func:`pack` makes one ``tar.gz`` of a folder, with the rights of who calls it. The same files give the same bytes, so
the jobs of a scan share one snapshot. Nothing outside the folder gets into it: a link that leads out is left out, and
files are opened name by name from the folder down, so that none can be swapped for a link meanwhile.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import stat
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, cast

from mlmp_spawner.client.ignore import Patterns
from mlmp_spawner.errors import Invalid, NotFound, OverLimit
from mlmp_spawner.units import format_size

LIMIT = 256 << 20
"""Bytes that a snapshot may have, packed, unless the service says less."""

LIMIT_UNPACKED = 2 << 30
"""Bytes of the files in it: what has more is data, and not packed to find out."""

MOST_FILES = 50_000

IGNORE_FILE = ".mlmpignore"

BUILT_IN = (
    ".git/", ".hg/", ".svn/", "__pycache__/", ".ipynb_checkpoints/", ".mypy_cache/", ".pytest_cache/",
    ".ruff_cache/", ".tox/", "node_modules/", ".DS_Store", "*.pyc",
)  # fmt: skip
"""Never code; a line with ``!`` in :data:`IGNORE_FILE` brings one back."""

ENVIRONMENTS = ("pyvenv.cfg", "conda-meta")
"""What a folder of installed packages has in it; it would not work elsewhere."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file, folder or link of the snapshot; ``name`` with slashes, from the folder on. ``size`` in bytes."""

    name: str
    kind: Literal["file", "folder", "link"]
    size: int = 0
    executable: bool = False
    target: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """What :func:`scan` found. ``left_out``: what may be missed, each with the reason."""

    root: Path
    entries: tuple[Entry, ...]
    left_out: tuple[str, ...]

    @property
    def largest(self) -> list[Entry]:
        """The five largest files."""
        return sorted((one for one in self.entries if one.kind == "file"), key=lambda one: -one.size)[:5]

    def has(self, name: str) -> bool:
        """Whether it has this file (or a link of that name)."""
        return any(one.name == name and one.kind != "folder" for one in self.entries)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A packed folder. ``sha256`` in hexadecimal digits and ``size`` in bytes are of ``packed``, an open file."""

    sha256: str
    size: int
    packed: IO[bytes]
    found: Found

    def close(self) -> None:
        """Lets the file go."""
        self.packed.close()


def scan(folder: Path) -> Found:
    """What of ``folder`` belongs to a snapshot, sorted by name.

    Of a home itself these are the files in it, without what is hidden: folders stay where they are, unless an
    :data:`IGNORE_FILE` there says what to leave out.

    :raises NotFound: it is not a folder. :raises Invalid: a file can't be read, or the patterns make no sense.
    :raises OverLimit: it is too much, with the largest files.
    """
    root = folder.expanduser().resolve()
    if not root.is_dir():
        raise NotFound(f"There is no folder {str(folder)!r}.")
    look = _Look(root)
    entries = tuple(sorted(look.walk(""), key=lambda one: one.name))
    if look.stay:
        names = ", ".join(look.stay[:5]) + (", …" if len(look.stay) > 5 else "")
        look.left_out.insert(0, f"folders of your home ({names}): they stay where they are; code with folders wants "
                             f"a folder of its own, or {IGNORE_FILE} here")  # fmt: skip
    found = Found(root, entries, tuple(look.left_out))
    total = sum(one.size for one in entries)
    if total > LIMIT_UNPACKED:
        raise too_large(found, f"{format_size(total)} in files; at most {format_size(LIMIT_UNPACKED)}")
    return found


def pack(found: Found, *, limit: int = LIMIT) -> Snapshot:
    """Packs it into a file without a name, which goes when it is closed.

    :param limit: bytes, packed.
    :raises Invalid: a file can't be read, or changes while it is. :raises OverLimit: it is too large packed.
    """
    packed = cast(IO[bytes], tempfile.TemporaryFile())  # noqa: SIM115 who gets it closes it
    try:
        counted = _Counted(packed, limit)
        root = os.open(found.root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            # A fixed time and no name of the file: else each packing gave other bytes.
            with gzip.GzipFile("", "wb", 6, cast(IO[bytes], counted), mtime=0) as zipped:
                _write(zipped, root, found)
        finally:
            os.close(root)
    except _TooLarge:
        packed.close()
        raise too_large(found, f"more than {format_size(limit)} packed") from None
    except BaseException:
        packed.close()
        raise
    packed.seek(0)
    return Snapshot(counted.digest.hexdigest(), counted.size, packed, found)


def too_large(found: Found, much: str) -> OverLimit:
    """The refusal of what is too much, with the largest files and what to do."""
    largest = ", ".join(f"{one.name} ({format_size(one.size)})" for one in found.largest)
    return OverLimit(
        f"The code in {found.root} is too large: {much}. The largest files: {largest}.",
        hint=f"Data stays in your home, where the job sees it too: name it in {found.root / IGNORE_FILE}, one pattern "
        "a line, or submit from a folder that has the code alone.",
    )


class _Look:
    """One walk through a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.left_out: list[str] = []
        self.stay: list[str] = []
        self._count = 0
        self._home = root == Path.home().resolve()
        own = _lines(root / IGNORE_FILE)
        self._folders = not self._home or own is not None
        self._patterns = _patterns(root / IGNORE_FILE, own or [])

    def walk(self, inside: str) -> Iterator[Entry]:
        """The entries of the folder ``inside``, "" or with a slash at its end, and of those below."""
        for item in self._items(inside):
            name = inside + item.name
            folder = item.is_dir(follow_symlinks=False)
            if self._patterns.leave_out(name, folder=folder) or (self._home and not inside and name[0] == "."):
                continue
            self._count += 1
            if self._count > MOST_FILES:
                raise OverLimit(
                    f"There are more than {MOST_FILES} files in {self.root}.",
                    hint=f"Name folders of data in {self.root / IGNORE_FILE}, or submit from the code's own folder.",
                )
            if folder:
                yield from self._folder(name, item)
            elif item.is_symlink():
                yield from self._link(name)
            elif item.is_file(follow_symlinks=False):
                about = item.stat(follow_symlinks=False)
                yield Entry(name, "file", about.st_size, bool(about.st_mode & stat.S_IXUSR))
            else:
                self.left_out.append(f"{name}: neither a file nor a folder")

    def _items(self, inside: str) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(self.root / inside) as items:
                return sorted(items, key=lambda one: one.name)
        except OSError as error:
            raise _unreadable(self.root / inside, error) from error

    def _folder(self, name: str, item: os.DirEntry[str]) -> Iterator[Entry]:
        if not self._folders:
            self.stay.append(name)
        elif any(os.path.lexists(os.path.join(item.path, sign)) for sign in ENVIRONMENTS):
            self.left_out.append(f"{name}/: an environment of installed packages")
        else:
            yield Entry(name, "folder")
            yield from self.walk(f"{name}/")

    def _link(self, name: str) -> Iterator[Entry]:
        """A link stays one where what it leads to is in the folder, however it was written."""
        link = self.root / name
        try:
            target = link.resolve(strict=True)
        except (OSError, RuntimeError):
            self.left_out.append(f"{name}: a link that leads nowhere")
            return
        if self.root not in target.parents:
            self.left_out.append(f"{name}: a link to {target}, outside of {self.root}; use that path itself")
            return
        yield Entry(name, "link", target=os.path.relpath(target, link.parent))


def _lines(file: Path) -> list[str] | None:
    """The lines of a file of patterns; None: there is none."""
    try:
        return file.read_text("utf-8", "surrogateescape").splitlines()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unreadable(file, error) from error


def _patterns(file: Path, lines: list[str]) -> Patterns:
    try:
        Patterns(lines)
    except ValueError as error:
        raise Invalid(f"{file}: {error}") from None
    return Patterns([*BUILT_IN, *lines])


def _write(target: IO[bytes] | gzip.GzipFile, root: int, found: Found) -> None:
    with tarfile.open(fileobj=cast(IO[bytes], target), mode="w", format=tarfile.PAX_FORMAT) as archive:
        for entry in found.entries:
            about = tarfile.TarInfo(entry.name)
            if entry.kind == "file":
                _add(archive, about, root, found)
                continue
            about.type, about.mode = (tarfile.DIRTYPE, 0o755) if entry.kind == "folder" else (tarfile.SYMTYPE, 0o777)
            about.linkname = entry.target
            archive.addfile(about)


def _add(archive: tarfile.TarFile, about: tarfile.TarInfo, root: int, found: Found) -> None:
    path = found.root / about.name
    try:
        with closing(os.fdopen(_open(root, about.name), "rb")) as file:
            now = os.fstat(file.fileno())
            if not stat.S_ISREG(now.st_mode):
                raise Invalid(f"{path} is no file any more; it changed while it was packed.", hint="Try again.")
            about.size, about.mode = now.st_size, 0o755 if now.st_mode & stat.S_IXUSR else 0o644
            archive.addfile(about, file)
    except _TooLarge:
        raise
    except OSError as error:
        if error.errno is None:  # tarfile's own: fewer bytes than there were
            raise Invalid(f"{path} got shorter while it was packed.", hint="Try again.") from error
        raise _unreadable(path, error) from error


def _open(root: int, name: str) -> int:
    """Opens a file below the open folder ``root``, following no link on the way."""
    *folders, last = name.split("/")
    at = os.dup(root)
    try:
        for folder in folders:
            below = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=at)
            os.close(at)
            at = below
        return os.open(last, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=at)
    finally:
        os.close(at)


def _unreadable(path: Path, error: OSError) -> Invalid:
    return Invalid(
        f"{path} can't be read ({error.strerror}).", hint=f"Leave it out by a line in {IGNORE_FILE}, or make it yours."
    )


class _TooLarge(Exception):
    """More was packed than may be."""


class _Counted:
    """A file that counts and hashes what is written, and takes no more than ``limit`` bytes."""

    def __init__(self, file: IO[bytes], limit: int) -> None:
        self._file, self._limit = file, limit
        self.size = 0
        self.digest = hashlib.sha256()

    def write(self, data: bytes) -> int:
        """:raises _TooLarge: that is more than it may have. What gzip still writes at its end is dropped."""
        if self.size > self._limit:
            return len(data)
        self.size += len(data)
        if self.size > self._limit:
            raise _TooLarge
        self.digest.update(data)
        return self._file.write(data)

    def flush(self) -> None:
        """For gzip."""
        self._file.flush()
