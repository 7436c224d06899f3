"""Files by their parameters: axes, what is missing, rows, columns and fixed values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlmp_spawner.errors import Invalid
from mlmp_spawner.lab.pscan.pattern import compile_pattern
from mlmp_spawner.lab.pscan.table import Table, layout_of, table_of, view

FILES = [f"lr={lr}/bs={bs}/{name}" for lr in ("0.1", "1e-3") for bs in (8, 16, 128) for name in ("a.csv", "b.png")]


@pytest.fixture
def table() -> Table:
    return table_of([*FILES, "notes.md"], compile_pattern("lr={lr}/bs={bs}/{file}"))


def test_axes_have_their_values_by_size(table: Table):
    assert [(axis.name, axis.values) for axis in table.axes] == [
        ("lr", ("1e-3", "0.1")), ("bs", ("8", "16", "128")), ("file", ("a.csv", "b.png")),
    ]  # fmt: skip


def test_what_does_not_match_and_what_is_missing_is_counted(table: Table):
    assert (table.matched, table.unmatched, table.missing) == (12, ("notes.md",), 0)
    less = table_of(FILES[2:], compile_pattern("lr={lr}/bs={bs}/{file}"))
    assert (less.matched, less.missing) == (10, 2)


def test_a_cell_has_the_file_with_the_values_of_its_row_and_column(table: Table):
    found = view(table, layout_of(table, ["lr"], ["bs"], {"file": "a.csv"}))
    assert found.rows == (("1e-3",), ("0.1",))
    assert found.columns == (("8",), ("16",), ("128",))
    assert found.cells[0][2] == ("lr=1e-3/bs=128/a.csv", 0)


def test_several_axes_may_be_rows(table: Table):
    found = view(table, layout_of(table, ["file", "bs"], [], {"lr": "0.1"}))
    assert found.rows[0] == ("a.csv", "8")
    assert found.columns == ((),)
    assert [cell and cell[0] for (cell,) in found.cells][3] == "lr=0.1/bs=8/b.png"


def test_a_cell_without_a_file_is_empty():
    table = table_of(["1/1", "2/2"], compile_pattern("{a}/{b}"))
    assert view(table, layout_of(table, ["a"], ["b"], {})).cells == ((("1/1", 0), None), (None, ("2/2", 0)))


def test_files_with_the_same_values_are_one_cell_that_says_how_many():
    table = table_of(["r10/x=1", "r9/x=1", "r11/x=1"], compile_pattern("*/x={x}"))
    assert view(table, layout_of(table, ["x"], [], {})).cells == ((("r9/x=1", 2),),)
    assert table.matched == 3


def test_a_first_look_has_two_axes_and_the_files_that_are_best_to_look_at(table: Table):
    layout = layout_of(table, None, None, {})
    assert (layout.rows, layout.columns, layout.at) == (("lr",), ("bs",), {"file": "b.png"})


def test_a_first_look_at_very_many_values_puts_them_on_sliders():
    table = table_of([f"{n}/{m}" for n in range(50) for m in (1, 2)], compile_pattern("{n}/{m}"))
    assert layout_of(table, None, None, {}) == layout_of(table, [], ["m"], {"n": "0"})


def test_an_address_that_is_older_than_the_files_shows_what_there_is(table: Table):
    layout = layout_of(table, ["gone", "lr"], ["lr", "bs", "bs"], {"file": "gone.png", "what": "1"})
    assert (layout.rows, layout.columns, layout.at) == (("lr",), ("bs",), {"file": "b.png"})


def test_too_many_cells_are_refused_before_they_are_made():
    table = table_of([f"{n}/{n}/{n}" for n in range(3000)], compile_pattern("{a}/{b}/{c}"))
    assert table.missing == 3000**3 - 3000
    for rows, columns in ((["a"], ["b"]), (["a", "b", "c"], [])):
        with pytest.raises(Invalid, match="cells; at most 5,000"):
            view(table, layout_of(table, rows, columns, {}))


def test_no_files_make_no_cells_with_files():
    table = table_of([], compile_pattern("{a}/{b}"))
    assert (table.matched, table.missing) == (0, 0)
    assert view(table, layout_of(table, None, None, {})).cells == ((None,),)


@given(st.sets(st.tuples(*[st.integers(0, 4)] * 3), min_size=1))
def test_every_file_is_in_exactly_one_cell_of_all_views(runs: set[tuple[int, int, int]]):
    table = table_of([f"{a}/{b}/{c}" for a, b, c in runs], compile_pattern("{a}/{b}/{c}"))
    shown: list[str] = []
    for value in table.by_name["c"].values:
        found = view(table, layout_of(table, ["a"], ["b"], {"c": value}))
        shown += [cell[0] for line in found.cells for cell in line if cell]
    assert sorted(shown) == sorted(f"{a}/{b}/{c}" for a, b, c in runs)
