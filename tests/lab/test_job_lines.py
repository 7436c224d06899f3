"""Of what a worker prints, in whatever pieces it comes, every byte is in one line."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st

from mlmp_spawner.lab.job_lines import LONGEST_LINE, whole_lines

PIECES = st.lists(st.lists(st.sampled_from([b"a", b"\n", b"\r", b"\r\n", b"bc"])).map(b"".join))


@settings(deadline=None)
@given(PIECES)
@example([b"a\r", b"\nb\n"])
def test_the_lines_are_the_same_in_whatever_pieces_they_come(pieces: list[bytes]) -> None:
    found, rest = [], b""
    for piece in pieces:
        lines, rest = whole_lines(rest + piece)
        found += lines
    text = b"".join(pieces)
    assert b"".join(found) + rest == text
    assert [*found, *rest.splitlines(keepends=True)] == text.splitlines(keepends=True)


def test_a_line_without_end_is_cut() -> None:
    lines, rest = whole_lines(b"x" * (LONGEST_LINE + 1))
    assert lines == [b"x" * (LONGEST_LINE + 1) + b"\n"] and rest == b""
