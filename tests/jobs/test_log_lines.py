"""The log of a container, taken over connections that break anywhere: every byte once."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from mlmp_spawner.jobs.log_lines import LONGEST, Lines, Position

BEGIN = 1_800_000_000


def stamped(at: float, text: bytes) -> bytes:
    second, part = divmod(round(at * 1000), 1000)
    minute, second = divmod(second, 60)
    return f"2027-01-15T08:{minute:02}:{second:02}.{part:03}000000Z ".encode() + text


def sent(lines: list[tuple[float, bytes]], since: int | None) -> bytes:
    """What a node sends that is asked from then on (ms UTC; the first line's hour begins at ``BEGIN``)."""
    return b"".join(stamped(at, text) for at, text in lines if since is None or (BEGIN + at) * 1000 >= since)


def test_a_line_comes_without_its_time_and_a_line_that_is_not_whole_waits():
    lines = Lines(Position())
    assert lines.add(stamped(0, b"one\n") + stamped(1, b"tw")) == [b"one\n"]
    assert lines.add(b"o\n") == [b"two\n"]
    assert lines.add(stamped(2, b"three")) == [] and lines.end() == [b"three"]


def test_a_line_without_a_time_is_kept_as_it_is():
    assert Lines(Position()).add(b"no time here\n") == [b"no time here\n"]


def test_what_is_longer_than_is_waited_for_comes_in_pieces():
    position = Position()
    lines = Lines(position)
    long = b"x" * (LONGEST + 1000)
    first = b"".join(lines.add(stamped(0, long)))
    again = Lines(position)
    rest = b"".join(again.add(stamped(0, long) + b"yz\n"))
    assert first + rest == long + b"yz\n"


def test_after_the_node_has_rotated_the_file_nothing_new_is_passed_over():
    position = Position()
    Lines(position).add(sent([(0, b"a\n"), (0.5, b"b\n")], None))
    assert Lines(position).add(sent([(0.7, b"c\n"), (0.7, b"d\n")], position.since)) == [b"c\n", b"d\n"]


def test_a_position_is_the_same_after_it_was_written_down():
    position = Position()
    Lines(position).add(stamped(3, b"a\n") + stamped(4, b"b" * 2 * LONGEST))
    assert Position.of_json(json.loads(json.dumps(position.to_json()))) == position


texts = st.lists(st.binary(max_size=30).map(lambda text: text.replace(b"\n", b"") + b"\n"), max_size=40)
steps = st.lists(st.sampled_from([0.0, 0.0, 0.001, 0.3, 1.0, 5.0, -0.002]), min_size=40, max_size=40)


@given(texts, steps, st.lists(st.integers(0, 900), max_size=6), st.integers(1, 60))
def test_wherever_connections_break_each_line_comes_once_and_in_order(printed, pauses, breaks, piece):  # type: ignore[no-untyped-def]
    """Lines of both outputs may be a little out of order, by their times."""
    at, lines = 10.0, []
    for text, pause in zip(printed, pauses, strict=False):
        at = at + pause
        lines.append((round(at, 3), text))
    position, taken = Position(), b""
    for until in [*breaks, None]:
        reading, stream = Lines(position), sent(lines, position.since)[:until]
        for begin in range(0, len(stream), piece):
            taken += b"".join(reading.add(stream[begin : begin + piece]))
        position = Position.of_json(json.loads(json.dumps(position.to_json())))
    assert taken == b"".join(text for _, text in lines)
