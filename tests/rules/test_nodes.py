"""What is seen of a cluster's nodes, and what follows: only from what stayed so, and never more than the catalog."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from mlmp_spawner.rules import nodes as rules
from mlmp_spawner.rules.catalog import Accelerator, Catalog, Node
from mlmp_spawner.rules.nodes import (
    CORDONED,
    GONE,
    NOT_READY,
    Action,
    Close,
    ClusterNode,
    Key,
    Memory,
    Open,
    Reason,
    SetUnits,
    until_seen,
    why_away,
)

GPU, SLOT = "nvidia.com/gpu", "mlmp.dev/slot"
PATIENCE = 60
CATALOG = Catalog(
    nodes={
        name: Node(name=name, accelerators=(Accelerator(resource=GPU, count=4), Accelerator(resource=SLOT, count=8)))
        for name in ("a", "b")
    }
)


def node(name: str = "a", units: int = 4, **more: object) -> ClusterNode:
    return ClusterNode(name=name, units={GPU: units}, **more)  # type: ignore[arg-type]


class World:
    """What the watch remembers, and what it wrote into the database."""

    def __init__(self, catalog: Catalog = CATALOG) -> None:
        self.catalog = catalog
        self.memory = Memory()
        self.away: dict[str, str] = {}
        self.units: dict[Key, int] = dict(catalog.capacity())

    def look(self, now: int, nodes: Iterable[ClusterNode]) -> list[Action]:
        self.memory = rules.look(self.memory, nodes, self.catalog, now=now, patience=PATIENCE)
        found = rules.actions(self.memory, self.catalog, away=self.away, units=self.units, now=now, patience=PATIENCE)
        for one in found:
            if isinstance(one, (Open, Reason)):
                self.away[one.node] = one.reason
            elif isinstance(one, Close):
                del self.away[one.node]
            elif isinstance(one, SetUnits):
                self.units[one.node, one.resource] = one.units
        return found

    def looks(self, start: int, end: int, *nodes: ClusterNode) -> list[Action]:
        return [action for now in range(start, end + 1, 10) for action in self.look(now, nodes)]


B = node("b")


def test_a_node_takes_no_pods_while_it_is_gone_not_ready_or_cordoned():
    assert [why_away(one) for one in (None, node(ready=False, cordoned=True), node(cordoned=True), node())] == [
        GONE, NOT_READY, CORDONED, "",
    ]  # fmt: skip


def test_a_node_is_taken_out_of_use_after_the_patience_and_back_after_as_much():
    world = World()
    assert world.looks(0, 50, node(ready=False), B) == []
    assert world.looks(60, 200, node(ready=False), B) == [Open("a", NOT_READY)]
    assert world.looks(210, 260, node(), B) == []
    assert world.looks(270, 400, node(), B) == [Close("a")]


def test_a_node_that_is_away_for_another_reason_is_still_away():
    world = World()
    world.looks(0, 60, node(cordoned=True), B)
    assert world.looks(70, 300, B) == [Reason("a", GONE)]
    assert world.away == {"a": GONE}


def test_flapping_changes_nothing():
    world = World()
    for now in range(0, 1000, 50):
        assert world.look(now, [node(ready=now % 100 == 0, units=now % 3), B]) == []


def test_lost_units_lower_the_capacity_and_never_raise_it_above_the_catalog():
    world = World()
    assert world.looks(0, 100, node(units=3), B) == [SetUnits("a", GPU, 3)]
    assert world.looks(110, 300, node(units=9), B) == [SetUnits("a", GPU, 4)]
    assert world.looks(310, 500, ClusterNode("a"), B) == [SetUnits("a", GPU, 0)], "its device plugin is gone"


def test_the_units_of_a_node_of_which_nothing_is_heard_are_not_judged():
    world = World()
    world.looks(0, 100, node(units=0, ready=False), B)
    assert world.units["a", GPU] == 4
    assert world.looks(110, 160, node(units=0), B) == [], "it is seen anew once it is back"
    assert SetUnits("a", GPU, 0) in world.looks(170, 180, node(units=0), B)


def test_what_the_cluster_does_not_count_follows_the_catalog_at_once():
    world = World()
    world.units["a", SLOT] = 3
    assert world.look(0, [node(), B]) == [SetUnits("a", SLOT, 8)]
    simulated = Accelerator(resource=GPU, count=2, simulated=True)
    tried = World(Catalog(nodes={"a": Node(name="a", accelerators=(simulated,))}))
    assert tried.looks(0, 300, ClusterNode("a")) == []


def test_an_enlarged_catalog_is_offered_as_soon_as_the_cluster_is_known_to_have_it():
    world = World()
    world.looks(0, 100, node(units=8), B)
    more = Node(name="a", accelerators=(Accelerator(resource=GPU, count=6), Accelerator(resource=SLOT, count=8)))
    world.catalog = Catalog(nodes=CATALOG.nodes | {"a": more})
    assert world.look(110, [node(units=8), B]) == [SetUnits("a", GPU, 6)]


def test_a_node_that_left_the_catalog_leaves_no_outage_behind():
    world = World()
    world.looks(0, 100, B)
    world.catalog = Catalog(nodes={"b": CATALOG.nodes["b"]})
    world.units = dict(world.catalog.capacity())
    assert world.look(110, [B]) == [Close("a")]


def test_of_a_long_pause_in_looking_nothing_is_known():
    world = World()
    world.look(0, [node(ready=False), B])
    assert world.look(PATIENCE + 1, [node(ready=False), B]) == []


def test_a_restart_keeps_what_the_cluster_lacked():
    before = {("a", GPU): 3, ("b", GPU): 4, ("a", SLOT): 2, ("b", SLOT): 8}
    assert until_seen(CATALOG, before) == before | {("a", SLOT): 8}
    assert until_seen(CATALOG, {}) == CATALOG.capacity(), "a new node is offered as it is listed"


states = st.sampled_from([None, node(), node(units=2), node(cordoned=True), node(ready=False)])
looks = st.lists(st.tuples(st.integers(1, 50), states, st.booleans()), max_size=40)


@given(looks)
def test_only_what_every_look_of_the_patience_saw_changes_anything(seen: list[tuple[int, ClusterNode | None, bool]]):
    """Also when the service restarts in between, which forgets what was seen, never what was decided."""
    world, now, past = World(), 0, [(-1, node())]
    for step, one, restarts in seen:
        now += step
        past.append((now, one))  # type: ignore[arg-type]
        world.memory = Memory() if restarts else world.memory
        for action in world.look(now, [B, *([one] if one else [])]):
            begun = max(at for at, _ in past if at <= now - PATIENCE)
            lately = [state for at, state in past if at >= begun]
            if isinstance(action, (Open, Close)):
                assert {bool(why_away(state)) for state in lately} == {isinstance(action, Open)}
            elif isinstance(action, SetUnits):
                assert {state.units[GPU] if state and state.ready else None for state in lately} == {action.units}
        assert all(world.units[key] <= listed for key, listed in CATALOG.capacity().items())


@given(looks, states)
def test_whatever_was_the_end_is_what_is_there(
    seen: list[tuple[int, ClusterNode | None, bool]], last: ClusterNode | None
):
    world, now = World(), 0
    for step, one, _ in seen:
        now += step
        world.look(now, [B, *([one] if one else [])])
    there = [B, *([last] if last else [])]
    world.looks(now + 10, now + 2 * PATIENCE + 10, *there)
    assert world.away == ({"a": why_away(last)} if why_away(last) else {})
    if last is not None and last.ready:
        assert world.units["a", GPU] == min(4, last.units[GPU])
    assert world.look(now + 2 * PATIENCE + 20, there) == [], "and then nothing is left to do"
