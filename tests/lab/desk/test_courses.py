"""The files of courses in a real Jupyter server: brought at its start and when asked, and what fails is said there."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from mlmp_spawner.client.problems import NotReachable
from mlmp_spawner.lab.desk.courses import NO_HAND_IN, NO_SHARED_DATA, Courses
from tests.lab.courses.served import Repository, repository
from tests.lab.pscan.served import TOKEN, lab
from tests.live import wait_for

HERE = "--ServerApp.jpserver_extensions=mlmp_spawner.lab.desk=True"


def course(name: str = "ml", **more: Any) -> dict[str, Any]:
    return {"name": name, "title": "Deep Learning", "role": "student", "files": None, "data": None, "hand_in": False,
            **more}  # fmt: skip


@pytest.fixture
def home(tmp_path: Path) -> Path:
    made = tmp_path / "home"
    made.mkdir()
    return made


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    made = tmp_path / "shared"
    (made / "courses" / "ml").mkdir(parents=True)
    (made / "courses" / "ml" / "one.ipynb").write_text("first\n")
    return made


def brought(home: Path, courses: list[dict[str, Any]], **environ: Any) -> dict[str, Any]:
    """The state once all is done."""
    found = Courses(lambda: courses, {"HOME": str(home), **{name: str(value) for name, value in environ.items()}})
    found.start()
    assert found.wait(60)
    return found.state()


def files(directory: str) -> dict[str, Any]:
    return {"git": None, "branch": None, "directory": directory}


def test_a_course_has_its_files_and_leads_to_its_data(home: Path, shared: Path) -> None:
    state = brought(home, [course(files=files("courses/ml"), data="courses")], MLMP_SHARED=shared)
    assert [(one["state"], one["problems"]) for one in state["items"]] == [("done", [])]
    assert (home / "courses/ml/one.ipynb").read_text() == "first\n"
    assert (home / "courses/ml.data/ml/one.ipynb").read_text() == "first\n"


def test_each_part_that_fails_is_said_and_keeps_nothing_else_from_being_brought(home: Path, shared: Path) -> None:
    (home / "courses").mkdir()
    (home / "courses" / "a.data").write_text("mine")
    state = brought(
        home,
        [course("a", files=files("none"), data="courses"), course("b", files=files("courses/ml"), hand_in=True)],
        MLMP_SHARED=shared,
    )
    a, b = state["items"]
    assert "is not there" in a["problems"][0] and "~/courses/a.data is there already" in a["problems"][1]
    assert b["problems"] == [NO_HAND_IN] and (home / "courses/b/one.ipynb").exists()
    assert (home / "courses" / "a.data").read_text() == "mine"


def test_what_is_handed_in_goes_where_the_hub_says(home: Path, tmp_path: Path) -> None:
    place = tmp_path / "ann"
    place.mkdir()
    (place / "private").write_text("1")
    (place / "private").chmod(0o600)
    state = brought(home, [course(hand_in=True)], MLMP_HAND_IN=json.dumps({"ml": str(place)}))
    assert state["items"][0]["state"] == "done"
    assert (home / "courses/ml.hand-in").resolve() == place
    assert (place / "private").stat().st_mode & 0o777 == 0o644
    other = tmp_path / "other"
    brought(home, [course(hand_in=True)], MLMP_HAND_IN=json.dumps({"ml": str(other)}))
    assert (home / "courses/ml.hand-in").readlink() == other


@pytest.mark.parametrize("directory", ["../../etc", "/etc", "a//b", ".", ""])
def test_no_name_leads_out_of_the_shared_data(home: Path, shared: Path, directory: str) -> None:
    state = brought(home, [course(data=directory or "..")], MLMP_SHARED=shared)
    assert state["items"][0]["state"] == "failed" and not (home / "courses" / "ml.data").is_symlink()


def test_no_name_of_a_course_leads_out_of_its_folder(home: Path, shared: Path) -> None:
    state = brought(home, [course("../x", files=files("courses/ml"))], MLMP_SHARED=shared)
    assert state["items"] == [] and not (home / "x").exists()


def test_without_shared_data_it_is_said(home: Path) -> None:
    assert brought(home, [course(data="courses")])["items"][0]["problems"] == [NO_SHARED_DATA]


def test_a_service_that_is_away_is_said_and_asked_again_by_hand(home: Path) -> None:
    answers: list[Any] = [NotReachable("It does not answer."), [course()]]

    def mine() -> list[dict[str, Any]]:
        found = answers.pop(0)
        if isinstance(found, Exception):
            raise found
        return list(found)

    courses = Courses(mine, {"HOME": str(home)})
    courses.start()
    assert courses.wait(30) and "does not answer" in courses.state()["problem"]
    courses.start()
    assert courses.wait(30)
    assert (courses.state()["problem"], len(courses.state()["items"])) == ("", 1)


class _Service(http.server.BaseHTTPRequestHandler):
    """What of the service's API a server asks here."""

    def __init__(self, courses: list[dict[str, Any]], *arguments: Any) -> None:
        self.courses = courses
        super().__init__(*arguments)

    def do_GET(self) -> None:
        body = json.dumps({"items": self.courses}).encode()
        asked = self.path.endswith("/api/v1/me/courses") and self.headers["Authorization"] == "Bearer of-the-server"
        self.send_response(200 if asked else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nobody reads it."""


@contextmanager
def service(courses: list[dict[str, Any]]) -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(_Service, courses))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Repository]:
    root = tmp_path / "served"
    root.mkdir()
    with repository(root) as found:
        found.publish({"one.ipynb": "first\n"})
        yield found


def test_a_server_has_the_files_when_it_runs_and_gets_new_ones_when_asked(served: Repository, home: Path) -> None:
    git = {"git": served.url, "branch": None, "directory": None}
    broken = {"git": "https://localhost:9/none", "branch": None, "directory": None}
    with service([course(files=git), course("other", files=broken)]) as at:
        environ = {"MLMP_URL": at, "MLMP_TOKEN": "of-the-server", "MLMP_RESERVATION_ID": "abcdefgh1234",
                   "GIT_SSL_CAINFO": served.authority}  # fmt: skip
        with lab(home, home, HERE, environment=environ) as url:
            headers = {"Authorization": f"token {TOKEN}"}
            with httpx.Client(base_url=f"{url}mlmp/api/", headers=headers, timeout=60) as client:

                def done() -> dict[str, Any] | None:
                    found: dict[str, Any] = client.get("courses").json()
                    return None if found["working"] else found

                ml, other = wait_for(done, 60, "the files")["items"]
                assert (ml["state"], other["state"]) == ("done", "failed")
                assert "can't be read" in other["problems"][0]
                assert (home / "courses/ml/one.ipynb").read_text() == "first\n"
                served.publish({"two.ipynb": "second\n"})
                assert client.post("courses").status_code == 202
                wait_for(done, 60, "the files")
                assert (home / "courses/ml/two.ipynb").exists()
            assert httpx.get(f"{url}mlmp/api/courses").status_code == 403
            assert httpx.post(f"{url}mlmp/api/courses").status_code == 403
