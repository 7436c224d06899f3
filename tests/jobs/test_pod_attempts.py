"""What there is of an attempt in a cluster, and what that means."""

from __future__ import annotations

from typing import Any

import pytest

from mlmp_spawner.deadlines import Deadline
from mlmp_spawner.jobs.base import Seen
from mlmp_spawner.jobs.pod_attempts import (
    BEGAN,
    LOG_LIMIT,
    OUTCOME,
    PODS_WITHIN,
    WHOLE,
    WORKERS,
    Known,
    Record,
    about_to_go,
    all_known,
    look_at,
    outcome_note,
    record,
    unnoted,
)
from mlmp_spawner.jobs.pod_outcomes import Ended
from mlmp_spawner.kube.labels import ATTEMPT, ENDS_AT, STOPS_AT
from mlmp_spawner.units import HOUR, from_iso, to_iso
from tests.jobs.test_pod_outcomes import over, pod

NOW = from_iso("2027-01-15T10:00:00Z")
GONE = Ended("vanished", None, "Its pods are gone.", NOW)


def job(*, suspend: bool = False, since: int = NOW, ended: str = "") -> dict[str, Any]:
    conditions = [{"type": ended, "status": "True"}] if ended else []
    return {"spec": {"suspend": suspend}, "status": {"startTime": to_iso(since), "conditions": conditions}}


def gated() -> dict[str, Any]:
    return {
        "metadata": {"name": "p"},
        "spec": {"schedulingGates": [{"name": "kueue"}]},
        "status": {"phase": "Pending"},
    }


def phase(known: Known) -> str:
    found = look_at(known, NOW)
    return "" if found is None else found.phase


# -- where it stands ----------------------------------------------------------------------------------------------


def test_before_it_is_let_in_it_stands_in_the_queue():
    assert phase(Known("j-1", Record(whole=True), job(suspend=True))) == "queued"
    assert phase(Known("j-1", Record(workers=2, whole=True), None, (gated(), gated()))) == "queued"


def test_what_is_not_all_made_is_not_seen_so_that_it_is_made():
    assert phase(Known("j-1", Record())) == "" and phase(Known("j-1", Record(workers=2), None, (gated(),))) == ""
    assert phase(Known("j-1", Record(workers=2), None, (pod(), pod()))) == "running", "all was, and only that is not"


def test_let_in_it_starts_before_there_is_a_pod():
    assert phase(Known("j-1", Record(whole=True), job())) == "starting"
    assert phase(Known("j-1", Record(workers=2, whole=True), None, (pod(), gated()))) == "starting"


def test_of_what_has_no_object_nothing_is_seen():
    assert look_at(Known("j-1"), NOW) is None


# -- how it ended -------------------------------------------------------------------------------------------------


def test_pods_that_vanished_have_ended_and_it_was_not_the_user():
    for known in (
        Known("j-1", Record(workers=2, whole=True, began=True)),
        Known("j-1", Record(whole=True, began=True), job(suspend=True)),
        Known("j-1", Record(whole=True, began=True), job(ended="Failed")),
    ):
        found = look_at(known, NOW)
        assert found is not None and (found.phase, found.reason, found.ended_at) == ("ended", "vanished", NOW)


def test_a_job_whose_pod_is_not_made_fails_after_a_while():
    assert unnoted(Known("j-1", Record(whole=True), job(since=NOW - PODS_WITHIN + 1000)), NOW) is None
    found = unnoted(Known("j-1", Record(whole=True), job(since=NOW - PODS_WITHIN)), NOW)
    assert found is not None and found.reason == "platform"


def test_what_is_noted_counts_once_nothing_of_it_runs_any_more():
    outcome = Ended("image", None, "No image.", NOW - HOUR)
    noted = Record(workers=2, whole=True, began=True, outcome=outcome)
    assert phase(Known("j-1", noted, None, (pod(), over(0)))) == "running"
    found = look_at(Known("j-1", noted, None, (over(0), over(0))), NOW)
    assert found is not None and (found.reason, found.message, found.ended_at) == (
        "image",
        "No image.",
        NOW - HOUR,
    )
    assert unnoted(Known("j-1", noted), NOW) is None, "it is noted once"
    assert look_at(Known("j-1", noted), NOW) == Seen("j-1", "ended", None, NOW - HOUR, "image", None, "No image.")


def test_what_was_forgotten_is_not_seen_while_its_pods_go():
    one = over(0)
    assert phase(Known("j-1", None, None, (one,))) == "ended", "somebody else has deleted its secret"
    one["metadata"] |= {"deletionTimestamp": to_iso(NOW), "deletionGracePeriodSeconds": 0}
    assert phase(Known("j-1", None, None, (one,))) == ""
    assert phase(Known("j-1", Record(whole=True), None, (one,))) == "ended"


def test_how_it_ended_is_noted_while_deleted_pods_can_still_tell():
    one = over(3)
    assert about_to_go(Known("j-1", Record(whole=True), None, (one,))) is None, "it stays"
    one["metadata"] |= {"deletionTimestamp": to_iso(NOW + HOUR), "deletionGracePeriodSeconds": 60}
    found = about_to_go(Known("j-1", Record(whole=True), None, (one,)))
    assert found is not None and (found.reason, found.exit_status) == ("exit_status", 3)
    noted = Record(whole=True, began=True, outcome=found, started_at=NOW - HOUR)
    assert about_to_go(Known("j-1", noted, None, (one,))) is None, "once"
    gone = look_at(Known("j-1", noted), NOW)
    assert gone is not None and (gone.started_at, gone.reason) == (NOW - HOUR, "exit_status")


# -- what is written on it ----------------------------------------------------------------------------------------


def test_a_record_says_what_was_written():
    times = {STOPS_AT: to_iso(NOW), ENDS_AT: to_iso(NOW + HOUR)}
    said = {WORKERS: "3", LOG_LIMIT: "4096", WHOLE: "true", BEGAN: "true", **times, **outcome_note(GONE, NOW - HOUR)}
    metadata = {"annotations": said, "creationTimestamp": to_iso(NOW)}
    assert record(metadata) == Record(3, 4096, True, True, Deadline(NOW, NOW + HOUR), GONE, NOW - HOUR, NOW)
    assert record({}) == Record()


@pytest.mark.parametrize(
    "text",
    ["", "x", "[]", "{}", '{"reason": "won", "exit_status": 0, "at": 1, "started_at": 1}', '{"reason": 1}', "null"],
)
def test_what_can_not_be_read_counts_as_not_there(text: str):
    assert record({"annotations": {OUTCOME: text, WORKERS: text, LOG_LIMIT: "-5", STOPS_AT: text}}).outcome is None


def test_its_end_is_the_earliest_that_is_written_anywhere():
    early, late = Deadline(NOW, NOW + 2 * HOUR), Deadline(NOW + HOUR, NOW + HOUR)
    one = pod()
    one["metadata"]["annotations"] = {STOPS_AT: to_iso(late.stop_at), ENDS_AT: to_iso(late.end)}
    assert Known("j-1", Record(deadline=early), None, (one,)).deadline == Deadline(NOW, NOW + HOUR)
    assert Known("j-1", Record(), None, (pod(),)).deadline is None


def test_objects_belong_together_by_the_label_of_their_attempt():
    labels = {"labels": {ATTEMPT: "j-1"}}
    found = all_known([labels], [{"metadata": labels}], [{"metadata": labels}, {"metadata": {}}])
    assert list(found) == ["j-1"] and len(found["j-1"].pods) == 1 and found["j-1"].job is not None
