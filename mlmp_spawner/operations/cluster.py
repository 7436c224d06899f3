"""The service's side of a Kubernetes cluster: its parts, wired."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from mlmp_spawner.hub import HubClient
from mlmp_spawner.jobs.files import JobFiles
from mlmp_spawner.jobs.kube import KubeJobs
from mlmp_spawner.jobs.kueue import ClusterKueue
from mlmp_spawner.jobs.pod_tokens import PodTokens
from mlmp_spawner.jobs.surroundings import HubSurroundings
from mlmp_spawner.kube.client import Connection
from mlmp_spawner.kube.nodes import NodeReader
from mlmp_spawner.kube.objects import ClusterObjects
from mlmp_spawner.kube.pods import Pods
from mlmp_spawner.kube.preloading import PreloadPods
from mlmp_spawner.operations.jobs.admission_look import KueueStarts
from mlmp_spawner.operations.node_watch import NodeWatch
from mlmp_spawner.operations.own_units import OwnUnits
from mlmp_spawner.operations.pod_servers import PodServers
from mlmp_spawner.operations.preload import Preloads, settings_of
from mlmp_spawner.operations.site import Site
from mlmp_spawner.operations.watch import Activity
from mlmp_spawner.settings import MLMP
from mlmp_spawner.units import DAY, MINUTE

START_GRACE = 5 * MINUTE
"""Until the pod is there only the hub knows of a start; it tries for three minutes to create one."""


class Cluster:
    """Servers as pods. What pods do with their GPUs is not looked at here, so nothing counts as idle.

    :param secret: the service's own, of which its pods' tokens are made.
    """

    start_grace = START_GRACE

    def __init__(self, site: Callable[[], Site], settings: MLMP, hub: HubClient, *, secret: bytes) -> None:
        self.connection = Connection()
        self.streams = Connection(streams=True)
        pods = Pods(settings.namespace, self.connection)
        self.servers = PodServers(pods, hub, silent_after=settings.hub_silent_after)
        self.nodes = NodeWatch(site, settings, NodeReader(self.connection))
        self.jobs: KubeJobs | None = None
        self.job_starts: KueueStarts | None = None
        self.own_units: OwnUnits | None = None
        # Also where c.MLMP.jobs is False: those that run come to their end. The chart gives no address, and no rights,
        # with jobs.enabled: false, and refuses that as long as any run.
        if settings.job_api_url:
            self._make_jobs(site, settings, hub, secret)
        self.images = Preloads(site, settings, PreloadPods(self.connection, settings_of(settings)))

    def _make_jobs(self, site: Callable[[], Site], settings: MLMP, hub: HubClient, secret: bytes) -> None:
        objects = ClusterObjects(settings.namespace, self.connection, self.streams)
        kueue = ClusterKueue(objects)
        around = HubSurroundings(
            hub,
            image=settings.job_image,
            pull_secrets=tuple(settings.job_pull_secrets),
            api_url=settings.job_api_url,
            closed=settings.job_network_closed,
        )
        files = JobFiles(Path(settings.data) / "jobs")
        self.jobs = KubeJobs(objects, files, around, PodTokens(secret).make, kueue)
        half_life = round(settings.job_half_life * DAY)
        self.job_starts = KueueStarts(kueue, lambda: self.nodes.last.nodes, settings.namespace, half_life=half_life)
        if settings.declare_units:
            self.own_units = OwnUnits(site, lambda: self.nodes.last.nodes, objects)

    def answers(self) -> bool:
        """Whether the cluster did the last time it was asked."""
        return self.servers.answers

    def watched(self, now: int) -> bool:
        """Nobody looks."""
        return False

    def activity(self) -> Activity:
        """What was seen of the nodes; nobody looks at what the servers do."""
        return Activity(cluster=self.nodes.last)

    def loops(self) -> list[Coroutine[Any, Any, None]]:
        """What looks after nodes and images."""
        units = [self.own_units.run()] if self.own_units is not None else []
        return [self.nodes.run(), self.images.run(), *units]

    async def close(self) -> None:
        """Closes the connections to the cluster."""
        if self.jobs is not None:
            await self.jobs.close()
        await self.streams.close()
        await self.servers.close()
