"""What can't start says so within seconds, with the reason and what to do; nobody waits for a timeout."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kubernetes import client

from tests.cluster.release import API, RESOURCE, Release
from tests.live import wait_for

SECONDS = 30
"""At most, from the start to the reason."""


def refused(release: Release, booking: dict[str, Any], *, at_most: float = SECONDS) -> str:
    """Starts it and waits for the reason, as the hub tells it on the page of the start."""
    begun = time.monotonic()
    person = release.api(booking["owner"])
    answer = person.api.post(f"{API}/{booking['id']}/start")
    text = answer.text if answer.status_code >= 400 else progress(person.api, person.server_path(booking["server"]))
    took = time.monotonic() - begun
    print(f"{took:.1f} s: {text}")
    assert took < at_most
    person.api.delete(f"{API}/{booking['id']}")
    wait_for(lambda: release.pod_of(booking) is None, 60, "the end of the pod that could not start")
    return text


def progress(api: Any, server: str) -> str:
    """What the page of a start that fails shows last."""
    with api.stream("GET", f"{server}/progress", timeout=120) as events:
        lines = [line for line in events.iter_lines() if line.startswith("data:")]
    assert '"failed": true' in lines[-1], lines[-3:]
    return lines[-1]


def test_an_image_that_does_not_exist(release: Release) -> None:
    text = refused(release, release.book("ann", 600, image="missing"))
    assert "no-such-image" in text


def test_units_that_are_taken_by_a_pod_that_is_not_ours(release: Release) -> None:
    node = release.cluster.nodes[0]
    with foreign_pod(release, node, release.units(node)):
        text = refused(release, release.book("ann", 600, node=node))
    assert node in text


def test_a_node_that_was_cordoned(release: Release) -> None:
    node = release.cluster.nodes[0]
    booking = release.book("ann", 600, node=node)
    release.core.patch_node(node, {"spec": {"unschedulable": True}})
    try:
        text = refused(release, booking)
    finally:
        release.core.patch_node(node, {"spec": {"unschedulable": False}})
    assert node in text


def test_a_quota_of_the_namespace(release: Release) -> None:
    quota = {"metadata": {"name": "small"}, "spec": {"hard": {f"requests.{RESOURCE}": "0"}}}
    release.core.create_namespaced_resource_quota(release.users, quota)
    try:
        text = refused(release, release.book("ann", 600))
    finally:
        release.core.delete_namespaced_resource_quota("small", release.users)
    assert "quota" in text


@contextmanager
def foreign_pod(release: Release, node: str, units: int) -> Iterator[None]:
    """Somebody else's pod on all GPUs of a node."""
    core: client.CoreV1Api = release.core
    container = {
        "name": "train", "image": release.cluster.debian, "command": ["sleep", "600"],
        "resources": {"limits": {RESOURCE: str(units)}},
    }  # fmt: skip
    spec = {"nodeName": node, "containers": [container], "terminationGracePeriodSeconds": 0}
    core.create_namespaced_pod("default", {"metadata": {"name": "foreign"}, "spec": spec})
    wait_for(lambda: core.read_namespaced_pod("foreign", "default").status.phase == "Running", 60, "the foreign pod")
    try:
        yield
    finally:
        core.delete_namespaced_pod("foreign", "default", grace_period_seconds=0)
        gone = "metadata.name=foreign"
        wait_for(lambda: not core.list_namespaced_pod("default", field_selector=gone).items, 60, "its end")
