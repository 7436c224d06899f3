"""What runs beside a program in its pod: its numbers reach the service once, and nothing keeps the pod alive."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from mlmp_spawner.lab import job_sidecar
from mlmp_spawner.lab.job_sidecar import BATCH, Processes, Sidecar, gpus
from tests.live import wait_for

URL = "/api/v1/pods/jobs/j-1/metrics?worker=2"


class Service:
    """Takes numbers. ``statuses`` are answered first, None: none ever comes."""

    def __init__(self) -> None:
        self.statuses: list[int | None] = []
        self.asked: list[tuple[str, str | None]] = []
        self.bodies: list[bytes] = []
        self.let_go = threading.Event()
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                service.asked.append((self.path, self.headers["Authorization"]))
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = service.statuses.pop(0) if service.statuses else 204
                if status is None:
                    service.let_go.wait(60)
                    return
                if status == 204:
                    service.bodies.append(body)
                self.send_response(status)
                self.end_headers()

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def told(self, folder: Path, **changed: str) -> dict[str, str]:
        """The environment of the container."""
        return {
            "MLMP_JOB_NUMBERS_URL": f"http://127.0.0.1:{self.server.server_port}{URL}",
            "MLMP_JOB_TOKEN": "the-token",
            "MLMP_JOB_METRICS": '[{"json_lines": "metrics.jsonl"}]',
            "MLMP_JOB_DIRECTORY": str(folder),
            "MLMP_JOB_SEEN": str(folder / "seen.json"),
            "MLMP_JOB_GPU": str(folder / "gpu"),
        } | changed

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for body in list(self.bodies) for line in body.splitlines()]

    @property
    def losses(self) -> list[float]:
        """What came of the metric."""
        return [line["values"]["loss"] for line in self.lines if "values" in line]


@pytest.fixture
def service() -> Iterator[Service]:
    made = Service()
    yield made
    made.let_go.set()
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def sidecar(service: Service, tmp_path: Path) -> Sidecar:
    return Sidecar(service.told(tmp_path))


def measure(folder: Path, *losses: float) -> None:
    """The program writes."""
    with (folder / "metrics.jsonl").open("a") as file:
        for loss in losses:
            file.write(json.dumps({"loss": loss}) + "\n")


def test_what_the_program_measures_is_sent_with_the_attempts_token(service: Service, sidecar: Sidecar, tmp_path: Path):
    measure(tmp_path, 3, 2)
    assert sidecar.send_new() and not sidecar.send_new()
    measure(tmp_path, 1)
    assert sidecar.send_new()
    assert service.losses == [3, 2, 1] and set(service.asked) == {(URL, "token the-token")}


def test_what_the_pod_uses_is_sent_too(service: Service, sidecar: Sidecar):
    sidecar.sample(0.0)
    sidecar.sample(10.0)
    sidecar.send_new()
    first, second = (line["used"] for line in service.lines)
    assert first["memory"] > 0 and "cpu" not in first and second["cpu"] >= 0


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_service_that_is_away_gets_everything_once_later(
    service: Service, sidecar: Sidecar, tmp_path: Path, status: int
):
    service.statuses = [status, status]
    measure(tmp_path, 2)
    assert not sidecar.send_new()
    measure(tmp_path, 1)
    assert not sidecar.send_new() and sidecar.pause > job_sidecar.LOOK
    assert sidecar.send_new() and sidecar.pause == 0
    assert sidecar.send_new() and service.losses == [2, 1]


def test_nobody_at_the_address_is_a_service_that_is_away(service: Service, tmp_path: Path):
    sidecar = Sidecar(service.told(tmp_path, MLMP_JOB_NUMBERS_URL="http://127.0.0.1:1/metrics"))
    measure(tmp_path, 1)
    for _ in range(10):
        assert not sidecar.send_new()
    assert sidecar.waiting and sidecar.pause == job_sidecar.LONGEST_PAUSE


def test_what_is_refused_is_not_sent_for_ever(service: Service, sidecar: Sidecar, tmp_path: Path):
    service.statuses = [404]
    measure(tmp_path, 2)
    assert not sidecar.send_new() and sidecar.pause, "and it waits until it tries again"
    measure(tmp_path, 1)
    assert sidecar.send_new() and service.losses == [1]


def test_what_waits_is_bounded(service: Service, sidecar: Sidecar, tmp_path: Path):
    service.statuses = [503] * 1000
    measure(tmp_path, *range(1000))
    for second in range(500):
        sidecar.sample(float(second))
        if second % 100 == 0:
            sidecar.send_new()
    assert len(sidecar.samples) <= job_sidecar.MOST_SAMPLES and len(sidecar.waiting) <= BATCH


def test_much_is_sent_in_pieces(service: Service, sidecar: Sidecar, tmp_path: Path):
    measure(tmp_path, *range(5000))
    sidecar.send_new()
    assert service.losses == list(range(5000))
    assert len(service.bodies) > 1 and max(map(len, service.bodies)) <= BATCH


def test_one_that_is_started_anew_goes_on_where_it_was(service: Service, sidecar: Sidecar, tmp_path: Path):
    measure(tmp_path, 3)
    sidecar.send_new()
    measure(tmp_path, 2)
    again = Sidecar(service.told(tmp_path))
    again.send_new()
    assert service.losses == [3, 2]


def test_what_was_there_before_the_attempt_is_not_its_own(service: Service, tmp_path: Path):
    measure(tmp_path, 9)
    size = (tmp_path / "metrics.jsonl").stat().st_size
    (tmp_path / "seen.json").write_text(json.dumps({str(tmp_path / "metrics.jsonl"): size}))
    measure(tmp_path, 3)  # before it was ready itself
    Sidecar(service.told(tmp_path)).send_new()
    assert service.losses == [3]


@pytest.mark.parametrize("noted", ["", "[1]", '{"x": "y"}', '{"x": Infinity}', "[" * 100_000])
def test_notes_that_somebody_spoiled_break_nothing(service: Service, tmp_path: Path, noted: str):
    (tmp_path / "seen.json").write_text(noted)
    sidecar = Sidecar(service.told(tmp_path))
    measure(tmp_path, 1)
    sidecar.send_new()
    assert service.losses == [1]


# -- what is used -------------------------------------------------------------------------------------------------


def process(proc: Path, pid: int, ticks: int, pages: int, *, of_children: int = 0) -> None:
    """As /proc tells it; a name may hold anything."""
    (proc / str(pid)).mkdir(parents=True, exist_ok=True)
    fields = ["S", *["0"] * 10, str(ticks), "0", str(of_children), "0", *["0"] * 6, str(pages), "0"]
    (proc / str(pid) / "stat").write_text(f"{pid} (a) b ( c) {' '.join(fields)}\n")


def test_all_processes_of_the_pod_count_but_this_one(tmp_path: Path):
    tick, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    process(tmp_path, 1, 0, 1)
    process(tmp_path, 7, tick, 10)
    process(tmp_path, 8, tick, 5)
    process(tmp_path, os.getpid(), 100 * tick, 1000)
    (tmp_path / "9").mkdir()
    (tmp_path / "meminfo").write_text("")
    looked = Processes(tmp_path)
    assert looked.look(100.0) == {"memory": 16.0 * page}
    (tmp_path / "8" / "stat").unlink()
    process(tmp_path, 7, 6 * tick, 20, of_children=11 * tick)  # it waited for the other
    assert looked.look(110.0) == {"memory": 21.0 * page, "cpu": 1.5}


def test_gpus_are_those_that_the_driver_tells_of(tmp_path: Path):
    path = tmp_path / "gpu"
    assert gpus(path) == {}
    path.write_text("0, 10, 100\n1, 30, 300\n" * 1000 + "0, 50, 1000\n1, 70, 3000\nnonsense\n1, ")
    assert gpus(path) == {"gpu": 60.0, "gpu_memory": 4000.0 * (1 << 20)}
    path.write_text("0, [N/A], 1000\n")
    assert gpus(path) == {"gpu_memory": 1000.0 * (1 << 20)}
    os.utime(path, (1, 1))
    assert gpus(path) == {}, "nobody writes any more"


# -- as a process -------------------------------------------------------------------------------------------------


def started(service: Service, folder: Path, **changed: Any) -> subprocess.Popen[bytes]:
    """The real one. ``changed``: its constants."""
    constants = "".join(f"it.{name} = {value}\n" for name, value in ({"LOOK": 0.05} | changed).items())
    code = f"from mlmp_spawner.lab import job_sidecar as it\n{constants}raise SystemExit(it.main())"
    return subprocess.Popen([sys.executable, "-I", "-c", code], env={**os.environ, **service.told(folder)})


def test_the_last_numbers_come_when_the_program_has_ended(service: Service, tmp_path: Path):
    running = started(service, tmp_path)
    wait_for(lambda: service.lines, what="the first look")
    running.send_signal(signal.SIGSTOP)  # as slow as a busy node
    measure(tmp_path, 2, 1)
    running.send_signal(signal.SIGTERM)
    running.send_signal(signal.SIGCONT)
    assert running.wait(60) == 0 and service.losses == [2, 1]


@pytest.mark.parametrize("away", ["it does not answer", "it refuses", "a file can't be read"])
def test_nothing_holds_up_the_end_of_the_pod(service: Service, tmp_path: Path, away: str):
    service.statuses = [None] * 10 if away == "it does not answer" else [503] * 1000
    if away == "a file can't be read":
        os.mkfifo(tmp_path / "metrics.jsonl")
    running = started(service, tmp_path, LAST=1)
    wait_for(lambda: service.asked or away == "a file can't be read", what="a first try")
    if away == "a file can't be read":
        wait_for(lambda: b"job_sidecar" in Path(f"/proc/{running.pid}/cmdline").read_bytes(), what="the process")
        wait_for(lambda: _handles_sigterm(running.pid), what="its handler")
    running.send_signal(signal.SIGTERM)
    assert running.wait(60) == -signal.SIGALRM


def _handles_sigterm(pid: int) -> bool:
    """Whether it would not just end by it."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    caught = next(int(line.split()[1], 16) for line in lines if line.startswith("SigCgt"))
    return bool(caught >> (signal.SIGTERM - 1) & 1)
