"""Who owns what on a lab machine, and what is refused because root would run it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from mlmp_spawner.admin import accounts
from mlmp_spawner.admin.accounts import Account
from mlmp_spawner.client.cli import cli
from mlmp_spawner.errors import ConfigurationError
from tests.system_users import why_not

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())

OWN = Account("somebody", 12345, 12345)


def test_a_configuration_that_others_may_change_is_not_run(tmp_path: Path) -> None:
    file = tmp_path / "jupyterhub_config.py"
    accounts.check_config(file)  # there is none
    file.write_text("")
    accounts.check_config(file)
    file.chmod(0o664)
    with pytest.raises(ConfigurationError, match="others than root may change"):
        accounts.check_config(file)
    file.chmod(0o644)
    os.chown(file, OWN.uid, 0)
    with pytest.raises(ConfigurationError, match=f"chown root {file}"):
        accounts.check_config(file)
    os.chown(file, 0, 0)
    tmp_path.chmod(0o777)
    with pytest.raises(ConfigurationError, match=f"chmod go-w {tmp_path}"):
        accounts.check_config(file)


def test_a_directory_with_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(ConfigurationError, match="has other things in it"):
        accounts.prepare(tmp_path, OWN)
    assert tmp_path.stat().st_gid != OWN.gid


def test_only_database_deadlines_and_jobs_are_the_account_s(tmp_path: Path) -> None:
    accounts.prepare(tmp_path, OWN)
    owned = {path.name for path in tmp_path.rglob("*") if path.stat().st_uid == OWN.uid}
    assert owned == {"db", "deadlines", "jobs"}
    assert not any(path.stat().st_mode & 0o007 for path in (tmp_path, *tmp_path.rglob("*")))
    (tmp_path / "up.json").write_text("{}")
    accounts.prepare(tmp_path, OWN)  # again, at the next start


def test_the_database_is_the_account_s_from_the_first_byte_and_never_a_link(tmp_path: Path) -> None:
    file = tmp_path / "mlmp.sqlite"
    accounts.make_database(file, OWN)
    assert (file.stat().st_uid, file.stat().st_mode & 0o777) == (OWN.uid, 0o600)
    link = tmp_path / "other.sqlite"
    link.symlink_to(tmp_path / "shadow")
    accounts.make_database(link, OWN)
    assert not (tmp_path / "shadow").exists()


def test_what_the_account_can_not_read_is_named(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.write_text("")
    closed.chmod(0o600)
    nobody = accounts.find("daemon")
    with pytest.raises(ConfigurationError) as caught:
        accounts.check_reach(nobody, [closed])
    assert "daemon" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "told"), [("root", "proxy and service need no root"), ("not-there", "useradd --sys")]
)
def test_an_account_that_will_not_do_is_told_with_one_that_will(name: str, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        accounts.find(name)


def test_groups_that_are_not_there_are_told() -> None:
    with pytest.raises(ConfigurationError, match="groupadd not-there"):
        accounts.admin_groups(["not-there"])


def test_check_tells_the_missing_account(tmp_path: Path) -> None:
    told = CliRunner().invoke(
        cli, ["check", "--auth", "pam", "--port", "0", "--data", str(tmp_path), "--account", "not-there"]
    )
    assert told.exit_code == 2
    assert "wrong  account: there is no account 'not-there'" in told.stdout
