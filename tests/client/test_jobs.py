"""Training jobs from Python."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlmp_spawner.client import job_api, jobs
from mlmp_spawner.client.api import Client
from mlmp_spawner.client.config import Access
from mlmp_spawner.errors import Invalid, NotFound, OverLimit
from tests.client.answers import ID, ended_job, job, me, queued_job
from tests.client.standin import Answer, Asked, StandIn, problem

ONE = f"jobs/{ID}"


@pytest.fixture(autouse=True)
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of code, which is the current one."""
    code = tmp_path / "home" / "code"
    code.mkdir(parents=True)
    (code / "train.py").write_text("print()\n")
    (code / "study.ipynb").write_text("{}")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MLMP_RESERVATION_ID", raising=False)
    monkeypatch.chdir(code)
    for module, name in ((job_api, "STEP"), (jobs, "FIRST_STEP"), (jobs, "LONGEST_STEP")):
        monkeypatch.setattr(module, name, 0.01)
    return code


@pytest.fixture
def client(server: StandIn) -> Iterator[Client]:
    with Client(Access(server.url, "token")) as client:
        yield client


@pytest.fixture
def made(server: StandIn) -> list[dict[str, Any]]:
    """What was submitted; each gets an id of its own. All code is there already."""
    made: list[dict[str, Any]] = []
    plain = server.answer

    def answer(asked: Asked) -> Answer:
        if asked.method == "HEAD":
            return Answer(200)
        if (asked.method, asked.path) != ("POST", "jobs"):
            return plain(asked)
        if "dry_run" in asked.query:
            return Answer(200, {"manifest": asked.body["manifest"]})
        made.append(asked.body)
        return Answer(201, queued_job(id=f"{ID}{len(made)}"))

    server.answer = answer  # type: ignore[method-assign]
    server.on["GET me"] = Answer(200, me())
    return made


def test_a_script_is_submitted_with_its_arguments(client: Client, made: list[dict[str, Any]]) -> None:
    job = jobs.submit("train.py", "--epochs", 20, profile="gpu", hours=2, secrets={"KEY": "x"}, client=client)
    assert (job.id, job.state, job.ended) == (f"{ID}1", "queued", False)
    assert made[0]["manifest"] == {"script": "train.py", "arguments": ["--epochs", "20"], "profile": "gpu",
                                   "hours": 2, "secrets": ["KEY"]}  # fmt: skip
    assert made[0]["secrets"] == {"KEY": "x"}
    jobs.submit(command=["nvidia-smi"], profile="gpu", client=client)
    assert made[1]["manifest"] == {"command": ["nvidia-smi"], "profile": "gpu"} and made[1]["code"] is None
    with pytest.raises(NotFound, match=r"nothing.py"):
        jobs.submit("nothing.py", profile="gpu", client=client)


def test_in_a_server_of_mlmp_it_runs_in_the_python_environment_that_is_active_there(
    client: Client, made: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = {"VIRTUAL_ENV": "/home/ann/env", "PATH": "/home/ann/env/bin:/bin"}
    for name, value in {**here, "MLMP_RESERVATION_ID": ID}.items():
        monkeypatch.setenv(name, value)
    jobs.submit("train.py", profile="gpu", environment={"A": "b"}, client=client)
    jobs.map("train.py", [["1"]], profile="gpu", client=client)
    jobs.submit("train.py", profile="gpu", image="torch", client=client)
    assert [body["manifest"].get("environment") for body in made] == [{**here, "A": "b"}, here, None]


def test_where_nobody_says_which_client_it_is_the_one_who_is_signed_in(
    server: StandIn, made: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLMP_URL", server.url)
    monkeypatch.setenv("MLMP_TOKEN", "abc")
    assert jobs.submit("train.py", profile="gpu").client is jobs.submit("train.py", profile="gpu").client


def test_map_submits_one_for_each(client: Client, made: list[dict[str, Any]]) -> None:
    grid = [{"lr": 0.1, "fast": True, "slow": False, "none": None}, ["--lr", 0.01]]
    tried = jobs.map("train.py", grid, profile="gpu", hours=1, client=client)
    assert [one.id for one in tried] == [f"{ID}1", f"{ID}2"]
    assert [body["manifest"]["arguments"] for body in made] == [["--lr", "0.1", "--fast"], ["--lr", "0.01"]]
    assert [body["manifest"]["name"] for body in made] == ["train-1", "train-2"]
    assert [body["place"] for body in made] == [0, 1]
    assert len({(body["batch"], body["code"]) for body in made}) == 1
    jobs.map("study.ipynb", [{"lr": 0.1}], profile="gpu", name="n", client=client)
    assert made[2]["manifest"] == {"notebook": "study.ipynb", "parameters": {"lr": 0.1}, "name": "n-1",
                                   "profile": "gpu"}  # fmt: skip
    assert jobs.map("train.py", [], profile="gpu", client=client) == []
    with pytest.raises(Invalid, match="one text"):
        jobs.map("train.py", "ab", profile="gpu", client=client)


def test_a_map_that_is_refused_half_way_names_what_was_submitted(
    client: Client, server: StandIn, made: list[dict[str, Any]]
) -> None:
    plain = server.answer
    refused = problem(403, "over_limit", "2 of 2 open jobs.", limits=[])

    def full(asked: Asked) -> Answer:
        return refused if asked.path == "jobs" and len(made) == 2 else plain(asked)

    server.answer = full  # type: ignore[method-assign]
    with pytest.raises(OverLimit) as told:
        jobs.map("train.py", [[1], [2], [3]], profile="gpu", client=client)
    assert told.value.hint == f"2 of 3 were submitted: {ID}1, {ID}2"


def test_what_is_left_out_of_the_code_is_warned_of(client: Client, made: list[dict[str, Any]], code: Path) -> None:
    (code / "link").symlink_to("/etc")
    with pytest.warns(UserWarning, match="left out: link: a link to /etc") as told:
        jobs.submit("train.py", profile="gpu", client=client)
    with pytest.warns(UserWarning, match="left out: link: a link to /etc") as told_too:
        jobs.map("train.py", [[1]], profile="gpu", client=client)
    assert [Path(one.filename).name for one in (*told, *told_too)] == ["test_jobs.py", "test_jobs.py"]
    with pytest.raises(Invalid, match="can't be sent"):
        jobs.submit("train.py", profile="gpu", outputs=Path("x"), client=client)


def test_waiting_for_many_asks_for_the_list(client: Client, server: StandIn, made: list[dict[str, Any]]) -> None:
    many = jobs.map("train.py", [[number] for number in range(6)], profile="gpu", client=client)
    lists = [many, many[:1], []]

    def still(asked: Asked) -> Answer:
        assert asked.query["state"] == "open"
        left = lists.pop(0) if len(lists) > 1 else lists[0]
        return Answer(200, {"items": [job(id=one.id) for one in left], "next_cursor": None})

    server.on["GET jobs"] = still
    for one in many:
        server.on[f"GET jobs/{one.id}"] = Answer(
            200, ended_job("failed" if one is many[3] else "succeeded", id=one.id)
        )
    gone = Answer(404, "<html>404</html>", {"Content-Type": "text/html"})  # as the hub while the service restarts
    server.on[f"GET jobs/{many[5].id}"] = [gone, Answer(200, ended_job(id=many[5].id))]
    assert [one.succeeded for one in jobs.wait(many)] == [True, True, True, False, True, True]
    assert [server.times("GET", f"jobs/{one.id}") for one in many] == [1, 1, 1, 1, 1, 2]


def test_a_wait_that_takes_too_long_says_for_what(client: Client, server: StandIn) -> None:
    server.on[f"GET {ONE}"] = Answer(200, job())
    with pytest.raises(TimeoutError, match=ID):
        jobs.get(ID, client=client).wait(timeout=0.05)


def test_a_job_is_looked_at_ended_and_submitted_again(client: Client, server: StandIn) -> None:
    server.on["GET me"] = Answer(200, me())
    server.on["GET jobs"] = Answer(200, {"items": [job()], "next_cursor": None})
    server.on[f"DELETE {ONE}"] = Answer(200, ended_job("cancelled"))
    server.on[f"POST {ONE}/resubmit"] = Answer(201, queued_job(id="new00000"))
    (one,) = jobs.ls(state="open", client=client)
    assert one.cancel().ended and not one.succeeded
    assert one.resubmit().id == "new00000"
    assert repr(one) == f"<Job {ID} train cancelled>"


def test_logs_and_metrics(client: Client, server: StandIn) -> None:
    one = jobs.Job(client, jobs.JobRecord.parse(job()))
    part = {"attempt": 1, "start": 0, "end": 3, "size": 3, "complete": True, "cut": 0, "text": "abc"}
    server.on[f"GET {ONE}/logs"] = Answer(200, part)
    assert "".join(one.logs()) == "abc"
    series = {"loss": {"steps": [1, 2, 3], "values": [0.5, 0.25, None], "at": ["x"] * 3}}
    server.on[f"GET {ONE}/metrics"] = Answer(200, {"series": series, "usage": {"cpu": series["loss"]}})
    assert one.metrics() == series and set(one.usage()) == {"cpu"} and one.last("loss") == 0.25
    with pytest.raises(Invalid, match="no metric 'acc'; it has loss"):
        one.last("acc")
    server.on[f"GET {ONE}"] = [Answer(200, job()), Answer(200, ended_job())]
    events = 'event: log\ndata: {"start": 0, "end": 2, "text": "ab"}\n\nevent: end\ndata: {}\n\n'
    server.on[f"GET {ONE}/logs/stream"] = Answer(200, events, {"Content-Type": "text/event-stream"})
    assert "".join(one.logs(follow=True)) == "ab"
    with pytest.raises(Invalid):
        one.logs(follow=True, attempt=1)
