"""Lines of what jobs measured: nothing is lost that one would see, nothing that is measured breaks a page."""

from __future__ import annotations

import math
import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlmp_spawner.units import HOUR, MINUTE
from mlmp_spawner.web import job_plots
from mlmp_spawner.web.job_plots import HEIGHT, WIDTH, Series, chart, number, seconds, size, thin

_POINT = re.compile(r"(-?[0-9.]+),(-?[0-9.]+)")
anything = st.floats(allow_nan=True, allow_infinity=True)


def points(path: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in _POINT.findall(path)]


@given(
    st.lists(st.tuples(st.floats(-1e305, 1e305), anything), max_size=60),
    st.sampled_from(sorted(job_plots.SAID)),
)
def test_whatever_was_measured_is_drawn_within_its_box(measured: list[tuple[float, float]], kind: str):
    measured.sort(key=lambda pair: pair[0])
    values = [abs(value) if kind != "number" else value for _, value in measured]
    drawn = chart("loss", [Series("it", [at for at, _ in measured], values)], kind=kind)
    if not any(max(abs(value), abs(at)) < 1e300 for (at, _), value in zip(measured, values, strict=True)):
        assert drawn is None
        return
    assert drawn is not None and drawn.summary and drawn.up
    assert "nan" not in drawn.lines[0].path and "inf" not in drawn.lines[0].path
    for x, y in points(drawn.lines[0].path):
        assert -0.01 <= x <= WIDTH + 0.01 and -0.01 <= y <= HEIGHT + 0.01


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=3000), st.integers(2, 400))
def test_thinned_lines_keep_the_lowest_and_the_highest(values: list[float], most: int):
    line = list(enumerate(values))
    kept = thin(line, most)
    assert len(kept) <= most and kept == sorted(kept)
    assert min(value for _, value in kept) == min(values) and max(value for _, value in kept) == max(values)


def test_what_is_not_a_number_leaves_a_gap():
    drawn = chart("loss", [Series("it", [0, 1, 2, 3], [1.0, math.nan, 3.0, 4.0])])
    assert drawn is not None and drawn.lines[0].path.count("M") == 2
    assert "h0" in drawn.lines[0].path, "a point alone is a dot"


def test_a_line_is_where_its_numbers_are():
    drawn = chart("use", [Series("it", [0, 50, 100], [0.0, 50.0, 100.0])], kind="percent")
    assert drawn is not None
    assert [x for x, _ in points(drawn.lines[0].path)] == [0, WIDTH / 2, WIDTH]
    assert points(drawn.lines[0].path)[0][1] == HEIGHT
    assert drawn.lines[0].end[0] == 100
    assert [text for _, text in drawn.up] == ["0 %", "50 %", "100 %"]


def test_the_sentence_says_where_it_is_now_and_how_far_it_went():
    drawn = chart("loss", [Series("it", [0, 10, 20], [2.5, 0.25, 0.5])])
    assert drawn is not None
    assert drawn.summary == "loss. 0.5 at step 20, between 0.25 and 2.5"


def test_compared_lines_differ_and_neighbours_by_more_than_colour():
    drawn = chart("loss", [Series(f"job {n}", [0, 1], [n, n], n) for n in range(20)])
    assert drawn is not None
    assert len({(line.look, line.dash) for line in drawn.lines}) == 20
    assert all(one.dash != other.dash for one, other in pairwise(drawn.lines))


def test_time_is_marked_as_people_say_it():
    drawn = chart("gpu", [Series("it", [0, 90 * MINUTE], [1.0, 2.0])], timed=True, kind="percent")
    assert drawn is not None
    assert [text for _, text in drawn.across] == ["0 s", "20 min", "40 min", "1 h", "1 h 20 min"]


@pytest.mark.parametrize(
    ("said", "text"),
    [
        (number(0.0), "0"), (number(0.123456), "0.1235"), (number(12345.6), "12,346"), (number(3e-5), "3e-5"),
        (number(-2.5e9), "-2.5e9"), (size(0), "0 B"), (size(1.5 * 2**30), "1.5 GiB"), (size(1020 * 2**20), "1020 MiB"),
        (seconds(0), "0 s"), (seconds(90_000), "1 min 30 s"), (seconds(25 * HOUR), "25 h"),
        (job_plots.percent(49.6), "50 %"),
    ],
)  # fmt: skip
def test_numbers_are_said_shortly(said: str, text: str):
    assert said == text
