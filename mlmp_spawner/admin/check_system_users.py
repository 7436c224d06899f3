"""What ``mlmp check --auth pam`` looks at besides: accounts, PAM, who may read what, and what can be enforced."""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Iterator
from pathlib import Path

from mlmp_spawner import cgroups
from mlmp_spawner.admin import accounts
from mlmp_spawner.admin.accounts import Account
from mlmp_spawner.errors import ConfigurationError
from mlmp_spawner.operations.check import Finding
from mlmp_spawner.settings import shared_file

PAM = Path("/etc/pam.d")
SHADOW = Path("/etc/shadow")
_PEOPLE = range(1000, 60_000)
_NAMED = 5


def findings(data: Path, catalog: Path, account: str, pam_service: str) -> Iterator[Finding]:
    """All of it. Most can be seen by root alone."""
    if os.geteuid() != 0:
        yield Finding(
            "account", "only root can look at passwords, permissions and control groups", "sudo mlmp check …"
        )
        return
    try:
        own = accounts.find(account)
    except ConfigurationError as error:
        yield from (Finding("account", problem) for problem in error.problems)
    else:
        yield from _reach(data, catalog, own)
        yield from _owners(data, own)
    yield from _pam(pam_service)
    if not any(_members(name) for name in accounts.admin_groups([])):
        yield Finding("admins", "nobody is in the groups sudo and wheel", "name one with --admin-group", wrong=False)
    yield from _homes()
    for kind, why in cgroups.not_enforced().items():
        message = f"a booking's share of {kind} is not enforced: {why}"
        yield Finding("enforced", message, "pages say so too", wrong=False)


def _reach(data: Path, catalog: Path, own: Account) -> Iterator[Finding]:
    files = [shared_file("hub_config") / "jupyterhub_config.py", *catalog.glob("*.y*ml")]
    files += [path for path in (data / "up.json", data / "jupyterhub_config.py") if path.exists()]
    try:
        accounts.check_reach(own, files)
    except ConfigurationError as error:
        yield from (Finding("account", problem) for problem in error.problems)


def _owners(data: Path, own: Account) -> Iterator[Finding]:
    """Whether somebody but root, or but the account, may change what they rely on."""
    if not (data / "up.json").exists():
        return
    for name, (uid, gid, mode) in accounts.owners(own).items():
        folder = data / name
        if not folder.is_dir():
            continue
        status = folder.stat()
        if (status.st_uid, status.st_gid, status.st_mode & 0o7777) != (uid, gid, mode):
            found = f"{folder.resolve()} is {status.st_uid}:{status.st_gid} {status.st_mode & 0o7777:04o}"
            yield Finding("data", f"{found}, not {uid}:{gid} {mode:04o}", "`mlmp up --auth pam` mends it at its start")
    try:
        accounts.check_config(data / "jupyterhub_config.py")
    except ConfigurationError as error:
        yield from (Finding("data", problem) for problem in error.problems)


def _pam(service: str) -> Iterator[Finding]:
    try:
        import pamela  # noqa: F401 -- it loads the system's library
    except (ImportError, OSError) as error:
        yield Finding("pam", f"PAM can't be used: {error}", "install libpam0g (Debian) or pam (Fedora)")
    if PAM.is_dir() and not (PAM / service).exists():
        valid = "c.PAMAuthenticator.service names another"
        yield Finding("pam", f"there is no {PAM / service}: nobody can log in by it", valid)
    if not os.access(SHADOW, os.R_OK):
        message = f"{SHADOW} can't be read: passwords of this machine can't be checked"
        yield Finding("pam", message, "fine where all accounts are in a directory service", wrong=False)


def _homes() -> Iterator[Finding]:
    open_ones = []
    for user in pwd.getpwall():
        try:
            if user.pw_uid in _PEOPLE and Path(user.pw_dir).stat().st_mode & 0o077:
                open_ones.append(user.pw_dir)
        except OSError:
            continue
    if open_ones:
        more = f" and {len(open_ones) - _NAMED} more" if len(open_ones) > _NAMED else ""
        message = f"homes that others can look into: {', '.join(sorted(open_ones)[:_NAMED])}{more}"
        yield Finding("homes", message, "chmod 700 them; HOME_MODE 0700 in /etc/login.defs for new ones", wrong=False)


def _members(group: str) -> list[str]:
    found = grp.getgrnam(group)
    return [*found.gr_mem, *(user.pw_name for user in pwd.getpwall() if user.pw_gid == found.gr_gid)]
