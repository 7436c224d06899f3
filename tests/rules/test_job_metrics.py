"""Metrics of a job: from lines and logs that somebody else wrote, to points of which none that tells is lost."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlmp_spawner.rules import job_metrics
from mlmp_spawner.rules.job_metrics import (
    LONGEST_LINE,
    MOST_LINES,
    MOST_POINTS,
    MOST_SERIES,
    Series,
    compile_pattern,
    from_lines,
    from_log,
    joined,
    telling,
)


def line(step: Any, at: Any = 5, **values: Any) -> bytes:
    """A line of metrics."""
    return json.dumps({"at": at, "step": step, "values": values}).encode() + b"\n"


def series(steps: list[int], values: list[float]) -> Series:
    """A series of which no times are known."""
    return Series(tuple(steps), tuple(values), (None,) * len(steps))


class TestPatterns:
    @pytest.mark.parametrize(
        ("pattern", "told"),
        [
            ("(", "not a pattern of RE2: missing"),
            (r"(?=x)(?P<a>.)", "no lookaround and no backreferences"),
            (r"(?P<a>.)\1", "no lookaround and no backreferences"),
            ("loss", "names no metric"),
            (r"(?P<step>\d+)", "names no metric"),
            ("(?P<a>.)" + "()" * 20, "has 21 groups; at most 20"),
            ("(?P<a>" + "x" * 1000 + ")", "has 1007 characters; at most 1000"),
            ("(?P<a>a.{200}b)", "too large"),
            (r"(?P<a>\pL{500})", "too large"),
        ],
    )
    def test_one_that_can_not_be_used_is_refused_with_the_reason(self, pattern: str, told: str) -> None:
        with pytest.raises(ValueError, match=told.replace("(", r"\(")):
            compile_pattern(pattern)

    @given(st.text(max_size=40) | st.text("ab(?P<>)*+{1}[]^$.|\\dw", max_size=40))
    def test_whatever_is_written_compiles_or_is_refused(self, pattern: str) -> None:
        with suppress(ValueError):
            compile_pattern(pattern)


class TestLogs:
    def test_named_groups_are_metrics_and_step_is_the_step(self) -> None:
        log = b"epoch 3: loss=0.5 acc=1e-2\nnothing\nepoch 4: loss=0.25 acc=nan\n"
        found = from_log(log, [r"epoch (?P<step>\d+): loss=(?P<loss>\S+) acc=(?P<acc>\S+)"])
        assert found["loss"] == Series((3, 4), (0.5, 0.25), (None, None))
        assert found["acc"] == Series((3, 4), (0.01, None), (None, None))

    def test_without_a_step_the_points_are_counted(self) -> None:
        assert from_log(b"loss 3\n\nloss 2\nloss x\n", [r"loss (?P<loss>\S+)"]) == {
            "loss": Series((0, 1), (3.0, 2.0), (None, None), counted=True)
        }

    def test_a_progress_bar_writes_many_lines_into_one(self) -> None:
        assert from_log(b"10% l=3\r20% l=2\r30% l=1\n", ["l=(?P<l>.*)"])["l"].values == (3, 2, 1)

    def test_half_a_line_waits_for_its_rest(self) -> None:
        assert from_log(b"l=0.5\nl=0.2", ["l=(?P<l>.*)"])["l"].values == (0.5,)

    def test_a_line_that_is_too_long_is_left_out(self) -> None:
        log = b"l=1" + b" " * LONGEST_LINE + b"\nl=2\n"
        assert from_log(log, ["l=(?P<l>[0-9])"])["l"].values == (2,)

    def test_a_group_that_was_not_met_is_no_point(self) -> None:
        assert from_log(b"a=1\nb=2\n", ["a=(?P<a>.)|b=(?P<b>.)"]).keys() == {"a", "b"}

    def test_no_pattern_finds_nothing(self) -> None:
        assert from_log(b"a=1\n", []) == {}

    def test_of_a_long_log_the_end_is_read(self) -> None:
        log = b"".join(b"l=%d\n" % n for n in range(MOST_LINES + 1000))
        found = from_log(log, ["l=(?P<l>[0-9]+)"])["l"]
        assert (found.values[0], found.values[-1]) == (1000, MOST_LINES + 999)
        assert MOST_POINTS - 10 < len(found.values) <= MOST_POINTS

    def test_for_a_slow_pattern_less_is_read(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(job_metrics, "MOST_WORK", 100_000)
        log = b"l=1\n" + b"ab" * 500 + b"\nl=2\n"
        assert from_log(log, ["l=(?P<l>[0-9])"])["l"].values == (1, 2)
        assert from_log(log, ["l=(?P<l>[0-9])|a[ab]{400}c"])["l"].values == (2,)

    @given(st.binary(max_size=300))
    def test_whatever_is_printed_is_read(self, log: bytes) -> None:
        from_log(log, [r"(?P<a>.*)", r"(?P<step>.)(?P<b>\S+)"])


class TestLines:
    def test_they_are_series_by_name(self) -> None:
        found = from_lines(line(1, at=10, loss=2, lr=0.1) + line(2, at=20, loss=1))
        assert found == {"loss": Series((1, 2), (2.0, 1.0), (10, 20)), "lr": Series((1,), (0.1,), (10,))}

    def test_what_is_no_finite_number_is_a_gap_and_json_all_the_same(self) -> None:
        found = from_lines(line(1, a=math.nan) + line(2, a=-math.inf) + line(3, a=1))["a"]
        assert found.values == (None, None, 1.0)
        json.dumps(found.values, allow_nan=False)

    @pytest.mark.parametrize(
        "wrong",
        [b"", b"{", b"[]", b"5", b"{}", b'{"values": []}', b'{"at": 1, "step": 1, "values": {"a": "1"}}',
         b'{"values": {"a": true}}', b'{"values": {"": 1}}', b'{"values": {"\\u001b[2J": 1}}', b"[" * 100_000,
         b'{"values": {"a": ' + b"9" * 5000 + b"}}", b"\xff\xfe", b'{"values": {"%s": 1}}' % (b"x" * 201)],
    )  # fmt: skip
    def test_what_is_none_is_left_out(self, wrong: bytes) -> None:
        assert from_lines(line(1, loss=1) + wrong + b"\n" + line(2, loss=2)).keys() == {"loss"}

    def test_a_time_or_step_that_makes_no_sense_is_unknown(self) -> None:
        text = b'{"at": 1e300, "step": "x", "values": {"a": 1}}\n{"at": null, "step": NaN, "values": {"a": 1}}\n'
        assert from_lines(text)["a"] == Series((None, None), (1.0, 1.0), (None, None))

    def test_there_is_room_for_so_many_series(self) -> None:
        assert len(from_lines(b"".join(line(1, **{f"m{n}": 1}) for n in range(MOST_SERIES + 50)))) == MOST_SERIES

    @given(st.lists(st.tuples(st.integers(-(2**53) + 1, 2**53 - 1), st.floats()), max_size=50))
    def test_they_are_read_back_as_they_were_written(self, points: list[tuple[int, float]]) -> None:
        found = from_lines(b"".join(line(step, a=value) for step, value in points)).get("a")
        assert (found is None) == (not points)
        if found:
            assert found.steps == tuple(step for step, _ in points)
            assert found.values == tuple(value if math.isfinite(value) else None for _, value in points)

    @given(st.binary(max_size=200))
    def test_whatever_is_written_is_read(self, text: bytes) -> None:
        from_lines(text)
        from_lines(text + b"\n")


numbers = st.floats(allow_nan=True, allow_infinity=True)


class TestTelling:
    @given(st.lists(numbers, max_size=300), st.integers(4, 50))
    def test_few_points_are_shown_in_order_with_the_first_the_last_and_the_extremes(
        self, values: list[float], most: int
    ) -> None:
        kept = telling(values, most)
        assert len(kept) == min(len(values), len(kept)) <= most
        assert kept == sorted(set(kept))
        if values:
            assert {kept[0], kept[-1]} == {0, len(values) - 1}
        finite = [value for value in values if math.isfinite(value)]
        if finite:
            shown = [values[n] for n in kept if math.isfinite(values[n])]
            assert (min(shown), max(shown)) == (min(finite), max(finite))

    def test_a_gap_stays_one(self) -> None:
        values = [1.0] * 400 + [math.nan] * 400 + [2.0] * 400
        assert any(math.isnan(values[n]) for n in telling(values, 20))


class TestJobs:
    def test_what_was_lost_by_a_preemption_is_left_out(self) -> None:
        first, second = series([0, 10, 20, 30], [9, 8, 7, 6]), series([20, 30, 40], [7.1, 6.1, 5])
        assert joined([{"loss": first}, {"loss": second}]) == {
            "loss": series([0, 10, 20, 30, 40], [9, 8, 7.1, 6.1, 5])
        }

    def test_one_that_begins_anew_is_shown_alone(self) -> None:
        assert joined([{"l": series([5, 6], [1, 1])}, {"l": series([0], [3])}]) == {"l": series([0], [3])}

    def test_counted_points_go_on_counting(self) -> None:
        parts = [from_log(b"l=3\nl=2\n", ["l=(?P<l>.)"]), from_log(b"l=1\n", ["l=(?P<l>.)"])]
        assert joined(parts)["l"] == Series((0, 1, 2), (3, 2, 1), (None,) * 3, counted=True)

    def test_over_time_nothing_is_left_out(self) -> None:
        first, second = (
            from_lines(line(None, at=1, cpu=3)),
            from_lines(line(None, at=9, cpu=4) + line(None, at=10, m=1)),
        )
        assert joined([first, {}, second]) == {
            "cpu": Series((None, None), (3, 4), (1, 9)), "m": Series((None,), (1,), (10,))}  # fmt: skip

    @given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 20)), min_size=1, max_size=6))
    def test_steps_rise_however_often_it_was_begun_again(self, attempts: list[tuple[int, int]]) -> None:
        parts = [{"a": series(list(range(begin, begin + count)), [float(number)] * count)}
                 for number, (begin, count) in enumerate(attempts)]  # fmt: skip
        found = joined(parts)["a"]
        steps = [step for step in found.steps if step is not None]
        assert steps == sorted(set(steps))
        begin, count = attempts[-1]
        assert steps[-count:] == list(range(begin, begin + count))

    def test_together_they_are_no_more_points_than_one(self) -> None:
        parts = [{"a": series(list(range(n * 900, n * 900 + 900)), [0.0] * 900)} for n in range(5)]
        assert len(joined(parts)["a"].values) <= MOST_POINTS
