"""``mlmp enforce``: what is past its end goes, nothing else does, whatever the cluster does meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mlmp_spawner.deadlines import Deadline
from mlmp_spawner.kube.pods import ServerPod
from mlmp_spawner.spawners.enforce import AGAIN, LATE, Enforcer
from mlmp_spawner.units import MINUTE
from tests.kube.pods import Deleted, KeptPods, a_pod

NOW = 1_800_000_000_000
DEADLINE = Deadline(NOW, NOW + 30_000)
ACTS = DEADLINE.acts_at


async def looked(pods: KeptPods, now: int, enforcer: Enforcer | None = None) -> list[Deleted]:
    pods.now = now
    await (enforcer or Enforcer(pods)).look(now)
    return pods.deleted


async def test_a_pod_past_its_deadline_is_deleted_with_what_is_left_as_grace():
    pods = KeptPods(a_pod(deadline=DEADLINE))
    assert await looked(pods, ACTS - 1) == []
    assert await looked(pods, ACTS) == [Deleted("jupyter-ann000000001", 27)]


async def test_one_that_is_found_after_its_end_gets_a_second():
    pods = KeptPods(a_pod(deadline=DEADLINE))
    assert await looked(pods, NOW + 10 * MINUTE) == [Deleted("jupyter-ann000000001", 1)]


async def test_a_pod_on_its_way_out_in_time_is_left_alone():
    pods = KeptPods(a_pod(deadline=DEADLINE, deleting_at=DEADLINE.kills_at))
    assert await looked(pods, ACTS) == []


async def test_a_deletion_with_too_long_a_grace_is_cut_short():
    pods = KeptPods(a_pod(deadline=DEADLINE, deleting_at=NOW + 10 * MINUTE))
    assert await looked(pods, ACTS) == [Deleted("jupyter-ann000000001", 27)]


async def test_a_pod_that_a_node_does_not_end_is_never_forced_and_spoken_of_every_minute(
    caplog: pytest.LogCaptureFixture,
):
    pods = KeptPods(a_pod(deadline=DEADLINE, deleting_at=DEADLINE.kills_at, node="node-b"))
    enforcer = Enforcer(pods)
    for now in range(DEADLINE.end, DEADLINE.end + LATE + 2 * MINUTE, 5_000):
        await looked(pods, now, enforcer)
    said = [record for record in caplog.records if "node-b does not end it" in record.getMessage()]
    assert pods.deleted == [] and len(said) == 2


async def test_a_pod_without_a_readable_deadline_is_left_alone_and_spoken_of_once(caplog: pytest.LogCaptureFixture):
    pods = KeptPods(a_pod(deadline=None))
    enforcer = Enforcer(pods)
    for now in (NOW, NOW + MINUTE, NOW + 2 * MINUTE):
        assert await looked(pods, now, enforcer) == []
    assert len([r for r in caplog.records if "no deadline that can be read" in r.getMessage()]) == 1


class ExtendedMeanwhile(KeptPods):
    """The deadline moves after the enforcer has seen the former one."""

    moves = True

    async def servers(self, server_id: str | None = None) -> list[ServerPod]:
        seen = await super().servers(server_id)
        if self.moves:
            self.moves = False
            for pod in seen:
                self.change(pod.name, deadline=Deadline(NOW + MINUTE, NOW + 2 * MINUTE))
        return seen


async def test_a_deadline_that_moves_between_look_and_deletion_saves_the_server():
    pods = ExtendedMeanwhile(a_pod(deadline=DEADLINE))
    enforcer = Enforcer(pods)
    assert await enforcer.look(ACTS) == AGAIN
    assert await looked(pods, ACTS + 200, enforcer) == []


async def test_an_outage_of_the_cluster_is_survived_and_said_once(caplog: pytest.LogCaptureFixture):
    pods = KeptPods(a_pod(deadline=DEADLINE))
    enforcer = Enforcer(pods)
    pods.away = True
    for now in range(ACTS, ACTS + MINUTE, 1000):
        assert await enforcer.look(now) <= 1
    pods.away = False
    assert await looked(pods, ACTS + MINUTE, enforcer) == [Deleted("jupyter-ann000000001", 1)]
    said = [record.getMessage() for record in caplog.records]
    assert len([text for text in said if "tried again" in text]) == 1
    assert any("answers again, after 1 min" in text for text in said)


async def test_a_refusal_for_one_pod_keeps_no_other_from_being_deleted():
    mine, other = a_pod("mine00000001", deadline=DEADLINE), a_pod("other0000001", deadline=DEADLINE)
    pods = KeptPods(mine, other)
    pods.refuses = {mine.name}
    assert await looked(pods, ACTS) == [Deleted(other.name, 27)]


def a_job(**fields: object) -> ServerPod:
    """A pod of the first attempt of ann's job."""
    return a_pod("", **({"name": "mlmp-job-j-1-w0", "attempt": "j-1"} | fields))  # type: ignore[arg-type]


async def test_a_pod_of_a_job_ends_by_what_is_written_on_it_as_a_servers(caplog: pytest.LogCaptureFixture):
    pods = KeptPods(a_job(deadline=DEADLINE))
    assert await looked(pods, ACTS - 1) == []
    assert await looked(pods, ACTS) == [Deleted("mlmp-job-j-1-w0", 27)]
    assert "mlmp-job-j-1-w0 (j-1 of 'ann')" in caplog.text


async def test_what_tells_how_a_job_ended_stays_until_the_service_has_read_it(caplog: pytest.LogCaptureFixture):
    pods = KeptPods(a_job(deadline=DEADLINE, phase="Failed"))
    assert await looked(pods, NOW + 10 * MINUTE) == []
    assert "does not end it" not in caplog.text


async def test_a_job_that_waits_in_the_clusters_queue_needs_no_end_yet(caplog: pytest.LogCaptureFixture):
    enforcer = Enforcer(KeptPods(a_job(deadline=None, node="", phase="Pending"), a_job(deadline=None, name="other")))
    await enforcer.look(NOW)
    assert [record.getMessage().split()[1] for record in caplog.records] == ["other"]


async def test_it_comes_back_when_the_next_deadline_is_due():
    pods = KeptPods(a_pod(deadline=DEADLINE), a_pod("later0000001", deadline=Deadline(NOW + MINUTE, NOW + MINUTE)))
    enforcer = Enforcer(pods, every=3)
    assert await enforcer.look(NOW - MINUTE) == 3
    assert await enforcer.look(ACTS - 500) == 0.5


async def test_each_good_look_and_no_other_touches_the_file_of_the_probe(tmp_path: Path):
    pods, alive = KeptPods(), tmp_path / "alive"
    enforcer = Enforcer(pods, alive=alive)
    pods.away = True
    await enforcer.look(NOW)
    assert not alive.exists()
    pods.away = False
    await enforcer.look(NOW)
    assert alive.exists()


async def test_a_file_that_can_not_be_touched_keeps_nobody_from_being_stopped(tmp_path: Path):
    pods = KeptPods(a_pod(deadline=DEADLINE))
    assert await looked(pods, ACTS, Enforcer(pods, alive=tmp_path / "no" / "such")) != []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_at_once_when_told_to_though_no_cluster_answers(tmp_path: Path, number: signal.Signals):
    command = [sys.executable, "-m", "mlmp_spawner.client.cli", "enforce", "--namespace", "x"]
    environment = {**os.environ, "KUBECONFIG": str(tmp_path / "none")}
    environment.pop("KUBERNETES_SERVICE_HOST", None)
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, cwd=tmp_path)
    assert process.stderr is not None
    lines = [process.stderr.readline()]
    while "nobody can be stopped" not in lines[-1]:
        assert lines[-1], f"it ended by itself: {lines}"
        lines.append(process.stderr.readline())
    process.send_signal(number)
    assert process.wait(5) == 0
    process.stderr.close()
