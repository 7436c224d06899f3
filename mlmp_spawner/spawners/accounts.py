"""Accounts of this machine: how a process of root's becomes one of theirs, and a home where one has none.

It imports next to nothing, since ``mlmp run`` starts with every server.
"""

from __future__ import annotations

import os
import pwd
from contextlib import suppress
from pathlib import Path

from mlmp_spawner.errors import NotAllowed

SPARED = "-900"
# What the kernel ends last when memory runs out: without its parent nobody would end a server on time.


def become_user(name: str) -> None:
    """Turns this process, which is root's, into one of user ``name``, for good.

    :raises KeyError: there is no such user. :raises PermissionError: it would stay root.
    """
    user = pwd.getpwnam(name)
    if user.pw_uid == 0:
        raise PermissionError(f"{name} is root, and servers of root are not started")
    spare("0")
    os.initgroups(name, user.pw_gid)
    os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
    os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)
    os.umask(0o077)


def spare(score: str) -> None:
    """How soon the kernel ends this process when memory runs out; in a container it may not be for us to say."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(score)


def make_home(account: pwd.struct_passwd) -> None:
    """Makes the home of an account, 0700, if it is not there.

    :raises OSError: it can't be made. :raises NotAllowed: somebody else could put a link in its place.
    """
    home = Path(account.pw_dir)
    if os.path.lexists(home):
        return
    around = home.parent.stat()
    if around.st_uid != 0 or around.st_mode & 0o022:
        raise NotAllowed(
            f"Your home {home} is not there, and {home.parent} is not root's alone.",
            hint="Ask the people who run this machine to make it.",
        )
    os.mkdir(home, 0o700)
    os.chown(home, account.pw_uid, account.pw_gid, follow_symlinks=False)
