"""Templates for trees that nobody described."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlmp_spawner.lab.pscan.pattern import compile_pattern
from mlmp_spawner.lab.pscan.propose import propose
from mlmp_spawner.lab.pscan.table import layout_of, table_of

RATES, SIZES, SEEDS = ("0.1", "1e-05"), ("16", "32"), ("0", "1", "2")


def grid(form: str) -> list[str]:
    return [form.format(lr=lr, bs=bs, s=s) for lr, bs, s in itertools.product(RATES, SIZES, SEEDS)]


@pytest.mark.parametrize(
    ("form", "template"),
    [
        ("lr={lr}/bs={bs}/seed={s}.png", "lr={lr}/bs={bs}/seed={seed}.png"),
        ("lr={lr}_batch_size={bs}/seed={s}/a.png", "lr={lr}_batch_size={batch_size}/seed={seed}/a.png"),
        ("run/opt.lr={lr},opt.bs={bs},s={s}.csv", "run/opt.lr={lr},opt.bs={bs},s={s}.csv"),
        ("lr{lr}_bs{bs}_s{s}.png", "lr{lr}_bs{bs}_s{s}.png"),
        ("lr_{lr}/bs-{bs}/seed {s}.pdf", "lr_{lr}/bs-{bs}/seed {seed}.pdf"),
        ("lr={lr}/lr={lr}_bs={bs}/{s}.png", "lr={lr}/lr=*_bs={bs}/{part}.png"),
    ],
)
def test_keys_and_words_before_numbers_name_the_parameters(form: str, template: str):
    assert propose(grid(form)) == template


def test_several_kinds_of_files_are_an_axis():
    files = [f"{run}/{name}" for run in grid("lr={lr}/bs={bs}/s={s}") for name in ("loss.png", "metrics.csv")]
    assert propose(files) == "lr={lr}/bs={bs}/s={s}/{file}"


def test_the_same_files_of_several_endings_have_an_axis_for_these():
    files = [path + end for path in grid("lr={lr}_bs={bs}_s={s}") for end in (".png", ".csv")]
    assert propose(files) == "lr={lr}_bs={bs}_s={s}.{ext}"


def test_words_are_an_axis_too():
    files = [f"{model}/{data}/seed_{n}/m.csv" for model in ("vgg", "res_net", "mlp2") for data in "ab" for n in (1, 2)]
    assert propose(files) == "{folder}/{part}/seed_{seed}/m.csv"


def test_the_name_of_a_run_that_says_nothing_is_left_out():
    files = [f"2026-01-0{n}/12-00-0{n}/lr={n % 3},bs={n // 3}/out.txt" for n in range(9)]
    assert propose(files).endswith("/lr={lr},bs={bs}/out.txt")
    assert compile_pattern(propose(files)).names == ("lr", "bs")


def test_names_without_anything_in_common_are_the_axis_themselves():
    assert propose(["a.png", "xyz-1.csv", "README"]) == "{file}"
    assert propose([]) == "{file}"
    assert propose(["a.png"]) == "{file}"
    assert propose(["{odd}.png", "*.png", "\n"]) == "{file}"


def test_of_very_many_files_it_is_not_the_same_one_of_each_run_that_is_looked_at():
    names = ("loss.png", "acc.png", "metrics.csv", "config.json", "log.txt")
    files = [f"lr={lr}/seed={seed}/{name}" for lr in range(20) for seed in range(400) for name in names]
    assert propose(files) == "lr={lr}/seed={seed}/{file}"
    assert propose(files) == propose(files)


def test_the_results_of_a_project_that_nobody_here_made_have_sensible_axes():
    """The paths of ``code/experiments/results`` in github.com/SimonHofmann94/BS-Data at 796b13b."""
    files = Path(__file__).with_name("public_tree.txt").read_text().splitlines()
    template = propose(files)
    assert template == "experiment_grid_lr{lr}_wd{wd}_s{s}_20251207_*/{file}"
    table = table_of(files, compile_pattern(template))
    axes = {axis.name: axis for axis in table.axes}
    assert axes["lr"].values == ("0.001", "0.005", "0.01")
    assert axes["wd"].values == ("0.001", "0.01", "0.1")
    assert axes["s"].values == tuple(str(seed) for seed in range(10, 151, 10))
    assert (table.matched, len(table.unmatched), table.missing) == (543, 6, 0)
    layout = layout_of(table, None, None, {})
    assert (layout.rows, layout.columns) == (("lr",), ("wd",))
    assert layout.at == {"s": "10", "file": "training_visualization.png"}


@given(st.lists(st.text("ab1._=-/ {*é\n\udcff", min_size=1, max_size=30), max_size=30))
def test_whatever_files_are_called_a_proposal_is_a_pattern(files: list[str]):
    compile_pattern(propose(files))


@given(st.lists(st.tuples(st.text("ab", min_size=1, max_size=5), st.integers(0, 99)), min_size=1, max_size=30))
def test_a_proposal_is_for_most_of_the_files_of_one_form(runs: list[tuple[str, int]]):
    files = sorted({f"{word}/seed={n}.png" for word, n in runs})
    pattern = compile_pattern(propose(files))
    assert all(pattern.match(path) is not None for path in files)
