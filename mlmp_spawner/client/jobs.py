"""Training jobs from Python: in a notebook, or in a script that submits others.

::

    from mlmp_spawner.client import jobs

    job = jobs.submit("train.py", "--epochs", 20, profile="gpu", hours=2)
    for text in job.logs(follow=True):
        print(text, end="")

    tried = jobs.map("train.py", [{"lr": 0.1}, {"lr": 0.01}], profile="gpu", hours=1)
    best = max((job for job in jobs.wait(tried) if job.succeeded), key=lambda job: job.last("accuracy"))

The code is packed as it is when it is submitted; what is edited afterwards changes nothing. It runs in the Python
environment (venv, conda) that is active, as with ``mlmp job run``. A refusal raises one of
:mod:`mlmp_spawner.errors`.
"""

from __future__ import annotations

import functools
import os
import time
import uuid
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlmp_spawner.client import config, job_submit
from mlmp_spawner.client.api import Client
from mlmp_spawner.client.config import Access
from mlmp_spawner.client.job_models import JobRecord
from mlmp_spawner.client.job_submit import Work
from mlmp_spawner.client.scans import Scan
from mlmp_spawner.errors import Invalid, MLMPError

__all__ = ["Job", "Scan", "get", "ls", "map", "scan", "submit", "wait"]

FIRST_STEP, LONGEST_STEP = 0.5, 5.0
"""Seconds between two looks at jobs, first and as they take long."""

FEW = 3
"""So many jobs are asked for one by one; of more, the list of those that are open is."""


class Job:
    """A job that was submitted. ``record`` is what was last seen of it; :meth:`refresh` looks again."""

    def __init__(self, client: Client, record: JobRecord) -> None:
        self.client = client
        self.record = record
        self._api = client.jobs

    def __repr__(self) -> str:
        """For example ``<Job k3v9x0a2b1cd train running>``."""
        return f"<Job {self.id} {self.record.name} {self.record.outcome or self.state}>"

    @property
    def id(self) -> str:
        """By which it is known."""
        return self.record.id

    @property
    def state(self) -> str:
        """``queued``, ``starting``, ``running``, ``stopping`` or ``ended``, when last seen."""
        return self.record.state

    @property
    def ended(self) -> bool:
        """Whether it was over when last seen."""
        return self.record.ended

    @property
    def succeeded(self) -> bool:
        """Whether it was over when last seen, and did what it should."""
        return self.record.succeeded

    def refresh(self) -> Job:
        """Looks again."""
        self.record = self._api.get(self.id)
        return self

    def wait(self, timeout: float | None = None) -> Job:
        """Until it is over. :param timeout: seconds. :raises TimeoutError: it is not by then."""
        wait([self], timeout)
        return self

    def logs(self, follow: bool = False, *, attempt: int | None = None) -> Iterator[str]:
        """Its log, piece by piece: as far as it is now, or with ``follow`` until the job is over.

        :param attempt: of this try alone, without ``follow``; None: of the last.
        """
        if not follow:
            return self._api.log(self.id, attempt)
        if attempt is not None:
            raise Invalid("An attempt's log is followed with those after it: leave out attempt, or follow.")
        return (piece for piece in self._api.follow(self.id) if isinstance(piece, str))

    def metrics(self, attempt: int | str = "all") -> dict[str, dict[str, list[Any]]]:
        """What it measured, of each name ``steps``, ``values`` and ``at`` (times)."""
        return dict(self._api.metrics(self.id, attempt)["series"])

    def usage(self, attempt: int | str = "all") -> dict[str, dict[str, list[Any]]]:
        """What it used of processors, memory and GPUs; as :meth:`metrics`."""
        return dict(self._api.metrics(self.id, attempt)["usage"])

    def last(self, metric: str) -> float:
        """The last finite value of a metric. :raises Invalid: it has none of that name; it says which it has."""
        series = self.metrics()
        values = [value for value in series.get(metric, {}).get("values", ()) if value is not None]
        if not values:
            raise Invalid(f"Job {self.id} has no metric {metric!r}; it has {', '.join(sorted(series)) or 'none'}.")
        return float(values[-1])

    def cancel(self) -> Job:
        """Ends it: at once where it waits, after its grace where it runs."""
        self.record = self._api.cancel(self.id)
        return self

    def resubmit(self) -> Job:
        """Puts the same once more into the queue; the new job."""
        return Job(self.client, self._api.resubmit(self.id))


def submit(
    script: str | os.PathLike[str] | None = None,
    *arguments: object,
    profile: str,
    code: str | os.PathLike[str] | None = None,
    secrets: Mapping[str, str] | None = None,
    client: Client | None = None,
    **manifest: Any,
) -> Job:
    """Submits a script (with its arguments) or a notebook, or a ``command`` that is installed where it runs.

    :param code: the folder that is packed with it. Left out: the current one where the script is in there, else the
        script's own; with ``command`` none.
    :param secrets: environment that is never shown. :param manifest: further keys of the manifest, such as ``hours``,
        ``units``, ``workers``, ``parameters``, ``environment``, ``metrics``, ``retries``.
    :raises NotFound: there is no such script. :raises Invalid, OverLimit, NotAllowed: it is refused.
    """
    client = client or _client(config.load())
    work = _work(script, arguments, code, secrets or {}, {"profile": profile, **manifest})
    sha256 = job_submit.send_code(client.jobs, work, note=_warn)
    return Job(client, client.jobs.submit(work.manifest, code=sha256, secrets=work.secrets))


def map(
    script: str | os.PathLike[str],
    parameters: Iterable[Mapping[str, Any] | Sequence[object]],
    *,
    client: Client | None = None,
    **settings: Any,
) -> list[Job]:
    """Submits a job for each of ``parameters``, all with the same code.

    :param parameters: of each job its arguments as a list; or names with values, which become ``--name value`` for a
        script (``--name`` alone for True, nothing for False and None) and the parameters of a notebook.
    :param settings: as of :func:`submit`.
    :raises MLMPError: one was refused; those before it are submitted, and named in its ``hint``.
    """
    client = client or _client(config.load())
    works = [_one_of_many(script, one, place, **settings) for place, one in enumerate(parameters, 1)]
    if not works:
        return []
    sha256 = job_submit.send_code(client.jobs, works[0], note=_warn)
    batch = uuid.uuid4().hex[:16]
    made: list[Job] = []
    for place, work in enumerate(works):
        try:
            found = client.jobs.submit(work.manifest, code=sha256, secrets=work.secrets, batch=batch, place=place)
        except MLMPError as error:
            if made:
                error.hint = f"{len(made)} of {len(works)} were submitted: {', '.join(job.id for job in made)}"
            raise
        made.append(Job(client, found))
    return made


def scan(
    script: str | os.PathLike[str],
    parameters: Mapping[str, Any] | Sequence[Mapping[str, Any]],
    *arguments: object,
    profile: str,
    out: str | None = None,
    at_once: int | None = None,
    samples: int | None = None,
    seed: int = 0,
    code: str | os.PathLike[str] | None = None,
    secrets: Mapping[str, str] | None = None,
    client: Client | None = None,
    **manifest: Any,
) -> Scan:
    """Submits a script or a notebook once for each row of parameters, all or none::

        tried = jobs.scan("train.py", {"lr": [0.1, 0.01], "bs": [32, 64]}, profile="gpu", out="runs/lr={lr}/bs={bs}")
        best = tried.wait().best("accuracy")

    :param parameters: of each name its values, of which each combination is run, or ``{"from": 1e-5, "to": 0.1,
        "steps": 5, "scale": "log"}``; or a list of rows. A script gets them as ``--name value``.
    :param out: the directory in the home for what each row makes: its program finds it in ``MLMP_OUTPUT_DIR``.
    :param at_once: how many may run at a time.
    :param samples: so many rows by chance, not each combination; the same ``seed`` gives the same ones.
    :param manifest: further keys, as of :func:`submit`.
    :raises Invalid, OverLimit, NotAllowed: it is refused; then nothing is submitted.
    """
    client = client or _client(config.load())
    work = _work(script, arguments, code, secrets or {}, {"profile": profile, **manifest})
    kind = "random" if samples is not None else "grid" if isinstance(parameters, Mapping) else "list"
    said = dict(parameters) if isinstance(parameters, Mapping) else [dict(row) for row in parameters]
    asked: dict[str, Any] = {"manifest": work.manifest, "kind": kind, "parameters": said, "samples": samples,
                             "seed": seed, "out": out, "at_once": at_once}  # fmt: skip
    return Scan(client.scans, client.scans.send(client.jobs, work, asked, note=_warn))


def wait(waiting: Iterable[Job], timeout: float | None = None) -> list[Job]:
    """Until all are over; the same jobs, looked at again.

    :param timeout: seconds. :raises TimeoutError: some are not over by then.
    """
    jobs = list(waiting)
    until = None if timeout is None else time.monotonic() + timeout
    step = FIRST_STEP
    while left := _look_at([job for job in jobs if not job.ended]):
        rest = step if until is None else min(step, until - time.monotonic())
        if rest <= 0:
            raise TimeoutError(
                f"{len(left)} of {len(jobs)} jobs are not over after {timeout:g} s, such as {left[0].id}"
            )
        time.sleep(rest)
        step = min(step * 1.5, LONGEST_STEP)
    return jobs


def get(id: str, *, client: Client | None = None) -> Job:
    """One job by its id. :raises NotFound: there is no such."""
    client = client or _client(config.load())
    return Job(client, client.jobs.get(id))


def ls(*, state: str | None = None, batch: str | None = None, client: Client | None = None) -> list[Job]:
    """One's own jobs, the newest first. :param state: only those in it; ``open``: all that are not over."""
    client = client or _client(config.load())
    return [Job(client, one) for one in client.jobs.list(owner=client.me().name, state=state, batch=batch)]


def _look_at(waiting: list[Job]) -> list[Job]:
    """Looks again at each that may be over; those that are not."""
    still: set[str] = set()
    if len(waiting) > FEW:
        client = waiting[0].client
        still = client.jobs.patiently(
            lambda: {one.id for one in client.jobs.list(owner=client.me().name, state="open")}
        )
    return [job for job in waiting if job.id in still or not job.client.jobs.patiently(job.refresh).ended]


def _warn(text: str) -> None:
    warnings.warn(text, stacklevel=4)  # at the caller's line


def _work(
    script: str | os.PathLike[str] | None,
    arguments: Sequence[object],
    code: str | os.PathLike[str] | None,
    secrets: Mapping[str, str],
    manifest: Mapping[str, Any],
) -> Work:
    folder = None if code is None else Path(code)
    manifest = job_submit.in_python_here(manifest, os.environ)
    if secrets:
        manifest["secrets"] = list(secrets)
    if script is None:
        return Work(manifest, folder, secrets)
    runs, folder = job_submit.program(script, arguments, code=folder)
    return Work({**runs, **manifest}, folder, secrets)


def _one_of_many(
    script: str | os.PathLike[str],
    said: Mapping[str, Any] | Sequence[object],
    place: int,
    *,
    profile: str,
    code: str | os.PathLike[str] | None = None,
    secrets: Mapping[str, str] | None = None,
    **manifest: Any,
) -> Work:
    name = f"{manifest.pop('name', None) or job_submit.name_of(script)}-{place}"
    same = {"profile": profile, **manifest, "name": name}
    if isinstance(said, str):
        raise Invalid(f"{said[:40]!r} is one text; each job has a list of arguments, or names with values.")
    if not isinstance(said, Mapping):
        return _work(script, said, code, secrets or {}, same)
    if os.fspath(script).endswith(".ipynb"):
        return _work(script, (), code, secrets or {}, {**same, "parameters": dict(said)})
    return _work(script, _options(said), code, secrets or {}, same)


def _options(said: Mapping[str, Any]) -> list[str]:
    options: list[str] = []
    for name, value in said.items():
        if value is True:
            options.append(f"--{name}")
        elif value is not None and value is not False:
            options += [f"--{name}", str(value)]
    return options


@functools.lru_cache(maxsize=4)
def _client(access: Access) -> Client:
    """One for each hub and token, so that its connections are used again."""
    return Client(access)
