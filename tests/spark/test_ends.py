"""Spark's executors end with the server that they belong to, with all that ``mlmp up`` runs."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlmp_spawner import units
from tests.jobs.people import Submitter
from tests.live import STAND_IN, Site, wait_for
from tests.spark.driver import open_jobs, workers

pytestmark = pytest.mark.faults

GOAL = 30
"""Seconds after which nothing of a session is left."""

SESSION = """\
import pathlib, time
from mlmp_spawner.client import spark_session
spark = spark_session(executors=2, profile="gpu", memory="512m", progress=False)
assert spark.sparkContext.parallelize(range(100), 4).sum() == 4950
pathlib.Path("begun").touch()
while True:
    time.sleep(3600)
"""

SERVER = """\
import os, pathlib, subprocess, sys
here = os.environ | {environ!r}
with open("session.out", "w") as output:
    subprocess.Popen([sys.executable, "-c", {session!r}], env=here, stdout=output, stderr=output)
exec(pathlib.Path({stand_in!r}).read_text(), {{"__file__": {stand_in!r}, "__name__": "__main__"}})
"""
"""A user's server in which a notebook has a session."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    root = tmp_path_factory.mktemp("ends")
    stand_in, server = root / "stand_in.py", root / "with_spark.py"
    stand_in.write_text(STAND_IN)
    environ = {"VIRTUAL_ENV": sys.prefix, "PATH": f"{sys.prefix}/bin:{os.environ['PATH']}"}
    server.write_text(SERVER.format(environ=environ, session=SESSION, stand_in=str(stand_in)))
    command = f"c.Spawner.cmd = {[sys.executable, str(server)]!r}\nc.Spawner.args = []"
    made = Site(root / "site", lab=True, settings=command)
    try:
        yield made.start()
    finally:
        made.close()


@pytest.fixture(scope="module")
def eve(site: Site) -> Submitter:
    return Submitter(site.person("eve"))


@pytest.fixture
def booking(site: Site, eve: Submitter) -> Iterator[dict[str, Any]]:
    """One whose server has a session with executors that have computed."""
    made = eve.person.book(1800)
    home = Path(site.data, "homes", "eve")
    (home / "begun").unlink(missing_ok=True)
    assert eve.person.start(reservation=made["id"]).status_code in (201, 202)
    try:
        wait_for((home / "begun").exists, 300, "a session")
    except AssertionError:
        print((home / "session.out").read_text())
        raise
    (job,) = open_jobs(eve)
    assert (job["workers"], job["state"], len(workers(site))) == (2, "running", 4)
    yield made
    eve.person.stop()
    wait_for(lambda: not site.servers(), 60, "the end of the server")
    eve.api.delete(f"/services/mlmp/api/v1/reservations/{made['id']}")


def test_a_server_that_is_stopped_takes_its_executors_along(
    site: Site, eve: Submitter, booking: dict[str, Any]
) -> None:
    began = time.monotonic()
    assert eve.person.stop().status_code in (202, 204)
    wait_for(lambda: not workers(site) and not open_jobs(eve), GOAL, "the end of the executors")
    print(f"gone {time.monotonic() - began:.1f} s after the stop")


def test_a_booking_that_is_over_takes_its_executors_along(site: Site, eve: Submitter, booking: dict[str, Any]) -> None:
    end = units.now() + 5000
    eve.person.end_in(booking, 5)
    wait_for(lambda: not site.servers(), 60, "the end of the booking")
    wait_for(lambda: not workers(site) and not open_jobs(eve), GOAL, "the end of the executors")
    left = (units.now() - end) / 1000
    print(f"gone {left:.1f} s after the end")
    assert left < GOAL
