"""Jobs on a real cluster with a real Kueue, from a terminal in Lab to the result: the whole way."""

from __future__ import annotations

import json
import statistics
import subprocess
import time
from pathlib import Path
from typing import Any

import yaml

from mlmp_spawner.client import jobs
from mlmp_spawner.client.api import Client
from mlmp_spawner.client.config import Access
from tests.cluster.training import UNITS, Training
from tests.jobs.people import API, Submitter
from tests.live import wait_for

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
LINES = 15
PATIENCE = 300
"""Seconds for what takes some even where nothing else runs."""
# One thread, since sums differ by how they are split. torchrun of PyTorch 1.13 fails on Python 3.11 where it is to
# redirect nothing; here it is to redirect nothing of a worker that there is not.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "PET_REDIRECTS": "1:0", "PET_TEE": "1:0"}

TALKS = f"""\
import json, os, pathlib, time
for step in range({LINES}):
    with open("metrics.jsonl", "a") as file:
        file.write(json.dumps({{"step": step, "loss": 1 / (step + 1)}}) + "\\n")
    print("said", step, time.time())
    time.sleep(0.5)
pathlib.Path.home().joinpath("result.txt").write_text("on " + os.environ["MLMP_NODE"])
"""
WAITS = """
import os, pathlib, signal, sys, time
def told(*_):
    print("told", flush=True); time.sleep(1); print("saved", flush=True); sys.exit(0)
signal.signal(signal.SIGTERM, told)
print("attempt", os.environ["MLMP_JOB_ATTEMPT"], "on", os.environ["MLMP_NODE"], flush=True)
finish = pathlib.Path(os.environ["MLMP_OUTPUT_DIR"], "finish")
while not finish.exists(): time.sleep(0.2)
"""


def waits(person: Submitter, **manifest: Any) -> str:
    """A job that goes on until it is ended."""
    return person.submit(command=["python3", "-c", WAITS], **manifest)


def client_of(training: Training, name: str) -> Client:
    """Somebody's client of Python."""
    return Client(Access(training.url, training.api(name).token))


def nodes_of(log: str) -> set[str]:
    """Where the workers of :data:`WAITS` ran, as they said."""
    return {line.split()[-1] for line in log.splitlines() if "attempt" in line}


# -- one worker ----------------------------------------------------------------------------------------------------


def test_a_script_from_a_terminal_is_heard_at_once_plotted_and_leaves_its_result_at_home(training: Training) -> None:
    terminal = training.server("eve")
    terminal.run("sh", "-c", "mkdir -p ~/work && cat > ~/work/train.py", stdin=TALKS)
    words = "cd ~/work && mlmp job run train.py --profile gpu --hours 1 --follow --metric json_lines=metrics.jsonl"
    arrived = []
    with subprocess.Popen(terminal.command("sh", "-c", words), stdout=subprocess.PIPE, text=True) as following:
        assert following.stdout is not None
        for line in following.stdout:
            if line.startswith("said"):
                arrived.append(time.time() - float(line.split()[2]))
    assert following.returncode == 0
    assert len(arrived) == LINES
    print(f"\nseconds from print to terminal: median {statistics.median(arrived):.2f}, most {max(arrived):.2f}")
    assert statistics.median(arrived) < 2
    eve = training.submitter("eve")
    (job,) = eve.api.get(API).json()["items"]
    ended = eve.ended(job["id"])
    assert (ended["outcome"], ended["reason"]) == ("succeeded", "succeeded")
    assert terminal.run("sh", "-c", "cat ~/result.txt").split()[1] in training.cluster.nodes

    def plotted() -> bool:
        series = eve.api.get(f"{API}/{job['id']}/metrics").json()["series"]
        return series.get("loss", {}).get("steps") == list(range(LINES))

    wait_for(plotted, 60, "its metrics")


def test_what_fails_says_so_with_its_exit_status_and_last_line(training: Training) -> None:
    eve = training.submitter("eve")
    job = eve.submit(command=["sh", "-c", "echo begun; echo 'ValueError: no such data' >&2; exit 3"])
    ended = eve.ended(job, seconds=PATIENCE)
    assert (ended["outcome"], ended["reason"], ended["exit_status"]) == ("failed", "exit_status", 3)
    assert ended["message"] == "ValueError: no such data"
    assert "begun" in eve.log(job)


def test_an_image_that_is_not_there_is_the_users_error_and_is_not_tried_again(training: Training) -> None:
    eve = training.submitter("eve")
    ended = eve.ended(eve.submit(command=["true"], image="missing"), seconds=PATIENCE)
    assert (ended["outcome"], ended["reason"], len(ended["attempts"])) == ("failed", "image", 1)


def test_too_much_memory_is_the_users_error(training: Training) -> None:
    eve = training.submitter("eve")
    job = eve.submit(command=["python3", "-c", "x = bytearray(2 << 30); print(len(x))"])
    ended = eve.ended(job, seconds=PATIENCE)
    assert (ended["outcome"], ended["reason"]) == ("failed", "out_of_memory")


def test_a_cancelled_job_has_its_grace_and_leaves_nothing(training: Training) -> None:
    eve = training.submitter("eve")
    job = waits(eve)
    eve.printed(job, "attempt 1")
    eve.until(job, "running")
    eve.cancel(job)
    ended = eve.ended(job, seconds=PATIENCE)
    assert (ended["outcome"], ended["reason"]) == ("cancelled", "cancelled")
    assert eve.log(job).splitlines()[-2:] == ["told", "saved"]
    wait_for(lambda: not training.pods(job), 60, "the end of its pods")


# -- several workers -----------------------------------------------------------------------------------------------


def test_two_workers_of_torchrun_train_together_on_two_nodes(training: Training) -> None:
    manifest = yaml.safe_load((EXAMPLES / "train-together.yaml").read_text())
    manifest |= {"command": f"{manifest['command']} --steps 30", "environment": ONE_THREAD, "image": "pytorch"}
    with client_of(training, "tom") as tom:
        job = jobs.submit(code=EXAMPLES, units=UNITS, client=tom, **manifest)
        wait_for(lambda: len(training.pods(job.id)) == 2, PATIENCE, f"two pods of {job}")
        where = wait_for(
            lambda: len(found := {pod.spec.node_name for pod in training.pods(job.id)} - {None}) == 2 and found,
            PATIENCE, "two nodes",
        )  # fmt: skip
        job.wait(PATIENCE)
        said = "".join(job.logs())
        assert job.succeeded, said
        assert where == set(training.cluster.nodes)
        assert "[0] worker 0 of 2 starts at step 0" in said
        assert "[1] worker 1 ends after 30 of 30 steps" in said
        assert job.metrics()["loss"]["steps"] == list(range(30))


def test_two_workers_get_their_units_at_once_or_none(training: Training) -> None:
    eve, tom = training.submitter("eve"), training.submitter("tom")
    one = waits(eve)
    eve.printed(one, "attempt 1")
    both = waits(tom, workers=2, units=UNITS)
    time.sleep(5)
    assert tom.look(both)["state"] == "queued"
    assert all(pod.spec.node_name is None for pod in training.pods(both))
    eve.cancel(one)
    wait_for(lambda: len(nodes_of(tom.log(both))) == 2, PATIENCE, "both on their nodes")
    tom.cancel(both)
    tom.ended(both, seconds=PATIENCE)


# -- bookings ------------------------------------------------------------------------------------------------------


def test_a_training_makes_way_for_a_booking_and_goes_on_where_it_was(training: Training) -> None:
    steps, adam = 1500, training.api("adam")
    with client_of(training, "eve") as eve:
        job = jobs.submit(
            EXAMPLES / "train.py", "--steps", steps, "--width", 64, code=EXAMPLES, profile="gpu", hours=1, grace="30s",
            image="pytorch", environment=ONE_THREAD, metrics=[{"json_lines": "metrics.jsonl"}], client=eve,
        )  # fmt: skip
        wait_for(lambda: job.metrics().get("loss", {}).get("steps", []), PATIENCE, f"the first steps of {job}")
        bookings = [adam.book(600, units=UNITS, node=node) for node in training.cluster.nodes]
        wait_for(lambda: job.refresh().state == "queued", PATIENCE, f"{job} queued")
        assert job.record.attempts[0].reason == "preempted"
        wait_for(lambda: not training.pods(job.id) or all(
            pod.status.phase == "Pending" for pod in training.pods(job.id)), 60, "the units are free")  # fmt: skip
        for booking in bookings:
            answer = adam.api.delete(f"/services/mlmp/api/v1/reservations/{booking['id']}")
            assert answer.status_code in (200, 204), answer.text
        job.wait(PATIENCE)
        assert job.succeeded, job.record
        assert [one.number for one in job.record.attempts] == [1, 2]
        written = training.home("eve") / "mlmp-jobs" / job.id / "metrics.jsonl"
        logged = [json.loads(line)["step"] for line in written.read_text().splitlines()]
        assert logged == list(range(steps)), "its loss curve is continuous"
        wait_for(lambda: job.metrics()["loss"]["steps"][-1] == steps - 1, 60, "the last of its metrics")
        shown = job.metrics()["loss"]["steps"]  # thinned, where there are many
        assert shown[0] == 0 and shown == sorted(set(shown))


# -- tenants -------------------------------------------------------------------------------------------------------


def in_group(training: Training, group: str, *names: str) -> None:
    """Puts people in a group of the hub."""
    admin = training.api("admin").api
    for name in names:
        training.api(name)
    answer = admin.post(f"/hub/api/groups/{group}", json={"users": list(names)})
    if answer.status_code == 409:
        answer = admin.post(f"/hub/api/groups/{group}/users", json={"users": list(names)})
    assert answer.status_code in (200, 201), answer.text


def test_a_group_gets_back_what_it_is_guaranteed_and_others_borrowed(training: Training) -> None:
    in_group(training, "red", "rosa")
    in_group(training, "blue", "bob")
    rosa, bob = training.submitter("rosa"), training.submitter("bob")
    borrowing = [waits(bob, group="blue", grace="10s") for _ in range(2 * UNITS)]
    for job in borrowing:
        bob.printed(job, "attempt 1")
    owned = [waits(rosa, group="red") for _ in range(UNITS)]
    for job in owned:
        rosa.printed(job, "attempt 1")

    def sent_away() -> list[str]:
        """Whose units these were; who was sent away beside them is back."""
        looks = [bob.look(job) for job in borrowing]
        assert all(one["attempts"][0]["reason"] in (None, "preempted") for one in looks), looks
        waiting = [one["id"] for one in looks if one["state"] == "queued"]
        running = [one["id"] for one in looks if one["state"] == "running"]
        return waiting if len(waiting) == UNITS and len(running) == UNITS else []

    waiting = wait_for(sent_away, PATIENCE, "as many of the others that wait")
    for job in owned:
        rosa.cancel(job)
    for job in waiting:
        bob.printed(job, "attempt 2")
    for job in borrowing:
        bob.cancel(job)
        bob.ended(job, seconds=PATIENCE)
