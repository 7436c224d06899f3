"""Spawners of pods whose start was admitted, and the manifests that they make. No cluster is asked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from kubernetes_asyncio.config import kube_config
from traitlets.config import Config

from mlmp_spawner.deadlines import Deadline
from mlmp_spawner.operations.admission import Admission
from mlmp_spawner.rules.catalog import Share
from mlmp_spawner.rules.reservations import Allocation, Reservation
from mlmp_spawner.spawners.kube import MLMPKubeSpawner
from mlmp_spawner.units import HOUR, now

GPU = "nvidia.com/gpu"


@pytest.fixture(autouse=True, scope="module")
def kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cluster that is nowhere: the client wants a name for it."""
    path = tmp_path_factory.mktemp("kube") / "config"
    path.write_text(
        json.dumps(
            {
                "current-context": "none", "users": [{"name": "none", "user": {}}],
                "clusters": [{"name": "none", "cluster": {"server": "http://127.0.0.1:9"}}],
                "contexts": [{"name": "none", "context": {"cluster": "none", "user": "none"}}],
            }
        )
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(path))  # read from KUBECONFIG at its import
        yield


def made(config: dict[str, Any] | None = None, **booked: Any) -> MLMPKubeSpawner:
    """A spawner whose start was admitted: two GPUs on gpu-2 for four hours."""
    spawner = MLMPKubeSpawner(config=Config({"MLMPKubeSpawner": config or {}}), _mock=True)
    spawner.user = SimpleNamespace(
        name="ann@x.org", id=1, url="/user/ann/", escaped_name="ann", groups=[], settings={}, server_url=lambda _: "/",
    )  # fmt: skip
    spawner.hub = SimpleNamespace(base_url="/hub/", api_url="http://hub/hub/api", url="http://hub/", public_host="")
    spawner.oauth_client_allowed_scopes = []
    spawner.api_token = "secret"
    begin = now()
    said: dict[str, Any] = {"units": 2, "resource": GPU} | booked
    reservation = Reservation(
        "abcdefgh2345", "ann@x.org", "gpu", said["resource"], said["units"], begin, begin + 4 * HOUR,
        allocations=(Allocation("abcdefgh2345", "gpu-2", said["resource"], said["units"], begin, begin + 4 * HOUR),),
    )  # fmt: skip
    deadline = Deadline(reservation.end - 30_000, reservation.end)
    spawner._admitted = Admission(reservation, "gpu-2", (), deadline)
    spawner.server_id = reservation.id
    spawner._share = Share(8.0, 64 << 30)
    spawner._resource = GPU if said["resource"] == GPU else ""
    spawner._latest_end = reservation.end
    return spawner


async def manifest(spawner: MLMPKubeSpawner) -> dict[str, Any]:
    """The pod as the cluster would get it: the same steps as in a start."""
    await spawner.load_user_options()
    pod = await spawner.modify_pod_hook(spawner, await spawner.get_pod_manifest())
    return cast(dict[str, Any], spawner.api.api_client.sanitize_for_serialization(pod))


def resources(pod: dict[str, Any]) -> dict[str, Any]:
    """What the server asks for."""
    return cast(dict[str, Any], pod["spec"]["containers"][0]["resources"])
