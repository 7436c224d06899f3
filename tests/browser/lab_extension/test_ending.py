"""Before the end of the booking: a word, then everything is saved."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from mlmp_spawner.units import MINUTE
from tests.browser.lab_extension.inside import COUNTDOWN, look_now, notice, type_at_end, use_theme
from tests.browser.played import AXE, serious


def last_warning(page: Page) -> Locator:
    return page.get_by_role("dialog").filter(has_text="This server stops soon")


def test_a_word_comes_before_the_end_and_saves_all_when_asked(
    open_lab: Callable[..., Page], stops_in: Callable[[int], None], work: Path
):
    stops_in(9 * MINUTE)
    page = open_lab("lab/tree/notes.txt")
    expect(page.locator(COUNTDOWN)).to_have_attribute("data-near", "soon")
    notice(page, "This server stops at")
    type_at_end(page, "by hand")
    page.get_by_role("button", name="Save all").click()
    notice(page, "Saved: notes.txt.")
    assert "by hand" in (work / "notes.txt").read_text()


def test_at_the_last_warning_all_is_saved_and_a_dialog_offers_more_time(
    open_lab: Callable[..., Page], stops_in: Callable[[int], None], work: Path
):
    page = open_lab("lab/tree/notes.txt")
    type_at_end(page, "by itself")
    stops_in(100_000)
    look_now(page)
    dialog = last_warning(page)
    expect(dialog.get_by_role("status")).to_have_text("Saved: notes.txt.")
    assert "by itself" in (work / "notes.txt").read_text()
    expect(page.locator(COUNTDOWN)).to_have_attribute("data-near", "now")
    dialog.get_by_role("button", name="Extend by 30 min").click()
    notice(page, "Extended until")
    expect(dialog).to_have_count(0)
    expect(page.locator(COUNTDOWN)).not_to_have_attribute("data-near", "now")


def test_a_notebook_with_changes_is_saved_at_the_last_warning(
    open_lab: Callable[..., Page], stops_in: Callable[[int], None], work: Path
):
    page = open_lab("lab/tree/code/study.ipynb")
    page.locator(".jp-Notebook .cm-content").first.click()
    page.keyboard.press("Control+End")
    page.keyboard.type(" + 41")
    stops_in(100_000)
    look_now(page)
    expect(last_warning(page).get_by_role("status")).to_have_text("Saved: code/study.ipynb.")
    cells = json.loads((work / "code" / "study.ipynb").read_text())["cells"]
    assert "".join(cells[0]["source"]) == "1 + 1 + 41"


def test_of_several_files_it_is_said_which_could_not_be_saved(
    open_lab: Callable[..., Page], stops_in: Callable[[int], None], work: Path
):
    stuck = work / "stuck.txt"
    stuck.write_text("first\n")
    page = open_lab("lab/tree/stuck.txt")
    type_at_end(page, "lost?")
    page.locator(".jp-DirListing-item", has_text="notes.txt").dblclick()
    type_at_end(page, "kept")
    stuck.unlink()
    stuck.mkdir()
    stops_in(100_000)
    look_now(page)
    said = "Not saved: stuck.txt. Save by hand, or download. Saved: notes.txt."
    expect(last_warning(page).get_by_role("status")).to_have_text(said)
    assert "kept" in (work / "notes.txt").read_text()
    shutil.rmtree(stuck)


def test_all_files_that_could_not_be_saved_are_named_when_that_was_asked_for(
    open_lab: Callable[..., Page], stops_in: Callable[[int], None], work: Path
):
    names = [f"a-name-that-takes-some-room-{n}.txt" for n in range(3)]
    stops_in(9 * MINUTE)
    page = open_lab("lab/tree/notes.txt")
    for name in names:
        (work / name).write_text("first\n")
        page.get_by_title("Refresh the file browser").or_(
            page.locator("[data-command='filebrowser:refresh']")
        ).first.click()
        page.locator(".jp-DirListing-item", has_text=name).dblclick()
        expect(page.locator(".lm-TabBar-tab.lm-mod-current", has_text=name).first).to_be_visible()
        type_at_end(page, "lost?")
    for name in names:
        (work / name).unlink()
        (work / name).mkdir()
    page.get_by_role("button", name="Save all").click()
    for _ in names:  # Lab's own words on each come first
        page.get_by_role("dialog").get_by_role("button").last.click()
    told = page.get_by_role("dialog").filter(has_text="Not everything is saved")
    for name in names:
        expect(told).to_contain_text(name)
        shutil.rmtree(work / name)


def test_more_time_in_one_browser_closes_the_warning_in_the_other(
    open_lab: Callable[..., Page], stops_in: Callable[[int], None]
):
    stops_in(100_000)
    here, there = open_lab(), open_lab()
    expect(last_warning(there)).to_be_visible()
    last_warning(here).get_by_role("button", name="Extend by 30 min").click()
    expect(last_warning(there)).to_have_count(0, timeout=60_000)


def test_a_dialog_that_is_open_does_not_hide_the_last_warning(
    open_lab: Callable[..., Page], stops_in: Callable[[int], None]
):
    page = open_lab("lab/tree/code/train.py")
    page.get_by_role("button", name="Run as Job").click()
    expect(page.get_by_label("Manifest")).to_be_visible()
    stops_in(100_000)
    look_now(page)
    notice(page, "This server stops at")
    page.get_by_label("Manifest").press("Escape")
    expect(last_warning(page)).to_be_visible()


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_the_last_warning_is_for_everybody_and_for_the_keyboard(
    url: str, open_lab: Callable[..., Page], stops_in: Callable[[int], None], theme: str
):
    use_theme(url, theme)
    stops_in(100_000)
    page = open_lab()
    dialog = last_warning(page)
    expect(dialog.get_by_role("button", name="Extend by 30 min")).to_be_focused()
    if AXE.exists():
        assert serious(page, ".jp-Dialog") == []
        assert serious(page, COUNTDOWN) == []
    page.keyboard.press("Shift+Tab")
    expect(dialog.get_by_role("button", name="Save all")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    notice(page, "Extended until")
    expect(dialog).to_have_count(0)
