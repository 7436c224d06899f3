"""What is asked of the API for an object, and what its answers mean. What the real one does: tests/cluster."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web
from aiohttp.test_utils import TestServer

from mlmp_spawner.errors import Changed, MLMPError, NotFound, NotTaken, Unavailable
from mlmp_spawner.kube.client import Connection
from mlmp_spawner.kube.objects import ClusterObjects
from mlmp_spawner.units import from_iso

POD = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}}


class Api:
    """Answers all with what the test says, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, dict[str, str], Any]] = []
        self.accepted = ""
        self.status = 200
        self.body: bytes = b"{}"

    async def answer(self, request: web.Request) -> web.Response:
        said = await request.read()
        self.asked.append((request.method, request.path, dict(request.query), json.loads(said) if said else None))
        self.accepted = request.headers["Accept"]
        return web.Response(status=self.status, body=self.body)

    def says(self, status: int, message: str) -> None:
        self.status, self.body = status, json.dumps({"kind": "Status", "message": message}).encode()


@pytest.fixture
def api() -> Api:
    return Api()


@pytest.fixture
async def objects(api: Api, tmp_path: Path) -> AsyncIterator[ClusterObjects]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", api.answer)
    async with TestServer(app) as server:
        config = tmp_path / "kubeconfig"
        named = {"name": "x", "cluster": {"server": f"http://127.0.0.1:{server.port}"}}
        context = {"name": "x", "context": {"cluster": "x", "user": "x"}}
        users = [{"name": "x", "user": {"token": "t"}}]
        config.write_text(
            yaml.safe_dump({"clusters": [named], "contexts": [context], "users": users, "current-context": "x"})
        )
        connection, streams = Connection(str(config)), Connection(str(config), streams=True)
        yield ClusterObjects("users", connection, streams)
        await connection.close()
        await streams.close()


async def test_an_object_that_is_there_already_is_no_failure_and_one_on_its_way_out_is(objects, api):  # type: ignore[no-untyped-def]
    assert await objects.create(POD)
    assert api.asked == [("POST", "/api/v1/namespaces/users/pods", {}, POD)]
    api.says(409, 'pods "p" already exists')
    assert not await objects.create(POD)
    api.says(409, "object is being deleted: pods p already exists")
    with pytest.raises(Unavailable, match="being deleted"):
        await objects.create(POD)


@pytest.mark.parametrize(
    ("status", "message", "error"),
    [
        (404, "not found", NotFound),
        (409, "the object has been modified", Changed),
        (422, "Pod is invalid: metadata.uid: field is immutable", Changed),
        (422, "spec: Invalid value", NotTaken),
        (403, "may not", NotTaken),
        (401, "Unauthorized", Unavailable),
        (500, "failed calling webhook", Unavailable),
        (429, "too many requests", Unavailable),
    ],
)
async def test_a_change_that_is_refused_says_why(objects, api, status: int, message: str, error: type[MLMPError]):  # type: ignore[no-untyped-def]
    api.says(status, message)
    with pytest.raises(error) as refused:
        await objects.patch(POD)
    assert message in refused.value.detail and type(refused.value) is error


async def test_what_is_applied_is_of_the_whole_cluster_or_of_the_namespace(objects, api):  # type: ignore[no-untyped-def]
    queue = {"kind": "ClusterQueue", "metadata": {"name": "q"}}
    await objects.apply(queue, "mlmp", status=False)
    await objects.apply({"kind": "Workload", "metadata": {"name": "w/../x"}}, "mlmp", status=True)
    said = {"fieldManager": "mlmp", "force": "true"}
    kueue = "/apis/kueue.x-k8s.io/v1beta2"
    assert api.asked[0] == ("PATCH", f"{kueue}/clusterqueues/q", said, queue)
    assert api.asked[1][1] == f"{kueue}/namespaces/users/workloads/w/../x/status", "its slashes are no parts of a path"


async def test_of_secrets_only_their_metadata_is_asked_for(objects, api):  # type: ignore[no-untyped-def]
    api.body = json.dumps({"items": [{"metadata": {"name": "s"}}]}).encode()
    assert await objects.metadata("Secret", "a=b") == [{"name": "s"}]
    assert api.asked[0][2] == {"labelSelector": "a=b"} and "as=PartialObjectMetadataList" in api.accepted


async def test_what_is_gone_or_another_one_is_not_deleted_and_that_is_no_failure(objects, api):  # type: ignore[no-untyped-def]
    for status in (200, 404, 409):
        api.says(status, "")
        await objects.delete("Pod", "p", uid="u", grace=1)
    body = api.asked[0][3]
    assert (body["preconditions"], body["gracePeriodSeconds"]) == ({"uid": "u"}, 1)


async def test_a_log_is_asked_for_with_its_times_from_a_second_on(objects, api):  # type: ignore[no-untyped-def]
    api.body = b"one\ntwo\n"
    found = [piece async for piece in objects.log("p", "main", since=from_iso("2027-01-15T08:00:00.900Z"))]
    assert b"".join(found) == b"one\ntwo\n"
    said = {"container": "main", "follow": "true", "timestamps": "true", "sinceTime": "2027-01-15T08:00:00Z"}
    assert api.asked[0][2] == said
    api.says(400, "container is waiting to start")
    with pytest.raises(NotFound, match="waiting to start"):
        await anext(objects.log("p", "main"))


async def test_a_cluster_that_is_away_can_not_be_asked(tmp_path: Path):
    connection = Connection(str(tmp_path / "none"))
    with pytest.raises(Unavailable):
        await ClusterObjects("users", connection, connection).items("Pod")
