"""What runs in a job's pod before its program: fetches the snapshot of its code, makes its directories, notes how long
the files of its metrics are already, and waits until the workers of a job can find each other.

With its user's rights, from MLMP's own image; told by its environment. What is there already stays: a later attempt,
or another worker beside it, finds the code unpacked. It uses nothing but the standard library.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from mlmp_spawner.lab.job_code import unpack
from mlmp_spawner.lab.job_command import NotStarted
from mlmp_spawner.lab.job_metrics import positions, sources
from mlmp_spawner.lab.job_sidecar import remember

LARGEST = 4 << 30
"""Bytes of a snapshot that are read at most."""
PATIENCE = 120.0
"""Seconds for which a service that does not answer is tried again."""
PIECE = 1 << 20
NAMES_WITHIN = 120.0
"""Seconds for which the names of other workers are looked up: each is known once its pod has an address."""


def prepare(told: Mapping[str, str], *, patience: float = PATIENCE, names_within: float = NAMES_WITHIN) -> None:
    """All that the program needs is there afterwards.

    :param patience: seconds for the service. :param names_within: for other workers; then it goes on without.
    :raises NotStarted: it can't be; the message is for the job's owner.
    """
    folder, sha256 = Path(told["MLMP_JOB_FOLDER"]), told["MLMP_JOB_CODE"]
    if sha256 and not folder.exists():
        with tempfile.TemporaryFile() as file:
            _fetch(told["MLMP_JOB_CODE_URL"], told["MLMP_JOB_CODE_TOKEN"], sha256, file, patience)
            _unpack(file, folder)
    for path in (folder, *map(Path, json.loads(told["MLMP_JOB_FOLDERS"]))):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    named = json.loads(told["MLMP_JOB_METRICS"])
    remember(Path(told["MLMP_JOB_SEEN"]), positions(sources(named, Path(told["MLMP_JOB_DIRECTORY"]))))
    _wait_for_names(json.loads(told["MLMP_JOB_WORKERS"]), names_within)


def _unpack(file: IO[bytes], folder: Path) -> None:
    try:
        unpack(file.fileno(), folder)
    except NotStarted:
        if not folder.exists():  # else another worker was faster
            raise


def _wait_for_names(names: Sequence[str], patience: float) -> None:
    """Returns when all are known: a program mostly looks its first worker up once, and fails."""
    ends = time.monotonic() + patience
    for name in names:
        while not _known(name) and time.monotonic() < ends:
            time.sleep(0.5)


def _known(name: str) -> bool:
    try:
        return bool(socket.getaddrinfo(name, None))
    except OSError:
        return False


def _fetch(url: str, token: str, sha256: str, file: IO[bytes], patience: float) -> None:
    """Writes the snapshot to ``file``."""
    ends = time.monotonic() + patience
    while True:
        file.seek(0)
        file.truncate()
        try:
            found = _read(url, token, file)
        except HTTPError as error:
            if error.code < 500 and error.code != 429:
                raise NotStarted(f"Its code can't be fetched: the service answers {error.code}.") from None
        except (URLError, OSError):
            pass
        else:
            if found != sha256:
                raise NotStarted("Its code is not what was submitted: the checksum differs.")
            return
        if time.monotonic() >= ends:
            raise NotStarted("Its code can't be fetched: the service does not answer.")
        time.sleep(1)


def _read(url: str, token: str, file: IO[bytes]) -> str:
    """The SHA-256 of what comes."""
    digest, size = hashlib.sha256(), 0
    with urlopen(Request(url, headers={"Authorization": f"token {token}"}), timeout=30) as answer:  # noqa: S310
        while piece := answer.read(PIECE):
            size += len(piece)
            if size > LARGEST:
                raise NotStarted("Its code is larger than any that can have been submitted.")
            digest.update(piece)
            file.write(piece)
    file.flush()
    return digest.hexdigest()


def main() -> int:
    """The entry point; what went wrong is the container's last line, which the cluster keeps."""
    os.umask(0o077)
    try:
        prepare(os.environ)
    except (NotStarted, OSError) as error:
        print(error if isinstance(error, NotStarted) else f"Its directories can't be made: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
