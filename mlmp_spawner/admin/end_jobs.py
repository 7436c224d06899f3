"""What the Helm chart runs when it has been uninstalled: ends all jobs, and takes their queues out of Kueue.

Nobody would start them any more, or end them. Users' files stay, and so does the database: after a new install the
jobs are queued again. To be run by ``python -m mlmp_spawner.admin.end_jobs``; it may be killed and run again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import click

from mlmp_spawner.errors import Changed, MLMPError, NotFound
from mlmp_spawner.jobs.pod_attempts import gated
from mlmp_spawner.jobs.pod_outcomes import how_ended
from mlmp_spawner.kube.client import Connection
from mlmp_spawner.kube.job_pods import RECORD
from mlmp_spawner.kube.job_queues import MANAGER
from mlmp_spawner.kube.labels import JOB, KIND
from mlmp_spawner.kube.objects import ClusterObjects, Objects

log = logging.getLogger("mlmp.end_jobs")

GRACE = 30
"""Seconds between SIGTERM and SIGKILL, whatever a job was promised."""
PATIENCE = 120.0
"""Seconds until the pods have to be gone: what their nodes do not end by then is left."""
LOOK = 1.0

_OF_ALL = ("ResourceFlavor", "WorkloadPriorityClass", "AdmissionCheck")
_NAMESPACE = "kubernetes.io/metadata.name"


async def end_jobs(
    cluster: Objects, namespace: str, *, grace: int = GRACE, patience: float = PATIENCE, every: float = LOOK
) -> bool:
    """Ends all jobs in a namespace and takes away what was made for them; whether all of it is gone.

    :param every: seconds between two looks at the pods. :raises MLMPError: the cluster does not answer, or refuses.
    """
    for one in await cluster.metadata("Job", f"{KIND}={JOB}"):
        await cluster.delete("Job", one["name"])
    gone = await _end_pods(cluster, grace, patience, every)
    for kind in ("Service", "NetworkPolicy"):
        for one in await cluster.metadata(kind, f"{KIND}={JOB}"):
            await cluster.delete(kind, one["name"])
    for one in await cluster.metadata(RECORD, f"{KIND}={JOB}"):
        await cluster.delete("Secret", one["name"])  # which has no other name, so that nobody has to list any
        await cluster.delete(RECORD, one["name"])
    await _take_queues(cluster, namespace)
    return gone


async def _end_pods(cluster: Objects, grace: int, patience: float, every: float) -> bool:
    until = time.monotonic() + patience
    while pods := await cluster.items("Pod", f"{KIND}={JOB}"):
        for pod in pods:
            await _end(cluster, pod, grace)
        if time.monotonic() >= until:
            left = ", ".join(sorted(str(pod["metadata"]["name"]) for pod in pods))
            log.error("still there after %g s, so their nodes do not end them: %s", patience, left)
            return False
        await asyncio.sleep(every)
    return True


async def _end(cluster: Objects, pod: dict[str, Any], grace: int) -> None:
    metadata = pod["metadata"]
    given = metadata.get("deletionGracePeriodSeconds")
    if given is None or given > grace:
        await cluster.delete("Pod", metadata["name"], uid=metadata["uid"], grace=grace)
    if (gated(pod) or how_ended(pod) is not None) and metadata.get("finalizers"):  # Kueue may be gone already
        freed = {"name": metadata["name"], "uid": metadata["uid"], "finalizers": None}
        try:
            await cluster.patch({"apiVersion": "v1", "kind": "Pod", "metadata": freed})
        except (Changed, NotFound):
            return


async def _take_queues(cluster: Objects, namespace: str) -> None:
    """What MLMP made in Kueue; what all queues share stays as long as another MLMP has some."""
    for one in _ours(await cluster.metadata("LocalQueue")):
        await cluster.delete("LocalQueue", one["name"])
    others = False
    for queue in await cluster.items("ClusterQueue"):
        if not _ours([queue["metadata"]]):
            continue
        selected = ((queue.get("spec") or {}).get("namespaceSelector") or {}).get("matchLabels") or {}
        if selected.get(_NAMESPACE) == namespace:
            await cluster.delete("ClusterQueue", queue["metadata"]["name"])
        else:
            others = True
    for kind in () if others else _OF_ALL:
        for one in _ours(await cluster.metadata(kind)):
            await cluster.delete(kind, one["name"])


def _ours(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        one for one in found if any(entry.get("manager") == MANAGER for entry in one.get("managedFields") or ())
    ]  # fmt: skip


@click.command()
@click.option("--namespace", required=True, help="That of users' pods.")
def main(namespace: str) -> None:
    """End all jobs and take their queues out of Kueue (internal)."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        gone = asyncio.run(_main(namespace))
    except MLMPError as error:
        raise click.ClickException(error.detail) from error
    if not gone:
        raise SystemExit(1)


async def _main(namespace: str) -> bool:
    connection = Connection()
    try:
        return await end_jobs(ClusterObjects(namespace, connection, connection), namespace)
    finally:
        await connection.close()


if __name__ == "__main__":
    main()
