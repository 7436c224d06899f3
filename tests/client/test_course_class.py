"""``mlmp course class`` against the real service, on both databases."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlmp_spawner.operations.courses import opening
from mlmp_spawner.units import HOUR, MINUTE, to_iso
from tests.client.conftest import CommandLine
from tests.client.test_course_classes import teacher
from tests.client.test_real_service import app, done, of
from tests.operations.conftest import NOW, site
from tests.web.harness import RunningApp

__all__ = ["app", "site", "teacher"]


@pytest.fixture
def under_way(app: RunningApp, teacher: CommandLine) -> str:
    """A class of five seats that was opened: ann has one."""
    done(teacher("course", "book", "ml", "--start", to_iso(NOW + HOUR), "--for", "2h"))
    app.now = NOW + HOUR
    opening.look(app.site, app.now)
    return str(done(teacher("course", "classes", "ml", "--json")).json["items"][0]["id"])


def test_who_is_in_is_shown(app: RunningApp, teacher: CommandLine, under_way: str, tmp_path: Path) -> None:
    shown = done(teacher("course", "class", "show", "ml", under_way)).out
    assert "2 waiting" in shown and "ann" in shown and "3 of 5 seats nobody has" in shown
    people = done(teacher("course", "class", "show", "ml", under_way, "--json")).json["people"]
    assert {one["name"]: one["status"] for one in people} == {"ann": "waiting", "ben": "waiting"}
    mine = done(of(app, "ann", tmp_path)("course", "class", "show", "ml", under_way)).out
    assert "ann" in mine and "ben" not in mine


def test_seats_that_were_given_back_count_as_nobodys(
    app: RunningApp, teacher: CommandLine, under_way: str, tmp_path: Path
) -> None:
    done(teacher("course", "roster", "remove", "ml", "ann"))
    opening.look(app.site, app.now + MINUTE)
    shown = done(teacher("course", "class", "show", "ml", under_way)).out
    assert "1 over" in shown and "4 of 5 seats nobody has" in shown


def test_it_goes_on_longer_or_says_why_not(
    app: RunningApp, teacher: CommandLine, under_way: str, tmp_path: Path
) -> None:
    assert "for 2 people" in done(teacher("course", "class", "extend", "ml", under_way)).out
    until = to_iso(NOW + 3 * HOUR + 15 * MINUTE)
    assert done(teacher("course", "classes", "ml", "--json")).json["items"][0]["end"] == until
    eve = of(app, "eve", tmp_path)
    done(eve("book", "--profile", "gpu", "--start", until, "--for", "1h", "--units", "4", "--node", "gpu-a"))
    refused = teacher("course", "class", "extend", "ml", under_way, "--by", "30m")
    assert refused.status == 1 and "somebody else has gpu-a then" in refused.err


def test_people_are_told_and_servers_run(
    app: RunningApp, teacher: CommandLine, under_way: str, tmp_path: Path
) -> None:
    assert "Told to 2 people: ann, ben" in done(teacher("course", "class", "message", "ml", under_way, "Break")).out
    assert "Break" in done(of(app, "ann", tmp_path)("notices")).out
    assert "stopped for 1 person: ann" in done(teacher("course", "class", "stop", "ml", under_way, "ann")).out
    down = done(teacher("course", "class", "show", "ml", under_way, "--json")).json["people"]
    assert {one["name"]: one["status"] for one in down} == {"ann": "down", "ben": "waiting"}
    assert done(teacher("course", "class", "start", "ml", under_way, "--json")).json == {"people": ["ann", "ben"]}
    assert "restarted for 1 person" in done(teacher("course", "class", "restart", "ml", under_way, "ann")).out


def test_slips_are_said(app: RunningApp, teacher: CommandLine, under_way: str, tmp_path: Path) -> None:
    assert teacher("course", "class", "stop", "ml", under_way).status == 2
    assert teacher("course", "class", "restart", "ml", under_way).status == 2
    assert teacher("course", "class", "stop", "ml", under_way, "zoe").status == 2
    assert teacher("course", "class", "message", "ml", under_way, "x" * 301).status == 2
    assert teacher("course", "class", "show", "ml", "../../x").status == 1
    student = of(app, "ann", tmp_path)("course", "class", "extend", "ml", under_way)
    assert student.status == 1 and "Only its instructors" in student.err


def test_a_report_is_csv_too(teacher: CommandLine, under_way: str) -> None:
    lines = done(teacher("course", "report", "ml", "--to", to_iso(NOW + 9 * HOUR), "--csv")).out.splitlines()
    assert lines[0] == "id,start,end,state,seats,given,used,unit_hours"
    assert lines[1].split(",")[0] == under_way and lines[1].split(",")[4:7] == ["5", "2", "0"]
