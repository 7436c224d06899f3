"""Whoever is away, a server ends when its booking does, and not before: on real nodes, with a real clock."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from kubernetes import client

from mlmp_spawner import units
from mlmp_spawner.deadlines import Deadline
from mlmp_spawner.kube.labels import ATTEMPT, ENDS_AT, JOB, KIND, SERVER, STOPS_AT, deadline_annotations
from tests.cluster.conftest import delete_namespace
from tests.cluster.enforcing import House, HungHub, PlayedHub, Proxy, hub_away, through
from tests.cluster.rig.cluster import Cluster

LENGTH, LONGER = 30.0, 12.0
"""Seconds of a booking (it is stopped a tenth before its end), and of the extension that some get."""
LATE, ALL_AWAY_LATE = 15.0, 60.0
OUTAGE = 10.0
"""Seconds beyond the end for which nobody reaches the API server."""


@pytest.fixture
def houses(
    cluster: Cluster, core: client.CoreV1Api, sqlite_file: Path, tmp_path: Path
) -> Iterator[Callable[..., House]]:
    """Makes houses, each in a namespace of its own."""
    made: list[House] = []

    def make(name: str, *, kubeconfig: Path | None = None) -> House:
        namespace = f"enforcement-{name}-{uuid.uuid4().hex[:6]}"
        core.create_namespace({"metadata": {"name": namespace}})
        file = kubeconfig or cluster.kubeconfig
        made.append(House(cluster.core(), namespace, cluster.debian, file, tmp_path / name, sqlite_file))
        return made[-1]

    yield make
    for house in made:
        house.close()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda house: delete_namespace(core, house.namespace), made))


def test_stops_whoever_is_away(houses: Callable[..., House]) -> None:
    well, away, hung, alone = (houses(name) for name in ("all-well", "hub-away", "hub-hung", "both-away"))
    well.run_clock(PlayedHub(well.delete))
    well.run_enforcer()
    away.run_clock(hub_away())  # without an enforcer: the clock itself goes past the hub
    hung.run_clock(HungHub())
    alone.run_enforcer()
    everywhere = (well, away, hung, alone)
    for house in everywhere:
        house.start("ann", LENGTH)
        house.start("ben", LENGTH)
    time.sleep(LENGTH / 2)
    for house in everywhere:
        house.longer("ben", LONGER)  # in the last house: the service's last act
    with ThreadPoolExecutor(8) as pool:
        waits = [
            (house, owner, pool.submit(house.gone, owner, late=ALL_AWAY_LATE if house is alone else LATE))
            for house in everywhere
            for owner in ("ann", "ben")
        ]
    for house, owner, wait in waits:
        print(f"{house.folder.name}: {owner}'s pod gone {wait.result() / 1000:+.1f} s after the end")


def test_the_next_users_pod_starts_on_the_units_though_both_are_away(
    houses: Callable[..., House], cluster: Cluster, core: client.CoreV1Api
) -> None:
    house = houses("handover")
    house.run_enforcer()
    node = cluster.nodes[-1]
    whole = core.read_node(node).status.allocatable
    resource = "mlmp.test/gpu-enforce" if "mlmp.test/gpu-enforce" in whole else "nvidia.com/gpu"
    pinned = {"limits": {resource: whole[resource]}, "nodeSelector": {"kubernetes.io/hostname": node}}
    house.start("ann", LENGTH / 2, **pinned)
    until(lambda: phase(core, house, "ann") == "Running")
    house.start("eve", LENGTH * 3, **pinned)
    assert phase(core, house, "eve") == "Pending"
    late = house.gone("ann", late=ALL_AWAY_LATE)
    until(lambda: phase(core, house, "eve") == "Running")
    over = units.now() - house.rows["ann"].end
    print(f"gone {late / 1000:+.1f} s after the end, the next one runs {over / 1000:+.1f} s after it")
    assert over < ALL_AWAY_LATE * 1000


def test_an_api_server_that_is_away_at_the_end_stops_nobody_early_and_everybody_after(
    houses: Callable[..., House], cluster: Cluster, core: client.CoreV1Api, tmp_path: Path
) -> None:
    address = urlsplit(core.api_client.configuration.host)
    proxy = Proxy(str(address.hostname), address.port or 443)
    house = houses("api-away", kubeconfig=through(proxy, cluster.kubeconfig, tmp_path / "kubeconfig"))
    try:
        house.run_clock(hub_away())
        house.run_enforcer()
        house.start("ann", LENGTH / 2)
        house.start("ben", LENGTH / 2)
        until(lambda: phase(core, house, "ann") == "Running")
        house.longer("ben", OUTAGE + LONGER)
        proxy.cut()
        until(lambda: units.now() > house.rows["ann"].end + OUTAGE * 1000, 60)
        assert phase(core, house, "ann") == "Running", "the outage was none"
        proxy.mend()
        late = house.gone("ann", late=OUTAGE + LATE) - OUTAGE * 1000
        print(f"gone {late / 1000:+.1f} s after the API server's return")
        print(f"ben's, extended: gone {house.gone('ben', late=LATE) / 1000:+.1f} s after the end")
    finally:
        proxy.close()


def test_a_pod_without_a_readable_deadline_is_left_alone_by_the_enforcer(
    houses: Callable[..., House], core: client.CoreV1Api
) -> None:
    house = houses("unreadable")
    house.run_enforcer()
    house.pod("ann", {KIND: SERVER}, {STOPS_AT: "yesterday", ENDS_AT: "2020-01-01T00:00:00Z"})
    house.pod("ben", {KIND: "other"}, {STOPS_AT: "2020-01-01T00:00:00Z", ENDS_AT: "2020-01-01T00:00:00Z"})
    until(lambda: "no deadline that can be read" in house.log.read_text())
    time.sleep(4)  # one more look
    assert {phase(core, house, "ann"), phase(core, house, "ben")} <= {"Pending", "Running"}


def test_a_job_ends_on_time_though_the_service_is_away_and_what_tells_how_it_did_stays(
    houses: Callable[..., House], core: client.CoreV1Api
) -> None:
    house = houses("jobs")
    house.run_enforcer()
    now = units.now()
    annotations = deadline_annotations(Deadline(now + 10_000, now + 14_000))
    house.pod("ann", {KIND: JOB, ATTEMPT: "ann-1"}, annotations, terminationGracePeriodSeconds=600)
    house.pod("ben", {KIND: JOB, ATTEMPT: "ben-1"}, annotations, restartPolicy="Never", activeDeadlineSeconds=3)
    until(lambda: phase(core, house, "ann") == "Running")
    until(lambda: phase(core, house, "ben") == "Failed")
    until(lambda: "jupyter-ann" not in names(core, house), 14 + ALL_AWAY_LATE)
    assert units.now() >= now + 10_000
    time.sleep(4)  # one more look
    assert names(core, house) == {"jupyter-ben"}


def names(core: client.CoreV1Api, house: House) -> set[str]:
    return {pod.metadata.name for pod in core.list_namespaced_pod(house.namespace).items}


def phase(core: client.CoreV1Api, house: House, owner: str) -> str:
    return str(core.read_namespaced_pod(f"jupyter-{owner}", house.namespace).status.phase)


def until(condition: Callable[[], object], within: float = 30) -> None:
    ends = time.monotonic() + within
    while not condition():
        assert time.monotonic() < ends, "it did not come to be"
        time.sleep(0.2)
