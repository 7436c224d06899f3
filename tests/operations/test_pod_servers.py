"""Servers that are pods, as the clock reaches them: through the hub, past it, and while the cluster is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

import pytest

from mlmp_spawner import units
from mlmp_spawner.deadlines import Deadline
from mlmp_spawner.errors import NotNow, Unavailable
from mlmp_spawner.hub import HubClient
from mlmp_spawner.kube.pods import ServerPod
from mlmp_spawner.operations import catalog_sync
from mlmp_spawner.operations.admission import StartOptions, admit, gone, started
from mlmp_spawner.operations.booking import book
from mlmp_spawner.operations.changes import extend, get
from mlmp_spawner.operations.clock import SEEN_AGAIN, Clock, RunningServer
from mlmp_spawner.operations.cluster import START_GRACE
from mlmp_spawner.operations.pod_servers import PodServers
from mlmp_spawner.operations.requests import BookingRequest
from mlmp_spawner.operations.site import Site
from mlmp_spawner.rules.catalog import Accelerator, Node
from mlmp_spawner.rules.reservations import Reservation
from mlmp_spawner.units import HOUR, MINUTE, SECOND
from tests.kube.pods import KeptPods, a_pod
from tests.operations.conftest import GPU, NOW, ann

POD = "jupyter-ann000000001"
ANNS = RunningServer("ann000000001", "ann", "")
SILENCE = 0.3
ON_A_CLUSTER = Node(name="gpu-a", accelerators=(Accelerator(resource=GPU, count=4, model="A100"),))


def ending(after: int = 30 * SECOND) -> Deadline:
    """A deadline whose stop is due now, by the real clock."""
    now = units.now()
    return Deadline(now, now + after)


class PlayedHub(HubClient):
    """A hub that answers a stop as the test says, and remembers what it was asked."""

    def __init__(self, answer: Callable[[], Awaitable[bool]]) -> None:
        super().__init__("http://127.0.0.1:1/hub/api", "none")
        self.answer = answer
        self.asked: list[tuple[str, str]] = []

    async def stop_server(self, user: str, server: str, *, remove: bool = False) -> bool:
        self.asked.append((user, server))
        return await self.answer()


async def hangs() -> bool:
    return await asyncio.Event().wait()


async def is_away() -> bool:
    raise Unavailable("The hub does not answer just now.")


async def refuses() -> bool:
    raise NotNow("ann's server is pending spawn")


async def knows_nothing() -> bool:
    return True


async def promises() -> bool:
    return False


class Cluster:
    """Pods, a hub, and the servers on them."""

    def __init__(self, *pods: ServerPod) -> None:
        self.pods = KeptPods(*pods)
        self.hub = PlayedHub(promises)
        self.servers = PodServers(self.pods, self.hub, silent_after=SILENCE)

    async def stopped(self, deadline: Deadline, server: RunningServer = ANNS) -> None:
        self.pods.now = units.now()
        await self.servers.stop(server, deadline)
        await self.servers.stops.over()

    def deleted(self) -> list[str]:
        return [one.pod for one in self.pods.deleted]


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    made = Cluster(a_pod())
    yield made
    await made.servers.close()
    await made.hub.close()


# -- what runs --------------------------------------------------------------------------------------------------------


async def test_what_runs_is_every_pod_of_a_server_that_has_not_ended():
    phases = {
        "pending00001": "Pending",
        "running00001": "Running",
        "failed000001": "Failed",
        "succeeded001": "Succeeded",
    }
    made = Cluster(*(a_pod(server_id, phase=phase) for server_id, phase in phases.items()))
    assert set(await made.servers.running()) == {"pending00001", "running00001"}


async def test_one_that_is_being_deleted_still_runs_and_leaves():
    made = Cluster(a_pod(deleting_at=NOW))
    assert (await made.servers.running())[ANNS.server_id] == replace(ANNS, leaves=True)


async def test_a_server_without_readable_annotations_runs_by_its_label():
    made = Cluster(a_pod(owner="", deadline=None))
    assert (await made.servers.running())[ANNS.server_id].owner == ""


async def test_a_pod_without_a_reservation_is_left_alone_and_spoken_of_once(caplog: pytest.LogCaptureFixture):
    made = Cluster(a_pod(""))
    for _ in range(3):
        assert await made.servers.running() == {}
    assert len([r for r in caplog.records if "is left alone" in r.getMessage()]) == 1


async def test_nothing_is_concluded_while_the_cluster_is_away(cluster: Cluster):
    assert not cluster.servers.answers
    await cluster.servers.running()
    assert cluster.servers.answers
    cluster.pods.away = True
    with pytest.raises(Unavailable):
        await cluster.servers.running()
    assert not cluster.servers.answers


# -- what is published ------------------------------------------------------------------------------------------------


async def test_a_deadline_is_written_if_it_differs_and_costs_no_question_if_not(cluster: Cluster):
    deadline = ending(HOUR)
    await cluster.servers.running()
    assert await cluster.servers.publish(ANNS.server_id, deadline)
    assert cluster.pods.pods[POD].deadline == deadline
    asked = cluster.pods.asked
    await cluster.servers.publish(ANNS.server_id, deadline)
    assert cluster.pods.asked == asked and cluster.pods.published == [POD]


async def test_a_server_whose_pod_appeared_since_the_last_look_is_told_too(cluster: Cluster):
    assert await cluster.servers.publish(ANNS.server_id, ending(HOUR))
    assert cluster.pods.published == [POD]


async def test_a_server_without_a_pod_is_told_in_time():
    assert await Cluster().servers.publish(ANNS.server_id, ending(HOUR))


async def test_an_extension_after_an_enforcer_may_have_acted_came_too_late():
    former = Deadline(units.now() - 10 * SECOND, units.now() + 20 * SECOND)
    made = Cluster(a_pod(deadline=former))
    assert not await made.servers.publish(ANNS.server_id, ending(HOUR))
    assert made.pods.pods[POD].deadline != former


async def test_an_extension_of_what_an_enforcer_with_a_clock_ahead_has_deleted_came_too_late():
    made = Cluster(a_pod(deadline=ending(HOUR), deleting_at=units.now() + SECOND))
    assert not await made.servers.publish(ANNS.server_id, ending(2 * HOUR))


async def test_a_server_that_its_owner_stops_may_be_extended():
    former = Deadline(units.now() + HOUR, units.now() + HOUR + MINUTE)
    made = Cluster(a_pod(deadline=former, deleting_at=units.now() + SECOND))
    assert await made.servers.publish(ANNS.server_id, ending(2 * HOUR))


async def test_a_new_pod_of_the_same_name_is_told_and_never_the_one_that_was_seen_before(cluster: Cluster):
    await cluster.servers.running()
    cluster.pods.pods[POD] = a_pod(uid="another")
    await cluster.servers.publish(ANNS.server_id, ending(HOUR))
    assert cluster.pods.pods[POD].uid == "another" and cluster.pods.published == [POD]


# -- what is stopped --------------------------------------------------------------------------------------------------


async def test_the_hub_is_asked_first_and_left_to_it_when_it_deletes_the_pod(cluster: Cluster):
    async def deletes() -> bool:
        cluster.pods.change(POD, deleting_at=units.now() + SECOND)
        return False

    cluster.hub.answer = deletes
    await cluster.stopped(ending())
    assert cluster.hub.asked == [("ann", "")] and cluster.deleted() == []


@pytest.mark.parametrize("answer", [hangs, is_away, refuses, knows_nothing])
async def test_a_hub_that_does_not_do_it_is_gone_past(cluster: Cluster, answer: Callable[[], Awaitable[bool]]):
    cluster.hub.answer = answer
    await cluster.stopped(ending())
    (done,) = cluster.pods.deleted
    assert done.pod == POD and 27 <= done.grace <= 29


async def test_a_hub_that_promises_and_does_not_is_gone_past_when_its_time_is_over(cluster: Cluster):
    deadline = ending()
    await cluster.stopped(deadline)
    assert cluster.deleted() == []
    await asyncio.sleep(SILENCE)
    await cluster.stopped(deadline)
    assert cluster.deleted() == [POD] and len(cluster.hub.asked) == 1


async def test_without_an_owner_on_the_pod_the_hub_can_not_be_asked():
    made = Cluster(a_pod(owner=""))
    await made.stopped(ending(), replace(ANNS, owner=""))
    await asyncio.sleep(SILENCE)
    await made.stopped(ending(), replace(ANNS, owner=""))
    assert made.deleted() == [POD] and made.hub.asked == []


async def test_what_is_on_its_way_out_in_time_is_not_stopped_again():
    deadline = ending()
    made = Cluster(a_pod(deleting_at=deadline.kills_at))
    await made.stopped(deadline)
    assert made.hub.asked == [] and made.deleted() == []


async def test_a_deletion_with_too_long_a_grace_is_cut_short():
    made = Cluster(a_pod(deleting_at=units.now() + HOUR))
    made.hub.answer = knows_nothing
    await made.stopped(ending())
    assert made.deleted() == [POD]


async def test_a_stop_while_the_cluster_is_away_is_tried_again(cluster: Cluster):
    cluster.hub.answer = is_away
    cluster.pods.away = True
    await cluster.stopped(ending())
    cluster.pods.away = False
    await cluster.stopped(ending())
    assert cluster.deleted() == [POD]


async def test_a_new_pod_of_the_same_name_is_not_deleted_in_place_of_the_one_meant(cluster: Cluster):
    async def replaced() -> bool:
        cluster.pods.pods[POD] = a_pod("other0000001", name=POD, uid="another")
        return True

    cluster.hub.answer = replaced
    await cluster.stopped(ending())
    assert cluster.deleted() == []


async def test_what_is_known_of_a_past_stop_is_forgotten(cluster: Cluster):
    cluster.hub.answer = is_away
    await cluster.stopped(ending())
    await cluster.servers.forget({ANNS.server_id})
    assert cluster.servers._asked
    await cluster.servers.forget(set())
    assert not cluster.servers._asked and not cluster.servers.stops


# -- with the clock ---------------------------------------------------------------------------------------------------


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
