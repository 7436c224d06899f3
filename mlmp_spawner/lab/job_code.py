"""The snapshot of a job's code: unpacked once into the user's home, with the user's rights."""

from __future__ import annotations

import os
import shutil
import tarfile
from pathlib import Path

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
    if not hasattr(tarfile, "data_filter"):
        raise NotStarted("Its code can't be unpacked safely by this Python: 3.10.12, 3.11.4 or later can.")
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


def _extract(file: object, folder: Path) -> None:
    size = count = 0
    with tarfile.open(fileobj=file, mode="r|gz") as archive:  # type: ignore[call-overload]
        for member in archive:
            size, count = size + max(0, member.size), count + 1
            if size > MOST_BYTES or count > MOST_FILES:
                raise NotStarted(
                    f"Its code has more than {MOST_BYTES >> 30} GiB or {MOST_FILES} files once it is unpacked."
                )
            archive.extract(member, folder, filter="data")
