"""The files of courses as JupyterLab shows them: what failed is said, and got again by hand."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import insert

from mlmp_spawner import units
from mlmp_spawner.operations import catalog_sync
from mlmp_spawner.operations.courses import courses
from mlmp_spawner.operations.site import Actor, Site
from mlmp_spawner.rules import course_yaml
from mlmp_spawner.store.engine import make_engine
from mlmp_spawner.store.tables import users
from mlmp_spawner.store.transaction import transaction
from tests.databases import sqlite_copy
from tests.lab.pscan.served import TOKEN, lab
from tests.operations.conftest import catalog
from tests.web.harness import RunningApp

EXTENSION = Path(sys.prefix) / "share" / "jupyter" / "labextensions" / "mlmp-lab"
COURSE = """\
name: ml
title: Deep Learning
profile: gpu
seats: 4
files: {directory: courses/ml}
instructors: [ben]
students: [ann]
"""


@pytest.fixture
def url(sqlite_file: Path, tmp_path: Path) -> Iterator[str]:
    if not (EXTENSION / "package.json").exists():
        pytest.fail("the extension is not installed: make .venv/.lab")
    engine = make_engine(sqlite_copy(sqlite_file, tmp_path / "mlmp.sqlite"))
    with transaction(engine) as connection:
        connection.execute(insert(users), [{"id": n, "name": who} for n, who in enumerate(("ann", "ben"), 1)])
    site, now = Site(engine, catalog(gpu_a=4, gpu_b=2)), units.now()
    catalog_sync.sync(site, now=now)
    courses.apply(site, course_yaml.parse(COURSE), actor=Actor("root", admin=True), now=now)
    (tmp_path / "home").mkdir()
    with RunningApp(site, now) as app:
        told = {"MLMP_URL": f"{app.url}/", "MLMP_TOKEN": "server-token", "MLMP_RESERVATION_ID": "abcdefgh1234",
                "MLMP_SHARED": tmp_path / "shared"}  # fmt: skip
        options = ("--ServerApp.jpserver_extensions=mlmp_spawner.lab.desk=True",)
        with lab(tmp_path / "home", tmp_path / "home", *options, environment=told) as found:
            yield found
    engine.dispose()


def test_what_failed_is_said_in_lab_and_got_again_by_its_button(
    url: str, tmp_path: Path, new_page: Callable[..., Page]
) -> None:
    page = new_page()
    page.goto(f"{url}api/status?token={TOKEN}")
    page.goto(f"{url}lab?reset")
    said = page.locator(".Toastify__toast-body", has_text="Deep Learning: ")
    expect(said.first).to_contain_text("The course's directory", timeout=60_000)
    files = tmp_path / "shared" / "courses" / "ml"
    files.mkdir(parents=True)
    (files / "one.ipynb").write_text("{}")
    page.get_by_role("button", name="Try Again").first.click()
    expect(page.locator(".Toastify__toast-body", has_text="Up to date: courses/ml").first).to_be_visible(
        timeout=30_000
    )
    assert (tmp_path / "home" / "courses" / "ml" / "one.ipynb").exists()
