"""A log on a page: the words, none of the tricks of terminals, and no cost that a program could drive up."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlmp_spawner.web.job_log import readable


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        (b"plain\ntext\n", "plain\ntext\n"),
        (b"\x1b[1;31mred\x1b[0m and \x1b[38;5;12mblue\x1b[m", "red and blue"),
        (b"\x1b]0;a title\x07words \x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "words link"),
        (b" 10%|#   |\r 50%|##  |\r100%|####|\ndone", "100%|####|\ndone"),
        (b" 10%\r 20%\r", " 20%"),
        (b"windows\r\nlines\r\n", "windows\nlines\n"),
        (b"ab\b\bcd\n", "cd\n"),
        (b"gr\xfcn \xe2\x82\xac", "gr\ufffdn \u20ac"),
        (b"bell\x07 null\x00 tab\t", "bell null tab\t"),
        (b"<b>&amp;", "<b>&amp;"),
        (b"cut in the middle \x1b[3", "cut in the middle 3"),
    ],
)
def test_the_words_are_left(written: bytes, shown: str):
    assert readable(written) == shown


@given(st.binary(max_size=2000))
def test_no_control_character_reaches_a_page(written: bytes):
    assert all(char in "\n\t" or ord(char) >= 32 for char in readable(written))


@pytest.mark.parametrize("piece", [b"\b", b"a\b", b"\x1b[", b"\x1b]", b"\r", b"x\b\b", b"\x1b[0;"])
def test_what_is_made_to_be_slow_is_not(piece: bytes):
    began = time.process_time()
    readable(piece * (256 * 1024 // len(piece)))
    assert time.process_time() - began < 10
