"""Servers that are pods: what runs, what they are told, and how they are stopped, through the hub and past it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

import pytest

from mlmp_spawner import units
from mlmp_spawner.deadlines import Deadline
from mlmp_spawner.errors import Unavailable
from mlmp_spawner.units import HOUR, MINUTE, SECOND
from tests.kube.pods import a_pod
from tests.operations.clusters import (
    ANNS,
    SILENCE,
    Cluster,
    hangs,
    is_away,
    knows_nothing,
    refuses,
)
from tests.operations.conftest import NOW

POD = "jupyter-ann000000001"


def ending(after: int = 30 * SECOND) -> Deadline:
    """A deadline whose stop is due now, by the real clock."""
    now = units.now()
    return Deadline(now, now + after)


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
