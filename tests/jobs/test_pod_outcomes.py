"""How an attempt ended, by its pods: whose fault it was, and that nothing of it runs any more."""

from __future__ import annotations

from typing import Any

import pytest

from mlmp_spawner.jobs.base import Seen
from mlmp_spawner.jobs.pod_outcomes import seen, to_be_ended
from mlmp_spawner.rules.jobs import PLATFORM
from mlmp_spawner.units import from_iso

BEGAN, DONE, LATER = "2027-01-15T08:00:00Z", "2027-01-15T09:00:00Z", "2027-01-15T09:00:05Z"


def pod(phase: str = "Running", *, init: dict[str, Any] | None = None, **status: Any) -> dict[str, Any]:
    """One that runs. :param init: the state of the container before the program."""
    known: dict[str, Any] = {"phase": phase, "containerStatuses": [main({"running": {"startedAt": BEGAN}})]}
    if init is not None:
        known["initContainerStatuses"] = [{"name": "prepare", "image": "mlmp/lab:1", "state": init}]
    return {"metadata": {"name": "p"}, "status": known | status}


def main(state: dict[str, Any]) -> dict[str, Any]:
    return {"name": "notebook", "image": "torch:2", "state": state}


def over(code: int, *, at: str = DONE, phase: str = "", **said: Any) -> dict[str, Any]:
    """One that ended with this exit status."""
    ended = {
        "exitCode": code,
        "startedAt": BEGAN,
        "finishedAt": at,
        "reason": "Error" if code else "Completed",
        **said,
    }
    return pod(phase or ("Failed" if code else "Succeeded"), containerStatuses=[main({"terminated": ended})])


def waits(reason: str, message: str = "", **status: Any) -> dict[str, Any]:
    return pod(
        "Pending", containerStatuses=[main({"waiting": {"reason": reason, "message": message}})], **status
    )  # fmt: skip


def disrupted(reason: str, made: dict[str, Any]) -> dict[str, Any]:
    made["status"]["conditions"] = [
        {"type": "DisruptionTarget", "status": "True", "reason": reason, "message": "Gone."}
    ]
    return made


def one(made: dict[str, Any]) -> Seen:
    found = seen("j-1", [made], 1)
    assert found is not None
    return found


# -- one worker ---------------------------------------------------------------------------------------------------


def test_of_an_attempt_without_pods_nothing_is_seen():
    assert seen("j-1", [], 1) is None


def test_it_starts_then_runs_then_has_ended():
    assert one(waits("ContainerCreating")) == Seen("j-1", "starting")
    assert one(pod()) == Seen("j-1", "running", started_at=from_iso(BEGAN))
    assert one(over(0)) == Seen("j-1", "ended", from_iso(BEGAN), from_iso(DONE), "succeeded", 0)


@pytest.mark.parametrize(
    ("made", "reason", "status", "message"),
    [
        (over(3, message="Traceback\nValueError: no\n"), "exit_status", 3, "ValueError: no"),
        (over(137), "signal", None, "ended by signal 9"),
        (over(255), "exit_status", 255, ""),
        (over(137, reason="OOMKilled"), "out_of_memory", None, "more memory"),
        (
            over(128, reason="StartError", message="runc: unable to start container process: exec: \"x\": not found"),
            "start", None, "not found",
        ),
        (pod("Failed", init={"terminated": {"exitCode": 1, "message": "a\nThe checksum differs."}},
             containerStatuses=[]), "start", None, "The checksum differs"),
        (pod("Failed", containerStatuses=[], reason="Evicted", message="Pod used too much disk."), "exit_status", None,
         "too much disk"),
    ],
)  # fmt: skip
def test_what_its_own_program_did_is_its_own_failure(made: Any, reason: str, status: int | None, message: str):
    found = one(made)
    assert (found.phase, found.reason, found.exit_status) == ("ended", reason, status)
    assert message in found.message and found.reason not in PLATFORM


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (disrupted("DeletionByTaintManager", over(137)), "node_lost"),
        (disrupted("DeletionByPodGC", pod("Failed", containerStatuses=[])), "node_lost"),
        (disrupted("TerminationByKubelet", over(137)), "platform"),
        (disrupted("PreemptionByScheduler", over(143)), "platform"),
        (pod("Failed", containerStatuses=[], reason="NodeShutdown", message="The node goes down."), "node_lost"),
        (pod("Failed", containerStatuses=[], reason="UnexpectedAdmissionError"), "platform"),
        (over(137, reason="ContainerStatusUnknown"), "vanished"),
        (over(255, reason="Unknown"), "vanished"),
    ],
)
def test_what_the_cluster_did_is_the_platforms_failure(made: dict[str, Any], reason: str):
    found = one(made)
    assert (found.phase, found.reason) == ("ended", reason) and found.reason in PLATFORM


def test_work_that_was_done_when_the_node_went_is_done():
    assert one(disrupted("DeletionByTaintManager", over(0))).reason == "succeeded"


def test_the_clusters_own_end_is_the_time_limit():
    assert one(over(137) | {"status": {**over(137)["status"], "reason": "DeadlineExceeded"}}).reason == "time_limit"


def test_a_pod_of_a_node_that_does_not_answer_may_still_run():
    silent = disrupted("DeletionByTaintManager", pod())
    silent["metadata"]["deletionTimestamp"] = DONE
    assert one(silent).phase == "running" and to_be_ended([silent]) is None


# -- what never starts --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (waits("ImagePullBackOff", "Back-off: not found"), "image"),
        (waits("InvalidImageName"), "image"),
        (waits("CreateContainerConfigError", 'secret "x" not found'), "start"),
        (pod("Pending", init={"waiting": {"reason": "ErrImagePull", "message": "manifest unknown"}},
             containerStatuses=[]), "image"),
    ],
)  # fmt: skip
def test_what_can_never_start_is_to_be_ended_and_has_not_ended_by_itself(made: dict[str, Any], reason: str):
    found = to_be_ended([made])
    assert found is not None and found.reason == reason and found.message
    assert one(made).phase == "starting"


def test_a_registry_that_is_away_is_waited_for():
    assert to_be_ended([waits("ImagePullBackOff", "dial tcp 1.2.3.4:443: i/o timeout")]) is None
    assert to_be_ended([waits("ContainerCreating")]) is None


def test_what_becomes_of_a_container_beside_the_program_ends_no_job():
    beside = {"name": "measure", "image": "mlmp/lab:1", "state": {"waiting": {"reason": "RunContainerError"}}}
    made = pod(initContainerStatuses=[beside])
    assert to_be_ended([made]) is None and one(made).phase == "running"
    made = over(0, phase="Running")
    made["status"]["initContainerStatuses"] = [{**beside, "state": {"running": {"startedAt": BEGAN}}}]
    assert one(made).phase == "ended", "it has ended with its program, whatever is sent after that"


# -- several workers ----------------------------------------------------------------------------------------------


def test_it_runs_once_all_its_workers_do():
    found = seen("j-1", [pod(), waits("ContainerCreating")], 2)
    assert found == Seen("j-1", "starting")
    assert seen("j-1", [pod()], 2) == Seen("j-1", "starting")
    assert seen("j-1", [pod(), pod()], 2) == Seen("j-1", "running", started_at=from_iso(BEGAN))


def test_the_others_are_ended_with_the_first_that_fails_which_is_how_it_ended():
    failed = over(3)
    assert to_be_ended([failed, pod()]) is not None and to_be_ended([over(0), pod()]) is None
    found = seen("j-1", [failed, pod()], 2)
    assert found is not None and found.phase == "running"
    both = [over(143, at=LATER), failed]
    assert to_be_ended(both) is None
    assert seen("j-1", both, 2) == Seen("j-1", "ended", from_iso(BEGAN), from_iso(LATER), "exit_status", 3)


def test_a_worker_that_is_gone_has_not_succeeded():
    found = seen("j-1", [over(0)], 2)
    assert found is not None and (found.phase, found.reason, found.exit_status) == ("ended", "vanished", None)
    found = seen("j-1", [over(3)], 2)
    assert found is not None and found.reason == "exit_status"


def test_it_succeeded_if_all_did():
    found = seen("j-1", [over(0), over(0, at=LATER)], 2)
    assert found is not None and (found.reason, found.ended_at) == ("succeeded", from_iso(LATER))
