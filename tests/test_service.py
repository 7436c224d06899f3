"""The service as a process of its own, with what it stands on away."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.databases import sqlite_copy

CATALOG = Path(__file__).parents[1] / "profiles" / "examples" / "cluster"


def configured(folder: Path, db_url: str) -> Path:
    """A configuration for Kubernetes."""
    file = folder / "jupyterhub_config.py"
    chosen = {"backend": "kubernetes", "db_url": db_url, "catalog": str(CATALOG), "namespace": "users", "tick": 0.2}
    file.write_text(f"c.MLMP.update(**{chosen!r})\n")
    return file


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


@contextmanager
def service(folder: Path, db_url: str, port: int) -> Iterator[subprocess.Popen[str]]:
    """The service where neither hub nor cluster is."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("KUBE", "JUPYTERHUB", "MLMP"))},
        "KUBECONFIG": str(folder / "none"),
        "JUPYTERHUB_API_URL": "http://127.0.0.1:1/hub/api",
        "JUPYTERHUB_API_TOKEN": "t" * 32,
        "JUPYTERHUB_SERVICE_URL": f"http://127.0.0.1:{port}",
    }
    command = [sys.executable, "-m", "mlmp_spawner.service", "--config", str(configured(folder, db_url))]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def health(port: int, within: float = 90) -> dict[str, Any]:
    """What it says of itself, once it is up."""
    ends = time.monotonic() + within
    while True:
        try:
            answer = httpx.get(f"http://127.0.0.1:{port}/services/mlmp/api/v1/health", trust_env=False)
            return dict(answer.json())
        except httpx.HTTPError:
            assert time.monotonic() < ends, "it does not come up"
            time.sleep(0.1)


def test_without_cluster_and_hub_it_serves_and_says_what_is_away(tmp_path: Path, sqlite_file: Path):
    port = free_port()
    with service(tmp_path, sqlite_copy(sqlite_file, tmp_path / "mlmp.sqlite"), port) as process:
        said = health(port)
        assert (said["status"], said["database"], said["hub"], said["cluster"]) == ("degraded", True, False, False)
        assert said["clock_age"] is None, "the clock can't have seen what runs"
        process.terminate()
        _, log = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "No Kubernetes cluster is configured" in log and "Traceback" not in log


def test_without_its_database_it_ends_and_says_so(tmp_path: Path):
    with service(tmp_path, f"postgresql://nobody@/x?host={tmp_path}", free_port()) as process:
        _, log = process.communicate(timeout=90)
    assert process.returncode == 3
    assert log.strip() == "can't begin: The database does not answer."
