"""What was found is kept, and looked for anew when that is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlmp_spawner.errors import Invalid
from mlmp_spawner.lab.pscan import export
from mlmp_spawner.lab.pscan.browse import KEPT, Asked, Browser
from tests.lab.pscan.served import GREEN


@pytest.fixture
def browser(tmp_path: Path) -> Browser:
    for n in range(KEPT + 1):
        (tmp_path / f"runs{n}").mkdir()
        (tmp_path / f"runs{n}" / "x=1.png").write_bytes(GREEN)
        (tmp_path / f"runs{n}" / "x=2.png").write_bytes(GREEN)
    return Browser(tmp_path)


def add(browser: Browser, name: str) -> None:
    (browser.home / name).write_bytes(GREEN)


def test_a_second_look_finds_what_the_first_one_found(browser: Browser):
    assert browser.look(Asked("runs0")).table.matched == 2
    add(browser, "runs0/x=3.png")
    assert browser.look(Asked("runs0")).table.matched == 2


def test_who_wants_it_new_gets_it_new(browser: Browser):
    browser.look(Asked("runs0"))
    add(browser, "runs0/x=3.png")
    assert browser.look(Asked("runs0", fresh=True)).table.matched == 3
    assert browser.look(Asked("runs0")).table.matched == 3


def test_the_folder_that_was_not_looked_at_for_longest_is_forgotten(browser: Browser):
    for n in range(KEPT):
        browser.look(Asked(f"runs{n}"))
    browser.look(Asked("runs0"))
    browser.look(Asked(f"runs{KEPT}"))
    add(browser, "runs0/x=3.png")
    add(browser, "runs1/x=3.png")
    assert browser.look(Asked("runs0")).table.matched == 2
    assert browser.look(Asked("runs1")).table.matched == 3


def test_a_proposal_is_the_pattern_that_is_told(browser: Browser):
    seen = browser.look(Asked("runs0"))
    assert seen.pattern == "x={x}.png"
    assert browser.look(Asked("runs0", pattern=seen.pattern)).table is seen.table


def test_what_is_no_pattern_is_refused(browser: Browser):
    with pytest.raises(Invalid):
        browser.look(Asked("runs0", "no parameter"))


def test_an_empty_folder_has_nothing_to_see(browser: Browser):
    (browser.home / "empty").mkdir()
    seen = browser.look(Asked("empty"))
    assert (seen.pattern, seen.table.matched, seen.table.missing) == ("{file}", 0, 0)
    assert "<table" in export.exported(seen)


def test_an_export_says_what_is_shown_and_has_it(browser: Browser):
    (browser.home / "runs0" / "x=1,y=<b>.txt").write_text("<i>")
    seen = browser.look(Asked("runs0", "x={x},y={y}.txt", rows=["x"], columns=[]))
    said = export.exported(seen)
    assert "y = &lt;b&gt;" in said and "<pre>&lt;i&gt;</pre>" in said


def test_what_vanished_meanwhile_is_said_to_be_gone(browser: Browser):
    seen = browser.look(Asked("runs0"))
    (browser.home / "runs0" / "x=1.png").unlink()
    said = export.exported(seen)
    assert said.count("<p>gone</p>") == 1 and said.count("<img") == 1


def test_an_export_does_not_grow_beyond_its_limit(browser: Browser, monkeypatch: pytest.MonkeyPatch):
    for n in (1, 2):
        (browser.home / "runs0" / f"x={n}.png").write_bytes(b"x" * 60)
    monkeypatch.setattr(export, "LARGEST", 240)
    said = export.exported(browser.look(Asked("runs0")))
    assert said.count("<img") == 1 and said.count("left out: 60 bytes") == 1
