"""Python that a user would run, in a process of its own: one that has a Spark session has Java in it for good."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import psutil

from tests.jobs.people import API, Submitter
from tests.live import Site

WORKER, EXECUTOR = "deploy.worker.Worker", "CoarseGrainedExecutorBackend"

SHELL = """\
import json, sys, traceback
said = sys.stdout
sys.stdout = sys.stderr
names = {}
for line in sys.stdin:
    try:
        code = json.loads(line)
        try:
            answer = eval(code, names)
        except SyntaxError:
            answer = exec(code, names)
        said.write(json.dumps({"answer": answer}, default=str) + "\\n")
    except BaseException as error:
        traceback.print_exc()
        said.write(json.dumps({"error": f"{type(error).__name__}: {error}"}) + "\\n")
    said.flush()
"""


class Refused(Exception):
    """What the code raised, as text."""


class Shell:
    """A Python that runs what it is sent. ``command``: what starts ``python -c CODE`` where that is to be."""

    def __init__(self, command: Sequence[str], **options: Any) -> None:
        self.process = subprocess.Popen(
            [*command, "-c", SHELL], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **options
        )

    def run(self, code: str) -> Any:
        """Runs code; the value where it is an expression. :raises Refused: it raised."""
        _to(self.process.stdin).write(json.dumps(code) + "\n")
        _to(self.process.stdin).flush()
        line = _to(self.process.stdout).readline()
        assert line, f"the driver ended with {self.process.poll()}"
        said = json.loads(line)
        if "error" in said:
            raise Refused(said["error"])
        return said["answer"]

    def close(self) -> None:
        """Ends it as people end it."""
        _to(self.process.stdin).close()
        self.process.wait(60)

    def kill(self) -> None:
        """At once."""
        self.process.kill()
        self.process.wait()


class Driver(Shell):
    """One on this machine, with the access of a user."""

    def __init__(self, home: Path, url: str, token: str, **environ: str) -> None:
        home.mkdir(exist_ok=True)
        here = {name: value for name, value in os.environ.items() if not name.startswith(("MLMP_", "SPARK_"))}
        here |= {"HOME": str(home), "MLMP_URL": url, "MLMP_TOKEN": token, **environ}
        super().__init__([sys.executable], env=here, cwd=home)


def _to(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream


def open_jobs(eve: Submitter) -> list[dict[str, Any]]:
    """Her jobs that have not ended."""
    return list(eve.api.get(API, params={"state": "open"}).json()["items"])


def workers(site: Site, *kinds: str) -> list[psutil.Process]:
    """Spark's workers and executors there, or those of the kinds."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = " ".join(process.info["cmdline"] or [])
        try:
            if any(kind in line for kind in kinds or (WORKER, EXECUTOR)) and _home(process).is_relative_to(site.data):
                found.append(process)
        except psutil.Error:  # it ended meanwhile
            continue
    return found


def _home(process: psutil.Process) -> Path:
    return Path(process.environ().get("HOME", "/"))
