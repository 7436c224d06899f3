"""What people see and do inside JupyterLab, in their words."""

from __future__ import annotations

import httpx
from playwright.sync_api import Page, expect

from tests.lab.pscan.served import TOKEN

COUNTDOWN = ".mlmp-countdown"


def notice(page: Page, text: str) -> None:
    """Lab says it, in a notification."""
    expect(page.locator(".jp-toast-message, .Toastify__toast-body", has_text=text).first).to_be_visible()


def type_at_end(page: Page, text: str) -> None:
    """Into the open file, which is then not saved."""
    page.locator(".jp-FileEditor:visible .cm-content").click()
    page.keyboard.press("Control+End")
    page.keyboard.type(text)
    expect(page.locator(".jp-mod-dirty").first).to_be_attached()


def look_now(page: Page) -> None:
    """Has it ask now how long the booking goes on, not some seconds later."""
    page.evaluate("dispatchEvent(new Event('online'))")


def choose(page: Page, command: str) -> None:
    """A command of the palette, by keyboard alone."""
    page.keyboard.press("Control+Shift+C")
    expect(page.locator("#command-palette input, .jp-ModalCommandPalette input").first).to_be_focused()
    page.keyboard.type(command)
    found = page.locator(".lm-CommandPalette-item.lm-mod-active", has_text=command)
    expect(found.first).to_be_visible()
    page.keyboard.press("Enter")


def show_jobs(page: Page) -> None:
    """The panel of jobs in the side bar."""
    page.get_by_role("tab", name="Jobs (MLMP)").click()
    expect(page.locator(".mlmp-jobs")).to_be_visible()


def use_theme(url: str, theme: str) -> None:
    """``JupyterLab Light`` or ``JupyterLab Dark``, from the next page on."""
    address = f"{url}lab/api/settings/@jupyterlab/apputils-extension:themes"
    body = {"raw": f'{{"theme": "{theme}"}}'}
    httpx.put(address, headers={"Authorization": f"token {TOKEN}"}, json=body).raise_for_status()
