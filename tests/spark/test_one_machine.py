"""Spark from Python, with all that ``mlmp up`` runs."""

from __future__ import annotations

import json
import os
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.jobs.people import API, Submitter
from tests.live import Site, wait_for
from tests.spark.driver import Driver, Refused

pytestmark = pytest.mark.faults

BEGIN = "spark = spark_session(executors={}, profile='gpu', memory='512m')"
SUM = "spark.sparkContext.parallelize(range(100), 4).map(lambda x: x * x).sum()"
SQUARES = sum(x * x for x in range(100))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(tmp_path_factory.mktemp("spark"))
    try:
        yield made.start()
    finally:
        made.close()


@pytest.fixture(scope="module")
def eve(site: Site) -> Submitter:
    return Submitter(site.person("eve"))


@pytest.fixture
def driver(site: Site, eve: Submitter) -> Iterator[Driver]:
    """A terminal in a server of eve's."""
    path = f"{sys.prefix}/bin:{os.environ['PATH']}"
    environ = {"VIRTUAL_ENV": sys.prefix, "PATH": path, "MLMP_RESERVATION_ID": "none"}
    made = Driver(Path(site.data / "homes" / "eve"), site.url, eve.person.token, **environ)
    made.run("from mlmp_spawner.client import spark_session, spark_scale")
    try:
        yield made
    finally:
        made.kill()
        wait_for(lambda: not open_jobs(eve), 60, "the end of the executors")


def open_jobs(eve: Submitter) -> list[dict[str, Any]]:
    return list(eve.api.get(API, params={"state": "open"}).json()["items"])


def workers(site: Site) -> list[psutil.Process]:
    """Spark's workers and executors."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = process.info["cmdline"] or []
        if any("deploy.worker.Worker" in one or "CoarseGrainedExecutorBackend" in one for one in line):
            found.append(process)
    return found


def test_executors_come_compute_and_go_with_the_session(site: Site, driver: Driver, eve: Submitter) -> None:
    driver.run(BEGIN.format(2))
    assert driver.run(SUM) == SQUARES
    (job,) = open_jobs(eve)
    assert (job["name"], job["workers"], job["state"]) == ("spark", 2, "running")
    assert "[executor " in eve.log(job["id"])
    driver.run("spark.stop()")
    wait_for(lambda: not workers(site) and not open_jobs(eve), 30, "the end of the executors")
    driver.run(BEGIN.format(1))
    assert driver.run(SUM) == SQUARES


def test_more_and_fewer_executors_later(driver: Driver, eve: Submitter) -> None:
    driver.run(BEGIN.format(1))
    driver.run("spark_scale(2)")
    assert driver.run(SUM) == SQUARES
    assert sum(job["workers"] for job in open_jobs(eve)) == 2
    driver.run("spark_scale(1)")
    wait_for(lambda: sum(job["workers"] for job in open_jobs(eve)) == 1, 60, "one executor")
    assert driver.run(SUM) == SQUARES


def test_a_driver_that_is_killed_takes_its_executors_along(site: Site, driver: Driver, eve: Submitter) -> None:
    driver.run(BEGIN.format(1))
    driver.kill()
    wait_for(lambda: not workers(site) and not open_jobs(eve), 30, "the end of the executors")


def test_an_executor_that_is_killed_is_made_anew_and_the_sum_is_right(site: Site, driver: Driver) -> None:
    driver.run(BEGIN.format(1))
    assert driver.run(SUM) == SQUARES
    for process in workers(site):
        if any("CoarseGrained" in one for one in process.cmdline()):
            process.kill()
    assert driver.run(SUM) == SQUARES
    for process in workers(site):
        process.kill()
    assert driver.run(SUM) == SQUARES


def test_nobody_without_the_secret_joins_or_sees_and_no_command_line_has_it(site: Site, driver: Driver) -> None:
    driver.run(BEGIN.format(1))
    assert driver.run(SUM) == SQUARES
    key = driver.run("__import__('mlmp_spawner.client.spark').client.spark._drivers[0].secret")
    lines = [" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])]
    assert not [line for line in lines if key in line]
    (folder,) = (site.data / "homes" / "eve" / ".cache" / "mlmp" / "spark").iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in folder.iterdir()} == {0o600}
    pages = json.loads((folder / "session.json").read_text())
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(pages["url"])
    asked = urllib.request.Request(pages["url"], headers={"Authorization": f"Bearer {pages['token']}"})
    assert urllib.request.urlopen(asked).status == 200
    master = driver.run("spark.sparkContext.master")
    stranger = Driver(site.data / "homes" / "mallory", site.url, "none")
    try:
        stranger.run("from pyspark.sql import SparkSession")
        with pytest.raises(Refused):
            stranger.run(f"SparkSession.builder.master({master!r}).getOrCreate().range(9).count()")
    finally:
        stranger.kill()
    assert driver.run(SUM) == SQUARES


def test_what_is_short_is_said_and_nothing_is_left_waiting(driver: Driver, eve: Submitter) -> None:
    with pytest.raises(Refused, match=r"workers: 50 .* valid is 1 to 4"):
        driver.run("spark_session(executors=50, profile='gpu', wait=5)")
    assert open_jobs(eve) == []
    holder = eve.submit(command=["sleep", "1000"], workers=4)
    eve.until(holder, "running")
    with pytest.raises(Refused, match=r"0 of 1 executors have come in 3 s. Job .* is queued"):
        driver.run("spark_session(executors=1, profile='gpu', wait=3)")
    eve.cancel(holder)
    eve.ended(holder)
    assert open_jobs(eve) == []
    driver.run(BEGIN.format(1))
    assert driver.run(SUM) == SQUARES


def test_without_executors_it_runs_in_the_server_itself(driver: Driver, eve: Submitter) -> None:
    driver.run("spark = spark_session(executors=0)")
    assert driver.run("spark.sparkContext.master").startswith("local[")
    assert driver.run(SUM) == SQUARES
    assert open_jobs(eve) == []
