"""``mlmp job``: what it asks the service, what it says, and with which status it ends."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.client.answers import ID, at, attempt, ended_job, job, queued_job
from tests.client.conftest import CommandLine
from tests.client.standin import Answer, Asked, StandIn, problem

ONE = f"jobs/{ID}"

pytestmark = pytest.mark.usefixtures("home")


def submitted(service: StandIn) -> dict[str, Any]:
    """The body of the one request that submitted a job."""
    (one,) = [asked.body for asked in service.asked if asked.path == "jobs" and "dry_run" not in asked.query
              and asked.method == "POST"]  # fmt: skip
    return dict(one)


def sent(service: StandIn) -> dict[str, bytes]:
    """What was uploaded, unpacked."""
    (one,) = [asked for asked in service.asked if asked.method == "PUT"]
    assert hashlib.sha256(one.body).hexdigest() == one.path.rpartition("/")[2] == submitted(service)["code"]
    with tarfile.open(fileobj=io.BytesIO(one.body)) as archive:
        files = [member for member in archive.getmembers() if member.isfile()]
        return {member.name: archive.extractfile(member).read() for member in files}  # type: ignore[union-attr]


# -- run -----------------------------------------------------------------------------------------------------------


def test_run_sends_the_folder_and_what_the_options_say(mlmp: CommandLine, service: StandIn) -> None:
    mlmp.environment |= {"SHOWN": "1", "KEY": "s3cret"}
    ran = mlmp("job", "run", "train.py", "--lr", "0.1", "--profile", "gpu", "-x", "--hours", "1.5", "--units", "2",
               "--workers", "2", "--name", "t", "--env", "A=b=c", "--env", "SHOWN", "--secret", "KEY",
               "--retries", "3", "--checkpoint", "ck", "--outputs", "out/{id}", "--grace", "2m", "--priority", "high",
               "--server", ID, "--no-preempt", "--inside", ID, "--group", "lab", "--image", "torch",
               "--metric", "tensorboard=runs",
               "--metric", "pattern=loss=(?P<loss>\\S+)", "--metric", "json-lines=m.jsonl",
               "--", "--name", "theirs")  # fmt: skip
    assert ran.status == 0, ran.err
    body = submitted(service)
    assert body["manifest"] == {
        "script": "train.py", "arguments": ["--lr", "0.1", "-x", "--name", "theirs"], "profile": "gpu", "hours": 1.5,
        "units": 2, "workers": 2, "name": "t", "environment": {"A": "b=c", "SHOWN": "1"}, "secrets": ["KEY"],
        "retries": 3, "checkpoint": "ck", "outputs": "out/{id}", "grace": "2m", "priority": "high",
        "preemptible": False, "inside": ID, "server": ID, "group": "lab", "image": "torch",
        "metrics": [{"tensorboard": "runs"}, {"pattern": "loss=(?P<loss>\\S+)"}, {"json_lines": "m.jsonl"}],
    }  # fmt: skip
    assert body["secrets"] == {"KEY": "s3cret"}
    assert sent(service) == {"train.py": b"print('hello')\n"}
    assert f"Its id is {ID}" in ran.out and f"mlmp job logs -f {ID}" in ran.out and "booked until 14:00" in ran.out
    assert "s3cret" not in ran.out + ran.err
    assert "s3cret" not in json.dumps([asked.body for asked in service.asked if "dry_run" in asked.query])


@pytest.mark.parametrize("name", ["VIRTUAL_ENV", "CONDA_PREFIX"])
def test_a_job_from_a_terminal_of_mlmp_runs_in_the_python_environment_that_is_active_there(
    mlmp: CommandLine, service: StandIn, name: str
) -> None:
    mlmp.environment |= {"MLMP_RESERVATION_ID": ID, name: "/home/ann/env", "PATH": "/home/ann/env/bin:/bin"}
    ran = mlmp("job", "run", "train.py", "--profile", "gpu", "--env", "A=b")
    assert ran.status == 0 and "/home/ann/env" in ran.err
    environment = submitted(service)["manifest"]["environment"]
    assert environment == {name: "/home/ann/env", "PATH": "/home/ann/env/bin:/bin", "A": "b"}


@pytest.mark.parametrize(
    ("environment", "more"),
    [
        ({"VIRTUAL_ENV": "/home/ann/env", "MLMP_RESERVATION_ID": ""}, []),
        ({"MLMP_RESERVATION_ID": ID, "VIRTUAL_ENV": ""}, []),
        ({"MLMP_RESERVATION_ID": ID, "VIRTUAL_ENV": "/home/ann/env"}, ["--image", "torch"]),
        ({"MLMP_RESERVATION_ID": ID, "VIRTUAL_ENV": "/home/ann/env"}, ["--env", "PATH=/bin"]),
    ],
    ids=["on a computer of one's own", "none is active", "in an image", "where it was said"],
)
def test_a_python_environment_that_the_job_may_not_have_is_not_sent(
    mlmp: CommandLine, service: StandIn, environment: dict[str, str], more: list[str]
) -> None:
    mlmp.environment |= {"VIRTUAL_ENV": "", "CONDA_PREFIX": "", **environment}
    assert mlmp("job", "run", "train.py", "--profile", "gpu", *more).status == 0
    assert "VIRTUAL_ENV" not in submitted(service)["manifest"].get("environment", {})


def test_a_manifest_in_a_file_gets_the_python_environment_that_is_active_too(
    mlmp: CommandLine, service: StandIn
) -> None:
    Path("job.yaml").write_text("script: train.py\n")
    mlmp.environment |= {"MLMP_RESERVATION_ID": ID, "VIRTUAL_ENV": "/home/ann/env", "PATH": "/home/ann/env/bin:/bin"}
    ran = mlmp("job", "submit", "job.yaml")
    assert ran.status == 0 and "/home/ann/env" in ran.err
    manifest = submitted(service)["manifest"]
    assert manifest["environment"] == {"VIRTUAL_ENV": "/home/ann/env", "PATH": "/home/ann/env/bin:/bin"}
    assert manifest["script"] == "train.py"


def test_code_that_is_kept_is_not_sent_again(mlmp: CommandLine, service: StandIn) -> None:
    assert mlmp("job", "run", "train.py", "--profile", "gpu").status == 0
    assert mlmp("job", "run", "train.py", "again", "--profile", "gpu").status == 0
    assert [asked.method for asked in service.asked if asked.path.startswith("jobs/code/")] == ["HEAD", "PUT", "HEAD"]


def test_an_upload_that_is_lost_is_sent_again_whole(mlmp: CommandLine, server: StandIn, service: StandIn) -> None:
    (Path.cwd() / "more.bin").write_bytes(os.urandom(1 << 20))
    route, lost = service.answer, []

    def once(asked: Asked) -> Answer:
        if asked.method == "PUT" and not lost:
            lost.append(asked)
            return Answer(drop=True)
        return route(asked)

    service.answer = once  # type: ignore[method-assign]
    assert mlmp("job", "run", "train.py", "--profile", "gpu").status == 0
    assert set(sent(service)) == {"train.py", "more.bin"}


def test_a_notebook_has_parameters(mlmp: CommandLine, service: StandIn) -> None:
    Path("study.ipynb").write_text("{}")
    said = ("--parameter", "epochs=20", "--parameter", "name=a b", "--parameter", "on=true", "--parameter", "no=NaN")
    assert mlmp("job", "run", "study.ipynb", "--profile", "gpu", *said).status == 0
    manifest = submitted(service)["manifest"]
    assert manifest["notebook"] == "study.ipynb"
    assert manifest["parameters"] == {"epochs": 20, "name": "a b", "on": True, "no": "NaN"}
    assert mlmp("job", "run", "study.ipynb", "x", "--profile", "gpu").status == 2


def test_an_installed_program_needs_no_code(mlmp: CommandLine, service: StandIn) -> None:
    ran = mlmp("job", "run", "--profile", "gpu", "--command", "--", "python", "-m", "train", "--name", "x")
    assert ran.status == 0, ran.err
    body = submitted(service)
    assert body["manifest"]["command"] == ["python", "-m", "train", "--name", "x"]
    assert body["code"] is None
    assert not [asked for asked in service.asked if asked.method in ("HEAD", "PUT")]


def test_a_script_in_the_home_is_sent_without_the_folders_beside_it(
    mlmp: CommandLine, service: StandIn, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    (home / "train.py").write_text("1")
    ran = mlmp("job", "run", "train.py", "--profile", "gpu")
    assert ran.status == 0, ran.err
    assert sent(service) == {"train.py": b"1"}
    assert "left out: folders of your home (code)" in ran.err


def test_a_home_that_is_a_link_is_the_same_home(
    mlmp: CommandLine, service: StandIn, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home.parent / "link").symlink_to(home)
    monkeypatch.setenv("HOME", str(home.parent / "link"))
    mlmp.environment["HOME"] = str(home.parent / "link")
    assert mlmp("job", "run", "~/code/train.py", "--profile", "gpu", "--code", str(home / "code")).status == 0
    assert submitted(service)["manifest"]["script"] == "train.py"


def test_a_script_elsewhere_is_sent_with_its_own_folder(mlmp: CommandLine, service: StandIn, home: Path) -> None:
    (home / "other/deep").mkdir(parents=True)
    (home / "other/deep/run.py").write_text("1")
    assert mlmp("job", "run", "~/other/deep/run.py", "--profile", "gpu").status == 0
    assert (submitted(service)["manifest"]["script"], sent(service)) == ("run.py", {"run.py": b"1"})
    service.asked.clear()
    assert mlmp("job", "run", "~/other/deep/run.py", "--profile", "gpu", "--code", str(home / "other")).status == 0
    assert submitted(service)["manifest"]["script"] == "deep/run.py"


def test_json_is_the_job(mlmp: CommandLine, service: StandIn) -> None:
    ran = mlmp("job", "run", "train.py", "--profile", "gpu", "--json")
    assert ran.json["id"] == ID


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("nothing.py", "--profile", "gpu"), "no file 'nothing.py'"),
        (("train.py",), "--profile"),
        (("--profil", "gpu", "train.py", "--profile", "gpu"), "no such option"),
        (("train.py", "--profile", "gpu", "--env", "NOT_THERE"), "NOT_THERE"),
        (("train.py", "--profile", "gpu", "--secret", "NOT_THERE"), "NOT_THERE"),
        (("train.py", "--profile", "gpu", "--secret", "A=b"), "give the name alone: A"),
        (("train.py", "--profile", "gpu", "--metric", "runs"), "tensorboard=DIR"),
        (("train.py", "--profile", "gpu", "--parameter", "x"), "NAME=VALUE"),
        (("train.py", "--profile", "gpu", "--hours", "0"), "--hours"),
        (("train.py", "--profile", "gpu", "--hours", "nan"), "can't be sent"),
        (("train.py", "--profile", "gpu", "\udcff"), "can't be sent"),
        (("train.py", "--profile", "gpu", "--code", "/etc"), "not in /etc"),
    ],
)
def test_slips_are_told_before_anything_is_asked(
    mlmp: CommandLine, server: StandIn, arguments: tuple[str, ...], told: str
) -> None:
    ran = mlmp("job", "run", *arguments)
    assert ran.status in (1, 2) and told in ran.err
    assert server.asked == []


def test_a_manifest_that_is_refused_is_told_before_code_is_sent(mlmp: CommandLine, server: StandIn) -> None:
    server.on["POST jobs"] = problem(400, "invalid", "hours: with 'gpu' a job may have 8 h at most")
    ran = mlmp("job", "run", "train.py", "--profile", "gpu", "--hours", "100")
    assert (ran.status, len(server.asked)) == (2, 1)
    assert "8 h at most" in ran.err


def test_each_mistake_of_a_manifest_has_a_line_of_its_own(mlmp: CommandLine, server: StandIn, home: Path) -> None:
    (home / "code" / "job.yaml").write_text("profil: gpu\nhours: many\n")
    errors = [{"field": "manifest", "message": "'profile' is missing", "line": 1},
              {"field": "hours", "message": "must be a number\x1b[2J", "line": 2}]  # fmt: skip
    server.on["POST jobs"] = problem(400, "invalid", "The manifest: all in one line", errors=errors)
    told = mlmp("job", "submit", "job.yaml").err.splitlines()
    assert told[:2] == ["error: 2 things are wrong:", "       line 1: 'profile' is missing"]
    assert told[2].startswith("       line 2: hours: must be a number") and "\x1b[2J" not in told[2]


def test_a_script_that_is_left_out_of_the_code_is_not_submitted(mlmp: CommandLine, service: StandIn) -> None:
    Path(".mlmpignore").write_text("*.py\n")
    ran = mlmp("job", "run", "train.py", "--profile", "gpu")
    assert ran.status == 1 and ".mlmpignore" in ran.err
    Path(".mlmpignore").unlink()
    Path("link.py").symlink_to("/etc/hostname")
    ran = mlmp("job", "run", "link.py", "--profile", "gpu")
    assert ran.status == 1 and "left out: link.py: a link to /etc/hostname" in ran.err


def test_code_that_is_too_large_for_the_service_is_told_with_its_largest_files(
    mlmp: CommandLine, service: StandIn
) -> None:
    route = service.answer
    refused = problem(403, "over_limit", "It may have 1 KiB.", limits=[])
    service.answer = lambda asked: refused if asked.method == "PUT" else route(asked)  # type: ignore[method-assign]
    ran = mlmp("job", "run", "train.py", "--profile", "gpu")
    assert ran.status == 1
    assert "train.py (15 B)" in ran.err and "It may have 1 KiB." in ran.err and ".mlmpignore" in ran.err


# -- submit --------------------------------------------------------------------------------------------------------


def test_submit_sends_the_manifest_as_it_is_written(mlmp: CommandLine, service: StandIn, home: Path) -> None:
    (home / "job.yaml").write_text("script: train.py # the best\n")
    (home / "train.py").write_text("2")
    ran = mlmp("job", "submit", str(home / "job.yaml"))
    assert ran.status == 0, ran.err
    assert submitted(service)["manifest"] == "script: train.py # the best\n"
    assert sent(service)["train.py"] == b"2"
    service.asked.clear()
    assert mlmp("job", "submit", "../job.yaml", "--code", ".").status == 0
    assert sent(service)["train.py"] == b"print('hello')\n"
    service.asked.clear()
    assert mlmp("job", "submit", "../job.yaml", "--no-code").status == 0
    assert submitted(service)["code"] is None


def test_a_script_is_looked_for_in_the_working_directory_of_its_job(
    mlmp: CommandLine, server: StandIn, service: StandIn
) -> None:
    normal = {"script": "train.py", "directory": "src"}
    submit = server.on["POST jobs"]
    assert callable(submit)
    server.on["POST jobs"] = lambda asked: (
        Answer(200, {"manifest": normal}) if "dry_run" in asked.query else submit(asked)
    )
    Path("job.yaml").write_text("script: train.py\ndirectory: src\n")
    ran = mlmp("job", "submit", "job.yaml")
    assert ran.status == 1 and "no 'src/train.py' among the code" in ran.err
    Path("src").mkdir()
    Path("src/train.py").write_text("")
    assert mlmp("job", "submit", "job.yaml").status == 0


def test_submit_takes_the_secrets_that_the_manifest_names_from_here(mlmp: CommandLine, service: StandIn) -> None:
    Path("job.yaml").write_text("script: train.py\nsecrets: [KEY]\n")
    assert "KEY" in mlmp("job", "submit", "job.yaml").err
    mlmp.environment["KEY"] = "value"
    service.asked.clear()
    assert mlmp("job", "submit", "job.yaml").status == 0
    assert submitted(service)["secrets"] == {"KEY": "value"}


def test_what_is_no_manifest_is_not_sent(mlmp: CommandLine, server: StandIn) -> None:
    Path("large.yaml").write_bytes(b"#" * 70_000)
    Path("binary.yaml").write_bytes(b"\xff\xfe\xff")
    for name, status in {"large.yaml": 2, "binary.yaml": 2, "none.yaml": 1, ".": 2}.items():
        assert mlmp("job", "submit", name).status == status
    assert server.asked == []


# -- the others ----------------------------------------------------------------------------------------------------


def test_ls_shows_what_is_open_and_why_it_waits(mlmp: CommandLine, service: StandIn) -> None:
    items = [queued_job(id="bbbbbbbb"), job(units=2, workers=2)]
    service.on["GET jobs"] = Answer(200, {"items": items, "next_cursor": None})
    ran = mlmp("job", "ls")
    asked = service.asked[-1].query
    assert (asked["owner"], asked["state"]) == ("ann", "open")
    assert "booked until 14:00" in ran.out and "● running" in ran.out and "2 x gpu, 2 workers" in ran.out
    assert mlmp("job", "ls", "--json").json["items"] == items
    mlmp("job", "ls", "--all", "--past")
    assert set(service.asked[-1].query) == {"limit"}
    mlmp("job", "ls", "--state", "queued", "--batch", "cccccccc")
    assert service.asked[-1].query == {"limit": "101", "owner": "ann", "state": "queued", "batch": "cccccccc"}


def test_ls_of_others_jobs_has_no_names(mlmp: CommandLine, service: StandIn) -> None:
    hidden = {"owner": None, "name": None, "message": None, "why": None}
    service.on["GET jobs"] = Answer(200, {"items": [queued_job(**hidden)], "next_cursor": None})
    ran = mlmp("job", "ls", "--all")
    assert ran.status == 0 and "(somebody)" in ran.out and "None" not in ran.out


def test_ls_goes_on_over_pages_up_to_its_limit(mlmp: CommandLine, service: StandIn) -> None:
    def page(asked: Asked) -> Answer:
        at = int(asked.query.get("cursor", 0))
        items = [job(id=f"job{number:05}") for number in range(at, at + 3)]
        return Answer(200, {"items": items, "next_cursor": str(at + 3)})

    service.on["GET jobs"] = page
    assert len(mlmp("job", "ls", "--limit", "7", "--json").json["items"]) == 7
    assert "--limit 14" in mlmp("job", "ls", "--limit", "7").out


def test_no_jobs_is_said_with_what_to_do(mlmp: CommandLine, service: StandIn) -> None:
    service.on["GET jobs"] = Answer(200, {"items": [], "next_cursor": None})
    assert "mlmp job ls --past" in mlmp("job", "ls").out


def test_show_has_the_attempts_and_why_they_ended(mlmp: CommandLine, service: StandIn) -> None:
    tries = [attempt(state="ended", reason="preempted", ended_at=at(0)), attempt(2, nodes=["a", "a", "b"])]
    service.on[f"GET {ONE}"] = Answer(200, job(attempts=tries, message="two\nlines \x1b[2J", batch="cccccccc"))
    ran = mlmp("job", "show", ID)
    assert "made way for a booking" in ran.out and "a, b" in ran.out and "--batch cccccccc" in ran.out
    assert "  two\n  lines" in ran.out and "\x1b" not in ran.out
    assert mlmp("job", "show", ID, "--json").json["attempts"] == tries


def test_cancel_tells_what_is_over_and_what_gets_its_grace(mlmp: CommandLine, service: StandIn) -> None:
    service.on[f"DELETE {ONE}"] = Answer(200, ended_job("cancelled"))
    service.on["DELETE jobs/other"] = Answer(200, job(id="other", state="stopping"))
    ran = mlmp("job", "cancel", ID, "other")
    assert ran.out.splitlines()[0] == f"Cancelled {ID}."
    assert "after its grace" in ran.out.splitlines()[1]
    service.on[f"DELETE {ONE}"] = problem(409, "too_late", "The job has ended already.")
    assert mlmp("job", "cancel", ID).status == 1


def test_an_id_stays_one_part_of_the_path(mlmp: CommandLine, service: StandIn) -> None:
    mlmp("job", "show", "../reservations/x")
    assert "/services/mlmp/api/v1/reservations" not in service.asked[-1].path


def test_resubmit_names_the_new_job(mlmp: CommandLine, service: StandIn) -> None:
    service.on[f"POST {ONE}/resubmit"] = Answer(201, queued_job(id="new00000"))
    assert "new00000" in mlmp("job", "resubmit", ID).out
    assert mlmp("job", "resubmit", ID, "--json").json["id"] == "new00000"


def test_wait_ends_as_the_jobs_did(mlmp: CommandLine, service: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlmp_spawner.client.jobs.FIRST_STEP", 0.01)
    service.on[f"GET {ONE}"] = [Answer(200, job()), Answer(200, job()), Answer(200, ended_job())]
    assert mlmp("job", "wait", ID).status == 0
    service.on["GET jobs/other"] = Answer(200, ended_job("failed", id="other"))
    ran = mlmp("job", "wait", ID, "other")
    assert ran.status == 1 and "other: failed (exit status 3)" in ran.out
    service.on[f"GET {ONE}"] = Answer(200, job())
    ran = mlmp("job", "wait", ID, "--timeout", "1s")
    assert ran.status == 3 and "1 of 1 jobs are not over" in ran.err
