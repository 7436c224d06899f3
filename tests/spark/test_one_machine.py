"""Spark from Python, with all that ``mlmp up`` runs."""

from __future__ import annotations

import json
import os
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from mlmp_spawner.client.spark import SESSIONS
from tests.jobs.people import Submitter
from tests.live import Site, wait_for
from tests.spark.driver import EXECUTOR, Driver, Refused, open_jobs, workers

pytestmark = pytest.mark.faults

OTHER_SECRET = ".config('spark.authenticate', 'true').config('spark.authenticate.secret', 'guessed')"
ENCRYPTED = (
    ".config('spark.network.crypto.enabled', 'true').config('spark.network.crypto.cipher', 'AES/GCM/NoPadding')"
)
BEGIN = "spark = spark_session(executors={}, profile='gpu', memory='512m')"
SUM = "spark.sparkContext.parallelize(range(100), 4).map(lambda x: x * x).sum()"
SQUARES = sum(x * x for x in range(100))
WAITS = """
import pathlib, threading, time
def sum_in_background(spark, begun, go):
    def square(x):
        pathlib.Path(begun).touch()
        while not pathlib.Path(go).exists():
            time.sleep(0.05)
        return x * x
    sums = []
    def add():
        sums.append(spark.sparkContext.parallelize(range(100), 4).map(square).sum())
    thread = threading.Thread(target=add)
    thread.start()
    return thread, sums
"""


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
    driver.run("spark.stop()")
    with pytest.raises(Refused, match="There is no Spark session"):
        driver.run("spark_scale(2)")
    driver.run(BEGIN.format(1))
    assert driver.run(SUM) == SQUARES
    wait_for(lambda: len(open_jobs(eve)) == 1, 60, "the end of the others")


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
    folders = site.data / "homes" / "eve" / SESSIONS
    (left,) = folders.iterdir()
    after = Driver(site.data / "homes" / "eve", site.url, eve.person.token)
    after.run("from mlmp_spawner.client import spark_session; spark_session(executors=0, progress=False)")
    assert not left.exists() and len(list(folders.iterdir())) == 1, "what it left is cleared by the next"
    after.close()
    assert not list(folders.iterdir())


def test_an_executor_that_is_killed_at_work_is_made_anew_and_the_sum_is_right(
    site: Site, driver: Driver, tmp_path: Path
) -> None:
    begun, go = tmp_path / "begun", tmp_path / "go"
    driver.run(BEGIN.format(1))
    driver.run(WAITS)
    driver.run(f"thread, sums = sum_in_background(spark, {str(begun)!r}, {str(go)!r})")
    wait_for(begun.exists, 120, "a task at work")
    for process in workers(site, EXECUTOR):
        process.kill()
    go.touch()
    driver.run("thread.join()")
    assert driver.run("sums") == [SQUARES]
    for process in workers(site):
        process.kill()
    assert driver.run(SUM) == SQUARES


def test_nobody_without_the_secret_joins_or_sees_and_no_command_line_has_it(site: Site, driver: Driver) -> None:
    driver.run(BEGIN.format(1))
    assert driver.run(SUM) == SQUARES
    driver.run("from mlmp_spawner.client.spark import _drivers")
    key, folder = driver.run("_drivers[0].secret"), Path(driver.run("str(_drivers[0].folder)"))
    lines = [" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])]
    assert not [line for line in lines if key in line]
    assert folder.is_relative_to(site.data / "homes" / "eve")
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
        join = f"SparkSession.builder.master({master!r})"
        for tried in ("", OTHER_SECRET, OTHER_SECRET + ENCRYPTED):
            with pytest.raises(Refused):
                stranger.run(f"{join}{tried}.getOrCreate().range(9).count()")
    finally:
        stranger.kill()
    assert len(workers(site, EXECUTOR)) == 1
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


def test_over_a_quota_is_refused_with_the_numbers_and_what_is_there_stays(
    site: Site, driver: Driver, eve: Submitter
) -> None:
    admin, limits = site.person("admin"), "/services/mlmp/api/v1/limits/user:eve"
    assert admin.api.put(limits, json={"job_units": 1, "open_jobs": 1}).status_code == 200
    try:
        with pytest.raises(Refused, match="OverLimit: Your jobs may take at most 1 units at once; this one asks"):
            driver.run(BEGIN.format(2))
        assert open_jobs(eve) == []
        driver.run(BEGIN.format(1))
        with pytest.raises(Refused, match="OverLimit: At most 1 jobs may be open at once: 1 are"):
            driver.run("spark_scale(2)")
        assert driver.run(SUM) == SQUARES
    finally:
        assert admin.api.delete(limits).status_code == 200


def test_without_executors_it_runs_in_the_server_itself(driver: Driver, eve: Submitter) -> None:
    driver.run("spark = spark_session(executors=0)")
    assert driver.run("spark.sparkContext.master").startswith("local[")
    assert driver.run(SUM) == SQUARES
    assert open_jobs(eve) == []
