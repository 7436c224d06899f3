"""The open script or notebook becomes a job."""

from __future__ import annotations

import re
from collections.abc import Callable

from playwright.sync_api import Page, Route, expect

from mlmp_spawner.operations.jobs import listing
from tests.browser.lab_extension.inside import choose, notice
from tests.web.harness import RunningApp, until

DRAFTS, SUBMIT = re.compile(r"/mlmp/api/drafts\b"), re.compile(r"/mlmp/api/jobs\b")
TROUBLE = ".mlmp-form [role=alert]"


def submitted(app: RunningApp, before: set[str]) -> str:
    """The id of the job that came since."""

    def new() -> set[str]:
        with app.client() as ann:
            return {one["id"] for one in ann.get("jobs").json()["items"]} - before

    until(new)
    return new().pop()


def jobs_of(app: RunningApp) -> set[str]:
    with app.client() as ann:
        return {one["id"] for one in ann.get("jobs").json()["items"]}


def test_the_open_script_becomes_a_job_as_the_command_says(app: RunningApp, open_lab: Callable[..., Page]):
    before = jobs_of(app)
    page = open_lab("lab/tree/code/train.py")
    page.get_by_role("button", name="Run as Job").click()
    command, manifest = page.get_by_label("Command, as in a terminal"), page.get_by_label("Manifest")
    expect(command).to_have_value("mlmp job run code/train.py --code code --name train --profile gpu")
    expect(manifest).to_have_value("script: train.py\nname: train\nprofile: gpu\n")
    command.fill("mlmp job run code/train.py --code code --name better --profile gpu --hours 2 --lr 0.1")
    expect(manifest).to_have_value(re.compile(r"name: better\n.*hours: 2", re.S))
    page.get_by_role("button", name="Submit").click()
    notice(page, "Submitted better.")
    made = listing.get(app.site, submitted(app, before))
    assert (made.manifest["script"], made.manifest["arguments"]) == ("train.py", ["--lr", "0.1"])
    expect(page.locator(f'[data-job="{made.id}"] > button')).to_have_attribute("aria-expanded", "true")


def test_a_notebook_becomes_a_job_as_the_manifest_says(app: RunningApp, open_lab: Callable[..., Page]):
    before = jobs_of(app)
    page = open_lab("lab/tree/code/study.ipynb")
    page.get_by_role("button", name="Run as Job").click()
    command, manifest = page.get_by_label("Command, as in a terminal"), page.get_by_label("Manifest")
    manifest.fill("notebook: study.ipynb\nprofile: gpu\nparameters: {epochs: 3}\n")
    expect(command).to_have_value("mlmp job run code/study.ipynb --code code --profile gpu --parameter epochs=3")
    page.get_by_role("button", name="Submit").click()
    made = listing.get(app.site, submitted(app, before))
    assert made.manifest["notebook"] == "study.ipynb"
    assert made.manifest["parameters"] == {"epochs": 3}


def test_what_makes_no_sense_is_said_in_the_dialog_and_mended_there(app: RunningApp, open_lab: Callable[..., Page]):
    before = jobs_of(app)
    page = open_lab("lab/tree/code/train.py")
    page.locator(".jp-FileEditor .cm-content").click(button="right")
    page.get_by_role("menuitem", name="Run as Job").click()
    manifest, trouble = page.get_by_label("Manifest"), page.locator(TROUBLE)
    manifest.fill("script: [")
    expect(trouble).to_contain_text("it is no YAML")
    manifest.fill("script: train.py\nprofile: warp\n")
    page.get_by_role("button", name="Submit").click()
    expect(trouble).to_contain_text("warp")
    assert jobs_of(app) == before
    manifest.fill("script: train.py\nprofile: gpu\n")
    page.get_by_role("button", name="Submit").click()
    submitted(app, before)


def test_what_was_refused_is_submitted_when_it_is_pressed_again(app: RunningApp, open_lab: Callable[..., Page]):
    before = jobs_of(app)
    page = open_lab("lab/tree/code/train.py")
    page.route(SUBMIT, lambda route: route.fulfill(status=503, body="away"), times=1)
    page.get_by_role("button", name="Run as Job").click()
    page.get_by_role("button", name="Submit").click()
    expect(page.locator(TROUBLE)).to_contain_text("MLMP does not answer.")
    page.get_by_role("button", name="Submit").click()
    notice(page, "Submitted train.")
    submitted(app, before)


def test_a_job_whose_answer_was_lost_is_there_once(app: RunningApp, open_lab: Callable[..., Page]):
    before = jobs_of(app)
    page = open_lab("lab/tree/code/train.py")

    def lose(route: Route) -> None:
        route.fetch()
        route.abort()

    page.route(SUBMIT, lose, times=1)
    page.get_by_role("button", name="Run as Job").click()
    page.get_by_role("button", name="Submit").click()
    expect(page.locator(TROUBLE)).to_contain_text("does not answer")
    page.get_by_role("button", name="Submit").click()
    notice(page, "Submitted train.")
    assert len(jobs_of(app) - before) == 1


def test_what_is_submitted_is_what_is_shown_however_slow_the_server_is(app: RunningApp, open_lab: Callable[..., Page]):
    before = jobs_of(app)
    page = open_lab("lab/tree/code/train.py")
    page.get_by_role("button", name="Run as Job").click()
    held: list[Route] = []
    expect(page.get_by_label("Manifest")).to_be_visible()
    slow = True
    page.route(DRAFTS, lambda route: held.append(route) if slow else route.continue_())
    command = page.get_by_label("Command, as in a terminal")
    with page.expect_request(DRAFTS):
        command.fill("mlmp job run code/train.py --code code --name second --profile gpu")
    page.get_by_role("button", name="Submit").click()
    slow = False
    for one in held:
        one.continue_()
    notice(page, "Submitted second.")
    assert listing.get(app.site, submitted(app, before)).name == "second"


def test_another_profile_keeps_what_was_written(open_lab: Callable[..., Page]):
    page = open_lab("lab/tree/code/train.py")
    page.get_by_role("button", name="Run as Job").click()
    command, manifest = page.get_by_label("Command, as in a terminal"), page.get_by_label("Manifest")
    manifest.fill("script: train.py\nname: mine\nhours: 7\nprofile: gpu\n")
    page.get_by_label("Runs on").select_option("pair")
    expect(command).to_have_value("mlmp job run code/train.py --code code --name mine --hours 7 --profile pair")
    expect(manifest).to_have_value("script: train.py\nname: mine\nhours: 7\nprofile: pair\n")
    command.fill("mlmp job run code/train.py --profile gpu")
    expect(page.get_by_label("Runs on")).to_have_value("gpu")


def test_by_keyboard_alone_from_the_command_palette(app: RunningApp, open_lab: Callable[..., Page]):
    before = jobs_of(app)
    page = open_lab("lab/tree/code/train.py")
    expect(page.get_by_role("button", name="Run as Job")).to_be_visible()
    choose(page, "Run as Job")
    expect(page.get_by_role("button", name="Submit")).to_be_focused()
    page.keyboard.press("Shift+Tab")
    expect(page.get_by_role("button", name="Cancel")).to_be_focused()
    page.keyboard.press("Shift+Tab")
    manifest = page.get_by_label("Manifest")
    expect(manifest).to_be_focused()
    page.keyboard.press("Control+End")
    page.keyboard.type("hours: 3")
    expect(page.get_by_label("Command, as in a terminal")).to_have_value(re.compile("--hours 3"))
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    notice(page, "Submitted train.")
    assert listing.get(app.site, submitted(app, before)).manifest["hours"] == 3


def test_from_the_context_menu_of_the_file_browser(app: RunningApp, open_lab: Callable[..., Page]):
    before = jobs_of(app)
    page = open_lab("lab/tree/code")
    page.locator(".jp-DirListing-item", has_text="study.ipynb").click(button="right")
    page.get_by_role("menuitem", name="Run as Job").click()
    expect(page.get_by_label("Manifest")).to_have_value(re.compile("^notebook: study.ipynb\n"))
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.locator(".jp-DirListing-item", has_text="data.csv").click(button="right")
    expect(page.get_by_role("menuitem", name="Rename")).to_be_visible()
    expect(page.get_by_role("menuitem", name="Run as Job")).to_have_count(0)
    assert jobs_of(app) == before
