"""From the submission of a job to its result, with all that ``mlmp up`` runs."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.jobs.people import API, Submitter
from tests.live import Site, wait_for

TRAIN = """\
import json, os, pathlib, sys, time
print("epoch 0", os.environ["CUDA_VISIBLE_DEVICES"], sys.argv[1:])
with open("metrics.jsonl", "a") as file:
    for step in range(5):
        file.write(json.dumps({"step": step, "loss": 1 / (step + 1)}) + "\\n")
pathlib.Path("result.txt").write_text("done by " + os.environ["MLMP_JOB_NAME"])
print(os.environ["TOKEN"] == "hidden", os.environ["MLMP_JOB_ATTEMPT"], "loss=0.25 step=7")
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(tmp_path_factory.mktemp("jobs"), settings="c.MLMP.job_sample_every = 0.5")
    try:
        yield made.start()
    finally:
        made.close()


@pytest.fixture(scope="module")
def eve(site: Site) -> Submitter:
    return Submitter(site.person("eve"))


def test_a_script_runs_and_its_output_metrics_and_result_are_there(site: Site, eve: Submitter) -> None:
    job = eve.submit(
        name="first", script="train.py", arguments=["--fast"], code=eve.code(train_py=TRAIN),
        values={"TOKEN": "hidden"},
        metrics=[{"json_lines": "metrics.jsonl"}, {"pattern": r"loss=(?P<logged>[\d.]+) step=(?P<step>\d+)"}],
    )  # fmt: skip
    ended = eve.ended(job)
    assert (ended["outcome"], ended["reason"], ended["exit_status"]) == ("succeeded", "succeeded", 0), ended
    assert eve.log(job).splitlines() == ["epoch 0 simulated-0 ['--fast']", "True 1 loss=0.25 step=7"]
    assert (site.data / "homes" / "eve" / "mlmp-jobs" / job / "result.txt").read_text() == "done by first"
    series = eve.api.get(f"{API}/{job}/metrics").json()["series"]
    assert series["loss"]["steps"] == [0, 1, 2, 3, 4]
    assert (series["logged"]["steps"], series["logged"]["values"]) == ([7], [0.25])
    assert "hidden" not in json.dumps(eve.look(job))


def test_what_it_prints_and_uses_is_seen_while_it_runs_and_it_can_be_ended(eve: Submitter) -> None:
    script = "trap 'cat $MLMP_STOP_FILE; exit 0' TERM; echo up; while :; do sleep 0.1; done"
    job = eve.submit(command=["sh", "-c", script])
    assert eve.printed(job, "up") == "up\n"
    assert eve.until(job, "running")["attempts"][0]["state"] == "running"
    wait_for(lambda: "memory" in eve.api.get(f"{API}/{job}/metrics").json()["usage"], 60, "what it uses")
    eve.cancel(job)
    ended = eve.ended(job)
    assert (ended["outcome"], ended["reason"]) == ("cancelled", "cancelled")
    assert json.loads(eve.log(job).removeprefix("up\n"))["seconds_left"] > 0


def test_a_failure_says_what_it_printed_last(eve: Submitter) -> None:
    job = eve.submit(command=["sh", "-c", "echo 'ValueError: no such data' >&2; exit 3"])
    ended = eve.ended(job)
    assert (ended["outcome"], ended["reason"], ended["exit_status"]) == ("failed", "exit_status", 3)
    assert ended["message"] == "ValueError: no such data"


COUNTS = """\
import os, pathlib, signal, sys, time
place = pathlib.Path(os.environ["MLMP_CHECKPOINT_DIR"], "count")
count = int(place.read_text()) if place.exists() else 0
def save(*_):
    time.sleep(0.5)  # a checkpoint takes its time
    place.write_text(str(count))
    sys.exit(0)
signal.signal(signal.SIGTERM, save)
print("from", count, flush=True)
home = pathlib.Path.home()
while not (home / "enough").exists():
    count += 1
    print("count", count, flush=True)
    time.sleep(0.1)
"""


@pytest.mark.faults
def test_a_booking_sends_it_away_and_it_goes_on_where_it_was(site: Site, eve: Submitter) -> None:
    job = eve.submit(script="count.py", code=eve.code(count_py=COUNTS), grace="30s")
    eve.printed(job, "count 3")
    booking = site.person("adam").book(60, units=4)
    eve.until(job, "queued")
    assert eve.look(job)["attempts"][0]["reason"] == "preempted"
    first = eve.api.get(f"{API}/{job}/logs", params={"start": 0, "attempt": 1}).json()["text"]
    last = int(first.split()[-1])
    answer = site.person("adam").api.delete(f"/services/mlmp/api/v1/reservations/{booking['id']}")
    assert answer.status_code in (200, 204)
    eve.until(job, "running")
    assert eve.printed(job, "count").startswith(f"from {last}\ncount {last + 1}\n")
    (site.data / "homes" / "eve" / "enough").touch()
    assert eve.ended(job)["outcome"] == "succeeded"
