"""What is pulled where ahead of time, and what is cleared away."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlmp_spawner.rules.catalog import Accelerator, Catalog, Image, Node, Profile
from mlmp_spawner.rules.preload import (
    AT_ONCE,
    REMEMBERED,
    RETRY,
    SHOWN,
    NodeImages,
    Plan,
    Pull,
    PullPod,
    Wishes,
    normal,
    plan,
    there,
    wishes,
)
from mlmp_spawner.rules.reservations import Allocation, Reservation
from mlmp_spawner.units import DAY, HOUR, MINUTE

NOW = 1_800_000_000_000
BEFORE, TIMEOUT = 15 * MINUTE, 30 * MINUTE
GPU = "nvidia.com/gpu"


def ref(name: str) -> str:
    return f"example.org/{name}:1"


def catalog(*preloaded: str) -> Catalog:
    """Two nodes with GPUs and one with slots; the profile ``gpu`` has two images, ``cpu`` a third."""
    images = {name: Image(name=name, reference=ref(name), preload=name in preloaded) for name in ("lab", "torch", "r")}
    nodes = {
        name: Node(name=name, accelerators=(Accelerator(resource=resource, count=4),))
        for name, resource in (("a", GPU), ("b", GPU), ("c", "mlmp.dev/slot"))
    }
    profiles = {
        "gpu": Profile(name="gpu", title="GPU", resource=GPU, max_units=4, images=("lab", "torch")),
        "cpu": Profile(name="cpu", title="CPU", resource="mlmp.dev/slot", max_units=4, images=("r",)),
    }
    return Catalog(nodes=nodes, images=images, profiles=profiles)


def booking(start: int = HOUR, *nodes: str, image: str | None = None, **facts: object) -> Reservation:
    begin, end = NOW + start, NOW + start + HOUR
    places = tuple(Allocation("x", node, GPU, 1, begin, end) for node in nodes)
    facts = {"id": "x", "owner": "ann", "profile": "gpu", "resource": GPU, "units": 1} | facts
    return Reservation(start=begin, end=end, image=image, allocations=places, **facts)  # type: ignore[arg-type]


def nodes(**away: str) -> dict[str, NodeImages]:
    return {name: NodeImages(name, away.get(name, "")) for name in "abc"}


def pod(node: str = "a", name: str = "lab", state: str = "pulling", **facts: object) -> PullPod:
    facts = {"name": f"{node}-{name}", "since": NOW} | facts
    return PullPod(node=node, reference=ref(name), state=state, **facts)  # type: ignore[arg-type]


def planned(wished: Wishes, *pods: PullPod, at: int = NOW, there: dict[str, NodeImages] | None = None) -> Plan:
    return plan(at, wished, catalog(), nodes() if there is None else there, pods, timeout=TIMEOUT)


def wished(*pulls: Pull) -> Wishes:
    return Wishes(pulls, (), frozenset(pull.key for pull in pulls))


LAB = Pull("a", ref("lab"))

# -- what should be where ------------------------------------------------------------------------------------------


def test_a_bookings_image_is_wished_for_on_its_node_from_some_time_before_it_begins():
    assert wishes(NOW, [booking(BEFORE + 1, "a")], catalog(), BEFORE).soon == ()
    assert wishes(NOW, [booking(BEFORE, "a")], catalog(), BEFORE).soon == (LAB,)


def test_one_on_several_nodes_on_each_of_them_and_with_its_own_image():
    found = wishes(NOW, [booking(0, "b", "a", image="torch")], catalog(), BEFORE)
    assert found.soon == (Pull("a", ref("torch")), Pull("b", ref("torch")))


@pytest.mark.parametrize(
    "facts",
    [
        {"starting_at": NOW},
        {"starting_at": NOW, "started_at": NOW},
        {"cancelled_at": NOW},
        {"end_reason": "released"},
        {"waiting_reason": "requested"},
        {"profile": "gone", "image": "gone"},
    ],
)
def test_not_for_what_runs_is_over_waits_or_has_no_image(facts: dict[str, object]):
    image = str(facts.pop("image")) if "image" in facts else None
    assert wishes(NOW, [booking(0, "a", image=image, **facts)], catalog(), BEFORE).soon == ()


def test_what_has_begun_and_was_not_started_may_still_come():
    assert wishes(NOW + 59 * MINUTE, [booking(0, "a")], catalog(), BEFORE).soon == (LAB,)
    stopped = booking(0, "a", starting_at=NOW, stopped_at=NOW + MINUTE)
    assert wishes(NOW + 2 * MINUTE, [stopped], catalog(), BEFORE).soon == (LAB,)


def test_ahead_of_time_may_be_never():
    assert wishes(NOW, [booking(0, "a")], catalog("torch"), None).soon == ()
    assert len(wishes(NOW, [], catalog("torch"), None).always) == 2


def test_what_the_catalog_preloads_is_wished_for_on_every_node_with_a_profile_that_offers_it():
    found = wishes(NOW, [], catalog("torch", "r"), BEFORE)
    assert found.always == (Pull("a", ref("torch")), Pull("b", ref("torch")), Pull("c", ref("r")))


def test_what_begins_first_is_first():
    rows = [booking(10 * MINUTE, "a", id="late"), booking(0, "b", image="torch", id="soon")]
    assert wishes(NOW, rows, catalog(), BEFORE).soon == (Pull("b", ref("torch")), LAB)


# -- what is done ----------------------------------------------------------------------------------------------------


def test_what_is_not_there_is_pulled():
    assert planned(wished(LAB)).create == (LAB,)


def test_what_is_there_is_not():
    has = nodes() | {"a": NodeImages("a", images=frozenset({ref("lab")}))}
    assert planned(wished(LAB), there=has) == Plan()


@pytest.mark.parametrize("state", ["queued", "pulling", "failing", "pulled", "failed"])
def test_what_is_under_way_or_just_over_is_not_begun_again(state: str):
    mine = pod(state=state, over_at=NOW)
    assert planned(wished(LAB), mine).create == ()
    assert planned(wished(LAB), replace(mine, leaves=True)).create == ()


def test_nothing_is_pulled_to_a_node_that_is_away_or_gone():
    assert planned(wished(LAB), there=nodes(a="cordoned")) == Plan()
    assert planned(wished(LAB), there={}) == Plan()


def test_a_moved_booking_ends_the_pull_on_its_former_node():
    done = planned(wished(Pull("b", ref("lab"))), pod("a"))
    assert done == Plan(create=(Pull("b", ref("lab")),), delete=(pod("a"),))


def test_what_was_asked_for_by_hand_is_not_ended_so():
    assert planned(Wishes(), pod(asked_by="root")) == Plan()


def test_what_was_asked_for_by_hand_waits_until_there_is_room():
    mine = pod(name="r", state="queued", asked_by="root")
    assert planned(Wishes(), mine).start == (mine,)
    busy = [pod(name=name, asked_by="ann") for name in ("lab", "torch")]
    assert planned(Wishes(), mine, *busy).start == ()
    assert planned(Wishes(), mine, *busy, there=nodes(a="not ready")) == Plan()


def test_bookings_go_first_then_what_people_ask_for_then_what_the_catalog_preloads():
    queued = [pod(name=name, state="queued", asked_by="root") for name in ("r", "torch")]
    always = Wishes((LAB,), (Pull("a", ref("r")),), frozenset({LAB.key, ("a", ref("r"))}))
    done = planned(always, *queued)
    assert (done.create, done.start) == ((LAB,), (queued[0],))


def test_one_that_fails_holds_up_nothing():
    failing = [pod(name=name, state="failing", asked_by="root") for name in ("r", "torch")]
    assert planned(wished(LAB), *failing).create == (LAB,)


def test_what_the_cluster_refused_is_not_asked_for_again_at_once():
    assert plan(NOW, wished(LAB), catalog(), nodes(), [], timeout=TIMEOUT, refused={LAB.key}).create == ()


# -- what is cleared away --------------------------------------------------------------------------------------------


def test_a_pod_that_pulled_goes_when_the_node_tells_of_the_image_or_after_a_while():
    mine = pod(state="pulled", over_at=NOW)
    assert planned(wished(LAB), mine, at=NOW + REMEMBERED - 1) == Plan()
    assert planned(wished(LAB), mine, at=NOW + REMEMBERED).delete == (mine,)
    has = nodes() | {"a": NodeImages("a", images=frozenset({ref("lab")}))}
    assert planned(wished(LAB), mine, there=has).delete == (mine,)


def test_a_pull_that_was_given_up_is_tried_again_later():
    mine = pod(state="failed", over_at=NOW)
    assert planned(wished(LAB), mine, at=NOW + RETRY - 1) == Plan()
    assert planned(wished(LAB), mine, at=NOW + RETRY) == Plan(delete=(mine,))
    assert planned(wished(LAB), at=NOW + RETRY).create == (LAB,)


def test_one_that_somebody_asked_for_stays_to_be_seen_for_longer():
    mine = pod(state="failed", over_at=NOW, asked_by="root")
    assert planned(Wishes(), mine, at=NOW + SHOWN - 1) == Plan()
    assert planned(Wishes(), mine, at=NOW + SHOWN).delete == (mine,)


def test_what_never_got_to_its_node_is_ended_too():
    mine = pod(state="failing", asked_by="root")
    assert planned(Wishes(), mine, at=NOW + TIMEOUT) == Plan()
    assert planned(Wishes(), mine, at=NOW + TIMEOUT + MINUTE).delete == (mine,)
    queued = pod(state="queued", asked_by="root")
    assert planned(Wishes(), queued, at=NOW + DAY - 1, there=nodes(a="not ready")) == Plan()
    assert planned(Wishes(), queued, at=NOW + DAY, there=nodes(a="not ready")).delete == (queued,)


def test_an_image_that_left_the_catalog_and_a_node_that_left_the_cluster_take_their_pods_along():
    other = pod(name="gone", asked_by="root")
    assert planned(Wishes(), other).delete == (other,)
    mine = pod(asked_by="root")
    assert planned(Wishes(), mine, there={}).delete == (mine,)


# -- properties ------------------------------------------------------------------------------------------------------

known, names, where = (
    st.sampled_from(["lab", "torch", "r"]),
    st.sampled_from(["lab", "torch", "r", "gone"]),
    st.sampled_from("abcd"),
)
pairs = st.tuples(where, names)
some_pods = st.lists(pairs, unique=True).flatmap(
    lambda of: st.tuples(
        *(
            st.builds(
                lambda state, since, over, leaves, by, at=at: pod(
                    *at, state, since=since, over_at=over, leaves=leaves, asked_by=by
                ),
                st.sampled_from(["queued", "pulling", "failing", "pulled", "failed"]),
                st.integers(NOW - 2 * DAY, NOW),
                st.none() | st.integers(NOW - 2 * DAY, NOW),
                st.booleans(),
                st.sampled_from(["", "root"]),
            )
            for at in of
        )
    )
)
some_nodes = st.dictionaries(
    where,
    st.builds(
        lambda away, has: NodeImages("", away, frozenset(map(ref, has))),
        st.sampled_from(["", "cordoned"]),
        st.frozensets(names),
    ),
).map(lambda found: {name: replace(node, name=name) for name, node in found.items()})
wished_for = st.lists(st.tuples(where, known), unique=True)
some_wishes = st.tuples(wished_for, wished_for).map(
    lambda both: Wishes(
        tuple(Pull(node, ref(name)) for node, name in both[0]),
        tuple(Pull(node, ref(name)) for node, name in both[1] if (node, name) not in both[0]),
        frozenset((node, ref(name)) for node, name in both[0] + both[1]),
    )
)


@given(some_wishes, some_nodes, some_pods)
def test_never_where_it_is_never_twice_and_never_too_many_at_once(
    wanted: Wishes, cluster: dict[str, NodeImages], pods: tuple[PullPod, ...]
):
    done = planned(wanted, *pods, there=cluster)
    begun = [one.key for one in (*done.create, *done.start)]
    assert len(begun) == len(set(begun))
    assert not {pull.key for pull in done.create} & {one.key for one in pods}
    for node, reference in begun:
        assert not cluster[node].away
        assert reference not in cluster[node].images
    pulling = Counter(one.node for one in pods if one.state == "pulling" and not one.leaves and one not in done.delete)
    started = Counter(node for node, _ in begun)
    for node, count in started.items():
        assert pulling[node] + count <= AT_ONCE
    assert not set(done.start) & set(done.delete)


@given(some_nodes, some_pods)
def test_where_nothing_is_wished_for_all_is_cleared_away_in_the_end(
    cluster: dict[str, NodeImages], pods: tuple[PullPod, ...]
):
    done = planned(Wishes(), *pods, at=NOW + 2 * DAY, there=cluster)
    left = [one for one in pods if one not in done.delete and not one.leaves]
    assert left == []


@given(some_wishes, some_nodes, some_pods)
def test_what_is_planned_is_done_at_once(wanted: Wishes, cluster: dict[str, NodeImages], pods: tuple[PullPod, ...]):
    """A second look that sees what the first one did has nothing more to begin."""
    done = planned(wanted, *pods, there=cluster)
    after = [
        replace(one, state="pulling", since=NOW) if one in done.start else one
        for one in pods
        if one not in done.delete
    ]
    after += [pod(pull.node, pull.reference.split("/")[1][:-2], since=NOW) for pull in done.create]
    again = planned(wanted, *after, there=cluster)
    assert again.start == ()
    assert {pull.key for pull in again.create} <= {one.key for one in done.delete}
    assert again.delete == ()


# -- references and states -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("python", "docker.io/library/python:latest"),
        ("python:3.12", "docker.io/library/python:3.12"),
        ("jupyter/base-notebook:x", "docker.io/jupyter/base-notebook:x"),
        ("quay.io/jupyter/base", "quay.io/jupyter/base:latest"),
        ("localhost/pause:1", "localhost/pause:1"),
        ("registry:5000/lab", "registry:5000/lab:latest"),
        ("registry:5000/a/lab:2", "registry:5000/a/lab:2"),
        ("ghcr.io/o/i:1@sha256:abc", "ghcr.io/o/i@sha256:abc"),
        ("ghcr.io/o/i@sha256:abc", "ghcr.io/o/i@sha256:abc"),
    ],
)
def test_a_reference_has_a_normal_form(said: str, told: str):
    assert normal(said) == told
    assert normal(told) == told


def test_how_an_image_is_on_a_node():
    node = NodeImages("a")
    assert there("a", ref("lab"), replace(node, images=frozenset({ref("lab")})), [pod()], {}).state == "present"
    assert there("a", ref("lab"), node, [], {}).state == "absent"
    assert there("a", ref("lab"), replace(node, all_told=False), [], {}).state == "unknown"
    assert there("a", ref("lab"), None, [], {}).state == "unknown"
    assert there("a", ref("lab"), node, [pod(state="pulled")], {}).state == "present"
    failing = there("a", ref("lab"), node, [pod(state="failing", problem="not found")], {})
    assert (failing.state, failing.problem, failing.retries) == ("failed", "not found", True)
    assert not there("a", ref("lab"), node, [pod(state="failed", asked_by="root")], {}).retries
    assert there("a", ref("lab"), node, [], {LAB.key: "quota"}).problem == "quota"
    assert there("a", ref("lab"), node, [pod(leaves=True)], {}).state == "absent"
