"""Chromium, and people in front of it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

CHROMIUM = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
ZONE = "Europe/Zurich"


# For a module only: an open Playwright keeps an event loop, in which no test after it could run a coroutine.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The system's Chromium."""
    path = shutil.which("chromium")
    if path is None:
        reason = "no chromium on the PATH (Debian: apt-get install chromium)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=list(CHROMIUM))
        yield chromium
        chromium.close()


@pytest.fixture
def complaints() -> Iterator[list[str]]:
    """What pages complained of: errors of scripts, refused by the content security policy. There may be none."""
    found: list[str] = []
    yield found
    assert not found


@pytest.fixture
def new_page(browser: Browser, complaints: list[str], tmp_path: Path) -> Iterator[Callable[..., Page]]:
    """Makes a page of a person of its own."""
    contexts: list[BrowserContext] = []

    def make(**options: object) -> Page:
        context = browser.new_context(**{"timezone_id": ZONE, "viewport": {"width": 1280, "height": 800}} | options)
        contexts.append(context)
        context.set_default_timeout(30_000)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: _listen(message.type, message.text, complaints))
        return page

    yield make
    for number, context in enumerate(contexts):
        if os.environ.get("KEEP_SCREENSHOTS"):
            context.pages[0].screenshot(path=Path(os.environ["KEEP_SCREENSHOTS"]) / f"{tmp_path.name}-{number}.png")
        context.close()


def _listen(kind: str, text: str, complaints: list[str]) -> None:
    if kind == "error" and "Content Security Policy" in text:
        complaints.append(text)
