"""What groups are guaranteed: it is divided without a unit too much, and nobody takes what can't be taken back."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlmp_spawner.errors import ConfigurationError
from mlmp_spawner.rules.job_guarantees import FIXED, POOL, Tenant, checked, divide, of_resource, tenant_of

GPU = "nvidia.com/gpu"
RED, BLUE = Tenant("own", "red"), Tenant("own", "blue")
NODES = ["a", "b", "c"]

units = st.dictionaries(st.sampled_from(NODES), st.integers(0, 6))
used = st.dictionaries(st.sampled_from([POOL, FIXED, RED, BLUE]), units)
guaranteed = st.dictionaries(st.sampled_from(["red", "blue"]), st.integers(1, 20))


@given(units, used, guaranteed, units)
def test_the_queues_have_together_just_what_there_is_and_no_group_more_than_it_is_guaranteed(
    quotas, takes, guarantees, wanted
):  # type: ignore[no-untyped-def]
    parts = divide(quotas, takes, guarantees, wanted)
    total = Counter[str]()
    for part in parts.values():
        assert all(count >= 0 for count in part.values())
        total.update(part)
    assert +total == +Counter(quotas)
    own = {group: sum(parts[Tenant("own", group)].values()) for group in guarantees}
    assert all(own[group] <= guarantees[group] for group in guarantees)
    fixed = takes.get(FIXED, {})
    assert all(parts[FIXED].get(node, 0) >= min(count, quotas.get(node, 0)) for node, count in fixed.items())
    there = sum(quotas.values()) - sum(min(count, quotas.get(node, 0)) for node, count in fixed.items())
    assert sum(own.values()) == min(sum(guarantees.values()), there), "a guarantee is kept wherever it can be"


def test_a_group_is_guaranteed_units_where_its_jobs_are_and_then_where_there_are_most():
    parts = divide({"a": 2, "b": 4}, {RED: {"a": 1}}, {"red": 3}, {})
    assert parts == {FIXED: {}, RED: {"a": 1, "b": 2}, POOL: {"a": 1, "b": 2}}


def test_where_there_is_too_little_each_gets_a_like_part_of_what_it_is_guaranteed():
    parts = divide({"a": 6}, {}, {"red": 8, "blue": 4}, {})
    assert (parts[RED], parts[BLUE], parts[POOL]) == ({"a": 4}, {"a": 2}, {"a": 0})


def test_what_is_not_preemptible_gets_what_it_uses_and_needs_but_nothing_that_is_guaranteed():
    parts = divide({"a": 4}, {FIXED: {"a": 1}}, {"red": 2}, {"a": 3})
    assert parts == {FIXED: {"a": 2}, RED: {"a": 2}, POOL: {"a": 0}}


def test_what_is_guaranteed_leaves_whole_nodes_to_what_needs_them():
    parts = divide({"a": 4, "b": 2}, {}, {"red": 2}, {"a": 4})
    assert parts == {FIXED: {"a": 4}, RED: {"b": 2}, POOL: {"a": 0, "b": 0}}


def test_in_whose_queue_a_job_stands():
    guaranteed = of_resource({"red": {GPU: 2}, "blue": {"other": 1}}, GPU)
    assert guaranteed == {"red": 2}
    assert tenant_of("red", True, guaranteed) == RED
    assert tenant_of("red", False, guaranteed) == FIXED, "it is never sent away for another"
    assert tenant_of("blue", True, guaranteed) == POOL and tenant_of("", True, guaranteed) == POOL


@pytest.mark.parametrize("wrong", [4, {"red": 4}, {"red": {GPU: -1}}, {"red": {GPU: 1.5}}, {"": {GPU: 1}}, {1: {}}])
def test_a_setting_that_says_something_else_is_refused_with_what_it_should_be(wrong: object):
    with pytest.raises(ConfigurationError, match="whole numbers"):
        checked(wrong)


def test_nothing_guaranteed_is_as_not_said():
    assert checked({"red": {GPU: 0}, "blue": {}}) == {}
    assert checked({"red": {GPU: 4}}) == {"red": {GPU: 4}}
