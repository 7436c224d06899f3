"""Servers that are pods, as the clock sees them, while the cluster is away too."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from mlmp_spawner.deadlines import Deadline
from mlmp_spawner.errors import Unavailable
from mlmp_spawner.operations import catalog_sync
from mlmp_spawner.operations.admission import StartOptions, admit, gone, started
from mlmp_spawner.operations.booking import book
from mlmp_spawner.operations.changes import extend, get
from mlmp_spawner.operations.clock import SEEN_AGAIN, Clock
from mlmp_spawner.operations.cluster import START_GRACE
from mlmp_spawner.operations.requests import BookingRequest
from mlmp_spawner.operations.site import Site
from mlmp_spawner.rules.catalog import Accelerator, Node
from mlmp_spawner.rules.reservations import Reservation
from mlmp_spawner.units import HOUR, MINUTE, SECOND
from tests.kube.pods import a_pod
from tests.operations.clusters import (
    Cluster,
    is_away,
)
from tests.operations.conftest import GPU, NOW, ann

ON_A_CLUSTER = Node(name="gpu-a", accelerators=(Accelerator(resource=GPU, count=4, model="A100"),))


class House:
    """A site on a cluster: units are counted, not told apart."""

    def __init__(self, site: Site) -> None:
        self.site = replace(site, catalog=site.catalog.model_copy(update={"nodes": {"gpu-a": ON_A_CLUSTER}}))
        catalog_sync.sync(self.site, now=NOW)
        self.cluster = Cluster()
        self.clock = Clock(lambda: self.site, self.cluster.servers, start_grace=START_GRACE)
        self.booking = book(self.site, BookingRequest(profile="gpu", duration=HOUR), actor=ann, now=NOW)

    def admit(self) -> Reservation:
        return admit(self.site, actor=ann, server="", options=StartOptions(), now=NOW).reservation

    def run(self) -> None:
        row = self.admit()
        started(self.site, row.id, now=NOW)
        self.appear()

    def appear(self, **fields: object) -> None:
        pod = a_pod(self.booking.id, **fields)
        self.cluster.pods.pods[pod.name] = pod

    @property
    def state(self) -> str:
        return get(self.site, self.booking.id).server_state()

    @property
    def published(self) -> Deadline | None:
        (pod,) = self.cluster.pods.pods.values()
        return pod.deadline


@pytest.fixture
async def house(site: Site) -> AsyncIterator[House]:
    made = House(site)
    yield made
    await made.cluster.servers.close()
    await made.cluster.hub.close()


async def test_a_failed_listing_marks_no_server_as_gone(house: House):
    house.run()
    house.cluster.pods.away = True
    with pytest.raises(Unavailable):
        await house.clock.tick(NOW + 2 * START_GRACE)
    assert house.state == "running" and house.clock.last_tick is None
    house.cluster.pods.away = False
    await house.clock.tick(NOW + 2 * START_GRACE)
    assert house.state == "running"


async def test_people_are_warned_while_the_cluster_is_away(house: House):
    house.run()
    house.cluster.pods.away = True
    with pytest.raises(Unavailable):
        await house.clock.tick(house.booking.end - 9 * MINUTE)
    assert get(house.site, house.booking.id).warned_at is not None


async def test_a_stop_that_came_due_while_the_cluster_was_away_is_made_good(house: House):
    house.run()
    house.cluster.pods.away = True
    stop_at = house.booking.end - house.site.stop_lead
    with pytest.raises(Unavailable):
        await house.clock.tick(stop_at)
    house.cluster.pods.away = False
    house.cluster.hub.answer = is_away
    await house.clock.tick(stop_at + MINUTE)
    await house.cluster.servers.stops.over()
    assert house.cluster.deleted() == [f"jupyter-{house.booking.id}"]


async def test_a_start_may_take_the_hub_minutes_until_its_pod_is_there(house: House):
    house.admit()
    await house.clock.tick(NOW + START_GRACE)
    assert house.state == "starting"
    await house.clock.tick(NOW + START_GRACE + 1)
    assert house.state == "none"


async def test_a_server_that_came_up_since_the_look_began_is_not_gone(house: House):
    row = house.admit()
    started(house.site, row.id, now=NOW + SECOND)
    await house.clock.tick(NOW)
    assert house.state == "running"


async def test_a_pod_that_waits_for_its_image_is_a_server_that_starts(house: House):
    house.admit()
    house.appear(phase="Pending")
    await house.clock.tick(NOW + 3 * START_GRACE)
    assert house.state == "starting" and house.published is not None


async def test_a_server_given_up_for_gone_that_runs_after_all_is_told_its_end_again(house: House):
    row = house.admit()
    gone(house.site, row.id, now=NOW)
    house.appear()
    await house.clock.tick(NOW + SEEN_AGAIN)
    assert house.state == "none", "the listing may be older than what the hub saw"
    await house.clock.tick(NOW + SEEN_AGAIN + 1)
    assert house.state == "running"
    extend(house.site, row.id, duration=HOUR, actor=ann, now=NOW + MINUTE)
    await house.clock.tick(NOW + MINUTE)
    assert house.published is not None and house.published.end == row.end + HOUR


async def test_a_pod_on_its_way_out_is_not_taken_for_a_server_that_came_back(house: House):
    row = house.admit()
    gone(house.site, row.id, now=NOW)
    house.appear(deleting_at=NOW + HOUR)
    await house.clock.tick(NOW + MINUTE)
    assert house.state == "none"


async def test_an_extension_that_the_cluster_could_not_be_told_says_so_and_is_made_good(house: House):
    house.run()
    await house.clock.tick(NOW)
    house.cluster.pods.away = True
    longer = extend(house.site, house.booking.id, duration=HOUR, actor=ann, now=NOW)
    with pytest.raises(Unavailable, match="was changed, but its server could not be told"):
        await house.clock.published(longer)
    house.cluster.pods.away = False
    await house.clock.tick(NOW + 5 * SECOND)
    assert house.published is not None and house.published.end == longer.end


async def test_one_pod_that_can_not_be_told_keeps_no_other_from_being_told(house: House):
    house.run()
    other = book(house.site, BookingRequest(profile="gpu", duration=HOUR, server="two"), actor=ann, now=NOW)
    admit(house.site, actor=ann, server="two", options=StartOptions(), now=NOW)
    pod = a_pod(other.id, server="two")
    house.cluster.pods.pods[pod.name] = pod
    house.cluster.pods.refuses = {f"jupyter-{house.booking.id}"}
    await house.clock.tick(NOW)
    assert house.cluster.pods.pods[pod.name].deadline is not None
