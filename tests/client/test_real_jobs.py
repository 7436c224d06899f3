"""Jobs from the command line and from Python against the real service, on both databases."""

from __future__ import annotations

import os
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlmp_spawner import units
from mlmp_spawner.client import job_api, jobs
from mlmp_spawner.client.api import Client
from mlmp_spawner.client.config import Access
from mlmp_spawner.operations import catalog_sync
from mlmp_spawner.operations.jobs import listing
from mlmp_spawner.operations.site import Site
from mlmp_spawner.rules.jobs import Attempt
from mlmp_spawner.store import jobs as store
from mlmp_spawner.store.transaction import transaction
from mlmp_spawner.units import SECOND
from mlmp_spawner.web.context import Jobs
from tests.client.conftest import CommandLine
from tests.client.test_real_service import done, of
from tests.operations.conftest import site
from tests.web.harness import RunningApp, until
from tests.web.job_parts import begin, end, make_jobs, printed

__all__ = ["site"]

RUN = ("job", "run", "train.py", "--lr", "0.1", "--profile", "gpu", "--hours", "1")


@pytest.fixture(autouse=True)
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of code, which is the current one."""
    code = tmp_path / "home" / "code"
    code.mkdir(parents=True)
    (code / "train.py").write_text("print('first')\n")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(code)
    monkeypatch.setattr(job_api, "STEP", 0.05)
    return code


@pytest.fixture
def app(site: Site, tmp_path: Path) -> Iterator[RunningApp]:
    now = units.now()
    catalog_sync.sync(site, now=now)
    with RunningApp(site, now) as running:
        running.context.jobs = make_jobs(tmp_path / "service")
        yield running


@pytest.fixture
def kept(app: RunningApp) -> Jobs:
    assert app.context.jobs is not None
    return app.context.jobs


@pytest.fixture
def ann(app: RunningApp, tmp_path: Path) -> CommandLine:
    return of(app, "ann", tmp_path)


@pytest.fixture
def ben(app: RunningApp, tmp_path: Path) -> CommandLine:
    return of(app, "ben", tmp_path)


def test_a_job_has_the_code_as_it_was(ann: CommandLine, code: Path, app: RunningApp, kept: Jobs) -> None:
    first = done(ann(*RUN, "--json")).json
    app.now += SECOND
    (code / "train.py").write_text("print('second')\n")
    second = done(ann(*RUN, "--json")).json
    assert first["manifest"]["arguments"] == ["--lr", "0.1"] and first["name"] == "train" and first["hours"] == 1
    for made, text in ((first, b"print('first')\n"), (second, b"print('second')\n")):
        with tarfile.open(kept.files.code_path("ann", made["code"])) as archive:
            member = archive.extractfile("train.py")
            assert member is not None and member.read() == text
    assert [one["id"] for one in done(ann("job", "ls", "--json")).json["items"]] == [second["id"], first["id"]]
    assert "queued" in done(ann("job", "show", first["id"])).out


def test_the_log_is_followed_from_the_queue_over_a_preemption_to_the_end(
    ann: CommandLine, app: RunningApp, site: Site, kept: Jobs
) -> None:
    def runs() -> None:
        until(lambda: listing.page(site)[0])
        (made,) = listing.page(site)[0]
        first = begin(site, made.id, app.now, started_at=app.now)
        for line in (b"epoch 1 \xe2\x82", b"\xac\n", b"x" * 200_000 + b"\n"):
            printed(kept, first, line)
        end(site, first, app.now, over=False, reason="preempted")
        again = begin(site, made.id, app.now, started_at=app.now)
        printed(kept, again, b"epoch 2\n")
        end(site, again, app.now)

    running = threading.Thread(target=runs)
    running.start()
    ran = ann(*RUN, "--follow")
    running.join()
    assert ran.out.replace("x" * 200_000, "x…") in ("epoch 1 €\nx…\nepoch 2\n", "epoch 2\n")
    assert ran.status == 0, ran.err
    assert "succeeded" in ran.err


def test_the_log_of_a_job_that_failed(ann: CommandLine, ben: CommandLine, app: RunningApp, site: Site, kept: Jobs):
    id = done(ann(*RUN, "--json")).json["id"]
    attempt = begin(site, id, app.now, started_at=app.now)
    printed(kept, attempt, b"0123456789" * 200_000)
    _failed(site, attempt, app.now)
    assert done(ann("job", "logs", id)).out == "0123456789" * 200_000
    assert done(ann("job", "logs", id, "--tail", "20")).out == "0123456789" * 2
    ran = ann("job", "logs", "-f", id, "--tail", "3")
    assert (ran.status, ran.out) == (1, "789")
    assert ann("job", "wait", id).status == 1
    assert "failed (exit status 3)" in done(ann("job", "ls", "--past")).out
    for refused in (ben("job", "logs", id), ben("job", "logs", "-f", id), ben("job", "cancel", id)):
        assert refused.status == 1 and "somebody else's" in refused.err
    assert "train" not in done(ben("job", "ls", "--all", "--past")).out
    assert done(ben("job", "show", id)).out.splitlines()[0].endswith("a job on gpu, of ann")


def test_a_manifest_in_yaml_is_submitted_and_its_mistakes_are_named_with_their_lines(
    ann: CommandLine, code: Path
) -> None:
    (code / "job.yaml").write_text("profile: gpu\nscript: train.py\nhours: -1\nunit: 2\n")
    ran = ann("job", "submit", "job.yaml")
    assert ran.status == 2 and "hours" in ran.err and "unit" in ran.err
    (code / "job.yaml").write_text("profile: gpu\nscript: train.py\nhours: 0.5\nsecrets: [KEY]\n")
    ann.environment["KEY"] = "s3cret"
    made = done(ann("job", "submit", "job.yaml", "--json"))
    assert made.json["hours"] == 0.5 and "s3cret" not in made.out
    assert ann("job", "submit", "job.yaml", "--no-code").status == 2


def test_a_job_is_cancelled_and_submitted_again(ann: CommandLine) -> None:
    id = done(ann(*RUN, "--json")).json["id"]
    assert done(ann("job", "cancel", id)).out == f"Cancelled {id}.\n"
    assert done(ann("job", "cancel", id)).out == f"Cancelled {id}.\n"
    assert "You have no jobs" in done(ann("job", "ls")).out
    again = done(ann("job", "resubmit", id, "--json")).json
    assert again["state"] == "queued" and again["id"] != id


def test_code_that_is_too_large_is_refused_with_what_is_largest(ann: CommandLine, code: Path, kept: Jobs) -> None:
    (code / "weights.bin").write_bytes(os.urandom(kept.code_limit + 1))
    ran = ann(*RUN)
    assert ran.status == 1 and "weights.bin (1 MiB)" in ran.err and ".mlmpignore" in ran.err


def test_many_from_python(app: RunningApp, site: Site) -> None:
    with Client(Access(f"{app.url}/", "ann-token")) as client:
        tried = jobs.map(
            "train.py", [{"lr": 0.1 * number} for number in range(5)], profile="gpu", hours=1, client=client
        )
        batch = str(tried[0].record.batch)
        assert {one.id: one.record.raw["place"] for one in jobs.ls(batch=batch, client=client)} == {
            one.id: place for place, one in enumerate(tried)
        }
        for one in tried[:4]:
            end(site, begin(site, one.id, app.now), app.now)
        tried[4].cancel()
        assert [one.succeeded for one in jobs.wait(tried, timeout=60)] == [True] * 4 + [False]
        assert tried[0].metrics() == {} and "".join(tried[0].logs()) == ""


def _failed(site: Site, attempt: Attempt, now: int) -> None:
    """It ended by itself with exit status 3, and so did its job."""
    how = {"reason": "exit_status", "exit_status": 3}
    end(site, attempt, now, over=False, **how)
    with transaction(site.engine) as connection:
        store.update_job(connection, listing.get(site, attempt.job), ended_at=now, outcome="failed", **how)
