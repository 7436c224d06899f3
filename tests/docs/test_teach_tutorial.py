"""The tutorial of courses, command by command, on a real MLMP: twenty JupyterLabs run before their class begins, and a
student signs in to one of them."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest
from playwright.sync_api import Page, expect

from mlmp_spawner import processes, units
from mlmp_spawner.units import MINUTE, from_iso
from tests.browser.conftest import browser, complaints, new_page  # noqa: F401 -- fixtures
from tests.browser.people import Human
from tests.docs.test_tutorial import MLMP, ROOT, commands
from tests.live import Site, wait_for

pytestmark = pytest.mark.faults

PAGE = "docs/tutorial/teach-a-course.md"
STUDENTS = {f"student{number:02}" for number in range(1, 21)}
SETUP = 10 * MINUTE
_WRITTEN = re.compile(r"`(my-class/[\w./]+)`[^`]*?```(?:yaml|python)\n(.*?)^```", re.DOTALL | re.MULTILINE)


class Classroom:
    """The tutorial's folder, its MLMP and the instructor's terminal."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("docs/examples/course", "profiles"):
            shutil.copytree(ROOT / name, folder / name)
        self.site = Site(folder / "site", lab=True, simulate=False)
        self.site.data, self.site.catalog = folder / "my-class" / "data", folder / "my-class" / "catalog"
        self.environment = {**os.environ, "XDG_CONFIG_HOME": str(folder / "config"), "DISPLAY": ""}
        for name in ("MLMP_URL", "MLMP_TOKEN"):
            self.environment.pop(name, None)
        self.class_id = ""

    def do(self, line: str) -> str:
        """One line of the tutorial; what it printed. It must succeed."""
        words = [self.class_id if word == "ID" else word for word in shlex.split(line)]
        if words[0] == "make":
            return self._up(words)
        if words[:2] == ["mlmp", "login"]:
            person = self.site.person("admin")
            with closing(person.api), closing(person.browser):
                return self._ran([str(MLMP), "login", self.site.url, "--token-stdin"], person.token)
        if words[:3] == ["mlmp", "course", "book"]:
            booked = self._ran([str(MLMP), *words[1:], "--json"])
            self.class_id = str(json.loads(booked)["id"])
            return booked
        if words[0] == "mlmp":
            return self._ran([str(MLMP), *words[1:]])
        return self._ran(["bash", "-ec", line])

    def _ran(self, command: list[str], stdin: str = "") -> str:
        ran = subprocess.run(
            command, input=stdin, env=self.environment, cwd=self.folder, capture_output=True, text=True, timeout=120,
            check=False,
        )  # fmt: skip
        assert ran.returncode == 0, f"{shlex.join(command)}: {ran.stderr}"
        return ran.stdout

    def _up(self, words: list[str]) -> str:
        assert words[1:] == ["up", "ARGS=--catalog my-class/catalog --data my-class/data"]
        for path, text in _WRITTEN.findall((ROOT / PAGE).read_text(encoding="utf-8")):
            (self.folder / path).write_text(text)
        self.site.start()
        return ""

    def look(self) -> dict[str, Any]:
        """The class, as its page has it."""
        found: dict[str, Any] = json.loads(
            self._ran([str(MLMP), "course", "class", "show", "networks", self.class_id, "--json"])
        )
        return found

    def running(self) -> set[str]:
        """Whose servers are ready to be used."""
        return {one["name"] for one in self.look()["people"] if one["server_state"] == "running"}

    def memory(self) -> int:
        """Bytes that all servers take, what they share counted once."""
        found = 0
        for record in self.site.servers():
            for pid in [record.pid, *processes.below(record.pid)]:
                found += psutil.Process(pid).memory_full_info().pss
        return found


@pytest.fixture
def classroom(tmp_path: Path) -> Iterator[Classroom]:
    made = Classroom(tmp_path)
    try:
        yield made
    finally:
        made.site.close()


def test_twenty_jupyterlabs_run_before_the_class_of_the_tutorial_begins(
    classroom: Classroom,
    new_page: Callable[..., Page],  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = iter(commands(PAGE))
    for line in lines:
        classroom.do(line)
        if line.startswith("mlmp course book"):
            break
    begins = from_iso(classroom.look()["start"])
    wait_for(lambda: classroom.running() == STUDENTS, 560, "the start of all servers")
    ready = units.now()
    assert ready < begins, "all run before it begins"
    labs = {record.owner: record.pid for record in classroom.site.servers()}
    assert set(labs) == STUDENTS
    with capsys.disabled():
        print(
            f"\n20 JupyterLabs {(ready - begins + SETUP) / 1000:.0f} s after their seats began, "
            f"{(begins - ready) / 1000:.0f} s before the class, with {classroom.memory() / 2**20:.0f} MiB, "
            f"on {os.cpu_count()} cores with a load of {os.getloadavg()[0]:.1f}",
            file=sys.stderr,
        )
    came = time.monotonic()
    student = Human(new_page(), classroom.site.url, "student07")
    student.page.get_by_role("link", name="Open JupyterLab").click()
    student.wait_for_lab()
    with capsys.disabled():
        print(f"from the login to JupyterLab: {time.monotonic() - came:.1f} s", file=sys.stderr)
    for name in ("courses", "networks"):
        student.page.locator(".jp-DirListing-item", has_text=name).dblclick()
    expect(student.page.locator(".jp-DirListing-item", has_text="1-one-gpu.ipynb")).to_be_visible()
    assert {record.owner: record.pid for record in classroom.site.servers()} == labs, "none was started anew"
    wait_for(lambda: {one["name"]: one["status"] for one in classroom.look()["people"]}["student07"] == "in", 90,
             "that the instructor sees who is in")  # fmt: skip
    for line in lines:
        classroom.do(line)
    wait_for(lambda: not classroom.site.servers(), 120, "the end of all servers")
