"""Erases the folder of one user in the volume of all homes: the program of a pod, without anything of MLMP around it.

``python3 -I -c PROGRAM ROOT NAME UID GID``. Run as root, it goes on as the folder's user where a file server takes
root's rights away (root_squash). A folder of somebody else is never touched. It can be killed at any time and run
again. Whatever the user left there, links, millions of files, folders a hundred thousand deep, it follows nothing and
holds two folders open at a time.
"""

from __future__ import annotations

import os
import stat
import sys


class NotErased(Exception):
    """Why something is left, in one sentence."""


def erase(root: str, name: str, uid: int, gid: int) -> None:
    """Sees to it that there is no ``ROOT/NAME``.

    :raises NotErased: it is somebody else's. :raises OSError: a part of it can't be removed.
    """
    if name in ("", ".", "..") or "/" in name or min(uid, gid) < 1:
        raise NotErased(f"{name!r} of {uid}:{gid} is no name of a folder, or no user's account.")
    volume = os.open(root, os.O_PATH | os.O_DIRECTORY)
    try:
        try:
            _erase(volume, name, uid)
        except PermissionError:
            if os.geteuid() != 0:
                raise
            os.setgroups([])
            os.setgid(gid)
            os.setuid(uid)
            _erase(volume, name, uid)
    finally:
        os.close(volume)


def _erase(volume: int, name: str, uid: int) -> None:
    try:
        there = os.stat(name, dir_fd=volume, follow_symlinks=False)
    except FileNotFoundError:
        return
    if there.st_uid != uid:
        raise NotErased(f"The folder {name} belongs to uid {there.st_uid}, and its user is uid {uid}: it stays.")
    remove(volume, name)


def remove(within: int, name: str) -> None:
    """Removes what is called ``name`` in the folder that is open as ``within``: a file, a link, or a whole tree.

    Nobody else may be at work in it. What is in folders further down is moved up, and removed there.

    :raises OSError: a part can't be removed.
    """
    if not _is_folder(within, name):
        os.unlink(name, dir_fd=within)
        return
    top = _open(within, name)
    try:
        run, count = os.urandom(8).hex(), 0  # names that a run before this one did not give
        while entries := os.listdir(top):
            for entry in entries:
                if not _is_folder(top, entry):
                    os.unlink(entry, dir_fd=top)
                    continue
                inner = _open(top, entry)
                try:
                    count = _lift(inner, top, f".{run}", count)
                finally:
                    os.close(inner)
                os.rmdir(entry, dir_fd=top)
    finally:
        os.close(top)
    os.rmdir(name, dir_fd=within)


def _lift(inner: int, top: int, run: str, count: int) -> int:
    """Removes the files of a folder and moves its folders up; how many were moved in all."""
    for entry in os.listdir(inner):
        if _is_folder(inner, entry):
            os.chmod(entry, 0o700, dir_fd=inner)  # to move a folder of one's own one has to be let write into it
            os.rename(entry, f"{run}-{count}", src_dir_fd=inner, dst_dir_fd=top)
            count += 1
        else:
            os.unlink(entry, dir_fd=inner)
    return count


def _open(within: int, name: str) -> int:
    os.chmod(name, 0o700, dir_fd=within)  # it may be closed to its own user
    return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=within)


def _is_folder(within: int, name: str) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=within, follow_symlinks=False).st_mode)


def main(arguments: list[str]) -> int:
    """0 when there is no such folder any more; else 1, and why on stderr."""
    root, name, uid, gid = arguments
    try:
        erase(root, name, int(uid), int(gid))
    except NotErased as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(f"The folder {name} can't be erased: {error.strerror}.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
