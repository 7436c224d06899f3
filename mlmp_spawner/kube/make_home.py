"""Makes the folder of one user in the volume of all homes: the program of a pod, without anything of MLMP around it.

``python3 -I -c PROGRAM ROOT NAME UID GID [AROUND ...]``. Run as root, it gives the folder to its user; where a file
server takes root's rights away (root_squash), it makes the folder as that user instead. Run as the user, it does only
that. A folder that is there and belongs to its user is left as it is; one of somebody else is never given away, and
one of root's only while it is empty, as a run that was killed or the kubelet leaves it. It can be killed at any time
and run again. With AROUND it is in folders of the same user's, one in the other, which let everybody pass; where NAME
is empty then, only these are made.
"""

from __future__ import annotations

import os
import stat
import sys

NOBODY = 65534
"""Whom most file servers make of root. No user is it."""


class NotMade(Exception):
    """Why there is no folder for the user, in one sentence."""


def make(root: str, name: str, uid: int, gid: int) -> None:
    """Sees to it that ``ROOT/NAME`` is a folder of the user's, 0700 when it is made.

    :raises NotMade: it can't be.
    """
    if name in ("", ".", "..") or "/" in name or min(uid, gid) < 1:
        raise NotMade(f"{name!r} of {uid}:{gid} is no name of a folder, or no user's account.")
    os.umask(0)
    volume = os.open(root, os.O_PATH | os.O_DIRECTORY)  # not to read: squashed root may not
    try:
        if os.geteuid() != 0:
            _own(volume, name, "")
        elif not _given(volume, name, uid, gid):
            _become(uid, gid)
            _own(volume, name, "root (the file server takes its rights away: root_squash) nor ")
    finally:
        os.close(volume)


def make_within(root: str, around: list[str], name: str, uid: int, gid: int) -> None:
    """Sees to it that there are ``ROOT/AROUND/…`` and, below, ``NAME``.

    :raises NotMade: they can't be.
    """
    for each in around:
        make(root, each, uid, gid)
        folder = os.open(os.path.join(root, each), os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW)
        _become(uid, gid)  # all below is the user's, and closed to a root without rights
        os.fchdir(folder)
        os.close(folder)
        os.chmod(".", 0o711)  # noqa: S103 -- the node passes as well, where a file server takes its root's rights away
        root = "."
    if name or not around:
        make(root, name, uid, gid)


def _become(uid: int, gid: int) -> None:
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)


def _given(volume: int, name: str, uid: int, gid: int) -> bool:
    """As root; False where root has no rights in this volume."""
    there, made = _look(volume, name), False
    if there is not None and there.st_uid == NOBODY != uid and _removed(volume, name):
        there = None  # what a killed run began as root and came to belong to nobody
    if there is None:
        try:
            os.mkdir(name, 0o700, dir_fd=volume)
            made = True
        except FileExistsError:
            pass  # somebody was quicker
        except PermissionError:
            return False
        there = _look(volume, name)
        if made and there is not None and there.st_uid not in (0, uid) and _removed(volume, name):
            return False
    if there is None or there.st_uid == 0:
        return _given_away(volume, name, uid, gid)
    _belongs(there, name, uid)
    return True


def _given_away(volume: int, name: str, uid: int, gid: int) -> bool:
    """The empty folder of root's; False where root may give nothing away and has removed it again."""
    folder = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=volume)
    try:
        there = os.fstat(folder)  # of what was opened, whatever has come into its place since
        if there.st_uid != 0:
            _belongs(there, name, uid)
            return True
        if os.listdir(folder):
            raise NotMade(
                f"The folder {name} belongs to root and is not empty, so it is no home that was begun. If it is "
                f"{name}'s, give it to them by chown -R {uid}:{gid}; else rename the folder or the user."
            )
        os.fchmod(folder, 0o700)
        os.fchown(folder, uid, gid)  # last: what is the user's is done
    except PermissionError:
        if _removed(volume, name):
            return False
        raise NotMade(
            f"The folder {name} belongs to root, and root may not give it away here: chown it to {uid}:{gid}."
        ) from None
    finally:
        os.close(folder)
    return True


def _own(volume: int, name: str, tried: str) -> None:
    """As the user. ``tried``: who else has, for the reason."""
    uid = os.geteuid()
    try:
        os.mkdir(name, 0o700, dir_fd=volume)
    except FileExistsError:
        pass
    except PermissionError:
        raise NotMade(_why_not(os.stat(volume), name, tried)) from None
    else:
        # The volume's group and its mark are taken on by what is made there.
        if os.stat(name, dir_fd=volume, follow_symlinks=False).st_gid != os.getegid():
            os.chown(name, -1, os.getegid(), dir_fd=volume, follow_symlinks=False)
        os.chmod(name, 0o700, dir_fd=volume)
    there = _look(volume, name)
    if there is not None:
        _belongs(there, name, uid)


def _why_not(root: os.stat_result, name: str, tried: str) -> str:
    who = f"{os.getuid()}:{os.getgid()}"
    return (
        f"{'Neither ' if tried else ''}{tried}{who} may {'' if tried else 'not '}make a folder in this volume, which "
        f"belongs to {root.st_uid}:{root.st_gid} with mode {root.st_mode & 0o7777:04o}. Let everybody make folders "
        f"there (chmod 1777)"
        + (", or export it with no_root_squash" if tried else "")
        + f", or make the folder {name} there yourself, 0700 and of {who}."
    )


def _look(volume: int, name: str) -> os.stat_result | None:
    try:
        found = os.stat(name, dir_fd=volume, follow_symlinks=False)
    except FileNotFoundError:
        return None
    if not stat.S_ISDIR(found.st_mode):
        raise NotMade(f"{name} in this volume is no folder: remove it.")
    return found


def _removed(volume: int, name: str) -> bool:
    """Whether it was empty, and could be removed."""
    try:
        os.rmdir(name, dir_fd=volume)
    except OSError:
        return False
    return True


def _belongs(there: os.stat_result, name: str, uid: int) -> None:
    if there.st_uid != uid:
        raise NotMade(
            f"The folder {name} belongs to uid {there.st_uid}, and its user is uid {uid}. Whose files are they? "
            "Give it to its user by chown -R. (If it is new: an export with all_squash is not for homes.)"
        )


def main(arguments: list[str]) -> int:
    """0 when the folder is there; else 1, and why on stderr."""
    root, name, uid, gid, *around = arguments
    try:
        make_within(root, around, name, int(uid), int(gid))
    except NotMade as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(f"The folder {name} can't be made: {error.strerror}.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
