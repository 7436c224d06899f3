"""A guest in front of a browser: by the link into a real JupyterLab, and the page as everybody can use it.

Real accounts, real PAM, a real ``mlmp up --auth pam``, Chromium.
"""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.live import Site
from tests.login.test_guests import COURSE, SETTINGS, Here, forget_accounts
from tests.system_users import pam_service, runnable_by_all, service_account, system_user, why_not

pytestmark = [pytest.mark.skipif(bool(why_not()), reason=why_not())]

API = "/services/mlmp/api/v1"
AXE = Path(__file__).parents[2] / "node_modules" / "axe-core" / "axe.min.js"
WITHIN = 30.0
"""Seconds from the link to JupyterLab, on a machine that has nothing else to do."""


@pytest.fixture(scope="module")
def here() -> Iterator[Here]:
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mlmp-guests-")))
        root.chmod(0o755)
        ann = stack.enter_context(system_user())
        account = stack.enter_context(service_account())
        service = stack.enter_context(pam_service())
        settings = (SETTINGS % (ann.name, service)) + 'c.MLMPLocalSpawner.default_url = "/lab"\n'
        site = Site(root, auth="pam", lab=True, settings=settings, wrapper=runnable_by_all())
        stack.callback(site.close)
        site.start("--account", account.name)
        stack.callback(forget_accounts, site)
        teacher = site.person(ann.name, ann.password)
        made = teacher.api.post(f"{API}/courses", json={"course": COURSE})
        assert made.status_code == 201, made.text
        yield Here(site, ann, teacher, stack)


def test_the_link_leads_into_jupyterlab(here: Here, new_page: Callable[..., Page]) -> None:
    page = new_page()
    begun = time.monotonic()
    page.goto(here.invite()[0]["link"])
    page.get_by_role("button", name="Come in").click()
    page.get_by_role("button", name=re.compile("Start GPU for")).first.click()
    page.wait_for_url(re.compile(r"/user/guest-[0-9a-z]+/lab"), timeout=60_000)
    expect(page.locator(".jp-Launcher").first).to_be_visible(timeout=60_000)
    took, load = time.monotonic() - begun, os.getloadavg()[0] / (os.cpu_count() or 1)
    print(f"a guest is in JupyterLab {took:.1f} s after the link, with {load:.1f} running for each core")
    assert took < WITHIN * max(1.0, load)
    page.goto(here.site.url + "services/mlmp/")
    expect(page.locator("h1")).to_contain_text("guest-")
    links = page.locator("nav a.nav-link").all_inner_texts()
    assert not {"Timeline", "Usage", "Jobs", "Book", "SSH", "Token"} & {one.strip() for one in links}


def test_who_comes_again_by_the_link_goes_on(here: Here, new_page: Callable[..., Page]) -> None:
    page, link = new_page(), here.invite()[0]["link"]
    page.goto(link)
    page.get_by_role("button", name="Come in").click()
    page.wait_for_url(re.compile("/hub/spawn"))
    page.goto(link)
    page.wait_for_url(re.compile("/hub/spawn"))


def test_a_code_is_typed_with_the_keyboard_alone_and_a_wrong_one_can_be_mended(
    here: Here, new_page: Callable[..., Page]
) -> None:
    page, code = new_page(viewport={"width": 360, "height": 740}), here.invite()[0]["code"]
    page.goto(here.site.url + "hub/guest")
    page.keyboard.type(code[:-1] + "U")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("can't be used")
    field = page.get_by_label("The code that you were given")
    expect(field).to_be_focused()
    page.keyboard.press("Control+A")
    page.keyboard.type(code.lower().replace("-", " "))
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("/hub/spawn"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_is_for_everybody(here: Here, new_page: Callable[..., Page], scheme: str, width: int) -> None:
    page = new_page(color_scheme=scheme, viewport={"width": width, "height": 740})
    for address in (here.invite()[0]["link"], here.site.url + "hub/guest", here.site.url + "hub/guest?code=wrong"):
        page.goto(address)
        expect(page.get_by_role("button", name="Come in")).to_be_visible()
        page.add_script_tag(path=AXE)
        found = page.evaluate("() => axe.run({runOnly: ['wcag2a', 'wcag2aa', 'wcag21aa', 'wcag22aa']})")
        assert [(one["id"], one["nodes"][0]["html"]) for one in found["violations"]] == []
        assert page.evaluate("() => document.documentElement.scrollWidth") <= width


def test_who_is_signed_in_is_asked_to_sign_out_first(here: Here, new_page: Callable[..., Page]) -> None:
    page, link = new_page(), here.invite()[0]["link"]
    page.goto(here.site.url + "hub/login")
    page.get_by_label("Username:").fill(here.ann.name)
    page.get_by_label("Password:", exact=True).fill(here.ann.password)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(re.compile("/services/mlmp/"))
    page.goto(link)
    expect(page.locator("main")).to_contain_text(f"signed in as {here.ann.name}")
    expect(page.get_by_role("button", name="Come in")).to_have_count(0)
