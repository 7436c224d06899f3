"""The service asks a real hub as whom somebody's jobs run: their folder is made, and nobody else may ask."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from kubernetes import client

from mlmp_spawner.errors import NotAllowed, NotFound
from mlmp_spawner.hub import HubClient
from mlmp_spawner.jobs.surroundings import HubSurroundings
from tests.cluster.hub_here import TOKEN, Hub
from tests.cluster.rig.cluster import Cluster
from tests.cluster.test_homes import claim
from tests.cluster.test_spawner import resource

__all__ = ["resource"]

SERVICES = "another-token-for-tests-0123456789"
SETTINGS = """
c.JupyterHub.services = [one | ({{"api_token": {token!r}}} if one["name"] == "mlmp" else {{}})
                         for one in c.JupyterHub.services]
c.JupyterHub.load_roles += [{{"name": "mlmp", "services": ["mlmp"], "scopes": ["list:users"]}}]
from mlmp_spawner.spawners.job_surroundings import serve
serve(c)
c.KubeSpawner.update(uid=1000, gid=100, namespace={namespace!r})
c.MLMPKubeSpawner.storage = {{"claim": {claim!r}, "home": "/home/jovyan", "folders":
    {{"namespace": {namespace!r}, "claim": {claim!r}, "image": {image!r}, "by": "root"}}}}
"""


@pytest.fixture(scope="module")
def hub(
    cluster: Cluster, core: client.CoreV1Api, namespace: str, resource: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Hub]:  # fmt: skip
    """One whose users have folders in one claim."""
    settings = SETTINGS.format(
        token=SERVICES, namespace=namespace, claim=claim(core, namespace), image=cluster.images["hub"]
    )
    made = Hub(
        tmp_path_factory.mktemp("hub"), core, namespace, kubeconfig=cluster.kubeconfig, image=cluster.debian,
        resource=resource, nodes={cluster.nodes[0]: 2}, settings=settings,
    )  # fmt: skip
    try:
        yield made.start()
    finally:
        made.close()


def asking(hub: Hub, token: str) -> HubClient:
    return HubClient(f"http://127.0.0.1:{hub.port}/hub/api", token)


async def test_the_folder_of_somebody_who_never_had_a_server_is_made(
    hub: Hub, core: client.CoreV1Api, namespace: str
) -> None:
    hub.api.post("/hub/api/users/ann@x.org")
    service = asking(hub, SERVICES)
    found = await HubSurroundings(service, image="mlmp/hub:1", api_url="http://mlmp/api/v1/")("ann@x.org")
    await service.close()
    assert (found.account.uid, found.account.gid, found.namespace) == (1000, 100, namespace)
    assert found.folder.startswith("ann-x-org---")
    events = core.list_namespaced_event(namespace).items
    homes = {one.involved_object.name for one in events if (one.involved_object.name or "").startswith("mlmp-home-")}
    assert len(homes) == 1, "one pod made it"
    left = core.list_namespaced_pod(namespace, label_selector="mlmp.dev/kind=home").items
    assert all(pod.metadata.deletion_timestamp for pod in left), "and it is gone"


async def test_nobody_else_may_ask_not_even_who_may_start_servers_of_all(hub: Hub) -> None:
    other = asking(hub, TOKEN)
    with pytest.raises(NotAllowed, match="custom:mlmp:surroundings"):
        await other.surroundings("ann@x.org")
    await other.close()


async def test_of_whom_the_hub_does_not_know_nothing_is_made(hub: Hub) -> None:
    service = asking(hub, SERVICES)
    with pytest.raises(NotFound, match="nobody"):
        await service.surroundings("nobody")
    await service.close()
    assert hub.api.get("/hub/api/users/nobody").status_code == 404
