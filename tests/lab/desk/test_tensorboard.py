"""TensorBoard in a real Jupyter server: one click, its owner alone, no port, ended when unused and with the server."""

from __future__ import annotations

import os
import shutil
import signal
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from tests.lab.desk.boards import write_events
from tests.lab.pscan.served import TOKEN, lab
from tests.live import wait_for

HERE = "--ServerApp.jpserver_extensions=mlmp_spawner.lab.desk=True"
LIMIT = 120
OWNER = {"Authorization": f"token {TOKEN}", "Sec-Fetch-Site": "same-origin"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory, home: Path) -> Path:
    made = Path(tmp_path_factory.mktemp("work"))
    for lr in ("0.1", "0.01"):
        write_events(made / "runs" / f"lr={lr}")
    write_events(home / "results")
    return made


@pytest.fixture(scope="module")
def url(work: Path, home: Path) -> Iterator[str]:
    with lab(work, home, HERE, "--TensorBoards.most=2", environment={"MLMP_TOKEN": "none"}) as found:
        yield f"{found}mlmp/"


@pytest.fixture
def owner(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, headers=OWNER, timeout=LIMIT) as client:
        yield client


def opened(owner: httpx.Client, path: str) -> str:
    answer = owner.post("api/tensorboards", json={"path": path})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["url"])


def processes(parent: int | None = None) -> list[psutil.Process]:
    """The TensorBoards of the servers of this test."""
    found = []
    for one in psutil.Process(parent).children(recursive=True):
        try:
            if "mlmp_spawner.lab.tensorboard_main" in one.cmdline():
                found.append(one)
        except psutil.Error:
            continue
    return found


def folder_of(process: psutil.Process) -> Path:
    return Path(process.cwd())


# -- one click ----------------------------------------------------------------------------------------------------


def test_a_folder_is_shown_with_all_runs_in_it(owner: httpx.Client):
    at = opened(owner, "runs")
    assert sorted(owner.get(f"{at}data/runs").json()) == ["lr=0.01", "lr=0.1"]
    page = owner.get(at)
    assert "TensorBoard" in page.text
    assert "frame-ancestors 'self'" in page.headers.get_list("content-security-policy")[-1]


def test_a_folder_is_also_named_from_the_home_on(owner: httpx.Client):
    at = opened(owner, "~/results")
    found = owner.get(f"{at}data/plugin/scalars/scalars", params={"run": ".", "tag": "loss"}).json()
    assert len(found) == 20


def test_opened_again_it_is_the_same_one(owner: httpx.Client):
    first = opened(owner, "runs")
    before = processes()
    assert opened(owner, "./runs/") == first
    assert processes() == before


def test_runs_that_begin_later_come_by_themselves(owner: httpx.Client, work: Path):
    at = opened(owner, "runs")
    write_events(work / "runs" / "later")
    wait_for(lambda: "later" in owner.get(f"{at}data/runs").json(), LIMIT, "the new run")


# -- whose it is ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["tensorboard?path=runs", "tensorboard/0123456789abcdef/"])
def test_nobody_but_the_owner_sees_anything(url: str, path: str):
    assert httpx.get(url + path).status_code in (302, 403)


def test_nobody_but_the_owner_reaches_one_that_runs(url: str, owner: httpx.Client):
    at = opened(owner, "runs")
    assert httpx.get(f"{url}{at}data/runs").status_code in (302, 403)
    assert httpx.post(f"{url}api/tensorboards", json={"path": "runs"}).status_code == 403


def test_a_page_from_elsewhere_starts_none_with_the_owners_cookie(url: str):
    with httpx.Client(base_url=url, follow_redirects=True) as browser:
        browser.get(url.replace("mlmp/", f"api/status?token={TOKEN}"))
        assert browser.post("api/tensorboards", json={"path": "runs"}).status_code == 403


@pytest.mark.parametrize(
    ("headers", "at_once"),
    [({"Sec-Fetch-Site": "same-origin"}, "yes"), ({"Sec-Fetch-Site": "none"}, "yes"), ({}, "no"),
     ({"Sec-Fetch-Site": "same-site"}, "no"),
     ({"Sec-Fetch-Site": "cross-site"}, "no"), ({"Referer": "https://elsewhere.example/"}, "no")],
)  # fmt: skip
def test_a_link_on_another_site_waits_for_a_click(url: str, headers: dict[str, str], at_once: str):
    asked = httpx.get(f"{url}tensorboard?path=runs", headers={"Authorization": f"token {TOKEN}", **headers})
    assert f'data-at-once="{at_once}"' in asked.text


def test_nor_does_such_a_link_bring_an_ended_one_back(owner: httpx.Client):
    at = opened(owner, "runs")
    for one in processes():
        one.kill()
    wait_for(lambda: not processes(), LIMIT, "their end")
    headers = {"Sec-Fetch-Site": "cross-site"}
    wait_for(lambda: owner.get(f"{at}data/runs", headers=headers).status_code == 404, LIMIT, "what is said of it")
    assert processes() == []


def test_it_listens_at_no_port_and_nobody_else_comes_to_its_socket(owner: httpx.Client):
    opened(owner, "runs")
    found = processes()
    assert found
    for one in found:
        assert one.net_connections("inet") == []
        assert not [child for child in one.children(recursive=True) if child.net_connections("inet")]
        folder = folder_of(one)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_ISSOCK((folder / "socket").stat().st_mode)


def test_it_is_not_given_what_opens_hub_and_service(owner: httpx.Client):
    opened(owner, "runs")
    for one in processes():
        assert "MLMP_TOKEN" not in one.environ()
        assert TOKEN not in str(one.environ().values())


def test_links_lead_neither_out_nor_round_and_round(owner: httpx.Client, work: Path, tmp_path: Path):
    folder = write_events(work / "linked" / "real").parent
    (folder / "a").symlink_to(".")
    (folder / "b").symlink_to(".")
    (folder / "outside").symlink_to(write_events(tmp_path / "other"))
    at = opened(owner, "linked")
    assert owner.get(f"{at}data/runs").json() == ["real"]


# -- what is refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/etc", "..", "../..", "runs/../../..", "~/..", "~root", "~/../..", "out"])
def test_a_folder_outside_is_refused(owner: httpx.Client, work: Path, path: str):
    link = work / "out"
    if not link.is_symlink():
        link.symlink_to("/etc")
    answer = owner.post("api/tensorboards", json={"path": path})
    assert (answer.status_code, answer.json()["code"]) in ((403, "not_allowed"), (404, "not_found"))
    assert answer.status_code == 403 or path == "~root"


@pytest.mark.parametrize("body", [{}, {"path": "runs", "job": "abcdefgh1234"}, {"path": 1}, {"path": "a\0b"},
                                  {"path": "x" * 5000}])  # fmt: skip
def test_what_makes_no_sense_is_refused_in_words(owner: httpx.Client, body: dict[str, object]):
    answer = owner.post("api/tensorboards", json=body)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid")


def test_a_folder_that_is_not_there_is_told_as_such(owner: httpx.Client):
    answer = owner.post("api/tensorboards", json={"path": "runs/never"})
    assert answer.status_code == 404
    assert "A job makes its own when it starts" in answer.json()["hint"]


def test_one_that_was_never_opened_is_told_as_such(owner: httpx.Client):
    answer = owner.get("tensorboard/0123456789abcdef/")
    assert answer.status_code == 404
    assert "Open it again" in answer.text


def test_what_stands_in_the_address_is_text_in_the_page(owner: httpx.Client):
    page = owner.get("tensorboard", params={"path": '"><script>alert(1)</script>'})
    assert "<script>alert" not in page.text
    assert "script-src 'self'" in page.headers["content-security-policy"]


# -- its end ------------------------------------------------------------------------------------------------------


def test_no_more_run_at_once_than_is_set(owner: httpx.Client, work: Path):
    for name in ("a", "b", "c"):
        (work / name).mkdir(exist_ok=True)
        opened(owner, name)
    assert len(processes()) == 2


def test_a_page_that_is_still_open_brings_an_ended_one_back(owner: httpx.Client):
    at = opened(owner, "runs")
    for one in processes():
        one.kill()
    wait_for(lambda: not processes(), LIMIT, "their end")
    found = wait_for(lambda: (answer := owner.get(f"{at}data/runs")).status_code == 200 and answer.json(), LIMIT, "it")
    assert "lr=0.1" in found


@contextmanager
def served(work: Path, home: Path, *options: str) -> Iterator[psutil.Process]:
    """A TensorBoard in a server of its own."""
    before = set(processes())
    with (
        lab(work, home, HERE, *options) as found,
        httpx.Client(headers=OWNER, base_url=f"{found}mlmp/", timeout=LIMIT) as owner,
    ):
        opened(owner, "runs")
        (one,) = set(processes()) - before
        yield one


@pytest.mark.faults
def test_an_unused_one_is_ended_and_nothing_of_it_is_left(work: Path, tmp_path: Path):
    with served(work, tmp_path, "--TensorBoards.idle_minutes=0.1") as one:
        folder = folder_of(one)
        one.wait(LIMIT)
        wait_for(lambda: not folder.exists(), LIMIT, "what it had")


@pytest.mark.faults
def test_it_ends_with_its_server_also_where_somebody_emptied_tmp(work: Path, tmp_path: Path):
    with served(work, tmp_path) as one:
        shutil.rmtree(folder_of(one))
        os.kill(one.ppid(), signal.SIGKILL)
        one.wait(LIMIT)


def test_where_somebody_emptied_tmp_it_is_started_again(owner: httpx.Client):
    at = opened(owner, "runs")
    for one in processes():
        shutil.rmtree(folder_of(one))
    assert "lr=0.1" in owner.get(f"{at}data/runs").json()


@pytest.mark.faults
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_it_ends_with_its_server_however_that_ends(work: Path, tmp_path: Path, how: signal.Signals):
    with served(work, tmp_path) as one:
        folder = folder_of(one)
        os.kill(one.ppid(), how)
        one.wait(LIMIT)
        wait_for(lambda: not folder.exists(), LIMIT, "what it had")
