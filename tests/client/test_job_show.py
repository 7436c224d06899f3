"""A log on the terminal: colours stay, what could steer it does not, wherever the pieces are cut."""

from __future__ import annotations

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlmp_spawner.client import job_show
from mlmp_spawner.client.job_models import JobRecord
from mlmp_spawner.client.job_show import Screen, harmless
from tests.client.answers import attempt, ended_job, job

SEQUENCES = ["\x1b[31m", "\x1b[K", "\x1b[2J", "\x1b]0;x\x07", "\x1b", "[", "1", "m", "\x9b", "\r\n", "\u202e"]
PIECES = st.lists(st.one_of(st.text(max_size=8), st.sampled_from(SEQUENCES)))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(pieces: list[str]) -> str:
    terminal = Terminal()
    screen = Screen(terminal)
    for piece in pieces:
        screen.write(piece)
    screen.close()
    return terminal.getvalue()


@given(PIECES)
def test_nothing_steers_the_terminal_wherever_it_is_cut(pieces: list[str]) -> None:
    seen = shown(pieces)
    assert seen == harmless("".join(pieces)) + "\x1b[0m"
    rest = re.sub(r"\x1b\[[0-9;]*[mK]", "", seen)
    assert not re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", rest)


def test_a_file_gets_what_there_is() -> None:
    file = io.StringIO()
    Screen(file).write("\x1b[2J\x00")
    assert file.getvalue() == "\x1b[2J\x00"


def test_a_very_long_sequence_is_not_waited_for() -> None:
    terminal = Terminal()
    Screen(terminal).write("\x1b[" + "1;" * 1000)
    assert terminal.getvalue().endswith("1;" * 900)


@pytest.mark.parametrize("reason", ["out_of_memory", "node_lost", "time_limit", "brand_new"])
def test_a_failure_is_told_in_words(reason: str) -> None:
    told = job_show.state(JobRecord.parse(ended_job("failed", reason=reason, exit_status=None)))
    assert told.startswith("failed (") and "_" not in told


def test_each_reason_of_the_rules_has_words() -> None:
    from typing import get_args

    from mlmp_spawner.rules.jobs import Reason

    for reason in get_args(Reason):
        body = job(attempts=[attempt(state="ended", reason=reason, exit_status=3)])
        assert "_" not in job_show.reason(JobRecord.parse(body).attempts[0])
