"""Who may go where among the directories in which students hand in.

On a lab machine ``ROOT/COURSE/STUDENT/files``: only the innermost is a student's. The two around it are root's and
say who comes by, so whoever teaches changes without a file of anybody's being touched, and no mode that a student
gives lets others in. On a cluster ``.hand-in/COURSE/STUDENT`` in the claim of all homes, and what a pod mounts of it
says who comes by, although all are the same account.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass

from mlmp_spawner.rules.courses import Course

INNER = "files"
IN_CLAIM = ".hand-in"
"""No user's folder is called so."""
IN_POD = "/mnt/hand-in"

READ, WRITE, PASS = 4, 2, 1
_VERSION = 2
_OWNER, _USER, _GROUP, _MASK, _OTHERS = 0x01, 0x02, 0x04, 0x10, 0x20
_NOBODY_IN_PARTICULAR = 0xFFFFFFFF


def directory_of(course: Course) -> str:
    """The name of a course's directory: of another course that once had the name it is another."""
    return f"{course.name}.{course.created_at}"


@dataclass(frozen=True, slots=True)
class InPod:
    """What a server's pod sees of a course: a student's own folder; all of them, to read, where ``student`` is ""."""

    course: str
    around: tuple[str, ...]
    student: str

    @property
    def path(self) -> str:
        """In the claim of all homes."""
        return "/".join((*self.around, self.student)).rstrip("/")

    @property
    def place(self) -> str:
        """In the pod."""
        return f"{IN_POD}/{self.course}"


def in_pod(course: Course, student: str = "") -> InPod:
    """What somebody's pod sees. :param student: their directory's name; "": they teach the course."""
    return InPod(course.name, (IN_CLAIM, directory_of(course)), student)


def of_course(teachers: Iterable[int]) -> bytes:
    """Who teaches (uids) may list it; all others only pass, to their own."""
    return _acl(teachers, others=PASS)


def of_student(student: int, teachers: Iterable[int]) -> bytes:
    """The student and who teaches come in, nobody else."""
    return _acl((student, *teachers), others=0)


def of_files() -> bytes:
    """What is made within can be read by all who come so far, whatever the umask of who makes it."""
    return _acl((), others=READ | PASS)


def _acl(readers: Iterable[int], *, others: int) -> bytes:
    """A POSIX access control list as Linux keeps it (``system.posix_acl_access``); its owner may do everything."""
    entries = [(_OWNER, READ | WRITE | PASS, _NOBODY_IN_PARTICULAR)]
    entries += [(_USER, READ | PASS, uid) for uid in sorted(set(readers) - {0})]
    entries += [(_GROUP, others, _NOBODY_IN_PARTICULAR)]
    if len(entries) > 2:
        entries += [(_MASK, READ | PASS, _NOBODY_IN_PARTICULAR)]
    entries += [(_OTHERS, others, _NOBODY_IN_PARTICULAR)]
    return struct.pack("<I", _VERSION) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
