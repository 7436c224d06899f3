"""The rows of a scan: each combination, a list, a sample that a seed repeats; and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from mlmp_spawner.errors import Invalid
from mlmp_spawner.rules.scan_parameters import filled, options, outputs, rows


def test_a_grid_has_each_combination_once_the_last_name_changing_fastest():
    found = rows("grid", {"lr": [0.1, 0.01], "bs": [32, 64]})
    assert found == [{"lr": 0.1, "bs": 32}, {"lr": 0.1, "bs": 64}, {"lr": 0.01, "bs": 32}, {"lr": 0.01, "bs": 64}]


@pytest.mark.parametrize(
    ("said", "values"),
    [
        ({"from": 0.001, "to": 0.1, "steps": 3, "scale": "log"}, [0.001, 0.01, 0.1]),
        ({"from": 0, "to": 10, "steps": 3}, [0, 5, 10]),
        ({"from": 0, "to": 1, "steps": 3}, [0.0, 0.5, 1]),
        ({"from": 5, "to": 6, "steps": 1}, [5]),
        ({"from": 1000000, "to": 1000009, "steps": 10}, list(range(1000000, 1000010))),
        ({"from": 0, "to": 2**53, "steps": 3}, [0, 2**52, 2**53]),
        ({"from": 1.2345678, "to": 2.0, "steps": 3}, [1.2345678, 1.61728, 2.0]),
        ({"from": 1000000.5, "to": 1000002.5, "steps": 3}, [1000000.5, 1000001.5, 1000002.5]),
        ({"from": 1e-5, "to": 0.1, "steps": 4, "scale": "log"}, [1e-5, 0.000215443, 0.00464159, 0.1]),
        ({"from": 16, "to": 256, "steps": 5, "scale": "log"}, [16, 32, 64, 128, 256]),
    ],
)
def test_a_range_in_a_grid_is_its_steps_both_ends_included(said: dict[str, Any], values: list[float]):
    assert [row["x"] for row in rows("grid", {"x": said})] == values


@pytest.mark.parametrize(
    ("low", "high", "steps", "scale", "kind"),
    [(16, 256, 5, "log", int), (0, 10, 3, "lin", int), (0, 1, 3, "lin", float), (1, 100, 4, "log", float)],
)
def test_a_ranges_values_are_all_whole_numbers_or_none_is(low: int, high: int, steps: int, scale: str, kind: type):
    found = rows("grid", {"x": {"from": low, "to": high, "steps": steps, "scale": scale}})
    assert {type(row["x"]) for row in found} == {kind}


def test_a_sample_of_a_range_between_whole_numbers_has_whole_numbers():
    found = rows("random", {"bs": {"from": 16, "to": 512, "scale": "log"}}, samples=100, seed=1)
    assert all(isinstance(row["bs"], int) and 16 <= row["bs"] <= 512 for row in found)


def test_a_sample_is_the_same_again_with_its_seed_and_within_its_ranges():
    asked = {"lr": {"from": 1e-5, "to": 0.1, "scale": "log"}, "depth": {"from": 2, "to": 9}, "opt": ["sgd", "adam"]}
    found = rows("random", asked, samples=200, seed=7)
    assert found == rows("random", asked, samples=200, seed=7) != rows("random", asked, samples=200, seed=8)
    assert all(1e-5 <= row["lr"] <= 0.1 and row["depth"] in range(2, 10) for row in found)  # type: ignore[operator]
    assert 60 < sum(row["lr"] < 1e-3 for row in found) < 140  # type: ignore[operator]
    assert {row["opt"] for row in found} == {"sgd", "adam"}


def test_a_list_is_its_rows_with_the_same_names_in_each():
    assert rows("list", [{"a": 1, "b": "x"}, {"b": "y", "a": 2}]) == [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]
    with pytest.raises(Invalid, match="row 2 must have the same names"):
        rows("list", [{"a": 1}, {"b": 1}])


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({}, "must be names"),
        ({"--x": [1]}, "is no name"),
        ({"x": []}, "list of values"),
        ({"x": "abc"}, "list of values"),
        ({"x": [1, 1.0]}, "twice"),
        ({"x": [0.1, "0.1"]}, "twice"),
        ({"x": {"from": 1.0, "to": 1.0000000000000002, "steps": 5}}, "not all different"),
        ({"x": [float("nan")]}, "number"),
        ({"x": ["a\nb"]}, "no value"),
        ({"x": [None]}, "no value"),
        ({"x": {"from": 1, "to": 0, "steps": 2}}, "less than"),
        ({"x": {"from": 0, "to": 1, "steps": 2, "scale": "log"}}, "above 0"),
        ({"x": {"from": 0, "to": 1}}, "steps"),
        ({"x": {"from": 0, "to": 1, "step": 2}}, "a range has"),
        ({"x": {"from": True, "to": 10**400, "steps": 2}}, "number"),
        ({"x": list(range(200)), "y": list(range(200))}, "40,000 rows"),
        ({f"x{number}": [1] for number in range(21)}, "too many"),
    ],
)
def test_what_is_no_grid_is_refused_with_what_would_be(asked: dict[str, Any], told: str):
    with pytest.raises(Invalid, match=told):
        rows("grid", asked)


def test_a_sample_says_how_many_and_a_grid_does_not():
    with pytest.raises(Invalid, match="how many rows"):
        rows("random", {"x": [1]})
    with pytest.raises(Invalid, match="random sample"):
        rows("grid", {"x": [1]}, samples=3)


def test_paths_have_the_values_at_their_names():
    assert filled("runs/lr={lr}/{fast}/{id}", {"lr": 0.1, "fast": True}) == "runs/lr=0.1/true/{id}"
    with pytest.raises(Invalid, match="'bs' is no parameter; valid is lr, id, name"):
        filled("runs/{bs}", {"lr": 1})
    for hostile in ("../x", "..", "a/b", "{id}"):
        with pytest.raises(Invalid, match="can't stand in a path"):
            filled("runs/{x}", {"x": hostile})


def test_rows_that_would_write_to_one_place_are_refused():
    with pytest.raises(Invalid, match="rows 1 and 2 would both write to 'runs/1'"):
        outputs("runs/{a}", rows("grid", {"a": [1], "b": [1, 2]}))
    assert len(set(outputs("runs/{a}-{b}", rows("grid", {"a": [1], "b": [1, 2]})))) == 2


def test_a_row_is_options_of_a_program():
    assert options({"lr": 0.1, "fast": True, "slow": False, "shift": -1}) == ["--lr", "0.1", "--fast", "--shift=-1"]
