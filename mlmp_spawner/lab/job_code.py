"""The snapshot of a job's code: unpacked once into the user's home, with the user's rights."""

from __future__ import annotations

import os
import shutil
import tarfile
from pathlib import Path, PurePosixPath
from typing import IO

from mlmp_spawner.lab.job_command import NotStarted

MOST_BYTES = 4 << 30
MOST_FILES = 200_000


def unpack(code: int, folder: Path) -> None:
    """Makes ``folder`` with what the snapshot has; where it is there already nothing is done.

    Nothing is written elsewhere: links out of the folder, devices and the like are refused.

    :param code: file descriptor of the packed snapshot.
    :raises NotStarted: it can't be unpacked.
    """
    if folder.exists():
        return
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Workers in pods have one home and, each, a process 1.
    temporary = folder.with_name(f".{folder.name}-{os.uname().nodename[:63]}-{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(mode=0o700)
    try:
        with open(os.dup(code), "rb") as file:
            file.seek(0)
            _extract(file, temporary)
        temporary.rename(folder)
    except NotStarted:
        raise
    except Exception as error:  # noqa: BLE001 -- what tarfile raises for a wrong archive has no common base
        raise NotStarted(f"Its code can't be unpacked: {error}") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _extract(file: IO[bytes], folder: Path) -> None:
    """Files and folders, and then links: as long as one is written to there is none that could lead out. tarfile's own
    filter is not in every Python that a system comes with, such as the one of Debian 12."""
    size = count = 0
    links: list[tuple[Path, str]] = []
    with tarfile.open(fileobj=file, mode="r|gz") as archive:
        for member in archive:
            size, count = size + max(0, member.size), count + 1
            if size > MOST_BYTES or count > MOST_FILES:
                raise NotStarted(
                    f"Its code has more than {MOST_BYTES >> 30} GiB or {MOST_FILES} files once it is unpacked."
                )
            name = PurePosixPath(member.name)
            if name.is_absolute() or ".." in name.parts:
                raise NotStarted(f"Its code can't be unpacked: {member.name!r} leads out of it.")
            path = folder / name
            if member.isdir():
                path.mkdir(parents=True, exist_ok=True)
            elif member.isreg():
                _write(archive, member, path)
            elif member.issym():
                links.append((path, member.linkname))
            else:
                raise NotStarted(f"Its code can't be unpacked: {member.name!r} is no file, folder or link.")
    _link(links, folder)


def _write(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    source = archive.extractfile(member)
    assert source is not None
    with source, path.open("xb") as target:
        os.fchmod(target.fileno(), 0o755 if member.mode & 0o100 else 0o644)
        shutil.copyfileobj(source, target)


def _link(links: list[tuple[Path, str]], folder: Path) -> None:
    """Makes links that stay below ``folder``, wherever the others lead: they are looked at once all are there."""
    for path, target in links:
        _check(path.parent, folder, path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(target)
    for path, target in links:
        _check(path, folder, path)
        if os.path.isabs(target):  # the folder has another name in the end
            raise NotStarted(f"Its code can't be unpacked: the link {path.name!r} is absolute.")


def _check(path: Path, folder: Path, link: Path) -> None:
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)):
        raise NotStarted(f"Its code can't be unpacked: the link {link.name!r} leads out of it.")
