"""Who teaches looks into the server of a student who agreed, and is out at once when that is withdrawn: a real hub
with a host for each server, real JupyterLabs, two people's browsers."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect

from mlmp_spawner import units
from tests.browser.lab_extension.inside import look_now, notice
from tests.browser.people import Human
from tests.live import Site, wait_for
from tests.web.machine import free_ports

API = "/services/mlmp/api/v1/"
TOKENS = {"admin": "a" * 32, "ivy": "b" * 32}
AT_ONCE = 15
"""Seconds within which somebody is out, on a machine that has much to do."""

CONNECT = """async ([base, what, name]) => {
  const xsrf = document.cookie.split("; ").find((one) => one.startsWith("_xsrf="))?.slice(6);
  const headers = {"Content-Type": "application/json", "X-XSRFToken": xsrf};
  const made = await fetch(`${base}api/${what}`, {method: "POST", headers, body: "{}"});
  if (!made.ok) throw new Error(`${made.status} ${await made.text()}`);
  const found = await made.json();
  const path = what === "kernels" ? `api/kernels/${found.id}/channels` : `terminals/websocket/${found.name}`;
  const socket = new WebSocket(`${base.replace(/^http/, "ws")}${path}`);
  await new Promise((yes, no) => { socket.onopen = yes; socket.onerror = no; });
  window[name] = socket;
}"""
STATUS = "async (url) => (await fetch(url, {credentials: 'include', redirect: 'manual'})).status"
TOKEN = "JSON.parse(document.getElementById('jupyter-config-data').textContent).token"
AGREE = """
import os, urllib.request, urllib.error
url = os.environ["MLMP_URL"].rstrip("/") + "/services/mlmp/api/v1/reservations/"
url += os.environ["MLMP_RESERVATION_ID"] + "/look-in"
headers = {"Authorization": "token " + os.environ["JUPYTERHUB_API_TOKEN"]}
ask = urllib.request.Request(url, method="PUT", headers=headers)
try:
    print(urllib.request.urlopen(ask).status)
except urllib.error.HTTPError as error:
    print(error.code, error.read().decode())
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    [port] = free_ports(1)
    settings = (
        f"c.JupyterHub.subdomain_host = 'http://hub.localhost:{port}'\nc.MLMP.look_in = True\n"
        f"c.MLMP.roster_users = True\nc.JupyterHub.api_tokens = { {token: name for name, token in TOKENS.items()} }\n"
    )
    made = Site(Path(tmp_path_factory.mktemp("site")), lab=True, settings=settings)
    made.start("--port", str(port))
    yield made
    made.close()


def api(site: Site, name: str) -> httpx.Client:
    return httpx.Client(base_url=site.url, headers={"Authorization": f"token {TOKENS[name]}"}, timeout=60)


@pytest.fixture(scope="module")
def class_path(site: Site) -> str:
    """A class of two instructors and ann, whose server runs."""
    course = {"name": "ml", "title": "ML", "profile": "cpu", "seats": 1, "instructors": ["ivy", "admin"],
              "students": ["ann"], "look_in": True}  # fmt: skip
    with api(site, "admin") as admin:
        made = admin.post(f"{API}courses", json={"course": course})
        assert made.status_code == 201, made.text
        booked = admin.post(f"{API}courses/ml/classes", json={"start": units.to_iso(units.now()), "duration": "30m"})
        assert booked.status_code == 201, booked.text
        path = f"courses/ml/classes/{booked.json()['id']}"
        wait_for(lambda: seat(site, path).get("server_state") == "running", 120, "the start of ann's server")
    return path


def seat(site: Site, path: str) -> dict[str, Any]:
    with api(site, "admin") as admin:
        return next((one for one in admin.get(f"{API}{path}").json()["people"] if one["name"] == "ann"), {})


def shares(site: Site) -> list[Any]:
    with api(site, "admin") as admin:
        answer = admin.get("/hub/api/shares/ann")
        assert answer.status_code == 200, answer.text
        found: list[Any] = answer.json()["items"]
        return found


def is_open(page: Page, name: str) -> bool:
    return page.evaluate(f"window.{name}.readyState") == 1


def base_of(page: Page) -> str:
    return page.url.partition("/lab")[0] + "/"


@pytest.fixture
def hub(site: Site) -> str:
    return re.sub(r"//[\d.]+:", "//hub.localhost:", site.url)


@pytest.fixture
def ann(site: Site, hub: str, class_path: str, new_page: Callable[..., Page]) -> Human:
    """In her JupyterLab."""
    made = Human(new_page(), hub, "ann")
    made.page.goto(f"{hub}user/ann/lab")
    made.wait_for_lab()
    return made


@pytest.fixture
def ivy(hub: str, ann: Human, new_page: Callable[..., Page]) -> Human:
    """Who teaches, on the page of the class."""
    return Human(new_page(), hub, "ivy")


def say(ann: Human, seat_id: str, button: str) -> None:
    """She says it on the page of her seat, in another tab."""
    tab = ann.page.context.new_page()
    tab.goto(f"{ann.url}services/mlmp/bookings/{seat_id}")
    tab.get_by_role("button", name=button).click()
    expect(tab.get_by_role("button", name=button)).to_have_count(0)
    tab.close()


def look_in(ivy: Human, class_path: str) -> Page:
    """The student's JupyterLab, in a tab of who teaches."""
    page = ivy.go(class_path)
    if page.get_by_role("button", name="Look in").count():
        page.get_by_role("button", name="Look in").click()
    with page.expect_popup() as opened:
        page.get_by_role("link", name="Open the server of ann").click()
    tab = opened.value
    authorize, lab = tab.get_by_role("button", name="Authorize"), tab.locator("#jp-main-dock-panel")
    expect(authorize.or_(lab)).to_be_visible(timeout=60_000)
    if authorize.count():  # the hub asks once whether that server may know who looks in
        authorize.click()
    tab.wait_for_url("**/user/ann/**lab**", timeout=60_000)
    expect(lab).to_be_visible(timeout=60_000)
    return tab


def opens_nothing_else(site: Site, token: str) -> None:
    """What a server gets of who looks in is good for that server, and to say who it is."""
    headers = {"Authorization": f"token {token}"}
    with httpx.Client(base_url=site.url, headers=headers, timeout=60) as client:
        assert client.get("/hub/api/user").json()["name"] == "ivy"
        assert client.get(f"{API}me").status_code == 403
        assert client.get("/hub/api/users/ivy/tokens").status_code in (403, 404)
        assert client.post("/hub/api/users/ivy/server", json={}).status_code in (403, 404)


def test_who_teaches_is_in_only_as_long_as_the_student_agrees(
    site: Site, class_path: str, ann: Human, ivy: Human
) -> None:
    lab, seat_id = base_of(ann.page), seat(site, class_path)["reservation"]
    expect(ivy.go(class_path).locator(".mlmp-tile", has_text="ann")).to_be_visible()
    assert ivy.page.get_by_role("button", name="Look in").count() == 0
    with api(site, "ivy") as client:
        refused = client.post(f"{API}{class_path}/look-in", json={"person": "ann"})
        assert refused.status_code == 409 and "has not agreed" in refused.json()["detail"]
    ivy.page.goto(f"{lab}lab")
    assert ivy.page.locator("#jp-main-dock-panel").count() == 0
    assert "could agree by its token" in ann.run(AGREE)

    say(ann, seat_id, "Let them look in")
    tab = look_in(ivy, class_path)
    assert len(shares(site)) == 1
    opens_nothing_else(site, tab.evaluate(TOKEN))
    ann.page.evaluate(CONNECT, [lab, "kernels", "own"])
    for what in ("kernels", "terminals"):
        tab.evaluate(CONNECT, [lab, what, what])
    assert Human.run(_with(ivy, tab), "print(6 * 7)") == "42"

    said = time.monotonic()
    say(ann, seat_id, "Let nobody look in any more")
    assert tab.evaluate(STATUS, f"{lab}api/contents") == 403, "the next request is refused"
    for what in ("kernels", "terminals"):
        wait_for(lambda what=what: not is_open(tab, what), AT_ONCE, f"the end of {what}")
    print(f"out of everything {time.monotonic() - said:.1f} s after the click on the page of the seat")
    assert shares(site) == []
    assert is_open(ann.page, "own") and ann.run("print('on')") == "on"
    tab.goto(f"{lab}lab")
    assert tab.locator("#jp-main-dock-panel").count() == 0
    with api(site, "admin") as admin:
        lines = admin.get(f"{API}audit", params={"reservation": seat_id}).json()["items"]
    told = [(one["action"], one["actor"]) for one in lines if "look" in one["action"]]
    assert told == [("look_in_withdrawn", "ann"), ("looked_in", "ivy"), ("look_in_agreed", "ann")]


def _with(human: Human, page: Page) -> Human:
    other = object.__new__(Human)
    other.page, other.url, other.name = page, human.url, human.name
    return other


def test_the_student_sees_it_in_jupyterlab_all_the_time_and_ends_it_by_one_click(
    site: Site, class_path: str, ann: Human, ivy: Human
) -> None:
    lab, seat_id = base_of(ann.page), seat(site, class_path)["reservation"]
    shown = ann.page.locator(".mlmp-looked-into")
    expect(shown).to_be_hidden()
    say(ann, seat_id, "Let them look in")
    look_now(ann.page)
    expect(shown).to_have_text("admin, ivy may look in")
    tab = look_in(ivy, class_path)
    tab.evaluate(CONNECT, [lab, "kernels", "kernels"])
    look_now(ann.page)
    expect(shown).to_have_text("ivy is let in")
    expect(ann.page.locator(".Toastify__toast", has_text="ivy is let into this server since")).to_be_visible()
    shown.click()
    notice(ann.page, "Nobody can look into this server any more")
    assert tab.evaluate(STATUS, f"{lab}api/contents") == 403
    wait_for(lambda: not is_open(tab, "kernels"), AT_ONCE, "the end of her connection")
    expect(shown).to_be_hidden()
    assert shares(site) == [] and ann.run("print('on')") == "on"


def test_who_teaches_no_more_is_out_and_a_killed_service_forgets_none_of_it(
    site: Site, class_path: str, ann: Human, ivy: Human
) -> None:
    lab, seat_id = base_of(ann.page), seat(site, class_path)["reservation"]
    say(ann, seat_id, "Let them look in")
    tab = look_in(ivy, class_path)
    tab.evaluate(CONNECT, [lab, "kernels", "kernels"])
    site.kill("service")
    with api(site, "admin") as admin:
        wait_for(lambda: admin.get(f"{API}health").status_code == 200, 60, "the service again")
        assert is_open(tab, "kernels"), "it is still agreed to"
        answer = admin.post(f"{API}courses/ml/roster", json={"remove": ["ivy"]})
        assert answer.status_code == 200, answer.text
    wait_for(lambda: not is_open(tab, "kernels"), AT_ONCE, "the end of her connection")
    assert tab.evaluate(STATUS, f"{lab}api/contents") == 403
    assert shares(site) == []
    assert ann.run("print('on')") == "on"
