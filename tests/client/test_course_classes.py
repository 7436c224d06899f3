"""``mlmp course book`` and its like against the real service, on both databases."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from mlmp_spawner.units import HOUR, to_iso
from tests.client.conftest import CommandLine
from tests.client.test_real_service import app, done, of
from tests.operations.conftest import NOW, site
from tests.web.harness import RunningApp

__all__ = ["app", "site"]

BEGINS = to_iso(NOW + 3 * HOUR)
WEEKLY = ("--rrule", "FREQ=WEEKLY;COUNT=3")


@pytest.fixture
def teacher(app: RunningApp, tmp_path: Path) -> CommandLine:
    """ben, who runs a course."""
    ben = of(app, "teacher", tmp_path)
    file = tmp_path / "ml.yaml"
    file.write_text("name: ml\ntitle: ML\nprofile: gpu\nseats: 5\nstudents: [ann]\n")
    done(ben("course", "apply", str(file)))
    return ben


def book(teacher: CommandLine, *more: str):
    return teacher("course", "book", "ml", "--start", BEGINS, "--for", "2h", *more)


def test_a_term_is_tried_booked_listed_reported_and_cancelled(teacher: CommandLine) -> None:
    assert "3 classes of 5 seats would fit" in done(book(teacher, *WEEKLY, "--dry-run")).out
    assert "No class of ml is booked" in done(teacher("course", "classes", "ml")).out
    booked = done(book(teacher, *WEEKLY, "--holiday", "2030-12-25"))
    assert "3 classes of 5 seats are booked" in booked.out and "4 gpu-a, 1 gpu-b" in booked.out
    listed = done(teacher("course", "classes", "ml", "--json")).json["items"]
    assert len(listed) == 3
    assert listed[0]["id"] in done(teacher("course", "classes", "ml")).out
    assert "2 classes cancelled." in done(teacher("course", "cancel", "ml", listed[1]["id"], "--following")).out
    assert done(teacher("course", "cancel", "ml", listed[0]["id"], "--json")).json == {"cancelled": [listed[0]["id"]]}
    assert teacher("course", "cancel", "ml", listed[0]["id"]).status == 1
    assert "0 unit-hours" in done(teacher("course", "report", "ml")).out


def test_what_does_not_fit_is_told_for_each_date(teacher: CommandLine, app: RunningApp, tmp_path: Path) -> None:
    ann = of(app, "ann", tmp_path)
    done(ann("book", "--profile", "gpu", "--start", BEGINS, "--for", "1h", "--units", "2", "--node", "gpu-b"))
    refused = book(teacher, *WEEKLY)
    assert refused.status == 1 and "1 of 3 dates" in refused.err
    assert "4 seats would fit; all of them at" in refused.err
    command = next(line for line in refused.err.split("possible instead: ") if "--seats 4" in line).split("\n\n")[0]
    words = shlex.split(" ".join(command.splitlines()).partition(" possible")[0].partition("error:")[0])
    assert "3 classes of 4 seats would fit" in done(teacher(*words[1:], "--dry-run")).out
    with_json = book(teacher, *WEEKLY, "--json")
    assert with_json.status == 1 and with_json.json["dates"][0]["seats"] == 4


def test_slips_are_said(teacher: CommandLine) -> None:
    assert book(teacher, "--holiday", "2030-12-25").status == 2
    assert book(teacher, "--repeat", "weekly").status == 2
    assert teacher("course", "book", "ml", "--start", "never", "--for", "2h").status == 2
    assert teacher("course", "cancel", "ml", "../../x").status == 1
    assert teacher("course", "report", "none").status == 1
