"""The users' servers on a Kubernetes cluster, as the clock sees and reaches them."""

from __future__ import annotations

from mlmp_spawner.deadlines import Deadline
from mlmp_spawner.hub import HubClient
from mlmp_spawner.operations.clock import RunningServer


class PodServers:
    """:class:`~mlmp_spawner.operations.clock.Servers` on a cluster.

    :param namespace: of the users' pods. :param silent_after: seconds after which the hub counts as silent.
    """

    def __init__(self, namespace: str, hub: HubClient, *, silent_after: float = 10.0) -> None:
        self.namespace = namespace
        self.hub = hub
        self.silent_after = silent_after

    async def running(self) -> dict[str, RunningServer]:
        """The servers whose pod is there."""
        raise NotImplementedError

    async def publish(self, server_id: str, deadline: Deadline) -> bool:
        """Writes the deadline on the pod, if it differs."""
        raise NotImplementedError

    async def stop(self, running: RunningServer, deadline: Deadline) -> None:
        """Asks the hub; deletes the pod when the hub is silent."""
        raise NotImplementedError

    async def forget(self, live: set[str]) -> None:
        """Nothing is kept beside the pods."""

    async def close(self) -> None:
        """Closes the connection to the cluster."""
