"""Real, small trainings with PyTorch as jobs of a real ``mlmp up``: the very scripts that the how-to of jobs shows.

PyTorch is Debian's own, for processors; jobs find it by their PATH.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from mlmp_spawner.client import jobs
from mlmp_spawner.client.api import Client
from mlmp_spawner.client.config import Access
from tests.live import Person, Site, command_line, wait_for

pytestmark = pytest.mark.faults

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
PYTHON = "/usr/bin/python3"
STEPS = 200
PATIENCE = 300
"""Seconds for what takes some even where nothing else runs."""

# One thread, since sums differ by how they are split. torchrun of PyTorch 1.13 fails on Python 3.11 where it is to
# redirect nothing; here it is to redirect nothing of a worker that there is not.
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1", "PET_REDIRECTS": "1:0", "PET_TEE": "1:0"}

ADDS = """\
import pathlib, sys, time
import torch
from torch import distributed
distributed.init_process_group("gloo")
rank = distributed.get_rank()
number = torch.tensor([rank + 1.0])
distributed.all_reduce(number)
print(f"sum {number.item():g}", flush=True)
pathlib.Path(f"added-{rank}").touch()
if "fail" in sys.argv and rank == 1:
    while not pathlib.Path("added-0").exists():
        time.sleep(0.1)
    sys.exit(7)
if "notice" in sys.argv:
    distributed.all_reduce(number)
if "fail" in sys.argv:
    time.sleep(3600)
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    if subprocess.run([PYTHON, "-c", "import torch.distributed"], capture_output=True, check=False).returncode:
        pytest.skip("no PyTorch here; on Debian and Ubuntu: apt-get install python3-torch")
    made = Site(tmp_path_factory.mktemp("pytorch"))
    try:
        yield made.start()
    finally:
        made.close()


@pytest.fixture(scope="module")
def adam(site: Site) -> Iterator[Person]:
    person = site.person("adam")
    yield person
    person.api.close()
    person.browser.close()


@pytest.fixture(scope="module")
def eve(site: Site) -> Iterator[Client]:
    with Client(Access(site.url, site.person("eve").token)) as client:
        yield client


def alone(eve: Client) -> jobs.Job:
    """The training of the how-to with one worker."""
    return jobs.submit(
        EXAMPLES / "train.py", "--steps", STEPS, "--width", 128, profile="gpu", hours=1, grace="5m",
        environment=ENVIRONMENT, metrics=[{"json_lines": "metrics.jsonl"}], client=eve,
    )  # fmt: skip


def together(eve: Client) -> jobs.Job:
    """The one with two."""
    manifest = yaml.safe_load((EXAMPLES / "train-together.yaml").read_text())
    manifest |= {"command": f"{manifest['command']} --steps {STEPS}", "grace": "5m", "environment": ENVIRONMENT}
    return jobs.submit(code=EXAMPLES, client=eve, **manifest)


def adding(eve: Client, tmp_path: Path, begin: str, argument: str = "") -> jobs.Job:
    """Two workers that add what they have. :param begin: the program that runs the script."""
    (tmp_path / "adds.py").write_text(ADDS)
    return jobs.submit(
        command=f"{begin} adds.py {argument}", code=tmp_path, profile="gpu", hours=1, workers=2, grace="20s",
        environment=ENVIRONMENT, client=eve,
    )  # fmt: skip


def by_torchrun() -> str:
    """How the how-to runs a script by torchrun."""
    command: str = yaml.safe_load((EXAMPLES / "train-together.yaml").read_text())["command"]
    return command.removesuffix(" train_together.py")


def until(job: jobs.Job, state: str) -> jobs.Job:
    """The job, once it is in that state."""
    wait_for(lambda: job.refresh().state == state, PATIENCE, f"{job} {state}")
    return job


def processes_of(job: jobs.Job) -> dict[int, list[str]]:
    """Its processes with their command lines."""
    mark = f"MLMP_JOB_ID={job.id}".encode()
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if mark in (folder / "environ").read_bytes().split(b"\0"):
                found[int(folder.name)] = command_line(int(folder.name))
    return found


def trains(job: jobs.Job) -> int:
    """The pid of what trains, the first of several."""
    found = (
        pid
        for pid, words in sorted(processes_of(job).items())
        if "python" in words[0] and "train" in " ".join(words) and not any("torchrun" in word for word in words)
        and b"\0RANK=1\0" not in Path(f"/proc/{pid}/environ").read_bytes()
    )  # fmt: skip
    return next(found)


def asked(pid: int) -> bool:
    """Whether a stopped process has got SIGTERM, which it will see when it goes on."""
    lines = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return bool(int(lines["ShdPnd"], 16) & 1 << (signal.SIGTERM - 1))


def make_way(site: Site, adam: Person, job: jobs.Job) -> Mapping[str, Any]:
    """Sends a job that trains away for a booking of all units; the booking.

    What trains is held meanwhile, so that it is in the midst of its work however slow all else is.
    """
    metrics = site.data / "homes" / "eve" / "mlmp-jobs" / job.id / "metrics.jsonl"
    wait_for(lambda: metrics.exists() and metrics.read_text().count("\n") > 5, PATIENCE, f"the first steps of {job}")
    pid = trains(job)
    os.kill(pid, signal.SIGSTOP)
    try:
        booking = adam.book(600, units=4)
        wait_for(lambda: asked(pid), PATIENCE, f"SIGTERM for {job}")
    finally:
        os.kill(pid, signal.SIGCONT)
    return booking


def give_back(adam: Person, booking: Mapping[str, Any]) -> None:
    """Ends somebody's booking."""
    answer = adam.api.delete(f"/services/mlmp/api/v1/reservations/{booking['id']}")
    assert answer.status_code in (200, 204), answer.text


@pytest.mark.parametrize("training", [alone, together])
def test_a_training_that_made_way_for_a_booking_goes_on_as_if_nothing_had_been(
    site: Site, adam: Person, eve: Client, training: Any
) -> None:
    job = until(training(eve), "running")
    behind = jobs.submit(command=["true"], profile="gpu", hours=1, units=4, client=eve)
    booking = make_way(site, adam, job)
    first = until(job, "queued").record.attempts[0]
    assert (first.stop_reason, first.reason) == ("preempted", "preempted")
    lost = job.metrics()["loss"]["steps"]
    assert lost == list(range(len(lost))) and 5 < len(lost) < STEPS
    give_back(adam, booking)
    jobs.wait([job, behind], PATIENCE)
    assert job.succeeded, job.record
    assert [one.number for one in job.record.attempts] == [1, 2]
    assert behind.record.started_at >= job.record.ended_at, "it goes on before what was submitted later"
    assert f"starts at step {len(lost)} " in "".join(job.logs(attempt=2))
    undisturbed = training(eve).wait(PATIENCE)
    assert len(undisturbed.record.attempts) == 1
    loss = job.metrics()["loss"]
    assert loss["steps"] == list(range(STEPS))
    assert loss["values"] == undisturbed.metrics()["loss"]["values"]


def test_workers_of_torchrun_add_up_what_each_has(eve: Client, tmp_path: Path) -> None:
    job = adding(eve, tmp_path, by_torchrun()).wait(PATIENCE)
    assert job.succeeded, "".join(job.logs())
    assert sorted("".join(job.logs()).splitlines()) == ["[0] sum 3", "[1] sum 3"]


@pytest.mark.parametrize(
    ("begin", "argument", "status"),
    [(by_torchrun(), "fail notice", 1), (PYTHON, "fail", 7)],
    ids=["torchrun", "python"],
)
def test_a_worker_that_fails_ends_the_other_and_the_job_fails_once(
    eve: Client, tmp_path: Path, begin: str, argument: str, status: int
) -> None:
    job = adding(eve, tmp_path, begin, argument).wait(PATIENCE)
    assert (job.record.outcome, job.record.reason, job.record.exit_status) == ("failed", "exit_status", status)
    assert len(job.record.attempts) == 1
    assert processes_of(job) == {}
    log = "".join(job.logs())
    assert "[0] sum 3\n" in log and "[1] sum 3\n" in log


def test_with_room_for_one_of_two_workers_neither_starts(adam: Person, eve: Client, tmp_path: Path) -> None:
    booking = adam.book(600, units=3)
    job = adding(eve, tmp_path, by_torchrun())
    small = jobs.submit(command=["true"], profile="gpu", hours=0.1, client=eve)
    assert small.wait(PATIENCE).succeeded, "the unit that is left is of use to others"
    assert (job.refresh().state, job.record.attempts, processes_of(job)) == ("queued", (), {})
    give_back(adam, booking)
    assert job.wait(PATIENCE).succeeded
    assert len(job.record.attempts) == 1
