"""Where users' servers run, as the service sees it: this machine, or a Kubernetes cluster.

A back-end brings the catalog, the way to the servers, and the loops that look after what it runs on.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Protocol

from mlmp_spawner.hub import HubClient
from mlmp_spawner.jobs.base import Backend as JobBackend
from mlmp_spawner.jobs.files import JobFiles
from mlmp_spawner.jobs.local import LocalJobs
from mlmp_spawner.operations.clock import START_GRACE, Servers
from mlmp_spawner.operations.image_states import Preloading
from mlmp_spawner.operations.jobs.starts import Starts
from mlmp_spawner.operations.local_servers import LocalServers
from mlmp_spawner.operations.site import Site
from mlmp_spawner.operations.watch import Activity, Watch
from mlmp_spawner.settings import MLMP


class Backend(Protocol):
    """What the service needs to know of the place where servers run."""

    @property
    def servers(self) -> Servers:
        """What runs, and how it is reached."""

    @property
    def start_grace(self) -> int:
        """For how long (ms) nothing is concluded from not seeing what was admitted."""

    @property
    def images(self) -> Preloading | None:
        """What has images on their nodes ahead of time; None where servers run in none."""

    @property
    def jobs(self) -> JobBackend | None:
        """What runs jobs; None where nothing does."""

    @property
    def job_starts(self) -> Starts | None:
        """How jobs that wait are started; None where they are all at once."""

    def answers(self) -> bool | None:
        """Whether the cluster did the last time it was asked; None where there is none to ask."""

    def watched(self, now: int) -> bool:
        """Whether somebody looks at what servers do just now, so that what does nothing is idle."""

    def activity(self) -> Activity:
        """What the last look saw."""

    def loops(self) -> list[Coroutine[Any, Any, None]]:
        """What runs as long as the service does. No failure may end one of them."""

    async def close(self) -> None:
        """Gives back what it holds open."""


class ThisMachine:
    """Servers as processes below ``mlmp run``; the service looks at GPUs and processes.

    :param seen: is called with what each look saw.
    """

    start_grace = START_GRACE
    images = None
    job_starts = None

    def __init__(
        self, site: Callable[[], Site], settings: MLMP, hub: HubClient, *, seen: Callable[[Activity], None]
    ) -> None:
        self.servers = LocalServers(Path(settings.data), hub, silent_after=settings.hub_silent_after)
        self.watch = Watch(site, settings, seen=seen)
        self.jobs = LocalJobs(JobFiles(Path(settings.data) / "jobs"))

    def answers(self) -> bool | None:
        """There is no cluster."""
        return None

    def watched(self, now: int) -> bool:
        """Whether the last look at what servers do is recent."""
        return self.watch.looks(now)

    def activity(self) -> Activity:
        """What the last look saw."""
        return self.watch.last

    def loops(self) -> list[Coroutine[Any, Any, None]]:
        """The looks."""
        return [self.watch.run()]

    async def close(self) -> None:
        """Nothing is held open."""


def make_backend(
    site: Callable[[], Site], settings: MLMP, hub: HubClient, *, seen: Callable[[Activity], None], secret: bytes
) -> Backend:
    """The back-end that the settings ask for. :param secret: the service's own."""
    if settings.backend == "kubernetes":
        from mlmp_spawner.operations.cluster import Cluster  # its libraries are those of the extra [kube]

        return Cluster(site, settings, hub, secret=secret)
    return ThisMachine(site, settings, hub, seen=seen)
