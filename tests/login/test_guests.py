"""Guests on a lab machine: by the link into JupyterLab, one person for each code, and nothing left of them afterwards.

Real accounts, real PAM, a real ``mlmp up --auth pam``.
"""

from __future__ import annotations

import pwd
import re
import sqlite3
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any

import httpx
import pytest

from mlmp_spawner import units
from mlmp_spawner.spawners import guest_accounts
from mlmp_spawner.spawners.hub import database_file
from mlmp_spawner.units import HOUR
from tests.live import Person, Site, hidden, wait_for
from tests.system_users import SystemUser, pam_service, runnable_by_all, service_account, system_user, why_not

pytestmark = [pytest.mark.skipif(bool(why_not()), reason=why_not())]

API = "/services/mlmp/api/v1"
COURSE = {"name": "ml", "title": "Deep Learning", "profile": "gpu", "seats": 4, "guests": 50}
SETTINGS = """
c.MLMP.guest_erase_after = 1
c.MLMP.tick = 0.5
c.SystemUserSpawner.cgroup = ""
c.JupyterHub.load_roles.append({"name": "teachers", "users": [%r], "scopes": ["custom:mlmp:courses"]})
c.PAMAuthenticator.service = %r
"""


@dataclass
class Here:
    """A lab machine, and a course of ann's on it."""

    site: Site
    ann: SystemUser
    teacher: Person
    closes: ExitStack

    def invite(self, count: int = 1, lasts: int = HOUR) -> list[dict[str, str]]:
        """Codes and links."""
        body = {"count": count, "until": units.to_iso(units.now() + lasts)}
        answer = self.teacher.api.post(f"{API}/courses/ml/guests", json=body)
        assert answer.status_code == 201, answer.text
        found: list[dict[str, str]] = answer.json()["items"]
        return found

    def visitor(self) -> httpx.Client:
        """A browser of somebody."""
        made = httpx.Client(base_url=self.site.url, follow_redirects=True, timeout=60)
        return self.closes.enter_context(made)

    def come(self, code: str) -> tuple[httpx.Client, httpx.Response]:
        """A browser that was sent with a code, and what it got."""
        browser = self.visitor()
        page = browser.get("/hub/guest")
        return browser, browser.post("/hub/guest", data={"code": code, "_xsrf": hidden(page.text, "_xsrf")})

    def guest(self, **of: Any) -> Guest:
        """Somebody who is in."""
        browser, answer = self.come(self.invite(**of)[0]["code"])
        assert answer.status_code == 200 and answer.url.path.startswith("/hub/spawn"), answer.text
        return Guest(self.site, browser, re.findall(r"guest-[0-9a-z]{10}", answer.text)[0])

    def guests(self) -> list[str]:
        """Who is not erased yet."""
        return [one["name"] for one in self.teacher.api.get(f"{API}/courses/ml/guests").json()["items"]]

    def end(self, name: str) -> None:
        """Ends a guest's time."""
        assert self.teacher.api.delete(f"{API}/courses/ml/guests/{name}").status_code == 200


@dataclass
class Guest:
    """A guest with a browser."""

    site: Site
    browser: httpx.Client
    name: str

    def start(self) -> None:
        """Starts a server by the form of the hub."""
        page = self.browser.get("/hub/spawn").text
        (action,) = re.findall(r'<form[^>]* action="([^"]*)"', page)
        assert "duration:gpu" in page and "duration:cpu" not in page  # the profile of the course, and no other
        answer = self.browser.post(unescape(action), data={"duration:gpu": "600s"})
        assert answer.status_code == 200, answer.text
        wait_for(lambda: [one for one in self.site.servers() if one.owner == self.name], 60, "the server of a guest")
        wait_for(self.environment, 60, "its answer")

    def environment(self) -> dict[str, str]:
        """Of the server; nothing as long as it does not answer."""
        try:
            found: dict[str, str] = self.browser.get(f"/user/{self.name}/").json()
        except ValueError:
            return {}
        return found

    @property
    def account(self) -> pwd.struct_passwd | None:
        """The account of the system; None: there is none."""
        try:
            return pwd.getpwnam(self.name)
        except KeyError:
            return None


@pytest.fixture(scope="module")
def here() -> Iterator[Here]:
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mlmp-guests-")))
        root.chmod(0o755)
        ann = stack.enter_context(system_user())
        account = stack.enter_context(service_account())
        service = stack.enter_context(pam_service())
        site = Site(root, auth="pam", settings=SETTINGS % (ann.name, service), wrapper=runnable_by_all())
        stack.callback(site.close)
        site.start("--account", account.name)
        teacher = site.person(ann.name, ann.password)
        made = teacher.api.post(f"{API}/courses", json={"course": COURSE})
        assert made.status_code == 201, made.text
        stack.callback(forget_accounts, site)
        yield Here(site, ann, teacher, stack)


def rows_about(site: Site, name: str) -> dict[str, int]:
    """In which tables, the hub's too, a name is, and in how many rows."""
    with sqlite3.connect(database_file(site.data)) as database:
        tables = [one for (one,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {one: sum(name in str(row) for row in database.execute(f'SELECT * FROM "{one}"')) for one in tables}


def forget_accounts(site: Site) -> None:
    """Removes the accounts of this site's guests whom a test that failed left; never those of another's."""
    with sqlite3.connect(database_file(site.data)) as database:
        names = [name for (name,) in database.execute("SELECT name FROM mlmp_guest")]
    for name in names:
        guest_accounts.erase(name)


def test_to_look_at_a_link_uses_nothing_up(here: Here) -> None:
    (invited,) = here.invite()
    for _ in range(3):  # as programs of mail and chat do
        page = here.visitor().get(invited["link"])
        assert page.status_code == 200 and invited["code"] in page.text
        assert page.headers["Referrer-Policy"] == "no-referrer" and "no-store" in page.headers["Cache-Control"]
    _, answer = here.come(invited["code"])
    assert answer.url.path.startswith("/hub/spawn")


def test_one_of_many_at_once_gets_in_by_a_code(here: Here) -> None:
    code = here.invite()[0]["code"]
    start = threading.Barrier(8, timeout=60)
    before = len(here.guests())

    def race() -> bool:
        browser = here.visitor()
        token = hidden(browser.get("/hub/guest").text, "_xsrf")
        start.wait()
        return browser.post("/hub/guest", data={"code": code, "_xsrf": token}).url.path.startswith("/hub/spawn")

    with ThreadPoolExecutor(8) as pool:
        assert sorted(one.result() for one in [pool.submit(race) for _ in range(8)]) == [False] * 7 + [True]
    assert len(here.guests()) == before + 1


def test_whatever_is_wrong_with_a_code_the_answer_is_the_same(here: Here) -> None:
    (code,) = [one["code"] for one in here.invite()]
    here.come(code)
    answers = []
    for wrong in (code, "K7M2-9QXF-3HTB-W0ZC", "nonsense", ""):
        _, answer = here.come(wrong)
        shown = re.sub(r'value="[^"]*"|[\w-]*xsrf[\w-]*[^\n]*', "", answer.text)
        answers.append((answer.status_code, shown, answer.elapsed.total_seconds() >= 0.5))
    assert len(set(answers)) == 1
    assert answers[0][0] == 403


def test_a_form_from_elsewhere_uses_nothing_up(here: Here) -> None:
    code = here.invite()[0]["code"]
    answer = here.visitor().post("/hub/guest", data={"code": code}, headers={"Sec-Fetch-Site": "cross-site"})
    assert answer.status_code == 403
    _, answer = here.come(code)
    assert answer.url.path.startswith("/hub/spawn")


def test_nobody_else_gets_the_name_of_a_guest(here: Here) -> None:
    with system_user() as ben:
        renamed = f"guest-{ben.name[-8:]}"
        subprocess.run(["usermod", "--login", renamed, ben.name], check=True, capture_output=True)
        try:
            assert here.site.person(renamed, ben.password).token == ""
        finally:
            subprocess.run(["usermod", "--login", ben.name, renamed], check=True, capture_output=True)
    assert here.site.person(here.ann.name, here.ann.password).token


def test_everything_of_a_guest_is_gone_after_their_time(here: Here) -> None:
    guest = here.guest()
    assert guest.account is None  # before there is a server there is nothing to have an account for
    guest.start()
    account = guest.account
    assert account is not None
    home = Path(account.pw_dir)
    assert (home.stat().st_mode & 0o777, home.stat().st_uid) == (0o700, account.pw_uid)
    environment = guest.environment()
    assert environment["HOME"] == str(home) and environment["SHELL"] == "/bin/bash"
    assert account.pw_shell.endswith("nologin")
    left = [Path("/tmp") / f"{guest.name}-left", Path("/dev/shm") / f"{guest.name}-left"]
    for path in left:
        subprocess.run(["touch", str(path)], user=account.pw_uid, group=account.pw_gid, check=True)
    (home / "thesis.txt").write_text("mine")
    stays = subprocess.Popen(
        ["sleep", "600"], user=account.pw_uid, group=account.pw_gid, extra_groups=[], start_new_session=True
    )
    here.end(guest.name)
    wait_for(lambda: guest.name not in here.guests(), 90, "the erasure")
    assert stays.wait(10) == -9
    assert guest.account is None
    assert not home.exists() and not any(path.exists() for path in left)
    assert not list((here.site.data / "logs" / "servers").glob(f"{guest.name}*"))
    assert not [one for one in here.site.servers() if one.owner == guest.name]
    assert "/hub/login" in str(guest.browser.get("/hub/home").url)
    assert guest.browser.get("/services/mlmp/").url.path == "/hub/login"
    left_in = {table: rows for table, rows in rows_about(here.site, guest.name).items() if rows}
    assert left_in == {
        "mlmp_guest": 1,
        "mlmp_guest_code": 1,
        "mlmp_history": left_in["mlmp_history"],
        "mlmp_reservation": 1,
    }


def test_a_hub_and_a_service_that_are_killed_in_between_still_erase_all(here: Here) -> None:
    guest = here.guest()
    guest.start()
    home = Path(guest.account.pw_dir) if guest.account else Path("/nonexistent")
    here.end(guest.name)
    here.site.kill("hub", "service")
    wait_for(lambda: guest.account is None and not home.exists(), 120, "the erasure")

    def gone() -> bool:
        try:
            return guest.name not in here.guests()
        except (httpx.HTTPError, KeyError, ValueError):
            return False

    wait_for(gone, 120, "the record")


def test_the_time_of_a_guest_ends_by_itself(here: Here) -> None:
    guest = here.guest(lasts=5_000)
    wait_for(lambda: guest.name not in here.guests(), 90, "the erasure")
    assert "/hub/login" in str(guest.browser.get("/hub/home").url)
