"""What all tests on a real cluster share. Without one they are skipped, with the command that makes one."""

from __future__ import annotations

import os
import re
import time
import uuid
from collections.abc import Generator, Iterator

import pytest
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from tests.cluster.release import release  # noqa: F401 -- a fixture
from tests.cluster.rig import cluster as clusters
from tests.cluster.rig import logs
from tests.cluster.rig.cluster import Cluster, OtherClusterError
from tests.cluster.training import training  # noqa: F401 -- a fixture


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests of this folder are cluster tests."""
    for item in items:
        if "tests/cluster/" in item.path.as_posix():
            item.add_marker(pytest.mark.cluster)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    """What would break somebody else's cluster is skipped there."""
    try:
        return (yield)
    except OtherClusterError as error:
        pytest.skip(str(error))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """The same, where only the test itself comes to it."""
    try:
        return (yield)
    except OtherClusterError as error:
        pytest.skip(str(error))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keeps what the cluster says of a failed test's namespace, which is gone soon."""
    report = yield
    cluster = getattr(item.session, "mlmp_cluster", None)
    if report.failed and cluster is not None:
        folder = logs.folder() / re.sub(r"[^\w.-]+", "_", item.name)[:80]
        logs.keep_cluster(folder, cluster.kubeconfig)
        report.sections.append(("the cluster", f"objects, events and logs as they were then: {folder}"))
    return report


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Cluster:
    """What KUBECONFIG names, else the project's own that is up on this machine."""
    found = clusters.find()
    if found is None:
        pytest.skip("no cluster: `make test-cluster` makes one, or KUBECONFIG names one")
    request.session.mlmp_cluster = found  # type: ignore[attr-defined]
    return found


@pytest.fixture(autouse=True)
def healed(request: pytest.FixtureRequest) -> Iterator[None]:
    """No test leaves the cluster broken for the next, or with programs that have not caught up yet."""
    yield
    cluster: Cluster | None = getattr(request.session, "mlmp_cluster", None)
    if cluster is None or not cluster.ours:
        return
    if not cluster.whole():
        cluster.heal()
    if cluster.api_server.was_away:
        cluster.catch_up()


@pytest.fixture(scope="session")
def core(cluster: Cluster) -> client.CoreV1Api:
    """The official client: what kubernetes_asyncio did is judged by another."""
    return cluster.core()


@pytest.fixture(scope="module")
def namespace(core: client.CoreV1Api, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace of the module's own, gone with all that is in it when the next module begins."""
    module = request.path.stem.removeprefix("test_").replace("_", "-")
    name = f"{module[:40]}-{uuid.uuid4().hex[:6]}"
    core.create_namespace({"metadata": {"name": name}})
    yield name
    if "MLMP_TEST_KEEP" not in os.environ:
        delete_namespace(core, name)


def delete_namespace(core: client.CoreV1Api, name: str, *, seconds: float = 90) -> None:
    """Returns when it is gone: its pods hold GPUs until then."""
    core.delete_namespace(name)
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        try:
            core.read_namespace(name)
        except ApiException as error:
            if error.status == 404:
                return
            raise
        time.sleep(0.3)
    raise AssertionError(f"namespace {name} is still there {seconds:g} s after its deletion")
