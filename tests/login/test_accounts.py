"""What the machine says of its accounts, and what is no answer: the real name service and the real PAM."""

from __future__ import annotations

import secrets
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mlmp_spawner.errors import Unavailable
from mlmp_spawner.logins import accounts, pam
from mlmp_spawner.logins.pam import PAMLogin
from mlmp_spawner.logins.patience import Patience
from tests.system_users import PAM, system_user, why_not

needs_root = pytest.mark.skipif(bool(why_not()), reason=why_not())
ROOT = Path(__file__).parents[2]
ANYBODY = cast(Any, SimpleNamespace(name="daemon"))
GONE = cast(Any, SimpleNamespace(name="mlmp-is-not-there"))
# Sources that are away: no /etc/passwd and no /etc/group is to the C library what a silent sssd is.
AWAY = """\
mount -t tmpfs tmpfs /etc
echo "passwd: files\ngroup: files" > /etc/nsswitch.conf
exec "$@"
"""
ASKS = """\
import pwd
from mlmp_spawner.errors import Unavailable
from mlmp_spawner.logins import accounts
try:
    pwd.getpwnam("daemon")
except KeyError:
    print("pwd: gone")
for question in (lambda: accounts.account("daemon"), lambda: accounts.group("daemon"),
                 lambda: accounts.groups_of("daemon"), accounts.check_that_groups_are_told):
    try:
        print(question())
    except Unavailable:
        print("no answer")
"""


def test_an_account_and_its_groups_are_found() -> None:
    assert accounts.account("root") == ("root", 0, 0)
    assert accounts.account_of(0).pw_name == "root"
    assert accounts.group("daemon").gr_name == "daemon"
    assert "daemon" in accounts.groups_of("daemon")
    accounts.check_that_groups_are_told()


@pytest.mark.parametrize("question", [accounts.account, accounts.group, accounts.groups_of])
@pytest.mark.parametrize("name", ["mlmp-is-not-there", "root\0x", ""])
def test_what_is_not_there_is_not_there(question: Callable[[str], object], name: str) -> None:
    with pytest.raises(KeyError):
        question(name)


@needs_root
def test_a_source_that_is_away_is_no_answer() -> None:
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", AWAY, "sh", sys.executable, "-c", ASKS]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT)
    assert said.stdout.splitlines() == ["pwd: gone", *["no answer"] * 4], said.stderr


@pytest.fixture
def says() -> Iterator[Callable[[str], PAMLogin]]:
    """A login with a PAM whose account check says what a test wants."""
    path = PAM / f"mlmp-test-{secrets.token_hex(4)}"

    def made(answer: str) -> PAMLogin:
        path.write_text(f"auth required pam_permit.so\naccount required pam_debug.so acct={answer}\n")
        return PAMLogin(service=path.name, allow_all=True)

    yield made
    path.unlink()


@needs_root
@pytest.mark.parametrize("answer", ["perm_denied", "user_unknown", "acct_expired", "auth_err"])
async def test_pam_says_no(answer: str, says: Callable[[str], PAMLogin], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pam, "CLOSED", ())
    assert await says(answer).ask(ANYBODY) is False


@needs_root
@pytest.mark.parametrize(
    "answer",
    ["open_err", "symbol_err", "service_err", "system_err", "buf_err", "authinfo_unavail", "abort", "module_unknown"],
)
@pytest.mark.parametrize("user", [ANYBODY, GONE], ids=["there", "not there"])
async def test_all_else_is_no_answer(answer: str, user: Any, says: Callable[[str], PAMLogin]) -> None:
    with pytest.raises(Unavailable):
        await says(answer).ask(user)


@needs_root
@pytest.mark.parametrize("answer", ["success", "new_authtok_reqd"])
async def test_who_has_to_change_a_password_is_known(answer: str, says: Callable[[str], PAMLogin]) -> None:
    assert await says(answer).ask(ANYBODY) == {"name": "daemon", "admin": None}
    assert await says(answer).ask(GONE) is False


@needs_root
async def test_a_closed_machine_says_nothing_of_its_people(
    says: Callable[[str], PAMLogin], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (closed := tmp_path / "nologin").write_text("back at 9\n")
    monkeypatch.setattr(pam, "CLOSED", (closed,))
    with pytest.raises(Unavailable):
        await says("auth_err").ask(ANYBODY)


async def test_a_group_that_is_not_there_says_nothing_of_its_members() -> None:
    login = PAMLogin(allowed_groups={"mlmp-is-not-there"})
    with pytest.raises(Unavailable, match="mlmp-is-not-there"):
        await login.check_allowed("daemon", {"name": "daemon"})
    login = PAMLogin(allowed_groups={"mlmp-is-not-there", "root"})
    assert not await login.check_allowed("daemon", {"name": "daemon"})
    assert await login.check_allowed("root", {"name": "root"})


def test_a_name_is_that_of_the_account_and_may_have_none_yet() -> None:
    login = PAMLogin(username_map={"daemon": "demon"})
    assert login.normalize_username("root") == "root"
    assert login.normalize_username("daemon") == "demon"
    assert login.normalize_username("Not-There-Yet") == "not-there-yet"


@needs_root
async def test_an_account_with_two_names_is_one_person(says: Callable[[str], PAMLogin]) -> None:
    """As ``ann`` and ``ann@corp`` are under sssd: two people here would have twice the limits."""
    login = says("success")
    with system_user() as ann, system_user("--non-unique", "--uid", str(ann.uid)) as alias:
        for typed in (ann.name, alias.name):
            found = await login.get_authenticated_user(None, {"username": typed, "password": "any"})
            assert found["name"] == ann.name


@needs_root
async def test_whoever_pam_lets_in_without_an_account_stays_outside(says: Callable[[str], PAMLogin]) -> None:
    data = {"username": "mlmp-is-not-there", "password": "any"}
    assert await says("success").get_authenticated_user(None, data) is None


async def test_nobody_waits_for_ever_for_an_answer() -> None:
    held = threading.Event()
    with pytest.raises(Unavailable, match=r"The oracle does not answer within 0\.05 s"):
        await Patience("The oracle", 0.05).ask(held.wait)
    held.set()
