"""What runs in a pod before a job's program: the code is there once and whole, whoever else is at it."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from mlmp_spawner.lab import job_pod
from mlmp_spawner.lab.job_command import NotStarted


def packed(text: str = "print(1)\n") -> bytes:
    """A snapshot with one script."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        member = tarfile.TarInfo("train.py")
        member.size = len(text)
        archive.addfile(member, io.BytesIO(text.encode()))
    return made.getvalue()


class Store:
    """A service that gives back a snapshot. ``statuses`` are answered first."""

    def __init__(self) -> None:
        self.body = packed()
        self.statuses: list[int] = []
        self.asked: list[str | None] = []
        store = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                store.asked.append(self.headers["Authorization"])
                status = store.statuses.pop(0) if store.statuses else 200
                self.send_response(status)
                self.end_headers()
                if status == 200:
                    self.wfile.write(store.body)

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.body).hexdigest()

    def told(self, home: Path, **changed: str) -> dict[str, str]:
        """The environment of the container."""
        return {
            "MLMP_JOB_FOLDER": str(home / "mlmp-jobs/j"),
            "MLMP_JOB_FOLDERS": json.dumps([str(home / "mlmp-jobs/j/checkpoints"), str(home / "results")]),
            "MLMP_JOB_CODE": self.sha256,
            "MLMP_JOB_CODE_URL": f"http://127.0.0.1:{self.server.server_port}/code",
            "MLMP_JOB_CODE_TOKEN": "the-token",
            "MLMP_JOB_METRICS": '[{"json_lines": "checkpoints/metrics.jsonl"}]',
            "MLMP_JOB_DIRECTORY": str(home / "mlmp-jobs/j"),
            "MLMP_JOB_SEEN": str(home / "seen.json"),
            "MLMP_JOB_WORKERS": "[]",
        } | changed


@pytest.fixture
def store() -> Iterator[Store]:
    made = Store()
    yield made
    made.server.shutdown()
    made.server.server_close()


def test_the_code_is_fetched_with_the_jobs_token_and_unpacked(store: Store, tmp_path: Path):
    job_pod.prepare(store.told(tmp_path))
    assert store.asked == ["token the-token"]
    assert (tmp_path / "mlmp-jobs/j/train.py").read_text() == "print(1)\n"
    assert (tmp_path / "mlmp-jobs/j/checkpoints").is_dir() and (tmp_path / "results").is_dir()


def test_a_later_attempt_finds_what_the_first_left(store: Store, tmp_path: Path):
    job_pod.prepare(store.told(tmp_path))
    (tmp_path / "mlmp-jobs/j/checkpoints/1.pt").write_bytes(b"weights")
    store.body = packed("print(2)\n")
    job_pod.prepare(store.told(tmp_path))
    assert len(store.asked) == 1 and (tmp_path / "mlmp-jobs/j/train.py").read_text() == "print(1)\n"
    assert (tmp_path / "mlmp-jobs/j/checkpoints/1.pt").read_bytes() == b"weights"


def test_what_an_earlier_attempt_measured_is_known_before_the_program_adds_to_it(store: Store, tmp_path: Path):
    job_pod.prepare(store.told(tmp_path))
    path = tmp_path / "mlmp-jobs/j/checkpoints/metrics.jsonl"
    assert json.loads((tmp_path / "seen.json").read_text()) == {str(path): 0}
    path.write_text('{"loss": 1}\n')
    job_pod.prepare(store.told(tmp_path))
    assert json.loads((tmp_path / "seen.json").read_text()) == {str(path): 12}


def test_without_code_there_are_only_the_directories(store: Store, tmp_path: Path):
    job_pod.prepare(store.told(tmp_path, MLMP_JOB_CODE=""))
    assert store.asked == [] and (tmp_path / "mlmp-jobs/j/checkpoints").is_dir()


def test_other_code_than_was_submitted_never_runs(store: Store, tmp_path: Path):
    told = store.told(tmp_path)
    store.body = packed("import evil\n")
    with pytest.raises(NotStarted, match="checksum differs"):
        job_pod.prepare(told)
    assert not (tmp_path / "mlmp-jobs/j").exists()


def test_a_service_that_is_restarted_is_asked_again(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(job_pod.time, "sleep", lambda seconds: None)
    store.statuses = [503, 429]
    job_pod.prepare(store.told(tmp_path))
    assert len(store.asked) == 3 and (tmp_path / "mlmp-jobs/j/train.py").exists()


@pytest.mark.parametrize("status", [403, 404])
def test_a_refusal_is_told_at_once(store: Store, tmp_path: Path, status: int):
    store.statuses = [status]
    with pytest.raises(NotStarted, match=f"answers {status}"):
        job_pod.prepare(store.told(tmp_path))
    assert len(store.asked) == 1


def test_a_service_that_stays_away_is_told(tmp_path: Path, store: Store):
    told = store.told(tmp_path, MLMP_JOB_CODE_URL="http://127.0.0.1:1/code")
    with pytest.raises(NotStarted, match="does not answer"):
        job_pod.prepare(told, patience=0)


def test_of_two_workers_at_once_one_unpacks(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    real = job_pod.unpack

    def slower(code: int, folder: Path) -> None:
        real(code, folder)
        raise NotStarted("Its code can't be unpacked: the other one was faster")

    monkeypatch.setattr(job_pod, "unpack", slower)
    job_pod.prepare(store.told(tmp_path))
    assert (tmp_path / "mlmp-jobs/j/train.py").exists()


def test_the_program_starts_once_all_workers_can_be_found(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    waited: list[float] = []
    real = job_pod._known
    monkeypatch.setattr(job_pod, "_known", lambda name: len(waited) >= 2 and real(name))
    monkeypatch.setattr(job_pod.time, "sleep", waited.append)
    job_pod.prepare(store.told(tmp_path, MLMP_JOB_WORKERS='["localhost", "localhost"]'))
    assert len(waited) == 2


def test_a_worker_that_nobody_finds_is_left_to_the_program(store: Store, tmp_path: Path):
    told = store.told(tmp_path, MLMP_JOB_WORKERS='["w0.invalid"]')
    job_pod.prepare(told, names_within=0)
    assert (tmp_path / "mlmp-jobs/j/train.py").exists()
