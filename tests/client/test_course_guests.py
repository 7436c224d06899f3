"""``mlmp course guests`` against the real service, on both databases."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from mlmp_spawner.client.guest_sheet import sheet
from mlmp_spawner.operations.courses import guests
from mlmp_spawner.units import DAY
from mlmp_spawner.web.context import WebSettings
from tests.client.conftest import CommandLine
from tests.client.test_real_service import app, done, of
from tests.operations.conftest import site
from tests.web.harness import RunningApp

__all__ = ["app", "site"]

CODE = r"[0-9A-Z]{4}(?:-[0-9A-Z]{4}){3}"


@pytest.fixture
def teacher(app: RunningApp, tmp_path: Path) -> CommandLine:
    """ben, who runs a course that may have five guests."""
    app.context.settings = WebSettings(rate=0, poll=0.05, guest_isolation="account", guest_erase_after=DAY)
    ben = of(app, "teacher", tmp_path)
    file = tmp_path / "ml.yaml"
    file.write_text("name: ml\ntitle: Deep <Learning>\nprofile: gpu\nseats: 4\nguests: 5\n")
    done(ben("course", "apply", str(file)))
    return ben


def test_codes_are_shown_once_and_lead_in(teacher: CommandLine, app: RunningApp) -> None:
    ran = done(teacher("course", "guests", "ml", "--new", "2", "--until", "in 3d"))
    codes = re.findall(rf"^({CODE})  http\S+/hub/guest\?code=\1$", ran.out, re.MULTILINE)
    assert len(codes) == 2
    assert "0 guests; 2 codes" in done(teacher("course", "guests", "ml")).out
    guest = guests.redeem(app.site.engine, codes[0], erase_after=DAY, now=app.now)
    assert guest is not None
    listed = done(teacher("course", "guests", "ml")).out
    assert guest.name in listed and "1 guests; 1 codes" in listed
    assert codes[1] not in listed
    assert "is over" in done(teacher("course", "guests", "ml", "--end", guest.name)).out
    assert "1 codes are useless" in done(teacher("course", "guests", "ml", "--withdraw")).out


def test_a_sheet_has_the_codes_and_nobody_else_reads_it(teacher: CommandLine, tmp_path: Path) -> None:
    path = tmp_path / "codes.html"
    ran = done(teacher("course", "guests", "ml", "--new", "3", "--until", "in 3d", "--sheet", str(path)))
    assert not re.search(CODE, ran.out)
    page = path.read_text()
    assert len(re.findall(rf"<code>{CODE}</code>", page)) == 3
    assert "Deep &lt;Learning&gt;" in page and "/hub/guest" in page and "1d" in page
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_sheet_that_is_there_is_kept_and_no_code_is_made(teacher: CommandLine, tmp_path: Path) -> None:
    path = tmp_path / "codes.html"
    path.write_text("mine")
    ran = teacher("course", "guests", "ml", "--new", "3", "--until", "in 3d", "--sheet", str(path))
    assert ran.status == 2 and path.read_text() == "mine"
    assert "0 codes" in done(teacher("course", "guests", "ml")).out


def test_a_refusal_leaves_no_sheet(teacher: CommandLine, tmp_path: Path) -> None:
    path = tmp_path / "codes.html"
    ran = teacher("course", "guests", "ml", "--new", "6", "--until", "in 3d", "--sheet", str(path))
    assert ran.status == 1 and "5 guests" in ran.err
    assert not path.exists()


def test_json_has_all_of_it(teacher: CommandLine) -> None:
    made = json.loads(done(teacher("course", "guests", "ml", "--new", "1", "--until", "in 3d", "--json")).out)
    assert re.fullmatch(CODE, made["items"][0]["code"])
    assert json.loads(done(teacher("course", "guests", "ml", "--json")).out)["open_codes"] == 1


@pytest.mark.parametrize(
    "options", [("--new", "1"), ("--until", "in 3d"), ("--new", "1", "--until", "in 3d", "--withdraw"),
                ("--new", "1", "--until", "yesterday or so")],
)  # fmt: skip
def test_what_makes_no_sense_makes_no_code(teacher: CommandLine, options: tuple[str, ...]) -> None:
    assert teacher("course", "guests", "ml", *options).status in (1, 2)
    assert "0 codes" in done(teacher("course", "guests", "ml")).out


def test_a_sheet_runs_nothing_that_a_title_says() -> None:
    codes = {"address": "https://x/<b>", "erased_after": "3d", "items": [{"code": "<script>", "link": ""}]}
    page = sheet("<script>alert(1)</script>", codes, until="<i>")
    assert not re.search(r"<script|<b>\s*<|<i>", page.replace("<b>https", ""))
