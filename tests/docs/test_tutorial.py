"""Every command of the README and of the tutorials works, in the order in which it is written, on a real MLMP."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from tests.web.machine import API, Machine

ROOT = Path(__file__).parents[2]
MLMP = Path(sys.executable).with_name("mlmp")
_BLOCK = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)


def commands(page: str) -> list[str]:
    """The lines after ``$`` of all console blocks, ``&&`` taken apart."""
    text = (ROOT / page).read_text(encoding="utf-8")
    lines = [line[2:] for block in _BLOCK.findall(text) for line in block.splitlines() if line.startswith("$ ")]
    return [part.strip() for line in lines for part in line.split("&&")]


class Running:
    """``mlmp up``, and a terminal of Ann's beside it."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.environment = {**os.environ, "XDG_CONFIG_HOME": str(data / "config"), "DISPLAY": ""}
        for name in ("MLMP_URL", "MLMP_TOKEN"):
            self.environment.pop(name, None)
        self.log = data / "up.log"
        arguments = ["up", "--simulate", "--auth", "dummy", "--port", "0", "--data", str(data), "--stop-servers"]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen([MLMP, *arguments], stdout=log, stderr=log)
        self.url = self._wait()

    def _wait(self) -> str:
        until = time.monotonic() + 90
        while time.monotonic() < until and self.process.poll() is None:
            found = re.search(r"MLMP is ready: (http://\S+)", self.log.read_text())
            if found and httpx.get(f"{found.group(1)}{API}health", trust_env=False).status_code == 200:
                return found.group(1)
            time.sleep(0.1)
        self.end()
        raise AssertionError(self.log.read_text())

    def end(self) -> None:
        """Ctrl-C."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise

    def token(self) -> str:
        """A token as Ann makes it on the hub's page."""
        machine = Machine.__new__(Machine)
        machine.url = self.url
        with closing(machine.browser("ann")) as browser:
            return machine.token_of(browser, "ann")

    def mlmp(self, *arguments: str, stdin: str = "", cwd: Path | None = None) -> str:
        """A command of Ann's; its output. It must succeed."""
        ran = subprocess.run(
            [MLMP, *arguments],
            input=stdin,
            env=self.environment,
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert ran.returncode == 0, f"mlmp {shlex.join(arguments)}: {ran.stderr}"
        return ran.stdout


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    up = Running(tmp_path_factory.mktemp("up"))
    try:
        yield up
    finally:
        up.end()


def test_make_up_of_readme_and_tutorial_runs_mlmp_up() -> None:
    pages = [*commands("README.md"), *commands("docs/tutorial/first-booking.md")]
    lines = [shlex.split(line) for line in pages if line.startswith("make ")]
    assert lines
    # As from a terminal, also where these tests were called by make themselves.
    env = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    for line in lines:
        command = ["make", "-n", *line[1:]]
        plan = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True).stdout
        expected = next((word.removeprefix("ARGS=") for word in line if word.startswith("ARGS=")), "")
        assert plan.rstrip().endswith(f"mlmp up {expected}".rstrip())


def test_the_tutorial_works_line_by_line(running: Running) -> None:
    lines = [line for line in commands("docs/tutorial/first-booking.md") if line.startswith("mlmp ")]
    assert len(lines) > 10
    id = ""
    for line in lines:
        words = [id if word == "ID" else word for word in shlex.split(line)[1:]]
        if words[0] == "login":
            running.mlmp("login", running.url, "--token-stdin", stdin=running.token())
        elif words[0] == "book":
            id = json.loads(running.mlmp(*words, "--json"))["id"]
        else:
            out = running.mlmp(*words)
            if words[0] == "start":
                assert f"{running.url}user/ann" in out


@pytest.mark.faults  # it takes as long as its jobs do
def test_the_tutorial_of_jobs_works_line_by_line(running: Running) -> None:
    page = "docs/tutorial/first-job.md"
    script = re.search(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)
    assert script
    folder = running.data / "first-job"
    folder.mkdir()
    (folder / "train.py").write_text(script.group(1))
    running.mlmp("login", running.url, "--token-stdin", stdin=running.token())
    made = []
    for line in commands(page):
        words = [made[-1] if word == "ID" else word for word in shlex.split(line)[1:]]
        if words[1] in ("run", "resubmit"):
            made.append(json.loads(running.mlmp(*words[:2], "--json", *words[2:], cwd=folder))["id"])
        else:
            out = running.mlmp(*words, cwd=folder)
            if words[1] == "logs":
                assert "step 19 loss 0.6897" in out
    results = [(running.data / f"homes/ann/mlmp-jobs/{id}/result.txt") for id in made]
    assert [path.read_text() for path in results if path.exists()] == ["0.6897\n", "0.1905\n"]


def test_the_script_of_the_how_to_books_from_python(running: Running) -> None:
    text = (ROOT / "docs/how-to/use-from-a-script.md").read_text(encoding="utf-8")
    found = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert found
    ran = subprocess.run(
        [sys.executable, "-c", found.group(1)], env=running.environment, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    running.mlmp("release", ran.stdout.split()[0])
