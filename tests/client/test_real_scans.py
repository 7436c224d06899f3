"""Scans from the command line and from Python against the real service, on both databases."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlmp_spawner.client import jobs
from mlmp_spawner.client import scans as client_scans
from mlmp_spawner.client.api import Client
from mlmp_spawner.client.config import Access
from mlmp_spawner.errors import Invalid, OverLimit
from mlmp_spawner.operations.jobs import scans
from mlmp_spawner.operations.site import Actor, Site
from mlmp_spawner.rules.catalog import LimitRules, Limits
from mlmp_spawner.store import jobs as store
from mlmp_spawner.store.transaction import transaction
from mlmp_spawner.web.context import Jobs
from tests.client.conftest import CommandLine
from tests.client.test_real_jobs import ann, app, code, kept
from tests.client.test_real_service import done
from tests.operations.conftest import site
from tests.web.harness import RunningApp, until
from tests.web.job_parts import begin, end
from tests.web.job_rows import Rows

__all__ = ["ann", "app", "code", "kept", "site"]

RUN = ("scan", "run", "train.py", "--epochs", "3", "--profile", "gpu", "--hours", "1")
LR_BS = ("--vary", "lr=0.1, .01", "--vary", "bs=16..64:3:log")
FILE = """\
script: train.py
profile: gpu
hours: 1
metrics: [{json_lines: metrics.jsonl}]
scan:
  parameters:
    lr: {from: 0.001, to: 0.1, steps: 3, scale: log}
    opt: [sgd, adam]
  out: runs/lr={lr}/{opt}
  at_once: 2
"""


@pytest.fixture
def client(app: RunningApp) -> Iterator[Client]:
    with Client(Access(f"{app.url}/", "ann-token")) as client:
        yield client


def finish(app: RunningApp, kept: Jobs, job: str, outcome: str, **values: float) -> None:
    """It ran, measured that, and is over."""
    attempt = begin(app.site, job, app.now)
    Rows(app, kept).measured(attempt, [(app.now, 1, values)])
    end(app.site, attempt, app.now, over=False)
    with transaction(app.site.engine) as connection:
        found = store.find(connection, job)
        assert found
        store.update_job(connection, found, ended_at=app.now, outcome=outcome, reason="exit_status")


def test_each_row_is_a_job_with_its_arguments_and_the_same_code(ann: CommandLine, app: RunningApp) -> None:
    made = done(ann(*RUN, *LR_BS, "--out", "runs/{lr}-{bs}", "--at-once", "2", "--json")).json
    assert (made["size"], made["parameters"], made["at_once"], made["name"]) == (6, ["lr", "bs"], 2, "train")
    found = scans.get(app.site, made["id"], actor=Actor("ann")).last
    assert [one.manifest["arguments"] for one in found if one][:2] == [
        ["--epochs", "3", "--lr", "0.1", "--bs", "16"], ["--epochs", "3", "--lr", "0.1", "--bs", "32"]
    ]  # fmt: skip
    assert len({one.code for one in found if one}) == 1 and found[5] is not None
    assert found[5].manifest["outputs"] == "runs/0.01-64"
    assert made["id"] in done(ann("scan", "ls")).out and "6 queued" in done(ann("scan", "ls")).out


def test_a_dry_run_shows_the_rows_and_submits_nothing(ann: CommandLine) -> None:
    shown = done(ann(*RUN, "--vary", "lr=0..1", "--vary", "tag=007,1_0,nan,../x", "--samples", "5", "--dry-run")).out
    assert "5 rows" in shown
    rows = done(ann(*RUN, "--vary", "tag=007,1_0,nan,../x,5.,true", "--dry-run", "--json")).json["rows"]
    assert [row["tag"] for row in rows] == ["007", "1_0", "nan", "../x", 5.0, True]
    assert done(ann("scan", "ls", "--json")).json == {"items": []}
    assert "You have no scans" in done(ann("scan", "ls")).out


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ((), "say what to vary"),
        (("--vary", "lr"), "is not NAME=VALUES"),
        (("--vary", "lr=1", "--vary", "lr=2"), "is there twice"),
        (("--vary", "lr=0.1,"), "a comma too many"),
        (("--vary", "lr=1..2:x"), "a range is"),
        (("--vary", "lr=1..2"), "has steps"),
        (("--vary", "lr=1,2", "--out", "runs"), "rows 1 and 2 would both write"),
        (("--rows", "none.json"), "no file"),
        (("--rows", "train.py"), "no list in JSON"),
        (("--vary", "lr=1", "--rows", "x"), "say what to vary"),
    ],
)
def test_what_is_no_scan_is_refused_and_nothing_is_submitted(
    ann: CommandLine, said: tuple[str, ...], told: str
) -> None:
    ran = ann(*RUN, *said)
    assert ran.status in (1, 2) and told in ran.err
    assert done(ann("scan", "ls", "--json")).json == {"items": []}


def test_rows_come_from_a_file(ann: CommandLine, app: RunningApp, code: Path) -> None:
    (code / "rows.json").write_text(json.dumps([{"lr": 0.1, "fast": True}, {"lr": 0.01, "fast": False}]))
    made = done(ann(*RUN, "--rows", "rows.json", "--json")).json
    found = scans.get(app.site, made["id"], actor=Actor("ann")).last
    assert [one.manifest["arguments"][2:] for one in found if one] == [["--lr", "0.1", "--fast"], ["--lr", "0.01"]]


def test_a_scan_in_a_file_is_submitted(ann: CommandLine, app: RunningApp, code: Path) -> None:
    (code / "scan.yaml").write_text(FILE)
    assert "6 rows" in done(ann("scan", "submit", "scan.yaml", "--dry-run")).out
    made = done(ann("scan", "submit", "scan.yaml", "--json")).json
    assert (made["size"], made["at_once"], made["out"], made["name"]) == (6, 2, "runs/lr={lr}/{opt}", "train")
    first = scans.get(app.site, made["id"], actor=Actor("ann")).last[0]
    assert first and first.manifest["arguments"] == ["--lr", "0.001", "--opt", "sgd"] and first.code
    again = done(ann("scan", "submit", "-", "--json", stdin=FILE)).json
    assert again["id"] != made["id"]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("  at_once: 2", "  at_onces: 2", "line 10: scan.at_onces: unknown key; did you mean 'at_once'"),
        ("  at_once: 2", "  samples: many", "line 10: scan.samples"),
        ("hours: 1", "hour: 1", "line 3: hour: unknown key"),
        ("scan:", "scans:", "unknown key"),
        ("{opt}", "{opd}", "'opd' is no parameter"),
    ],
)
def test_a_mistake_in_a_file_is_told_with_its_line(
    ann: CommandLine, code: Path, old: str, new: str, told: str
) -> None:
    (code / "scan.yaml").write_text(FILE.replace(old, new))
    ran = ann("scan", "submit", "scan.yaml")
    assert ran.status == 2 and told in ran.err, ran.err


def test_rows_are_shown_the_best_first_retried_and_cancelled(ann: CommandLine, app: RunningApp, kept: Jobs) -> None:
    made = done(ann(*RUN, *LR_BS, "--json")).json
    ids = [row["job"] for row in made["rows"]]
    assert "no" not in done(ann("scan", "show", made["id"])).err
    early = done(ann("scan", "show", made["id"], "--metric", "loss"))
    assert "No row that succeeded has a metric 'loss' yet" in early.err and ids[0] in early.out
    for job, loss in zip(ids[:3], (0.5, 0.2, 0.9), strict=True):
        finish(app, kept, job, "succeeded", loss=loss)
    finish(app, kept, ids[3], "failed", loss=0.01)
    shown = done(ann("scan", "show", made["id"], "--metric", "loss", "--lowest"))
    lines = [line for line in shown.out.splitlines() if any(job in line for job in ids)]
    assert "succeeded *" in lines[0] and ids[1] in lines[0] and ids[3] in lines[1]
    assert "1 failed, 2 queued" in shown.out
    told = done(ann("scan", "show", made["id"], "--metric", "loss", "--lowest", "--json")).json
    assert [row["row"] for row in told["rows"]][:4] == [1, 3, 0, 2]
    assert "Submitted 1 again" in done(ann("scan", "retry", made["id"])).out
    assert "nothing was submitted" in done(ann("scan", "retry", made["id"])).out
    assert done(ann("scan", "retry", made["id"], "--json")).json["retried"] == 0
    assert "3 cancelled, 3 succeeded" in done(ann("scan", "cancel", made["id"])).out
    assert "There is no scan" in ann("scan", "show", "nosuchscan12").err


def test_waiting_ends_with_the_last_row(
    ann: CommandLine, app: RunningApp, kept: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_scans, "STEP", 0.05)
    ran = []
    waiting = threading.Thread(target=lambda: ran.append(ann(*RUN, "--vary", "lr=1,2", "--wait")))
    waiting.start()
    until(lambda: bool(scans.mine(app.site, "ann")))
    found = scans.mine(app.site, "ann")[0].scan.id
    for job in scans.get(app.site, found, actor=Actor("ann")).last:
        assert job
        finish(app, kept, job.id, "succeeded" if job.place else "failed", loss=1.0)
    waiting.join(60)
    assert ran[0].status == 1 and "1 failed, 1 succeeded" in ran[0].out and "Ctrl-C leaves it running" in ran[0].err


def test_a_scan_from_python(client: Client, app: RunningApp, kept: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_scans, "STEP", 0.05)
    made = jobs.scan("train.py", {"lr": [0.1, 0.01], "bs": [1]}, "-v", profile="gpu", hours=1,
                     out="runs/lr={lr}", secrets={"KEY": "x"}, client=client)  # fmt: skip
    assert repr(made) == f"<Scan {made.id} train 2 rows>" and [row.state for row in made.rows] == ["queued"] * 2
    with pytest.raises(TimeoutError, match="not over after 0 s"):
        made.wait(0)
    with pytest.raises(Invalid, match="there are none"):
        made.best("loss")
    for row, loss in zip(made.rows, (0.3, 0.1), strict=True):
        finish(app, kept, str(row.job), "failed" if loss == 0.3 else "succeeded", loss=loss)
    assert made.wait(60).best("loss", lowest=True).parameters == {"lr": 0.01, "bs": 1}
    assert made.retry() == 1 and made.retry() == 0
    assert [row.state for row in made.cancel().rows] == ["cancelled", "succeeded"]
    sample = jobs.scan("train.py", {"x": {"from": 0.0, "to": 1.0}}, profile="gpu", samples=3, seed=1, client=client)
    assert len(sample.rows) == 3
    assert [row.parameters for row in jobs.scan("train.py", [{"a": 1}, {"a": 2}], profile="gpu", client=client).rows] \
        == [{"a": 1}, {"a": 2}]  # fmt: skip


def test_no_code_is_sent_of_a_scan_that_is_more_than_one_may_have(
    client: Client, app: RunningApp, kept: Jobs, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = LimitRules(everybody=Limits(open_jobs=3))
    limited = site.catalog.model_copy(update={"limits": rules})
    monkeypatch.setattr(app.context, "site", app.context.site.__class__(site.engine, limited))
    with pytest.raises(OverLimit, match="this asks for 4 more"):
        jobs.scan("train.py", {"lr": [1, 2, 3, 4]}, profile="gpu", client=client)
    assert not list(kept.files.code_path("ann", "0" * 64).parent.glob("*"))
