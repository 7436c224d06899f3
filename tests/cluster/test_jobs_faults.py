"""Whatever fails below a job: it ends once, for the right reason, and never runs twice at the same time.

How long it takes until all is right again is written down as a table, ``build/job-recovery.txt``, which
docs/explanation/jobs.md shows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from mlmp_spawner.kube.job_pods import MAIN
from tests.cluster.inside import Inside
from tests.cluster.rig.places import PROJECT
from tests.cluster.training import UNITS, Training
from tests.jobs.people import Submitter
from tests.live import wait_for

pytestmark = pytest.mark.faults

RECOVERY = PROJECT / "build" / "job-recovery.txt"
PATIENCE = 300
AWAY = 60
"""Seconds for which the API server is away."""

# Says that it begins, holds a lock as long as it lives, beats ten times a second, and goes on until it may finish.
WORK = """
import fcntl, os, pathlib, signal, sys, time
place = pathlib.Path(os.environ["MLMP_OUTPUT_DIR"])
rank, attempt = os.environ.get("RANK", "0"), os.environ["MLMP_JOB_ATTEMPT"]
lock = open(place / f"lock-{rank}", "w")
try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
except OSError:
    (place / "twice").touch()
with open(place / "starts", "a") as starts:
    starts.write(f"{attempt} {rank}\\n")
def told(*_):
    print("told", flush=True)
    while (place / "slow").exists(): time.sleep(0.1)
    sys.exit(0)
signal.signal(signal.SIGTERM, told)
print("attempt", attempt, "up", flush=True)
beats = 0
while not (place / "finish").exists():
    beats += 1
    (place / f"beat-{rank}").write_text(f"{attempt} {time.time()}")
    if beats % 10 == 0: print("beat", attempt, beats // 10, flush=True)
    time.sleep(0.1)
print("attempt", attempt, "done", flush=True)
"""

# Kills what runs it, from inside its container.
KILL = """
import os, pathlib, signal
for folder in pathlib.Path("/proc").glob("[0-9]*"):
    if b"fcntl.flock" in (folder / "cmdline").read_bytes():
        os.kill(int(folder.name), signal.SIGKILL)
"""


class Work:
    """A job that goes on until it may finish, and what it leaves in its owner's home."""

    def __init__(self, training: Training, owner: Submitter, **manifest: Any) -> None:
        self.training, self.owner = training, owner
        self.workers = manifest.get("workers", 1)
        self.job = owner.submit(command=["python3", "-c", WORK], outputs="~/out-" + str(time.time_ns()), **manifest)
        outputs = owner.look(self.job)["manifest"]["outputs"]
        self.place = training.home(owner.person.name) / outputs.removeprefix("~/")

    def up(self, attempt: int = 1) -> Work:
        """Returns once all of its workers run in an attempt, as the service knows, too."""
        wait_for(lambda: self.starts().count(attempt) == self.workers, PATIENCE, f"attempt {attempt} of {self.job}")
        wait_for(lambda: self._phase(attempt) == "running", PATIENCE, f"attempt {attempt} of {self.job} running")
        return self

    def _phase(self, attempt: int) -> str | None:
        try:
            attempts = self.owner.look(self.job)["attempts"]
        except (AssertionError, OSError):
            return None
        return attempts[attempt - 1]["state"] if len(attempts) >= attempt else None

    def starts(self) -> list[int]:
        """The attempts that began, once for each worker."""
        found = self.place / "starts"
        return [int(line.split()[0]) for line in found.read_text().splitlines()] if found.exists() else []

    def attempts(self) -> list[dict[str, Any]]:
        """As the API has them."""
        return list(self.owner.look(self.job)["attempts"])

    def beats(self) -> None:
        """Waits for a sign of life."""
        since = time.time()

        def seen() -> bool:
            found = self.place / "beat-0"
            words = found.read_text().split() if found.exists() else []
            return len(words) == 2 and float(words[1]) > since

        wait_for(seen, PATIENCE, f"a sign of life of {self.job}")

    def heard(self) -> None:
        """Waits until something that it prints from now on is in its log."""
        before = len(self.owner.log(self.job))
        wait_for(lambda: len(self.owner.log(self.job)) > before, PATIENCE, f"something new in the log of {self.job}")

    def pod(self, rank: int = 0) -> Any:
        """Of a worker."""
        return self.training.pods(self.job)[rank]

    def inside(self, rank: int = 0) -> Inside:
        """The container of its program."""
        return Inside(self.training.cluster, self.training.users, self.pod(rank).metadata.name, MAIN)

    def finish(self, *, attempts: int = 1) -> dict[str, Any]:
        """Lets it finish; the job as it ended, which is well."""
        (self.place / "finish").touch()
        ended = self.owner.ended(self.job, seconds=PATIENCE)
        assert (ended["outcome"], len(ended["attempts"])) == ("succeeded", attempts), ended
        assert f"attempt {attempts} done" in self.owner.log(self.job)
        self.alone()
        return ended

    def alone(self) -> None:
        """It never ran twice at the same time, and each attempt began once."""
        assert not (self.place / "twice").exists()
        assert all(self.starts().count(one) == self.workers for one in set(self.starts())), self.starts()


class Table:
    """How long each recovery took."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str, float]] = []

    @contextmanager
    def row(self, fails: str, until: str) -> Iterator[None]:
        """Measures what is inside."""
        began = time.monotonic()
        yield
        self.rows.append((fails, until, time.monotonic() - began))

    def __str__(self) -> str:
        return "\n".join(f"| {fails} | {until} | {seconds:.1f} |" for fails, until, seconds in self.rows)


@pytest.fixture(scope="module")
def table() -> Iterator[Table]:
    made = Table()
    yield made
    RECOVERY.parent.mkdir(exist_ok=True)
    RECOVERY.write_text(f"{made}\n")
    print(f"\n{made}")


@pytest.fixture
def work(training: Training) -> Iterator[Callable[..., Work]]:
    """Makes jobs; none is left for the next test."""
    made: list[Work] = []

    def make(owner: str = "eve", **manifest: Any) -> Work:
        made.append(Work(training, training.submitter(owner), grace="20s", **manifest))
        return made[-1]

    yield make
    for one in made:
        one.place.joinpath("slow").unlink(missing_ok=True)
        if one.owner.look(one.job)["state"] != "ended":
            one.owner.cancel(one.job)
    for one in made:
        one.owner.ended(one.job, seconds=PATIENCE)


def kill(training: Training, part: str) -> None:
    """Its pod goes as in a power cut: another one comes."""
    for pod in training.pods_of(part):
        training.core.delete_namespaced_pod(pod.metadata.name, training.namespace, grace_period_seconds=0)


# -- what runs the program -----------------------------------------------------------------------------------------


def test_a_killed_program_failed_by_a_signal(training: Training, work: Callable[..., Work], table: Table) -> None:
    one = work().up()
    with table.row("the program gets SIGKILL", "the job has failed, by a signal"):
        one.inside().run("python3", "-", stdin=KILL)
        ended = one.owner.ended(one.job, seconds=PATIENCE)
    assert (ended["outcome"], ended["reason"], len(ended["attempts"])) == ("failed", "signal", 1)
    one.alone()


def test_a_deleted_pod_is_the_platforms_failure_and_the_job_runs_again(
    training: Training, work: Callable[..., Work], table: Table
) -> None:
    one = work().up()
    with table.row("a job's pod is deleted by force", "the next attempt runs"):
        training.core.delete_namespaced_pod(one.pod().metadata.name, training.users, grace_period_seconds=0)
        one.up(2)
    assert one.attempts()[0]["reason"] in ("platform", "vanished", "node_lost")
    one.finish(attempts=2)


def test_one_worker_of_two_is_lost_and_both_begin_again(
    training: Training, work: Callable[..., Work], table: Table
) -> None:
    one = work(workers=2, units=UNITS).up()
    with table.row("the pod of one of two workers is deleted by force", "the next attempt of both runs"):
        training.core.delete_namespaced_pod(one.pod(1).metadata.name, training.users, grace_period_seconds=0)
        one.up(2)
    one.finish(attempts=2)


# -- the service and the hub ---------------------------------------------------------------------------------------


def test_the_service_is_killed_while_a_job_waits(training: Training, work: Callable[..., Work], table: Table) -> None:
    first = work(workers=2, units=UNITS).up()
    second = work("tom")
    with table.row("the service is killed while a job waits", "it runs, once there is room"):
        kill(training, "service")
        first.place.joinpath("finish").touch()
        second.up()
    second.finish()


def test_the_service_is_killed_while_a_job_starts(training: Training, work: Callable[..., Work], table: Table) -> None:
    one = work()
    wait_for(lambda: training.pods(one.job), PATIENCE, "its pod")
    with table.row("the service is killed while a job starts", "it runs, as the service knows"):
        kill(training, "service")
        one.up()
    one.finish()


def test_the_service_is_killed_while_a_job_runs_and_no_line_of_its_log_is_lost_or_doubled(
    training: Training, work: Callable[..., Work], table: Table
) -> None:
    one = work().up()
    one.heard()
    with table.row("the service is killed while a job runs", "its log goes on"):
        kill(training, "service")
        training.wait_ready("service")
        one.heard()
    one.finish()
    beats = [int(line.split()[2]) for line in one.owner.log(one.job).splitlines() if line.startswith("beat")]
    assert beats == list(range(1, len(beats) + 1))


def test_the_service_is_killed_while_a_job_stops(training: Training, work: Callable[..., Work], table: Table) -> None:
    one = work().up()
    one.place.joinpath("slow").touch()
    one.owner.cancel(one.job)
    wait_for(lambda: "told" in one.owner.log(one.job), PATIENCE, "SIGTERM")
    with table.row("the service is killed while a job stops", "the job is over"):
        kill(training, "service")
        one.place.joinpath("slow").unlink()
        training.wait_ready("service")
        ended = one.owner.ended(one.job, seconds=PATIENCE)
    assert (ended["outcome"], ended["reason"], len(ended["attempts"])) == ("cancelled", "cancelled", 1)
    one.alone()


def test_the_hub_is_killed_and_jobs_neither_notice_nor_wait(
    training: Training, work: Callable[..., Work], table: Table
) -> None:
    one, owner = work().up(), "eve"
    with table.row("the hub is killed", "another job runs"):
        kill(training, "hub")
        training.wait_ready("hub")
        another = work(owner).up()
    one.finish()
    another.finish()


# -- Kueue and the cluster -----------------------------------------------------------------------------------------


def test_kueue_is_killed_and_what_waits_starts_later(
    training: Training, work: Callable[..., Work], table: Table
) -> None:
    running = work().up()
    with table.row("Kueue is killed", "a job submitted meanwhile runs"):
        training.cluster.kueue.kill()
        waiting = work("tom").up()
    running.finish()
    waiting.finish()


@pytest.mark.parametrize("state", ["queued", "starting", "running", "stopping"])
def test_the_api_server_is_away_for_a_minute(
    training: Training, work: Callable[..., Work], table: Table, state: str
) -> None:
    if state == "queued":
        holding = work(workers=2, units=UNITS).up()
        one = work("tom")
    else:
        one = work()
    if state in ("running", "stopping"):
        one.up().heard()
    if state == "starting":
        wait_for(lambda: training.pods(one.job), PATIENCE, "its pod")
    if state == "stopping":
        one.place.joinpath("slow").touch()
        one.owner.cancel(one.job)
        wait_for(lambda: "told" in one.owner.log(one.job), PATIENCE, "SIGTERM")
        one.place.joinpath("slow").unlink()
    training.cluster.api_server.stop()
    try:
        if state == "running":
            time.sleep(AWAY - 5)
            one.beats()
        else:
            time.sleep(AWAY)
        assert one.owner.look(one.job)["state"] != "ended", "nothing is concluded from silence"
    finally:
        training.cluster.api_server.start()
    with table.row(f"the API server was away {AWAY} s while a job was {state}", "all is as it should be"):
        if state == "queued":
            holding.place.joinpath("finish").touch()
        if state == "running":
            one.heard()
        elif state != "stopping":
            one.up()
        else:
            one.owner.ended(one.job, seconds=PATIENCE)
    if state == "stopping":
        assert [attempt["reason"] for attempt in one.attempts()] == ["cancelled"]
        one.alone()
    else:
        one.finish()


@pytest.fixture
def second(training: Training) -> Iterator[str]:
    """The only node with room for jobs: nothing of MLMP itself runs there."""
    first, second = training.cluster.nodes
    booking = training.api("adam").book(3600, units=UNITS, node=first)
    yield second
    answer = training.api("adam").api.delete(f"/services/mlmp/api/v1/reservations/{booking['id']}")
    assert answer.status_code in (200, 204), answer.text


def test_a_kubelet_that_is_away_for_a_while_ends_no_job(
    training: Training, second: str, work: Callable[..., Work], table: Table
) -> None:
    one = work().up()
    node = training.cluster.node(second)
    node.kubelet.stop()
    try:
        time.sleep(70)  # the node counts as not ready after 50
        one.beats()
        assert one.owner.look(one.job)["state"] == "running"
    finally:
        node.kubelet.start()
    with table.row("a node's kubelet was stopped for 70 s", "its job's log goes on"):
        one.heard()
    one.finish()


def test_a_node_that_loses_its_power_loses_the_attempt_and_the_job_runs_again(
    training: Training, second: str, work: Callable[..., Work], table: Table
) -> None:
    one = work().up()
    node = training.cluster.node(second)
    node.stop()
    node.start()
    with table.row("a node loses its power and boots again", "the next attempt runs"):
        one.up(2)
    assert one.attempts()[0]["reason"] in ("node_lost", "platform", "vanished")
    one.finish(attempts=2)
