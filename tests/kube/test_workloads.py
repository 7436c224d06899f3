"""Kueue's Workloads: when one asks, what it is answered, and the traps that were found by running into them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mlmp_spawner.deadlines import Deadline
from mlmp_spawner.kube.job_pods import GATE
from mlmp_spawner.kube.job_queues import CHECK
from mlmp_spawner.kube.workloads import Workload, active, ready, ungated, workload
from mlmp_spawner.units import MINUTE

NOW = 1_800_000_000_000
UNTIL = Deadline(NOW + 60 * MINUTE, NOW + 61 * MINUTE)
LABELS = {"mlmp-a": {"kubernetes.io/hostname": "a"}, "mlmp-b": {"kubernetes.io/hostname": "b"}}
NODES = {"mlmp-a": "a", "mlmp-b": "b"}


def item(*conditions: str, check: str | None = "Pending", **changed: Any) -> dict[str, Any]:
    """A Workload of one Job as Kueue describes it. :param conditions: those that hold, ``Type`` or ``Type:Reason``."""
    known: dict[str, Any] = {
        "metadata": {
            "name": "job-mlmp-job-j-1-d3722", "namespace": "users", "uid": "u1", "resourceVersion": "7",
            "ownerReferences": [{"kind": "Job", "name": "mlmp-job-j-1"}],
        },
        "spec": {"active": True, "podSets": [{"name": "main", "count": 1, "template": {"spec": {}}}]},
        "status": {
            "admission": {"podSetAssignments": [
                {"name": "main", "flavors": {"nvidia.com/gpu": "mlmp-a", "cpu": "mlmp-a", "memory": "mlmp-a"}}
            ]},
            "conditions": [
                {"type": one.partition(":")[0], "status": "True", "reason": one.partition(":")[2] or "Because"}
                for one in conditions
            ],
            "admissionChecks": [] if check is None else [{"name": CHECK, "state": check}],
        },
    }  # fmt: skip
    for part, fields in changed.items():
        known[part] = {**known[part], **fields}
    return known


def read(*conditions: str, check: str | None = "Pending", **changed: Any) -> Workload:
    found = workload(item(*conditions, check=check, **changed))
    assert found is not None
    return found


def entry(patch: dict[str, Any]) -> dict[str, Any]:
    (found,) = patch["status"]["admissionChecks"]
    return dict(found)


# -- when it asks -------------------------------------------------------------------------------------------------


def test_a_job_asks_once_it_has_quota_and_the_flavor_says_on_which_node():
    asking = read("QuotaReserved")
    assert asking.asks and asking.attempt == "j-1" and asking.nodes(NODES) == ("a",)


def test_without_quota_it_does_not_ask_whatever_the_check_says():
    assert not read().asks
    assert not read("QuotaReserved", "Evicted").asks, "its quota goes; the question is an old one"
    assert not read("QuotaReserved", "Finished").asks
    assert not read("QuotaReserved", spec={"active": False}).asks
    assert not read("QuotaReserved", status={"admission": {}}).asks


@pytest.mark.parametrize("state", ["Ready", "Retry", "Rejected", None])
def test_a_check_that_is_answered_is_not_answered_again(state: str | None):
    """Ready on Ready can't be changed, and Retry on Retry goes round eight times a second."""
    assert not read("QuotaReserved", check=state).asks
    with pytest.raises(ValueError, match="does not ask"):
        ready(read("QuotaReserved", check=state), UNTIL, LABELS, now=NOW)


def test_another_controllers_check_is_not_ours():
    other = [{"name": "provisioning", "state": "Pending"}]
    found = read("QuotaReserved", status={"admissionChecks": other, "conditions": [], "admission": {}})
    assert found.check == "" and not found.asks


def test_a_group_of_pods_has_a_node_for_each_worker():
    sets = [{"name": "w0", "template": {"spec": {}}}, {"name": "w1", "template": {"spec": {}}}]
    assigned = [{"name": "w1", "flavors": {"g": "mlmp-b"}}, {"name": "w0", "flavors": {"g": "mlmp-a"}}]
    found = read(
        "QuotaReserved", metadata={"name": "mlmp-job-k-3", "ownerReferences": [{"kind": "Pod", "name": "x"}]},
        spec={"podSets": sets},
    )  # fmt: skip
    assert found.nodes(NODES) is None and not found.asks
    given = item("QuotaReserved", metadata={"name": "mlmp-job-k-3", "ownerReferences": []}, spec={"podSets": sets})
    given["status"]["admission"]["podSetAssignments"] = assigned
    whole = workload(given)
    assert whole is not None and whole.attempt == "k-3" and whole.asks and whole.nodes(NODES) == ("a", "b")
    updates = entry(ready(whole, UNTIL, LABELS, now=NOW))["podSetUpdates"]
    assert [one["name"] for one in updates] == ["w0", "w1"]


@pytest.mark.parametrize("strange", [{}, {"metadata": {"name": "job-x"}}, {"metadata": {"name": "mlmp-job-j-1"}}])
def test_what_is_not_ours_is_left_alone(strange: dict[str, Any]):
    assert workload(strange) is None


def test_a_flavor_that_is_no_node_of_ours_is_no_place():
    assert read("QuotaReserved").nodes({}) is None
    mixed = {"podSetAssignments": [{"name": "main", "flavors": {"nvidia.com/gpu": "mlmp-a", "cpu": "other"}}]}
    assert (
        read("QuotaReserved", status={"admission": mixed, "conditions": [], "admissionChecks": []}).nodes(NODES)
        is None
    )


# -- the answer ---------------------------------------------------------------------------------------------------


def test_the_answer_tells_the_pods_until_when_they_may_run():
    patch = ready(read("QuotaReserved"), UNTIL, LABELS, now=NOW)
    (update,) = entry(patch)["podSetUpdates"]
    assert update["name"] == "main"
    assert update["annotations"] == {
        "mlmp.dev/stops-at": "2027-01-15T09:00:00Z", "mlmp.dev/ends-at": "2027-01-15T09:01:00Z",
    }  # fmt: skip
    assert set(entry(patch)) == {"name", "state", "message", "lastTransitionTime", "podSetUpdates"}
    assert entry(patch)["state"] == "Ready"


def test_it_is_to_this_question_and_no_later_one():
    asking = read("QuotaReserved")
    for patch in (ready(asking, UNTIL, LABELS, now=NOW), active(asking, False)):
        assert patch["metadata"] == {
            "name": asking.name, "namespace": "users", "uid": "u1", "resourceVersion": "7",
        }  # fmt: skip


def test_the_updates_name_no_node_since_the_flavor_does():
    (update,) = entry(ready(read("QuotaReserved"), UNTIL, LABELS, now=NOW))["podSetUpdates"]
    assert set(update) == {"name", "annotations"}


@pytest.mark.parametrize(("host", "fits"), [("a", True), ("b", False)])
def test_pods_that_ask_for_another_node_are_never_let_in(host: str, fits: bool):
    """Kueue would write FailedToStart and leave the Job suspended for ever."""
    sets = [{"name": "main", "template": {"spec": {"nodeSelector": {"kubernetes.io/hostname": host, "disk": "ssd"}}}}]
    asking = read("QuotaReserved", spec={"podSets": sets})
    if fits:
        assert ready(asking, UNTIL, LABELS, now=NOW)
    else:
        with pytest.raises(ValueError, match="another kubernetes"):
            ready(asking, UNTIL, LABELS, now=NOW)


# -- holding and calling back -------------------------------------------------------------------------------------


def test_holding_gives_the_quota_back_and_is_no_answer():
    """Pending would keep it, Retry would come back at once, and Rejected never."""
    asking = read("QuotaReserved")
    assert active(asking, False)["spec"] == {"active": False} and "status" not in active(asking, False)
    held = replace(asking, active=False)
    assert held.held and not held.counted and active(held, True)["spec"] == {"active": True}


def test_before_its_first_start_the_annotation_holds_it_and_is_only_ever_taken_away():
    gated = read(metadata={"annotations": {GATE: "mlmp.dev/calendar"}}, check=None)
    assert gated.held and gated.active
    assert ungated() == {"metadata": {"annotations": {GATE: None}}}


def test_what_is_called_back_is_counted_no_more_though_kueue_still_does():
    going = read("QuotaReserved", "Admitted", check="Ready")
    assert going.counted and going.admitted
    assert not replace(going, active=False).counted


@pytest.mark.parametrize(
    "found",
    [
        read("Evicted:DeactivatedDueToMaximumExecutionTimeExceeded", spec={"active": False}),
        read("Evicted:DeactivatedDueToRequeuingLimitExceeded", spec={"active": False}),
        read("Finished:FailedToStart"),
        read(check="Rejected", spec={"active": False}),
    ],
)
def test_one_that_kueue_never_starts_again_is_known_and_not_woken(found: Workload):
    assert found.lost
    with pytest.raises(ValueError, match="can't start any more"):
        active(found, True)


def test_one_that_we_held_is_not_lost():
    assert not read("Evicted:Deactivated", spec={"active": False}).lost
    assert not read("Evicted:AdmissionCheck").lost and not read("Finished:JobFinished").lost
