"""Where students of a lab machine hand in: made by root, on a path that no user has a say in.

Only ``files`` is a student's own; it is made and given away below a directory of root's, into which nobody writes.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from mlmp_spawner.errors import NotAllowed
from mlmp_spawner.operations.site import Site
from mlmp_spawner.rules import hand_in as rules
from mlmp_spawner.rules.courses import Course, Role
from mlmp_spawner.rules.storage import directory_name
from mlmp_spawner.store import courses as store
from mlmp_spawner.store.transaction import read

ACCESS, DEFAULT = "system.posix_acl_access", "system.posix_acl_default"


@dataclass(frozen=True, slots=True)
class Place:
    """A course in which somebody hands in or reads what others did."""

    course: Course
    role: Role
    teachers: tuple[str, ...]


def places(site: Site, user: str) -> list[Place]:
    """Those of somebody's courses where things are handed in."""
    with read(site.engine) as connection:
        mine = store.with_member(connection, user).values()
        return [
            Place(course, member.role, tuple(one.name for one in store.members(connection, course.name, "instructor")))
            for course, member in mine
            if course.hand_in and member.role != "guest"
        ]


def prepare(root: Path, account: pwd.struct_passwd, found: Iterable[Place]) -> dict[str, str]:
    """Makes what is not there and lets in who teaches now, and nobody who did; where it is, by the course's name.

    May be killed at any time and called again, by several at once too.

    :raises OSError: it can't be made, as on a file system without access control lists.
    :raises NotAllowed: the directory is not root's alone.
    """
    made: dict[str, str] = {}
    for one in found:
        name = rules.directory_of(one.course)
        uids = frozenset(_uids(one.teachers))
        with _root(root) as top, _directory(top, name) as course:
            _set(course, rules.of_course(uids))
            if one.role == "student":
                _make_student(course, directory_name(account.pw_name), account, uids)
            for student in os.listdir(course):
                _let_in(course, student, uids)
        below = (directory_name(account.pw_name), rules.INNER) if one.role == "student" else ()
        made[one.course.name] = str(root.joinpath(name, *below))
    return made


@contextmanager
def _root(root: Path) -> Iterator[int]:
    """:raises NotAllowed: somebody else may write there, or around it."""
    if not os.path.lexists(root):
        os.makedirs(root, mode=0o711, exist_ok=True)
    for place in (root, *root.parents):
        status = place.lstat()
        if status.st_uid != 0 or status.st_mode & 0o022:
            raise NotAllowed(f"{place} is not root's alone, so nothing can be handed in below it.")
    number = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fchmod(number, 0o711)
        yield number
    finally:
        os.close(number)


@contextmanager
def _directory(around: int, name: str) -> Iterator[int]:
    """A directory of root's, made for nobody where it is not there."""
    with suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=around)
    number = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=around)
    try:
        yield number
    finally:
        os.close(number)


def _make_student(course: int, name: str, account: pwd.struct_passwd, teachers: frozenset[int]) -> None:
    with _directory(course, name) as gate, _directory(gate, rules.INNER) as files:
        if os.fstat(files).st_uid == 0:
            os.fchmod(files, 0o755)
            os.setxattr(files, DEFAULT, rules.of_files())
            os.fchown(files, account.pw_uid, account.pw_gid)  # last: what is the student's is done
        _set(gate, rules.of_student(account.pw_uid, teachers))


def _let_in(course: int, student: str, teachers: frozenset[int]) -> None:
    """Who teaches comes into what is there; whose it is says the directory within."""
    with _directory(course, student) as gate:
        try:
            owner = os.stat(rules.INNER, dir_fd=gate, follow_symlinks=False).st_uid
        except FileNotFoundError:
            return
        if owner != 0:
            _set(gate, rules.of_student(owner, teachers))


def _set(directory: int, acl: bytes) -> None:
    os.setxattr(directory, ACCESS, acl)


def _uids(names: Iterable[str]) -> Iterator[int]:
    """Those who have an account here."""
    for name in names:
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            continue
        if found.pw_uid != 0:
            yield found.pw_uid
