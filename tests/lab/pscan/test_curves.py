"""Numbers out of what programs write, and plots of them."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from tensorboardX import SummaryWriter

from mlmp_spawner.lab.pscan import curves


def test_json_lines_are_curves_over_their_steps():
    data = b'{"step": 1, "loss": 2.5, "note": "x", "at": 17}\n{"step": 3, "loss": 1, "acc": 0.5}\nbroken\n[1]\n'
    assert curves.of_json_lines(data) == {"loss": [(1, 2.5), (3, 1)], "acc": [(3, 0.5)]}


def test_lines_without_a_step_are_counted():
    assert curves.of_json_lines(b'{"loss": 2}\n{"loss": 1}') == {"loss": [(0, 2), (1, 1)]}


def test_what_is_no_finite_number_is_left_out():
    data = b'{"a": NaN, "b": Infinity, "c": true, "d": null, "e": 1e999}\n{"f": 1' + b"0" * 400 + b"}"
    assert curves.of_json_lines(data) == {}


def test_a_csv_file_with_a_step_has_curves_and_any_other_has_none():
    rows = curves.table_rows(b"epoch,step,loss\n0,1,0.5\n0,2,\n1,3,x,y\n", tabs=False, most=10)
    assert curves.of_csv(rows) == {"loss": [(1, 0.5)]}
    assert curves.of_csv([["name", "loss"], ["a", "1"]]) == {}
    assert curves.of_csv([]) == {}


def test_event_files_of_tensorboard_are_curves(tmp_path: Path):
    with SummaryWriter(str(tmp_path)) as writer:
        for step in range(5):
            writer.add_scalar("loss", 1 / (step + 1), step)
    (file,) = tmp_path.iterdir()
    found = curves.of_events(file.read_bytes())
    assert [step for step, _ in found["loss"]] == [0, 1, 2, 3, 4]
    assert curves.of_events(b"no such file at all") == {}


def test_a_long_curve_is_thinned_and_keeps_its_last_point():
    data = "\n".join(json.dumps({"step": n, "loss": n}) for n in range(10_000)).encode()
    points = curves.of_json_lines(data)["loss"]
    assert len(points) <= curves.MOST_POINTS + 1
    assert points[0] == (0, 0) and points[-1] == (9999, 9999)


def test_no_more_curves_than_anybody_looks_at():
    data = json.dumps({f"m{n:03}": n for n in range(100)}).encode()
    assert len(curves.of_json_lines(data)) == curves.MOST_CURVES


def test_a_plot_says_in_words_what_it_shows():
    said = curves.drawn({"<b>loss": [(0, 2.0), (1, 0.5), (2, 1.0)]})
    assert 'aria-label="&lt;b&gt;loss: from 2 to 1, between 0.5 and 2"' in said
    assert "<b>1</b> <small>0.5 … 2</small>" in said  # each has a scale of its own
    assert 'points="0.0,2.0 100.0,58.0 200.0,39.3"' in said
    assert "<b>loss" not in said


def test_a_single_point_and_a_flat_line_can_be_drawn():
    assert "<circle" in curves.drawn({"a": [(5, 1.0)]})
    assert 'points="0.0,30.0 200.0,30.0"' in curves.drawn({"a": [(0, 1.0), (1, 1.0)]})
    assert curves.drawn({"a": []}) == ""


def test_the_largest_numbers_can_be_drawn():
    assert "nan" not in curves.drawn(curves.of_json_lines(b'{"a": 9e299}\n{"a": -9e299}'))


@given(st.binary(max_size=300))
def test_whatever_is_in_a_file_it_does_no_harm(data: bytes):
    curves.drawn(curves.of_json_lines(data))
    curves.drawn(curves.of_events(data))
    curves.drawn(curves.of_csv(curves.table_rows(b"step,a\n" + data, tabs=False, most=100)))
