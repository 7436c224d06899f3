"""The calls of the extension in a real Jupyter server: who may ask, and what is said where there is no MLMP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.lab.pscan.served import TOKEN, lab

HERE = "--ServerApp.jpserver_extensions=mlmp_spawner.lab.desk=True"
AWAY = {"MLMP_URL": "http://127.0.0.1:9/", "MLMP_TOKEN": "none", "MLMP_RESERVATION_ID": "abcdefgh1234"}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    work = Path(tmp_path_factory.mktemp("work"))
    with lab(work, Path(tmp_path_factory.mktemp("home")), HERE, environment=AWAY) as found:
        yield f"{found}mlmp/api/"


@pytest.fixture(scope="module")
def owner(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, headers={"Authorization": f"token {TOKEN}"}, timeout=60) as client:
        yield client


@pytest.mark.parametrize("path", ["state", "profiles", "jobs", "jobs/abcdefgh1234", "jobs/abcdefgh1234/log",
                                  "jobs/abcdefgh1234/metrics"])  # fmt: skip
def test_nobody_but_the_owner_reads_anything(url: str, path: str):
    assert httpx.get(url + path).status_code == 403


@pytest.mark.parametrize(("method", "path"), [("POST", "extend"), ("POST", "drafts"), ("POST", "jobs"),
                                              ("POST", "messages/1"), ("DELETE", "jobs/abcdefgh1234")])  # fmt: skip
def test_nobody_but_the_owner_changes_anything(url: str, method: str, path: str):
    assert httpx.request(method, url + path).status_code == 403


def test_a_page_from_elsewhere_changes_nothing_with_the_owners_cookie(url: str):
    with httpx.Client(base_url=url, follow_redirects=True) as browser:
        browser.get(url.replace("mlmp/api/", f"api/status?token={TOKEN}"))
        assert browser.get("profiles").status_code != 403
        assert browser.post("extend", json={"duration": "1h"}).status_code == 403


def test_a_page_of_another_origin_reads_nothing_with_the_owners_cookie(url: str):
    with httpx.Client(base_url=url, follow_redirects=True) as browser:
        browser.get(url.replace("mlmp/api/", f"api/status?token={TOKEN}"))
        browser.get(url.replace("mlmp/api/", "lab"))
        xsrf = {"X-XSRFToken": browser.cookies["_xsrf"]}
        elsewhere = {"Origin": "https://evil.example"}
        answers = [
            browser.get("state", headers=elsewhere),
            browser.post("extend", headers=elsewhere | xsrf, json={"duration": "1h"}),
        ]
        assert all(answer.status_code in (403, 404) for answer in answers)
        assert not any("access-control-allow-origin" in answer.headers for answer in answers)
        assert browser.post("extend", headers=xsrf, json={"duration": "1h"}).status_code == 503


def test_an_open_tab_does_not_keep_the_server_busy(url: str, owner: httpx.Client):
    def last() -> str:
        return str(owner.get(url.replace("mlmp/api/", "api/status?no_track_activity=1")).json()["last_activity"])

    owner.get(url.replace("mlmp/api/", "api/contents"))
    before = last()
    for path in ("state", "jobs", "jobs/abcdefgh1234", "jobs/abcdefgh1234/log"):
        owner.get(path)
    assert last() == before


def test_nothing_is_read_of_a_body_without_a_bound(owner: httpx.Client):
    answer = owner.post("drafts", content=b'{"manifest": "' + b"x" * (1 << 20) + b'"}')
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid")
    answer = owner.post("drafts", json={"manifest": "x" * 70_000, "folder": "."})
    assert "longer than" in answer.json()["detail"]


def test_a_service_that_is_away_is_told_as_such(owner: httpx.Client):
    answer = owner.get("state")
    assert (answer.status_code, answer.json()["code"]) == (503, "not_reachable")


@pytest.mark.parametrize(("path", "body"), [("drafts", "[]"), ("drafts", "{"), ("drafts", '{"path": 1}'),
                                            ("jobs", '{"manifest": "a: 1"}'),
                                            ("jobs", '{"manifest": "a: 1", "folder": ".", "key": "../x"}'),
                                            ("extend", "{}")])  # fmt: skip
def test_what_makes_no_sense_is_refused_in_words(owner: httpx.Client, path: str, body: str):
    answer = owner.post(path, content=body)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid")
