"""The notebooks of the example course, executed as a student does: in a server of all that ``mlmp up`` runs, against
real jobs.

PyTorch is Debian's own, for processors, put on the path of the students' Python.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from mlmp_spawner.rules import course_yaml
from tests.browser.conftest import browser, complaints, new_page  # noqa: F401 -- fixtures
from tests.browser.people import Human
from tests.live import Site, wait_for

pytestmark = pytest.mark.faults

COURSE = Path(__file__).parents[2] / "docs" / "examples" / "course"
DEBIAN = Path("/usr/lib/python3/dist-packages")
API = "/services/mlmp/api/v1"
PATIENCE = 900
"""Seconds for a notebook, even where much else runs."""

EXECUTE = """\
import subprocess, sys
command = [sys.executable, "-m", "papermill", "{name}.ipynb", "{name}.done.ipynb", "-k", "python3", "-y", {said!r}]
ran = subprocess.run(command, capture_output=True, text=True, timeout={patience})
print(ran.returncode, ran.stderr[-3000:])
"""


@pytest.fixture(scope="module")
def torch_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory for ``PYTHONPATH`` with PyTorch and nothing that hides what the students' Python has."""
    if subprocess.run(["/usr/bin/python3", "-c", "import torch"], capture_output=True, check=False).returncode:
        pytest.skip("no PyTorch here; on Debian and Ubuntu: apt-get install python3-torch")
    made = tmp_path_factory.mktemp("python")
    for name in ("torch", "torchgen", "functorch"):
        (made / name).symlink_to(DEBIAN / name)
    if subprocess.run(
        [sys.executable, "-c", "import torch"], env={"PYTHONPATH": str(made)}, capture_output=True, check=False
    ).returncode:
        pytest.skip("this Python can't load the system's PyTorch, which is for another version")
    return made


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, torch_path: Path) -> Iterator[Site]:
    root = tmp_path_factory.mktemp("course")
    shutil.copytree(COURSE, root / "shared" / "networks", ignore=shutil.ignore_patterns("course.yaml", "__pycache__"))
    settings = f"""\
c.MLMPLocalSpawner.shared = {str(root / "shared")!r}
c.Spawner.environment = {{"PYTHONPATH": {str(torch_path)!r}, "OMP_NUM_THREADS": "1"}}
"""
    made = Site(root, lab=True, settings=settings)
    try:
        made.start()
        teach(made, "eve")
        yield made
    finally:
        made.close()


def teach(site: Site, *students: str) -> None:
    """Makes the course."""
    found = course_yaml.parse((COURSE / "course.yaml").read_text(encoding="utf-8"))
    course = {**course_yaml.as_written(found.entry), "name": found.name, "students": students}
    teacher = site.person("admin")
    with closing(teacher.api), closing(teacher.browser):
        made = teacher.api.post(f"{API}/courses", json={"course": course})
    assert made.status_code == 201, made.text


@pytest.fixture
def more(torch_path: Path) -> dict[str, Any]:
    """What jobs need to find the same PyTorch. torchrun of 1.13 fails on Python 3.11 where it redirects nothing; here
    it redirects nothing of a worker that there is not."""
    torchrun = {"PET_REDIRECTS": "1:0", "PET_TEE": "1:0"}
    return {"environment": {"PYTHONPATH": str(torch_path), "OMP_NUM_THREADS": "1", **torchrun}}


@pytest.fixture
def eve(site: Site, new_page: Callable[..., Page]) -> Human:  # noqa: F811
    """A student of the course in front of a running JupyterLab, to which its files came."""
    person = Human(new_page(), site.url, "eve")
    if not site.servers():
        person.go("book")
        person.say(profile="cpu")
        person.book()
        person.start()
    else:
        person.page.goto(f"{site.url}user/eve/lab")
        person.wait_for_lab()
    wait_for(lambda: (files(site) / "3-scan.ipynb").exists(), 60, "the files of the course")
    return person


def files(site: Site) -> Path:
    """Where they come to."""
    return site.data / "homes" / "eve" / "courses" / "networks"


def executed(eve: Human, site: Site, name: str, **said: object) -> list[dict[str, Any]]:
    """The cells of a notebook after it was run in her server."""
    code = f"import os\nos.chdir(os.path.expanduser('~/courses/networks'))\n{EXECUTE}"
    printed = eve.run(code.format(name=name, said=json.dumps(said), patience=PATIENCE))
    assert printed.startswith("0"), printed
    cells: list[dict[str, Any]] = json.loads((files(site) / f"{name}.done.ipynb").read_text())["cells"]
    return cells


def told(cells: list[dict[str, Any]]) -> str:
    """All text that it shows."""
    outputs = [one for cell in cells for one in cell.get("outputs", ())]
    pieces = [one["text"] for one in outputs if one.get("name") == "stdout"]
    pieces += [text for one in outputs for kind, text in one.get("data", {}).items() if kind.startswith("text/")]
    return "\n".join("".join(piece) for piece in pieces)


def pictures(cells: list[dict[str, Any]]) -> int:
    """How many it shows."""
    return sum("image/png" in one.get("data", {}) for cell in cells for one in cell.get("outputs", ()))


def test_a_network_is_trained_in_the_first(site: Site, eve: Human) -> None:
    cells = executed(eve, site, "1-one-gpu")
    assert "This runs on: cpu" in told(cells)
    assert "99.9% of new points are right" in told(cells)
    assert pictures(cells) == 2


def test_two_workers_train_together_in_the_second(site: Site, eve: Human, more: dict[str, Any]) -> None:
    cells = executed(eve, site, "2-together", more=more)
    for line in ("[0] worker 0 of 2 has 1000 points", "[1] worker 1 of 2 has 1000 points", "It has succeeded."):
        assert line in told(cells)
    assert "% of new points are right" in told(cells)
    assert pictures(cells) == 1


def test_a_scan_finds_the_best_in_the_third_and_its_link_opens_pscan(
    site: Site, eve: Human, more: dict[str, Any]
) -> None:
    cells = executed(eve, site, "3-scan", more=more, rates=[0.001, 0.01, 0.1], widths=[4, 32])
    assert "| learning rate | width 4 | width 32 |" in told(cells)
    assert "The best is {'lr': 0.1, 'width': 32}: 100.0%" in told(cells)
    assert pictures(cells) == 1
    eve.page.goto(f"{site.url}user/eve/lab/tree/courses/networks/3-scan.done.ipynb?reset")
    eve.wait_for_lab()
    link = eve.page.get_by_role("link", name="Open the results in PScan")
    link.scroll_into_view_if_needed(timeout=60_000)
    with eve.page.context.expect_page() as opened:
        link.click()
    expect(opened.value.locator("#counts")).to_contain_text("6 of 6 files match", timeout=60_000)
    expect(opened.value.locator("td[data-row] > img").first).to_be_visible()


def test_it_is_shipped_without_anything_that_it_printed_or_anybody_in_it() -> None:
    notebooks = sorted(COURSE.glob("*.ipynb"))
    assert [one.stem for one in notebooks] == ["1-one-gpu", "2-together", "3-scan"]
    for one in notebooks:
        cells = json.loads(one.read_text(encoding="utf-8"))["cells"]
        assert not [cell for cell in cells if cell.get("outputs") or cell.get("execution_count")]
    found = course_yaml.parse((COURSE / "course.yaml").read_text(encoding="utf-8"))
    assert (found.students, found.instructors) == (None, None)
