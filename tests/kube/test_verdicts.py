"""What a cluster says about a pod that starts, and what people read of it. The texts are those of a real cluster."""

from __future__ import annotations

from typing import Any

import pytest

from mlmp_spawner.deadlines import Deadline
from mlmp_spawner.kube import creation, pulls
from mlmp_spawner.kube.labels import deadline_annotations
from mlmp_spawner.kube.outcomes import Fails, Going, NotStarted, Waiting
from mlmp_spawner.kube.scheduling import Place, about_the_node
from mlmp_spawner.kube.verdicts import former_owners, judge

GPU = "nvidia.com/gpu"
IMAGE = "registry.test/lab:1"
PLACE = Place("node-b", GPU)
NO_PREEMPTION = " no new claims to deallocate, preemption: 0/2 nodes are available: 2 Preemption is not helpful."
OTHER_NODES = "1 node(s) didn't satisfy plugin(s) [NodeAffinity]"


def pod(status: dict[str, Any] | None = None, *, node: str = "", deleted: bool = False) -> dict[str, Any]:
    """A pod as the API shows it."""
    metadata = {"name": "jupyter-ann", "uid": "u1"} | (
        {"deletionTimestamp": "2026-11-21T10:00:00Z"} if deleted else {}
    )
    spec = {"containers": [{"name": "notebook", "image": IMAGE}]} | ({"nodeName": node} if node else {})
    return {"metadata": metadata, "spec": spec, "status": {"phase": "Pending"} | (status or {})}


def unscheduled(reasons: str) -> dict[str, Any]:
    """A pod that the scheduler finds no place for."""
    message = f"0/2 nodes are available: {reasons}.{NO_PREEMPTION}"
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    return pod({"conditions": [condition]})


def container(*, name: str = "notebook", restarts: int = 0, last: Any = None, **state: Any) -> dict[str, Any]:
    """A pod on its node, with the status of a container."""
    status = {"name": name, "image": IMAGE, "state": state, "restartCount": restarts}
    return pod({"containerStatuses": [status | ({"lastState": last} if last else {})]}, node="node-b")


def event(reason: str, message: str = "", *, uid: str = "u1", at: int = 0, count: int = 1) -> dict[str, Any]:
    """An event of a pod."""
    about = {"uid": uid, "fieldPath": "spec.containers{notebook}"}
    when = f"2026-11-21T10:00:{at:02}Z"
    return {"involvedObject": about, "reason": reason, "message": message, "lastTimestamp": when, "count": count}


def fails(verdict: object) -> Fails:
    """The verdict, which is that it fails."""
    assert isinstance(verdict, Fails), verdict
    return verdict


class TestScheduling:
    @pytest.mark.parametrize(
        ("reasons", "code", "said"),
        [
            (f"1 Insufficient {GPU}, {OTHER_NODES}", "units_taken", "something that was not booked here uses it"),
            (f"1 Insufficient cpu, 1 Insufficient memory, {OTHER_NODES}", "node_full", "too little cpu and memory"),
            (f"1 node(s) were unschedulable, {OTHER_NODES}", "node_cordoned", "cordoned"),
            (
                f"1 node(s) had untolerated taint(s) {{node.kubernetes.io/unreachable: }}, {OTHER_NODES}",
                "node_not_ready",
                "not ready",
            ),
            (f"1 node(s) had untolerated taint(s) {{mine: x}}, {OTHER_NODES}", "unschedulable", "{mine: x}"),
            (f"1 Too many pods, {OTHER_NODES}", "unschedulable", "Too many pods"),
            ("2 node(s) didn't satisfy plugin(s) [NodeAffinity]", "node_gone", "no node node-b"),
            ("2 node(s) didn't match Pod's node affinity/selector", "node_gone", "no node node-b"),
            ("pod has unbound immediate PersistentVolumeClaims", "storage", "unbound"),
        ],
    )
    def test_the_reason_of_the_booked_node_is_told(self, reasons: str, code: str, said: str) -> None:
        found = fails(judge(unscheduled(reasons), [], PLACE))
        assert found.code == code
        assert said in found.detail
        assert "node-b" in found.detail
        assert found.hint

    def test_what_is_wrong_with_other_nodes_is_left_out(self) -> None:
        assert about_the_node(f"0/9 nodes are available: 1 Insufficient cpu, 8{OTHER_NODES[1:]}.{NO_PREEMPTION}") == [
            "Insufficient cpu"
        ]

    def test_units_of_a_former_server_are_waited_for(self) -> None:
        verdict = judge(unscheduled(f"1 Insufficient {GPU}, {OTHER_NODES}"), [], Place("node-b", GPU, ("ben",)))
        assert verdict == Waiting(("ben",))

    def test_a_former_server_is_no_reason_to_wait_for_a_cordoned_node(self) -> None:
        verdict = judge(
            unscheduled(f"1 node(s) were unschedulable, {OTHER_NODES}"), [], Place("node-b", GPU, ("ben",))
        )
        assert fails(verdict).code == "node_cordoned"

    def test_a_queue_of_the_cluster_is_no_failure(self) -> None:
        gated = {"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}
        assert isinstance(judge(pod({"conditions": [gated]}), [], PLACE), Going)

    def test_the_first_no_of_the_scheduler_must_hold_for_a_moment(self) -> None:
        assert fails(judge(unscheduled(f"1 Insufficient {GPU}"), [], PLACE)).patience > 0


class TestFormerServers:
    NOW = 1_000_000_000

    def other(
        self, *, stop_at: int, deleted: bool = False, node: str = "node-b", kind: str = "server"
    ) -> dict[str, Any]:
        """Somebody's pod with a GPU."""
        annotations = {"mlmp.dev/owner": "ben"} | deadline_annotations(Deadline(stop_at, stop_at + 30_000))
        metadata = {"name": "jupyter-ben", "labels": {"mlmp.dev/kind": kind}, "annotations": annotations}
        metadata |= {"deletionTimestamp": "2026-11-21T10:00:00Z"} if deleted else {}
        return {
            "metadata": metadata,
            "spec": {"nodeName": node, "containers": [{"resources": {"limits": {GPU: "1"}}}]},
        }

    def owners(self, other: dict[str, Any], resource: str = GPU) -> tuple[str, ...]:
        """Who is waited for."""
        return former_owners([other], node="node-b", resource=resource, apart_from="jupyter-ann", now=self.NOW)

    def test_they_are_past_their_end_or_being_deleted(self) -> None:
        assert self.owners(self.other(stop_at=self.NOW - 1)) == ("ben",)
        assert self.owners(self.other(stop_at=self.NOW + 9, deleted=True)) == ("ben",)
        assert self.owners(self.other(stop_at=self.NOW + 9)) == ()

    def test_they_are_on_the_same_node_with_the_same_resource_and_ours(self) -> None:
        assert self.owners(self.other(stop_at=0, node="node-a")) == ()
        assert self.owners(self.other(stop_at=0), "nvidia.com/mig-1g.5gb") == ()
        assert self.owners(self.other(stop_at=0, kind="preload")) == ()


class TestPulls:
    def failed(self, cause: str, count: int = 1) -> list[dict[str, Any]]:
        """The event of a pull that failed."""
        message = f'Failed to pull image "{IMAGE}": failed to pull and unpack image "{IMAGE}": {cause}'
        return [event("Failed", message, count=count)]

    @pytest.mark.parametrize(
        ("cause", "code"),
        [
            (f'failed to resolve reference "{IMAGE}": {IMAGE}: not found', "image_not_found"),
            ("pull access denied, repository does not exist or may require authorization", "image_denied"),
            ("unexpected status from HEAD request to https://r/v2/: 403 Forbidden", "image_denied"),
            ("no match for platform in manifest: not found", "image_not_found"),
            ("write /var/lib/x: no space left on device", "disk_full"),
        ],
    )
    def test_a_definite_answer_fails_at_once(self, cause: str, code: str) -> None:
        waiting = container(waiting={"reason": "ErrImagePull", "message": cause})
        for found in (judge(waiting, [], PLACE), judge(pod(node="node-b"), self.failed(cause), PLACE)):
            assert fails(found).code == code
            assert fails(found).patience == 0
            assert IMAGE in fails(found).detail

    def test_the_network_gets_three_tries(self) -> None:
        cause = 'failed to do request: Head "https://r/v2/": dial tcp: lookup r on 10.0.0.1:53: not found: i/o timeout'
        second, third = (judge(pod(node="node-b"), self.failed(cause, count), PLACE) for count in (2, 3))
        assert fails(second).patience > 60
        assert fails(second).step
        assert fails(third).patience == 0
        assert "i/o timeout" in fails(third).detail

    def test_a_name_that_is_none_and_an_image_that_may_not_be_pulled_fail_at_once(self) -> None:
        for reason in ("InvalidImageName", "ErrImageNeverPull"):
            assert fails(judge(container(waiting={"reason": reason}), [], PLACE)).patience == 0

    def test_an_event_of_a_former_pod_of_the_same_name_counts_for_nothing(self) -> None:
        former = event("Failed", f'Failed to pull image "{IMAGE}": not found', uid="older")
        assert isinstance(judge(pod(node="node-b"), [former], PLACE), Going)


class TestContainers:
    def test_a_server_that_ends_while_it_starts_fails_with_its_last_words(self) -> None:
        ended = {"exitCode": 3, "reason": "Error", "message": "Traceback\n  ...\nModuleNotFoundError: torch\n\n"}
        for state in ({"terminated": ended}, {"waiting": {"reason": "CrashLoopBackOff"}}):
            found = fails(judge(container(last={"terminated": ended}, restarts=1, **state), [], PLACE))
            assert found.code == "crashed"
            assert found.detail.endswith("(exit status 3). It said: ModuleNotFoundError: torch.")

    def test_what_it_says_stays_on_one_line_however_long_it_is(self) -> None:
        ended = {"exitCode": 1, "message": "\x1b[31mno\u202e " + "x" * 5000}
        detail = fails(judge(container(terminated=ended), [], PLACE)).detail
        assert detail.isprintable()
        assert len(detail) < 400

    def test_too_little_memory_is_named(self) -> None:
        ended = {"exitCode": 137, "reason": "OOMKilled"}
        assert fails(judge(container(terminated=ended), [], PLACE)).code == "out_of_memory"

    def test_a_command_that_is_not_in_the_image_is_named(self) -> None:
        message = (
            "failed to create containerd task: failed to create shim task: OCI runtime create failed: "
            "runc create failed: unable to start container process: "
            'exec: "nonsense": executable file not found in $PATH: unknown'
        )
        ended = {"exitCode": 128, "reason": "StartError", "message": message}
        detail = fails(
            judge(container(last={"terminated": ended}, waiting={"reason": "RunContainerError"}), [], PLACE)
        ).detail
        assert detail.endswith('server: exec: "nonsense": executable file not found in $PATH.')

    def test_the_container_for_ssh_may_end_as_often_as_it_likes(self) -> None:
        last = {"terminated": {"exitCode": 1, "message": ""}}
        assert isinstance(judge(container(name="ssh", restarts=9, last=last, waiting={}), [], PLACE), Going)

    def test_a_container_beside_the_server_may_end_twice(self) -> None:
        ended = {"exitCode": 1, "message": "no database"}
        last = {"terminated": ended}
        assert isinstance(judge(container(name="side", restarts=1, last=last, running={}), [], PLACE), Going)
        found = fails(judge(container(name="side", restarts=2, last=last, waiting={}), [], PLACE))
        assert "'side'" in found.detail

    def test_a_pod_that_the_node_refuses_fails_with_the_reason(self) -> None:
        status = {"phase": "Failed", "reason": "UnexpectedAdmissionError", "message": "Allocate failed"}
        assert "Allocate failed" in fails(judge(pod(status, node="node-b"), [], PLACE)).detail

    def test_a_pod_that_is_deleted_meanwhile_was_stopped(self) -> None:
        assert fails(judge(pod(deleted=True), [], PLACE)).code == "stopped"


class TestSteps:
    def test_they_say_what_really_happens(self) -> None:
        pulling = event("Pulling", f'Pulling image "{IMAGE}"', at=1)
        pulled = event("Pulled", f'Successfully pulled image "{IMAGE}" in 1m2.5s (1m2.5s including waiting). '
                                 "Image size: 3328599654 bytes.", at=2)  # fmt: skip
        running = container(running={"startedAt": "x"})
        seen = [
            judge(None, [], PLACE), judge(pod(), [], PLACE), judge(pod(node="node-b"), [], PLACE),
            judge(pod(node="node-b"), [pulling], PLACE), judge(pod(node="node-b"), [pulled, pulling], PLACE),
            judge(running, [pulling, pulled], PLACE),
        ]  # fmt: skip
        assert [one.step for one in seen if isinstance(one, Going)] == [
            "Asking for a pod on node-b", "Waiting for node-b", "node-b prepares it",
            f"Pulling the image {IMAGE}", "Pulled the image (3.1 GiB) in 1 min 2 s", "Started on node-b",
        ]  # fmt: skip
        progress = [one.progress for one in seen if isinstance(one, Going)]
        assert progress == sorted(progress)

    def test_the_size_is_told_before_the_pull_where_another_pod_pulled_the_same(self) -> None:
        other = event(
            "Pulled", f'Successfully pulled image "{IMAGE}" in 9s. Image size: 1073741824 bytes.', uid="other"
        )
        verdict = judge(pod(node="node-b"), [other, event("Pulling", f'Pulling image "{IMAGE}"')], PLACE)
        assert isinstance(verdict, Going)
        assert verdict.step == f"Pulling the image {IMAGE} (1 GiB)"
        assert pulls.size_of("registry.test/lab", [other]) is None

    def test_a_volume_that_does_not_come_is_waited_for_and_then_named(self) -> None:
        late = event("FailedMount", 'MountVolume.SetUp failed for volume "home": secret "x" not found')
        found = fails(judge(pod(node="node-b"), [late], PLACE))
        assert found.patience > 10
        assert found.step == "Waiting for your storage"
        assert 'secret "x" not found' in found.detail


class TestCreation:
    def test_a_quota_is_told_with_its_numbers(self) -> None:
        body = (
            '{"kind":"Status","message":"pods \\"jupyter-ann\\" is forbidden: exceeded quota: team, requested: '
            'requests.nvidia.com/gpu=1, used: requests.nvidia.com/gpu=2, limited: requests.nvidia.com/gpu=2"}'
        )
        found = creation.refused(403, creation.message_of(body))
        assert found.code == "quota"
        assert found.detail == (
            "The quota team of this cluster is used up: asked for requests.nvidia.com/gpu=1; "
            "in use requests.nvidia.com/gpu=2; at most requests.nvidia.com/gpu=2."
        )

    def test_rules_of_security_and_missing_rights_are_told_apart(self) -> None:
        security = 'pods "x" is forbidden: violates PodSecurity "restricted:latest": unrestricted capabilities'
        assert creation.refused(403, security).code == "not_permitted"
        assert "unrestricted capabilities" in creation.refused(403, security).detail
        rights = 'pods is forbidden: User "system:x" cannot create resource "pods"'
        assert creation.refused(403, rights).detail == "The hub may not create pods in this cluster."

    @pytest.mark.parametrize("body", [None, "", b"\xff", "not json", "[]", '{"message": null}'])
    def test_an_answer_without_a_message_is_no_crash(self, body: object) -> None:
        assert creation.refused(422, creation.message_of(body)).detail

    def test_the_code_reaches_the_problem_document(self) -> None:
        problem = NotStarted(creation.refused(500, "boom")).problem()
        assert (problem["status"], problem["code"]) == (409, "refused")
