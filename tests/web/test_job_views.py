"""What pages say of a job, and what of several is compared."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlmp_spawner.rules.jobs import Attempt, Job
from mlmp_spawner.units import HOUR, MINUTE
from mlmp_spawner.web import job_views
from mlmp_spawner.web.job_views import ShownJob, compared, settings_of, summary

JOB = Job("j" * 12, "ann", "train", "gpu", "nvidia.com/gpu", 2, 1, HOUR, {})
TRY = Attempt(JOB.id, 1, "r" * 12, ("gpu-a",), HOUR, HOUR + MINUTE, 0, started_at=1000)


def shown(job: Job = JOB, *, mine: bool = True, **more: str) -> ShownJob:
    return ShownJob(job, now=10 * MINUTE, title="A100", own=mine, mine=mine, **more)


def test_what_it_takes_is_said_for_each_worker():
    assert shown().what == "2 × A100"
    assert shown(replace(JOB, units=1, workers=4)).what == "4 workers with A100 each"


@pytest.mark.parametrize(
    ("attempt", "mark"),
    [
        ({}, "running"),
        ({"started_at": None}, "starting"),
        ({"stopping_at": MINUTE, "stop_reason": "preempted"}, "stopping"),
        ({"ended_at": MINUTE, "reason": "preempted"}, "queued"),
    ],
)
def test_its_mark_is_its_state(attempt: dict[str, object], mark: str):
    assert shown(replace(JOB, attempts=(replace(TRY, **attempt),))).mark == mark  # type: ignore[arg-type]


def test_of_others_only_the_state_is_told():
    failed = replace(JOB, ended_at=HOUR, outcome="failed", reason="out_of_memory", attempts=(TRY,))
    theirs = shown(failed, mine=False, owner="ann", why="quota")
    assert (theirs.mark, theirs.name, theirs.note, theirs.again) == ("ended", "a job of ann", "", "")
    assert shown(failed, mine=False).name == "a job"
    assert not theirs.can_cancel


def test_what_it_ran_is_the_sum_of_its_tries():
    first = replace(TRY, ended_at=61_000)
    again = replace(TRY, number=2, started_at=9 * MINUTE)
    assert shown(replace(JOB, attempts=(first, again))).ran == 2 * MINUTE


def test_every_reason_has_its_words():
    for reason in job_views.ENDED:
        assert job_views.how_it_ended(reason, 3) and "_" not in job_views.how_it_ended(reason, 3)
    assert job_views.how_it_ended("exit_status", 3) == "its program ended with status 3"


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ({}, "None of all jobs runs or waits."),
        ({"running": 1, "starting": 1, "queued": 1200}, "2 of all jobs run, 1,200 wait."),
        ({"queued": 1}, "None of all jobs runs, 1 waits."),
        ({"stopping": 1}, "1 of all jobs runs, none waits."),
    ],
)
def test_the_queue_in_a_sentence(counts: dict[str, int], said: str):
    assert summary(counts, mine=False) == said


def test_options_of_a_script_are_compared_by_their_names():
    found = settings_of(
        {"arguments": ["--lr", "0.1", "--fast", "--name=x", "-n", "-3", "data.csv"], "parameters": {"epochs": 3},
         "environment": {"SEED": "1"}, "hours": 2, "script": "train.py", "notebook": None}
    )  # fmt: skip
    assert found == {
        "--lr": "0.1", "--fast": "yes", "--name": "x", "-n": "-3", "argument 1": "data.csv", "epochs": "3",
        "$SEED": "1", "hours": "2", "script": "train.py",
    }  # fmt: skip


@given(st.lists(st.text(max_size=8), max_size=12))
def test_whatever_arguments_are_something_is_said_of_them(arguments: list[str]):
    assert all(isinstance(value, str) for value in settings_of({"arguments": arguments}).values())


def test_what_differs_stands_apart_from_what_is_the_same():
    differs, same = compared([{"lr": "1", "seed": "7"}, {"lr": "2", "seed": "7"}, {"seed": "7", "new": "x"}])
    assert differs == [("lr", ["1", "2", ""]), ("new", ["", "", "x"])]
    assert same == [("seed", "7")]
