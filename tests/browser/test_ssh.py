"""The SSH page in a browser: copying, adding, removing, undoing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from mlmp_spawner.operations import ssh_keys
from mlmp_spawner.operations.site import Actor
from tests.browser.played import AXE, booked, running, serious
from tests.operations.conftest import NOW
from tests.rules.test_ssh_keys import ED25519
from tests.web.harness import RunningApp
from tests.web.visitor import HOSTILE

MAY_COPY = ("clipboard-read", "clipboard-write")


def copied(page: Page) -> str:
    text: str = page.evaluate("navigator.clipboard.readText()")
    return text


def test_home_copies_the_command_that_leads_into_a_running_server(app: RunningApp, person: Callable[..., Page]):
    found = booked(app, hours=2)
    running(app, found)
    page = person()
    page.context.grant_permissions(MAY_COPY)
    button = page.locator(f"#booking-{found.id}").get_by_role("button", name="SSH")
    button.click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert copied(page) == f"mlmp ssh {found.id}"
    expect(page.locator("#copied")).to_have_text(f"Copied: mlmp ssh {found.id}")  # for those who listen
    expect(button).to_be_visible()  # it is a button again


def test_where_the_browser_gives_no_clipboard_the_old_way_is_taken(app: RunningApp, person: Callable[..., Page]):
    """As on an address without https."""
    page = person(path="ssh")
    page.context.grant_permissions(MAY_COPY)
    page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(new Error('no')); }")
    page.get_by_role("button", name="Copy pip install mlmp-spawner").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert copied(page) == "pip install mlmp-spawner"


def test_a_key_is_added_removed_and_had_again_without_leaving_the_page(app: RunningApp, person: Callable[..., Page]):
    page = person(path="ssh")
    expect(page.locator("#no-keys")).to_be_visible()
    page.get_by_label("Public key").fill("ssh-ed25519 nonsense")
    page.locator("#add-key").click()
    expect(page.locator("#refusal")).to_contain_text("the key is damaged")
    expect(page.get_by_label("Public key")).to_have_value("ssh-ed25519 nonsense")
    page.get_by_label("Public key").fill(f"{ED25519} ann@laptop")
    page.locator("#add-key").click()
    expect(page.locator("#done")).to_contain_text("Added: ann@laptop")
    expect(page.locator("#key-table tbody tr")).to_have_count(1)
    expect(page.get_by_label("Public key")).to_have_value("")
    page.get_by_role("button", name="Remove ann@laptop").click()
    expect(page.locator("#done")).to_contain_text("Removed: ann@laptop")
    expect(page.locator("#no-keys")).to_be_visible()
    booked(app, hours=1)  # the page hears of something else, and the way back stays
    expect(page.locator("#done")).to_contain_text("Removed: ann@laptop")
    page.get_by_role("button", name="Undo").click()
    expect(page.locator("#key-table")).to_contain_text("ann@laptop")
    assert len(ssh_keys.of_owner(app.site, "ann")) == 1


@pytest.mark.parametrize(("theme", "width"), [("light", 390), ("dark", 1280)])
def test_it_is_for_everybody_with_keys_of_any_name(
    app: RunningApp, person: Callable[..., Page], theme: str, width: int
):
    if not AXE.exists():
        pytest.skip("axe-core is not installed: tools/npm.sh ci")
    for number, title in enumerate((HOSTILE, "x" * 200)):
        key = ED25519[:-4] + ("aaaa", "bbbb")[number]
        ssh_keys.add(app.site, "ann", key, title, actor=Actor("ann"), now=NOW)
    running(app, booked(app, hours=2))
    page = person(path="ssh", color_scheme=theme, viewport={"width": width, "height": 844}, bypass_csp=True)
    page.on("dialog", lambda dialog: pytest.fail("a script of a user ran"))
    for fold in page.locator("#mlmp details").all():
        fold.evaluate("fold => { fold.open = true; }")
    assert serious(page) == []
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
    page.get_by_role("button", name="Remove").first.click()
    expect(page.locator("#done")).to_contain_text("Undo")
    assert serious(page) == []
