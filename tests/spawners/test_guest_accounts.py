"""The accounts of guests: nothing of theirs runs after their time, and nothing is left for who comes next."""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlmp_spawner.errors import NotAllowed
from mlmp_spawner.rules.guests import new_name
from mlmp_spawner.spawners import guest_accounts
from mlmp_spawner.units import DAY
from tests.system_users import SystemUser, system_user, why_not

pytestmark = [pytest.mark.skipif(bool(why_not()), reason=why_not())]

UNTIL = 2_000_000_000_000


def make() -> SystemUser:
    name = new_name()
    guest_accounts.make(name, until=UNTIL)
    return SystemUser(name, "")


@pytest.fixture
def guest() -> Iterator[SystemUser]:
    """An account with a home."""
    made = make()
    made.home.mkdir(mode=0o700)
    os.chown(made.home, made.uid, made.gid)
    yield made
    guest_accounts.erase(made.name)


def is_there(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def own(path: Path, user: SystemUser) -> Path:
    """A file of somebody's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("echo again")
    os.chown(path, user.uid, user.gid)
    return path


def ipc_of(uid: int) -> list[str]:
    """The System V objects that an account made."""
    tables = [Path(f"/proc/sysvipc/{kind}").read_text() for kind in ("shm", "sem", "msg")]
    lines = [line.split() for table in tables for line in table.splitlines()]
    return [line[1] for line in lines if str(uid) in line[4:10]]


def test_after_their_time_nothing_runs_nor_starts_again_and_the_files_stay(
    guest: SystemUser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guest_accounts, "CRONTABS", (tmp_path / "crontabs", tmp_path / "no-such"))
    monkeypatch.setattr(guest_accounts, "AT_JOBS", (tmp_path / "atjobs",))
    with system_user() as ben:
        goes = [own(tmp_path / "crontabs" / guest.name, guest), own(tmp_path / "atjobs" / "a0001", guest)]
        stays = [own(tmp_path / "crontabs" / ben.name, ben), own(tmp_path / "atjobs" / "a0002", ben)]
        thesis = own(guest.home / "thesis.txt", guest)
        left, others = guest.starts("sleep", "600"), ben.starts("sleep", "600")
        guest_accounts.leave(guest.name)
        guest_accounts.leave(guest.name)
        assert left.wait(10) == -9 and others.poll() is None
        others.kill()
        others.wait(10)
        assert [path.exists() for path in (*goes, *stays, thesis)] == [False, False, True, True, True]
    expires = subprocess.run(["getent", "shadow", guest.name], capture_output=True, text=True, check=True).stdout
    assert expires.split(":")[7] == "1"  # days after 1970


def test_what_outlives_processes_goes_with_the_account(guest: SystemUser) -> None:
    name, uid, home = guest.name, guest.uid, guest.home
    with system_user() as ben:
        for option in (("-M", "4096"), ("-S", "2"), ("-Q",)):
            for one in (guest, ben):
                assert one.run("ipcmk", *option).returncode == 0
        own(Path("/run/lock") / f"{name}-left", guest)
        theirs = ipc_of(ben.uid)
        try:
            assert len(ipc_of(uid)) == 3
            guest_accounts.erase(name)
            guest_accounts.erase(name)
            assert ipc_of(ben.uid) == theirs
        finally:
            ben.run("ipcrm", "-m", theirs[0], "-s", theirs[1], "-q", theirs[2])
    assert ipc_of(uid) == []
    assert not (Path("/run/lock") / f"{name}-left").exists() and not home.exists() and not is_there(name)


@pytest.mark.skipif("4294967295" not in Path("/proc/self/uid_map").read_text(), reason="this machine has few numbers")
def test_nobody_gets_the_number_of_a_former_guest() -> None:
    numbers = set()
    for _ in range(3):
        made = make()
        numbers.add(made.uid)
        assert guest_accounts.FIRST_NUMBER <= made.uid == made.gid <= guest_accounts.LAST_NUMBER
        guest_accounts.erase(made.name)
    assert len(numbers) == 3


def test_no_account_of_anybody_else_is_touched() -> None:
    with system_user() as ben:
        renamed = new_name()
        subprocess.run(["usermod", "--login", renamed, ben.name], check=True, capture_output=True)
        try:
            for what in (guest_accounts.leave, guest_accounts.erase):
                with pytest.raises(NotAllowed, match="no guest's"):
                    what(renamed)
            with pytest.raises(NotAllowed, match="no guest's"):
                guest_accounts.make(renamed, until=UNTIL + DAY)
        finally:
            subprocess.run(["usermod", "--login", ben.name, renamed], check=True, capture_output=True)
