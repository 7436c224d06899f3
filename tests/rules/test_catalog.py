"""The catalog: what it answers, which limits hold, what is filled in."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from mlmp_spawner.rules.catalog import Accelerator, Catalog, LimitRules, Limits, Node, Profile, is_in_cluster
from mlmp_spawner.units import DAY, HOUR, MINUTE

GPU, SLOT = "nvidia.com/gpu", "mlmp.dev/slot"
GIB = 1 << 30


def node(name: str, count: int, model: str = "A100", **more: object) -> Node:
    return Node.model_validate(
        {"name": name, "accelerators": [{"resource": GPU, "model": model, "count": count}], **more}
    )


def catalog(
    *profiles: Profile, nodes: tuple[Node, ...] = (node("big", 4), node("small", 1, "T4")), **more: object
) -> Catalog:
    named = {profile.name: profile for profile in profiles}
    return Catalog.model_validate({"nodes": {n.name: n for n in nodes}, "profiles": named, **more})


def test_capacity_is_counted_by_node_and_resource() -> None:
    both = (Accelerator(resource=GPU, count=2), Accelerator(resource=SLOT, count=16))
    assert catalog(nodes=(Node(name="n", accelerators=both),)).capacity() == {("n", GPU): 2, ("n", SLOT): 16}


@pytest.mark.parametrize(
    ("wants", "fits_on"),
    [
        ({}, ["big", "small"]),
        ({"units": 2}, ["big"]),
        ({"model": "T4"}, ["small"]),
        ({"units": 5}, []),
        ({"cpus": 16.0}, ["big"]),
        ({"memory": 64 * GIB}, ["big", "small"]),
        ({"memory": 65 * GIB}, ["small"]),
    ],
)
def test_a_profile_fits_the_nodes_that_have_all_it_needs(wants: dict[str, object], fits_on: list[str]) -> None:
    nodes = (node("big", 4, cpus=32.0, memory=64 * GIB), node("small", 1, "T4", cpus=8.0))
    found = catalog(nodes=nodes)
    profile = Profile.model_validate({"name": "p", "resource": GPU, **wants})
    assert [n.name for n in found.nodes_for(profile)] == fits_on


def test_a_profile_for_groups_is_open_to_their_members_alone() -> None:
    found = catalog(Profile(name="all", resource=GPU), Profile(name="few", resource=GPU, groups=("staff", "phd")))
    assert [p.name for p in found.profiles_for(["phd"])] == ["all", "few"]
    assert [p.name for p in found.profiles_for([])] == ["all"]


def test_what_a_profile_leaves_out_is_filled_in_without_contradiction() -> None:
    plain = Profile(name="p", resource=GPU)
    assert (plain.title, plain.max_units) == ("p", 1)
    assert (plain.min_duration, plain.default_duration, plain.max_duration) == (10 * MINUTE, 4 * HOUR, 7 * DAY)
    short = Profile(name="p", resource=GPU, max_duration=5 * MINUTE)
    assert (short.min_duration, short.default_duration, short.max_duration) == (5 * MINUTE,) * 3
    long = Profile(name="p", resource=GPU, min_duration=9 * DAY)
    assert (long.min_duration, long.default_duration, long.max_duration) == (9 * DAY,) * 3


def test_cores_and_memory_grow_with_the_units() -> None:
    found = catalog(nodes=(node("n", 4, cpus=32.0, memory=64 * GIB),))
    said = Profile(name="p", resource=GPU, units=2, max_units=4, cpus=3, memory=8 * GIB)
    assert found.share(said, "n", 4) == (6, 16 * GIB)


def test_cores_and_memory_that_are_not_said_are_the_share_of_the_node() -> None:
    found = catalog(nodes=(node("n", 4, cpus=32.0, memory=64 * GIB), node("unknown", 4)))
    profile = Profile(name="p", resource=GPU)
    assert found.share(profile, "n", 1) == (8, 16 * GIB)
    assert found.share(profile, "unknown", 1) == (None, None)
    assert found.share(profile, "gone", 1) == (None, None)


def test_simulated_units_have_names_and_are_known_as_such() -> None:
    found = catalog(nodes=(Node(name="n", accelerators=(Accelerator(resource=GPU, count=2, simulated=True),)),))
    assert found.simulated(GPU)
    assert not found.simulated(SLOT)
    assert found.unit_ids("n", GPU) == ("simulated-0", "simulated-1")
    assert found.unit_ids("n", SLOT) == found.unit_ids("gone", GPU) == ()


def test_unit_ids_must_be_as_many_as_the_count() -> None:
    with pytest.raises(ValidationError, match="1 different unit_ids for a count of 2"):
        Accelerator(resource=GPU, count=2, unit_ids=("GPU-1", "GPU-1"))


def test_a_resource_stands_once_on_a_node() -> None:
    with pytest.raises(ValidationError, match=r"each resource once, but nvidia.com/gpu is there twice"):
        Node(name="n", accelerators=(Accelerator(resource=GPU, count=1), Accelerator(resource=GPU, count=1)))


class TestLimits:
    rules = LimitRules(
        everybody=Limits(units_at_once=2, hours_per_week=10, min_duration=30 * MINUTE, ahead=DAY),
        groups={
            "students": Limits(units_at_once=1, min_duration=60 * MINUTE),
            "tutors": Limits(units_at_once=4, min_duration=10 * MINUTE),
            "staff": Limits(hours_per_week=None),
        },
        users={"ann": Limits(units_at_once=3, ahead=None)},
    )

    def test_who_is_in_no_group_has_the_limits_of_everybody(self) -> None:
        assert self.rules.of("ben", ["unknown"]) == self.rules.everybody

    def test_a_group_may_be_stricter_than_everybody(self) -> None:
        assert self.rules.of("ben", ["students"]).units_at_once == 1

    def test_what_a_group_does_not_say_is_as_for_everybody(self) -> None:
        assert self.rules.of("ben", ["students"]).hours_per_week == 10

    def test_of_several_groups_the_most_generous_of_each_limit_holds(self) -> None:
        found = self.rules.of("ben", ["students", "tutors", "staff"])
        assert (found.units_at_once, found.min_duration, found.hours_per_week) == (4, 10 * MINUTE, None)

    def test_what_is_said_for_the_user_wins_even_if_it_is_stricter(self) -> None:
        found = self.rules.of("ann", ["tutors"])
        assert (found.units_at_once, found.ahead, found.min_duration) == (3, None, 10 * MINUTE)


def test_profiles_that_do_not_count_are_named() -> None:
    found = catalog(Profile(name="gpu", resource=GPU), Profile(name="cpu", resource=SLOT, counted=False))
    assert found.uncounted() == {"cpu"}


@pytest.mark.parametrize(
    ("resource", "there"),
    [("nvidia.com/gpu", True), ("nvidia.com/mig-3g.40gb", True), ("mlmp.dev/slot", False), ("slot", False)],
)
def test_a_pod_asks_the_cluster_only_for_what_a_device_plugin_gives_out(resource: str, there: bool) -> None:
    assert is_in_cluster(resource) is there
