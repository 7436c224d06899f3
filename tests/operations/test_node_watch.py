"""The watch on a cluster's nodes: bookings leave a node that can't hold them, and nobody's work is ended by it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Engine

from mlmp_spawner import units
from mlmp_spawner.errors import MLMPError, NoCapacity, Unavailable
from mlmp_spawner.jobs.base import Seen
from mlmp_spawner.kube.nodes import ClusterSeen
from mlmp_spawner.operations import catalog_sync, check, history, node_outages, notices
from mlmp_spawner.operations.admission import StartOptions, admit, started
from mlmp_spawner.operations.booking import book
from mlmp_spawner.operations.changes import get
from mlmp_spawner.operations.check import ToCheck
from mlmp_spawner.operations.clock import Clock
from mlmp_spawner.operations.jobs import ending
from mlmp_spawner.operations.node_states import node_states
from mlmp_spawner.operations.node_watch import NodeWatch
from mlmp_spawner.operations.outages import Wanted, set_outages
from mlmp_spawner.operations.outages import get as outages_of
from mlmp_spawner.operations.requests import BookingRequest
from mlmp_spawner.operations.site import Actor, Site
from mlmp_spawner.rules.foreign_pods import ClusterPod
from mlmp_spawner.rules.jobs import Reason
from mlmp_spawner.rules.nodes import CORDONED, GONE, NOT_READY, ClusterNode, is_automatic
from mlmp_spawner.rules.reservations import Reservation
from mlmp_spawner.settings import MLMP
from mlmp_spawner.units import DAY, HOUR, MINUTE, SECOND
from tests.invariant import violations
from tests.operations.conftest import GPU, NOW, admin, ann, ben, node
from tests.operations.jobs.running import attempt_of, run_job
from tests.operations.test_clock import RememberedServers


class Cluster:
    """A cluster with the two nodes of the site, to be changed by a test. Answers nothing where ``down``."""

    def __init__(self) -> None:
        self.nodes = {name: ClusterNode(name, units={GPU: count}) for name, count in (("gpu-a", 4), ("gpu-b", 2))}
        self.pods: tuple[ClusterPod, ...] = ()
        self.down = False

    def change(self, name: str, **facts: object) -> None:
        self.nodes[name] = replace(self.nodes[name], **facts)  # type: ignore[arg-type]

    async def read(self, *, pods: bool) -> ClusterSeen:
        if self.down:
            raise Unavailable("The Kubernetes cluster does not answer.")
        return ClusterSeen(tuple(self.nodes.values()), self.pods if pods else None)


class Watched:
    """The watch, its cluster, and the time."""

    def __init__(self, site: Site, cluster: Cluster | None = None, **settings: object) -> None:
        self.site = replace(site, cluster=True)
        self.cluster = cluster or Cluster()
        self.settings = MLMP(node_patience=60, namespace="lab", **settings)
        self.watch = NodeWatch(lambda: self.site, self.settings, self.cluster)
        self.now = NOW

    def restart(self) -> None:
        """As the service would begin anew."""
        catalog_sync.sync(self.site, now=self.now)
        self.watch = NodeWatch(lambda: self.site, self.settings, self.cluster)

    async def wait(self, ms: int = 70 * SECOND) -> None:
        """Looks every ten seconds for so long."""
        until = self.now + ms
        while self.now < until:
            await self.watch.look(self.now)
            self.now += 10 * SECOND

    def away(self, name: str = "gpu-a") -> list[str]:
        return [o.reason for o in outages_of(self.site, name, now=self.now).outages if o.start <= self.now]


@pytest.fixture
def watched(site: Site) -> Watched:
    return Watched(site)


def booked(watched: Watched, actor: Actor = ann, **fields: object) -> Reservation:
    request = BookingRequest(**({"profile": "gpu", "duration": HOUR} | fields))  # type: ignore[arg-type]
    return book(watched.site, request, actor=actor, now=watched.now)


def running(watched: Watched, actor: Actor, **fields: object) -> Reservation:
    row = booked(watched, actor, **fields)
    admit(watched.site, actor=actor, server="", options=StartOptions(), now=watched.now)
    started(watched.site, row.id, now=watched.now)
    return row


def told(site: Site, name: str) -> list[str]:
    return [
        one.details["action"] for one in notices.page(site.engine, name).items if one.details["action"] != "booked"
    ]


@pytest.mark.parametrize(
    ("facts", "reason"), [({"cordoned": True}, CORDONED), ({"ready": False}, NOT_READY), (None, GONE)]
)
async def test_what_has_not_begun_leaves_a_node_that_takes_no_pods_and_its_owner_is_told(
    watched: Watched, facts: dict[str, object] | None, reason: str
):
    moves, waits = (
        booked(watched, ann, units=2, node="gpu-a", start=NOW + HOUR),
        booked(watched, ben, units=3, node="gpu-a", start=NOW + 5 * HOUR),
    )
    if facts is None:
        del watched.cluster.nodes["gpu-a"]
    else:
        watched.cluster.change("gpu-a", **facts)
    await watched.wait(60 * SECOND)
    assert get(watched.site, moves.id).nodes == ("gpu-a",), "not before the patience is over"
    await watched.wait(20 * SECOND)
    assert watched.away() == [reason]
    assert get(watched.site, moves.id).nodes == ("gpu-b",)
    assert get(watched.site, waits.id).state(watched.now) == "waiting"
    assert (told(watched.site, "ann"), told(watched.site, "ben")) == (["moved"], ["capacity_lost"])
    with pytest.raises(NoCapacity):
        booked(watched, units=3)
    assert violations(watched.site.engine) == []


async def test_a_node_that_comes_back_is_bookable_again_by_itself_and_who_waits_gets_a_place(watched: Watched):
    waits = booked(watched, units=4, start=NOW + HOUR)
    watched.cluster.change("gpu-a", ready=False)
    await watched.wait()
    watched.cluster.change("gpu-a", ready=True)
    await watched.wait(60 * SECOND)
    assert watched.away() == [NOT_READY]
    await watched.wait(20 * SECOND)
    assert watched.away() == []
    await Clock(lambda: watched.site, RememberedServers()).tick(watched.now)
    back = get(watched.site, waits.id)
    assert (back.nodes, back.start) == (("gpu-a",), waits.start)


async def test_what_runs_goes_on_and_is_told_once(watched: Watched):
    runs = running(watched, ann, node="gpu-a", duration=3 * HOUR)
    watched.cluster.change("gpu-a", ready=False)
    await watched.wait(5 * MINUTE)
    kept = get(watched.site, runs.id)
    assert (kept.nodes, kept.end, kept.server_state()) == (("gpu-a",), runs.end, "running")
    assert told(watched.site, "ann") == ["maintenance"]


async def test_a_booking_whose_server_is_gone_from_a_silent_node_gets_another_place(watched: Watched):
    runs = running(watched, ann, node="gpu-a", duration=3 * HOUR)
    watched.cluster.change("gpu-a", ready=False)
    await watched.wait()
    servers = RememberedServers()  # the cluster gave the pod up
    for later in (MINUTE, 2 * MINUTE, 3 * MINUTE):
        await Clock(lambda: watched.site, servers).tick(watched.now + later)
    await watched.wait(10 * SECOND)
    assert get(watched.site, runs.id).nodes == ("gpu-b",)


async def test_a_job_on_a_silent_node_goes_on_by_the_books_until_the_cluster_gives_it_up(watched: Watched):
    job = run_job(watched.site, "gpu-a", now=NOW, units=2)
    watched.cluster.change("gpu-a", ready=False)
    await watched.wait(5 * MINUTE)
    assert attempt_of(watched.site, job) == job, "that nothing is heard of it does not mean that it does not run"
    vanished = Seen(job.id, "ended", reason="vanished", message="Its pod is gone.")
    ending.ended(watched.site, job, vanished, half_life=DAY, now=watched.now)
    over = attempt_of(watched.site, job)
    assert (over.reason, over.message) == ("node_lost", "Its node gpu-a is not ready in the cluster.")
    assert violations(watched.site.engine) == []


@pytest.mark.parametrize("reason", ["exit_status", "vanished"])
async def test_what_a_job_did_itself_or_on_another_node_is_not_the_lost_nodes_fault(watched: Watched, reason: Reason):
    job = run_job(watched.site, "gpu-a" if reason == "exit_status" else "gpu-b", now=NOW)
    watched.cluster.change("gpu-a", ready=False)
    await watched.wait()
    ending.ended(watched.site, job, Seen(job.id, "ended", reason=reason), half_life=DAY, now=watched.now)
    assert attempt_of(watched.site, job).reason == reason


async def test_flapping_tells_nobody_anything(watched: Watched):
    row = booked(watched, units=2, node="gpu-a", start=NOW + HOUR)
    before = history.latest(watched.site.engine)
    for ready in (False, True) * 6:
        watched.cluster.change("gpu-a", ready=ready, units={GPU: 4 if ready else 1})
        await watched.wait(50 * SECOND)
    assert get(watched.site, row.id).nodes == ("gpu-a",) and history.latest(watched.site.engine) == before


async def test_lost_units_take_the_youngest_bookings_that_do_not_fit_and_no_running_one(watched: Watched):
    runs = running(watched, ann, units=2, node="gpu-a", duration=3 * HOUR)
    also = running(watched, ben, units=1, node="gpu-a", duration=3 * HOUR)
    later = booked(watched, Actor("eve"), units=1, node="gpu-a", start=NOW + HOUR)
    watched.cluster.change("gpu-a", units={GPU: 2})
    await watched.wait()
    assert get(watched.site, later.id).nodes == ("gpu-b",)
    assert {get(watched.site, row.id).state(watched.now) for row in (runs, also)} == {"active"}
    (here,) = next(one.units for one in node_states(watched.site, now=watched.now) if one.name == "gpu-a")
    assert (here.capacity, here.listed, here.why) == (2, 4, f"the cluster has 2 of 4 {GPU}")
    watched.cluster.change("gpu-a", units={GPU: 8})
    await watched.wait()
    assert node_states(watched.site, now=watched.now)[0].units[0].capacity == 4, "never more than the catalog"


async def test_a_restart_forgets_nothing_that_was_decided(watched: Watched):
    watched.cluster.change("gpu-a", units={GPU: 1})
    watched.cluster.change("gpu-b", cordoned=True)
    await watched.wait()
    watched.restart()
    watched.cluster.down = True
    await watched.wait()
    assert node_states(watched.site, now=watched.now)[0].units[0].capacity == 1
    assert watched.away("gpu-b") == [CORDONED]
    watched.cluster.down = False
    watched.cluster.change("gpu-b", cordoned=False)
    await watched.wait()
    assert watched.away("gpu-b") == []


async def test_what_a_crash_left_half_done_the_next_look_finishes(watched: Watched):
    moves, leaves = (booked(watched, units=2, node="gpu-a", start=NOW + hours * HOUR) for hours in (1, 5))
    row = booked(watched, ben, units=1, node="gpu-b", start=NOW + HOUR)
    catalog_sync.set_units(watched.site, {("gpu-a", GPU): 4}, {("gpu-a", GPU): 0}, now=NOW)
    watched.cluster.change("gpu-a", units={GPU: 0})
    await watched.wait(10 * SECOND)
    assert get(watched.site, leaves.id).nodes == ("gpu-b",)
    assert get(watched.site, moves.id).waiting_reason == "capacity_lost", "gpu-b has but one unit left then"
    node_outages.begin(watched.site, "gpu-b", CORDONED, now=watched.now)
    watched.cluster.change("gpu-b", cordoned=True)
    watched.restart()
    await watched.wait(10 * SECOND)
    assert get(watched.site, row.id).waiting_reason == "capacity_lost"


async def test_the_check_says_that_such_an_outage_ends_by_itself(db_url: str, watched: Watched, tmp_path: Path):
    node_outages.begin(watched.site, "gpu-a", CORDONED, now=units.now())
    (found,) = check.away(ToCheck(data=tmp_path, catalog=tmp_path, db_url=db_url))
    assert found.message == f"'gpu-a' takes no bookings until the cluster has it again: '{CORDONED}'"
    assert "undrain" not in found.hint


async def test_an_admins_own_maintenance_is_neither_opened_nor_closed_by_the_watch(watched: Watched):
    set_outages(watched.site, "gpu-a", [Wanted(reason="new driver")], actor=admin, now=NOW)
    watched.cluster.change("gpu-a", cordoned=True)
    await watched.wait()
    assert sorted(watched.away()) == [CORDONED, "new driver"]
    watched.cluster.change("gpu-a", cordoned=False)
    await watched.wait()
    assert watched.away() == ["new driver"]


async def test_an_admin_changes_maintenance_beside_what_the_watch_opened_and_never_that(watched: Watched):
    watched.cluster.change("gpu-a", cordoned=True)
    await watched.wait()
    (opened,) = outages_of(watched.site, "gpu-a", now=watched.now).outages
    assert is_automatic(opened)
    as_it_is = Wanted(opened.start, None, opened.reason)
    for wanted in ([], [as_it_is, Wanted(reason="new driver")], [as_it_is]):
        set_outages(watched.site, "gpu-a", wanted, actor=admin, now=watched.now)
        watched.now += 1
        found = outages_of(watched.site, "gpu-a", now=watched.now).outages
        assert opened in found and len(found) == max(1, len(wanted))


async def test_a_cluster_that_does_not_answer_changes_nothing_and_is_told(watched: Watched):
    row = booked(watched, units=2, node="gpu-a", start=NOW + HOUR)
    await watched.wait(10 * SECOND)
    seen = watched.watch.last
    watched.cluster.down = True
    await watched.wait(HOUR)
    assert get(watched.site, row.id).nodes == ("gpu-a",)
    assert watched.watch.last == replace(seen, problem="The Kubernetes cluster does not answer.")


async def test_pods_that_take_booked_units_are_seen_only_where_that_is_wanted(site: Site):
    cluster = Cluster()
    cluster.pods = (ClusterPod("research", "train", "gpu-b", NOW - HOUR, {GPU: 1}),)
    quiet, seeing = Watched(site, cluster), Watched(site, cluster, see_all_pods=True)
    booked(seeing, units=2, node="gpu-b")
    await quiet.wait(10 * SECOND)
    await seeing.wait(10 * SECOND)
    assert quiet.watch.last.foreign is None
    (found,) = seeing.watch.last.foreign or ()
    assert (found.name, found.units, found.short) == ("train", 1, 1)


async def test_a_node_that_is_taken_out_of_use_twice_at_once_is_so_once(watched: Watched):
    for _ in range(2):
        node_outages.begin(watched.site, "gpu-a", CORDONED, now=NOW)
    assert len(outages_of(watched.site, "gpu-a", now=NOW).outages) == 1
    node_outages.end(watched.site, "gpu-a", now=NOW)
    assert outages_of(watched.site, "gpu-a", now=NOW).outages == ()


async def test_a_new_node_of_the_catalog_can_be_booked_before_it_was_looked_at(watched: Watched, engine: Engine):
    nodes = watched.site.catalog.nodes | {"gpu-c": node("gpu-c", 3)}
    watched.site = replace(watched.site, catalog=watched.site.catalog.model_copy(update={"nodes": nodes}))
    catalog_sync.sync(watched.site, now=watched.now)
    assert booked(watched, units=3, node="gpu-c").nodes == ("gpu-c",)
    await watched.wait()
    assert watched.away("gpu-c") == [GONE]
    with pytest.raises(MLMPError):
        booked(watched, ben, units=3, node="gpu-c", start=watched.now + 5 * HOUR)
