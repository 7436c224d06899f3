"""From a script on this machine to a job in the queue: what is to run, its code, its secrets.

The manifest is checked first, so that a slip is told before anything is packed or sent.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from mlmp_spawner.client import job_code
from mlmp_spawner.client.job_api import JobApi, Manifest
from mlmp_spawner.client.job_models import JobRecord
from mlmp_spawner.errors import Invalid, NotFound


@dataclass(frozen=True, slots=True)
class Work:
    """What to submit. ``code``: the folder that is packed, None for none; ``secrets``: values by name."""

    manifest: Manifest
    code: Path | None
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)


def program(
    script: str | os.PathLike[str], arguments: Iterable[object] = (), *, code: Path | None = None
) -> tuple[dict[str, Any], Path]:
    """What a manifest says to run a script or notebook that is on this machine, and the folder to pack.

    :param code: the folder that it needs; None: the current one where it is in there, else the script's own.
    :raises NotFound: there is no such file. :raises Invalid: it is not in that folder.
    """
    path = Path(script).expanduser()
    if not path.is_file():
        raise NotFound(
            f"There is no file {os.fspath(script)!r}.",
            hint="A program that is installed where the job runs: mlmp job run … --command -- PROGRAM ARGUMENTS",
        )
    path = path.parent.resolve() / path.name  # the script itself may be a link
    here = Path.cwd().resolve()
    folder = code.expanduser().resolve() if code else here if here in path.parents else path.parent
    if folder not in path.parents:
        raise Invalid(f"{os.fspath(script)!r} is not in {folder}, whose files are sent with the job.")
    name = path.relative_to(folder).as_posix()
    said = [str(one) for one in arguments]
    if path.suffix != ".ipynb":
        return {"script": name, "arguments": said}, folder
    if said:
        raise Invalid("A notebook takes no arguments.", hint="It has parameters: --parameter NAME=VALUE")
    return {"notebook": name}, folder


def name_of(script: str | os.PathLike[str]) -> str:
    """What a job that runs it is called, as far as that can stand in a name."""
    return re.sub(r"[^A-Za-z0-9._+=,-]+", "-", Path(script).stem).lstrip("._+=,-")[:90] or "job"


def in_python_here(
    manifest: Mapping[str, Any], here: Mapping[str, str], *, note: Callable[[str], None] = lambda text: None
) -> dict[str, Any]:
    """The manifest, to run in the Python environment (venv, conda) that is active in a server of MLMP: what
    works there works in the job, which sees the same files. Elsewhere, and where it says an image or a ``PATH``, as it
    is.

    :param here: the environment of this process. :param note: is told which one it is.
    """
    said = manifest.get("environment") or {}
    active = next((name for name in ("VIRTUAL_ENV", "CONDA_PREFIX") if here.get(name)), None)
    if active is None or not here.get("MLMP_RESERVATION_ID") or "PATH" not in here:
        return dict(manifest)
    if manifest.get("image") or not isinstance(said, Mapping) or "PATH" in said:
        return dict(manifest)
    note(f"It runs in the Python environment that is active here: {here[active]}")
    return {**manifest, "environment": {**{name: here[name] for name in (active, "PATH")}, **said}}


def submit(api: JobApi, work: Work, *, note: Callable[[str], None] = lambda text: None, **more: Any) -> JobRecord:
    """Checks, packs, sends and submits it. :param note: is told what is left out of the code.

    :raises Invalid, OverLimit, NotAllowed: it is refused.
    """
    sha256 = send_code(api, work, note=note)
    return api.submit(work.manifest, code=sha256, secrets=work.secrets, **more)


def send_code(api: JobApi, work: Work, *, note: Callable[[str], None] = lambda text: None) -> str | None:
    """All of :func:`submit` but the last step; the SHA-256 of the snapshot, None where there is none."""
    normal = api.check(work.manifest)
    if work.code is None:
        return None
    found = job_code.scan(work.code)
    for line in found.left_out[:10]:
        note(f"left out: {line}")
    if len(found.left_out) > 10:
        note(f"left out: {len(found.left_out) - 10} more")
    _check_program(found, normal)
    snapshot = job_code.pack(found)
    try:
        api.keep(snapshot)
    finally:
        snapshot.close()
    return snapshot.sha256


def _check_program(found: job_code.Found, normal: Mapping[str, Any]) -> None:
    """:raises NotFound: what is to run is not among the code, so that the job could only fail."""
    name = normal.get("script") or normal.get("notebook")
    if name is None:
        return
    inside = str(PurePosixPath(str(normal.get("directory") or ".")) / str(name))
    if not found.has(inside):
        raise NotFound(
            f"There is no {inside!r} among the code in {found.root}.",
            hint=f"Is it named in {found.root / job_code.IGNORE_FILE}, or a link that leads elsewhere?",
        )
