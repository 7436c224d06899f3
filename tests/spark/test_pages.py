"""Spark's pages through one's own Jupyter server, and through nobody else's."""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from mlmp_spawner.lab.spark_pages import is_mine, pages_of
from tests.lab.pscan.served import TOKEN, lab
from tests.spark.driver import Driver

pytestmark = pytest.mark.faults

BASE = "/user/eve/"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("eve")


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[httpx.Client]:
    options = (f"--ServerApp.base_url={BASE}", "--ServerApp.jpserver_extensions=mlmp_spawner.lab.spark_pages=True")
    with lab(home, home, *options) as url, httpx.Client(base_url=url.removesuffix(BASE), timeout=60) as client:
        assert client.get(f"{BASE}api/status", params={"token": TOKEN}).status_code == 200
        yield client


@pytest.fixture(scope="module")
def driver(home: Path) -> Iterator[Driver]:
    made = Driver(home, "http://localhost/", "none", JUPYTERHUB_SERVICE_PREFIX=BASE)
    made.run("from mlmp_spawner.client import spark_pages, spark_session")
    made.run("spark = spark_session(executors=0)")
    made.run("spark.range(9).count()")
    try:
        yield made
    finally:
        made.kill()


def test_the_pages_are_one_click_away(server: httpx.Client, driver: Driver) -> None:
    at = driver.run("spark_pages()")
    found = server.get(f"{BASE}mlmp/spark/", follow_redirects=True)
    assert found.status_code == 200, (found.url, found.history, found.text)
    assert found.url.path.startswith(at)
    assert "Spark Jobs" in found.text
    assert f'href="{at}stages/"' in found.text
    styles = re.findall(r'href="([^"]*\.css[^"]*)"', found.text)
    assert styles
    assert [(one, server.get(one).status_code) for one in styles if not one.startswith(at)] == []
    assert {server.get(one).status_code for one in styles} == {200}
    assert server.get(f"{at}api/v1/applications").json()[0]["name"] == "mlmp"


def test_they_get_nothing_by_which_anybody_could_act_for_the_user(server: httpx.Client, driver: Driver) -> None:
    at = driver.run("spark_pages()")
    stranger = httpx.get(server.base_url.join(at), follow_redirects=False)
    assert stranger.status_code in (302, 403)
    kill, elsewhere, here = f"{at}jobs/job/kill/?id=0", "cross-site", "same-origin"
    asked = [server.post(kill, headers={"Sec-Fetch-Site": site}) for site in (elsewhere, here)]
    assert [(one.status_code, "CSRF" in one.text) for one in asked] == [(403, False), (403, True)]
    assert server.get(kill).status_code == 405
    assert server.put(at, headers={"Sec-Fetch-Site": here}).status_code == 405
    for path in ("../../../etc/passwd", "%2e%2e/%2e%2e/x", "000000000000/"):
        assert server.get(f"{BASE}mlmp/spark/{path}").status_code in (404, 302)


def test_a_port_that_is_somebody_elses_by_now_is_not_asked(home: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mine:
        port = mine.getsockname()[1]
        assert is_mine(port)
        session = tmp_path / "0123456789ab"
        session.mkdir()
        said = {"url": f"http://127.0.0.1:{port}", "token": "t", "pid": os.getpid()}
        (session / "session.json").write_text(json.dumps(said))
        assert pages_of(tmp_path, session.name) == ("127.0.0.1", port, "t")
        (session / "session.json").write_text(json.dumps(said | {"pid": 2**22 + 1}))
        assert pages_of(tmp_path, session.name) is None
    assert not is_mine(port)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"url": "http://[", "token": 1, "pid": "x"}', '{"url": 5}', "\udcff"]
)
def test_what_is_written_there_may_be_anything(tmp_path: Path, text: str) -> None:
    session = tmp_path / "0123456789ab"
    session.mkdir()
    (session / "session.json").write_bytes(text.encode(errors="surrogateescape"))
    assert pages_of(tmp_path, session.name) is None
    assert pages_of(tmp_path, "../0123456789ab") is None
