"""``mlmp job logs``, and following a log after ``mlmp job run``: what is shown, and how that ends."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from tests.client.answers import ID, at, attempt, ended_job, job, queued_job
from tests.client.conftest import TOKEN, CommandLine
from tests.client.standin import Answer, Asked, StandIn, problem

ONE = f"jobs/{ID}"
STREAM = f"GET {ONE}/logs/stream"

pytestmark = pytest.mark.usefixtures("home")


def log(start: int, text: str) -> str:
    end = start + len(text.encode())
    data = {"attempt": 1, "start": start, "end": end, "size": end, "complete": False, "cut": 0, "text": text}
    return f"event: log\ndata: {json.dumps(data)}\n\n"


def stream(*events: str, cut: bool = False) -> Answer:
    return Answer(200, "".join(events), {"Content-Type": "text/event-stream; charset=utf-8"}, cut=cut)


END = "event: end\ndata: {}\n\n"


def test_the_log_is_followed_from_the_queue_to_the_end(mlmp: CommandLine, service: StandIn) -> None:
    service.on[f"GET {ONE}"] = [Answer(200, one) for one in (queued_job(), queued_job(), job(), ended_job())]
    service.on[STREAM] = stream(log(0, "epoch 1\n"), ": still here\n\n", log(8, "epoch 2\n"), END)
    ran = mlmp("job", "run", "train.py", "--profile", "gpu", "--follow")
    assert (ran.status, ran.out) == (0, "epoch 1\nepoch 2\n"), ran.err
    assert ran.err.count("queued, Waits for 1 x gpu") == 1
    assert "running, on box" in ran.err and "succeeded" in ran.err


@pytest.mark.parametrize(("outcome", "told"), [("failed", "failed (exit status 3)"), ("cancelled", "cancelled")])
def test_a_job_that_did_not_succeed_ends_with_1(mlmp: CommandLine, service: StandIn, outcome: str, told: str) -> None:
    service.on[f"GET {ONE}"] = Answer(200, ended_job(outcome))
    service.on[STREAM] = stream(log(0, "oh\n"), END)
    ran = mlmp("job", "logs", "-f", ID)
    assert (ran.status, ran.out) == (1, "oh\n")
    assert told in ran.err


def test_a_lost_connection_goes_on_where_it_was(mlmp: CommandLine, service: StandIn) -> None:
    asked: list[str] = []
    answers = [
        stream(log(0, "ä1\n"), "event: log\nda", cut=True),
        Answer(drop=True),
        Answer(503, "<html>", {"Content-Type": "text/html"}),
        problem(429, "too_many_requests", "Slowly."),
        stream(log(4, "b")),
        stream(log(5, "c\n"), END),
    ]

    def next_one(one: Asked) -> Answer:
        asked.append(one.query["start"])
        return answers.pop(0)

    gone = Answer(404, "<html>404 : Not Found</html>", {"Content-Type": "text/html"})  # as the hub without a service
    service.on[f"GET {ONE}"] = [Answer(200, job()), gone, Answer(200, job()), gone, Answer(200, ended_job())]
    service.on[STREAM] = next_one
    ran = mlmp("job", "logs", "-f", ID)
    assert (ran.status, ran.out) == (0, "ä1\nbc\n")
    assert asked == ["0", "4", "4", "4", "4", "5"]


def test_an_attempt_that_made_way_is_followed_by_the_next(mlmp: CommandLine, service: StandIn) -> None:
    first = attempt(state="ended", reason="preempted", ended_at=at(0))
    both = {"attempts": [first, attempt(2)]}
    service.on[f"GET {ONE}"] = [
        Answer(200, job()), Answer(200, queued_job(attempts=[first])), Answer(200, job(**both)),
        Answer(200, ended_job(**both)),
    ]  # fmt: skip
    service.on[STREAM] = lambda asked: stream(log(0, f"attempt {asked.query['attempt']}\n"), END)
    ran = mlmp("job", "logs", "-f", ID)
    assert (ran.status, ran.out) == (0, "attempt 1\nattempt 2\n")
    assert "attempt 2" in ran.err


def test_with_json_the_log_is_beside_the_answer(mlmp: CommandLine, service: StandIn) -> None:
    service.on[f"GET {ONE}"] = [Answer(200, job()), Answer(200, ended_job())]
    service.on[STREAM] = stream(log(0, "words\n"), END)
    ran = mlmp("job", "run", "train.py", "--profile", "gpu", "--json", "--follow")
    assert ran.json["outcome"] == "succeeded"
    assert "words\n" in ran.err


def test_a_log_that_is_not_for_the_caller_ends_at_once(mlmp: CommandLine, service: StandIn) -> None:
    service.on[f"GET {ONE}"] = Answer(200, job())
    service.on[STREAM] = problem(403, "not_allowed", "This job is somebody else's.")
    ran = mlmp("job", "logs", "-f", ID)
    assert (ran.status, "somebody else's" in ran.err) == (1, True)


def test_ctrl_c_leaves_the_job_running_and_says_how_to_end_it(service: StandIn, tmp_path: Path) -> None:
    service.on[f"GET {ONE}"] = Answer(200, queued_job())
    environment = os.environ | {"XDG_CONFIG_HOME": str(tmp_path), "MLMP_URL": service.url, "MLMP_TOKEN": TOKEN}
    command = [
        sys.executable,
        "-m",
        "mlmp_spawner.client.cli",
        "job",
        "run",
        "train.py",
        "--profile",
        "gpu",
        "--follow",
    ]
    # What runs in the background of a shell ignores Ctrl-C, and passes that on to all that it starts.
    heeds = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, preexec_fn=heeds) as running:
        assert running.stderr is not None
        for line in running.stderr:
            if "queued" in line:
                break
        running.send_signal(signal.SIGINT)
        told = running.stderr.read()
        assert running.wait() == 130
    assert f"mlmp job cancel {ID}" in told and "Traceback" not in told
    assert service.times("DELETE", ONE) == 0


def test_on_a_terminal_the_log_is_followed_and_can_not_steer_it(service: StandIn, tmp_path: Path) -> None:
    service.on[f"GET {ONE}"] = [Answer(200, job()), Answer(200, ended_job())]
    service.on[STREAM] = stream(log(0, "\x1b[31mred\x1b"), log(9, "[0m\x1b]0;title\x07\x1b[2J 50%\r100%\n"), END)
    environment = os.environ | {"XDG_CONFIG_HOME": str(tmp_path), "MLMP_URL": service.url, "MLMP_TOKEN": TOKEN}
    command = [sys.executable, "-m", "mlmp_spawner.client.cli", "job", "run", "train.py", "--profile", "gpu"]
    outer, inner = pty.openpty()
    with subprocess.Popen(command, env=environment, stdout=inner, stderr=subprocess.DEVNULL) as running:
        os.close(inner)
        seen = b""
        while True:
            try:
                piece = os.read(outer, 1000)
            except OSError:  # the other side is closed
                break
            if not piece:
                break
            seen += piece
        assert running.wait() == 0
    os.close(outer)
    mark = "\N{REPLACEMENT CHARACTER}".encode()
    assert b"\x1b[31mred\x1b[0m" in seen
    assert b" 50%\r100%" in seen
    assert b"\x1b]" not in seen and b"\x1b[2J" not in seen and mark in seen


def test_logs_are_printed_whole_however_long(mlmp: CommandLine, service: StandIn) -> None:
    def part(asked: Asked) -> Answer:
        start = int(asked.query["start"])
        start = 20 + start if start < 0 else start
        end = min(start + 10, 20)
        return Answer(200, {"attempt": 1, "start": start, "end": end, "size": 20, "complete": True, "cut": 0,
                            "text": "0123456789abcdefghij"[start:end]})  # fmt: skip

    service.on[f"GET {ONE}/logs"] = part
    assert mlmp("job", "logs", ID).out == "0123456789abcdefghij"
    assert mlmp("job", "logs", ID, "--tail", "5").out == "fghij"
    assert mlmp("job", "logs", ID, "--attempt", "2", "--json").json["text"] == "0123456789abcdefghij"
    assert service.asked[-1].query["attempt"] == "2"
    assert mlmp("job", "logs", "-f", "--attempt", "2", ID).status == 2
