"""Log in with the accounts of the machine, with the example that people copy; and what a change of an account changes.

Real accounts, real PAM, a real ``mlmp up --auth pam``.
"""

from __future__ import annotations

import secrets
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.live import Person, Site, wait_for
from tests.system_users import SystemUser, pam_service, runnable_by_all, service_account, system_user, why_not

pytestmark = [pytest.mark.faults, pytest.mark.skipif(bool(why_not()), reason=why_not())]

EXAMPLE = Path(__file__).parents[2] / "hub_config" / "examples" / "pam.py"
CHECK_EVERY, GRACE, STOP = 1, 2, 10
API = "/services/mlmp/api/v1"


@contextmanager
def system_group() -> Iterator[str]:
    """A group of this machine."""
    name = f"mlmpg{secrets.token_hex(4)}"
    subprocess.run(["groupadd", name], check=True, capture_output=True)
    try:
        yield name
    finally:
        subprocess.run(["groupdel", name], check=False, capture_output=True)


@dataclass
class Here:
    """A lab machine whose people are in a group."""

    site: Site
    ann: SystemUser
    ben: SystemUser
    users: str
    teachers: str

    def person(self, user: SystemUser) -> Person:
        """Logs in with the password of the system."""
        return self.site.person(user.name, user.password)

    def owners(self) -> list[str]:
        """Whose servers run."""
        return [record.owner for record in self.site.servers()]


@pytest.fixture(scope="module")
def here() -> Iterator[Here]:
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mlmp-pam-")))
        root.chmod(0o755)
        users, teachers = stack.enter_context(system_group()), stack.enter_context(system_group())
        ann = stack.enter_context(system_user("--groups", f"{users},{teachers}"))
        ben = stack.enter_context(system_user("--groups", users))
        account = stack.enter_context(service_account())
        settings = EXAMPLE.read_text(encoding="utf-8").replace('"login"', repr(stack.enter_context(pam_service())))
        settings = settings.replace("gpu-users", users).replace("gpu-instructors", teachers)
        settings += f"""
c.MLMPLogin.check_every = {CHECK_EVERY}
c.MLMPLogin.grace = {GRACE}
c.Authenticator.auth_refresh_age = 1
c.MLMP.stop_lead = 3
"""
        site = Site(root, auth="pam", settings=settings, wrapper=runnable_by_all())
        stack.callback(site.close)
        site.start("--account", account.name)
        yield Here(site, ann, ben, users, teachers)


def test_groups_of_the_system_are_groups_of_the_hub(here: Here) -> None:
    found = here.person(here.ann).api.get(f"{API}/me").json()
    assert set(found["groups"]) == {here.ann.name, here.users, here.teachers}
    assert "custom:mlmp:courses" in found["scopes"]
    assert "custom:mlmp:courses" not in here.person(here.ben).api.get(f"{API}/me").json()["scopes"]


def test_who_is_in_no_group_that_is_let_in_stays_outside(here: Here) -> None:
    with system_user() as eve:
        assert here.person(eve).token == ""


@pytest.mark.parametrize("how", ["removed", "expired", "no member any more"])
def test_whoever_is_not_known_any_more_loses_servers_and_tokens_by_the_stated_time(how: str, here: Here) -> None:
    with system_user("--groups", here.users) as gone:
        person = here.person(gone)
        assert person.start(profile="gpu", duration="20m").status_code == 201
        assert gone.name in here.owners()
        change = {
            "removed": ["userdel", "--force", gone.name],
            "expired": ["usermod", "--expiredate", "1", gone.name],
            "no member any more": ["gpasswd", "--delete", gone.name, here.users],
        }
        subprocess.run(change[how], check=False, capture_output=True)
        refused = lambda: person.api.get("/hub/api/user").status_code == 403  # noqa: E731
        wait_for(refused, CHECK_EVERY + GRACE + STOP, "the token's end")
        wait_for(lambda: gone.name not in here.owners(), STOP, "the server's end")
        assert here.person(gone).token == ""
