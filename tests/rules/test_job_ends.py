"""Why an attempt ended: by itself, or since it was told to."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mlmp_spawner.rules.jobs import Attempt, Job, Reason, why_ended, why_stopped
from mlmp_spawner.units import HOUR, MINUTE

NOW = 1_800_000_000_000
JOB = Job("job", "ann", "train", "gpu", "nvidia.com/gpu", 1, 1, 2 * HOUR, {})
WHOLE = Attempt("job", 1, "r", ("a",), NOW + 2 * HOUR, NOW + 2 * HOUR + MINUTE, NOW, started_at=NOW + MINUTE)
SHORT = replace(WHOLE, stop_at=NOW + HOUR, kill_at=NOW + HOUR + MINUTE)


def test_who_had_all_of_its_hours_ends_by_the_time_limit_who_had_less_made_way():
    assert why_stopped(JOB, WHOLE) == "time_limit"
    assert why_stopped(JOB, SHORT) == "preempted"
    assert why_stopped(JOB, replace(SHORT, stop_reason="cancelled")) == "cancelled"


def test_hours_in_which_it_did_not_run_are_not_its_time_limit():
    waited = replace(WHOLE, started_at=None)
    assert why_stopped(JOB, waited) == "platform"
    assert why_stopped(JOB, replace(waited, stop_reason="time_limit")) == "time_limit"
    assert why_stopped(JOB, replace(SHORT, started_at=None)) == "preempted"


@pytest.mark.parametrize(
    "seen", ["succeeded", "exit_status", "signal", "out_of_memory", "vanished", "node_lost", None]
)
def test_what_ends_after_it_was_told_to_ends_for_that_reason(seen: Reason | None):
    assert why_ended(JOB, WHOLE, seen, WHOLE.stop_at) == "time_limit"
    assert why_ended(JOB, SHORT, seen, SHORT.stop_at + 1) == "preempted"


@pytest.mark.parametrize("seen", ["succeeded", "exit_status", "signal", "out_of_memory", "node_lost"])
def test_what_ends_before_ends_for_its_own(seen: Reason):
    assert why_ended(JOB, WHOLE, seen, WHOLE.stop_at - 1) == seen


def test_what_leaves_nothing_has_vanished():
    assert why_ended(JOB, WHOLE, None, NOW + 1) == "vanished"


@pytest.mark.parametrize("seen", ["image", "start"])
def test_what_never_began_is_its_own_fault_whenever_that_is_seen(seen: Reason):
    assert why_ended(JOB, SHORT, seen, SHORT.kill_at) == seen
