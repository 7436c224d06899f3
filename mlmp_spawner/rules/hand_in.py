"""Who may go where among the directories in which students hand in.

``ROOT/COURSE/STUDENT/files``: only the innermost is a student's. The two around it are root's and say who comes by, so
whoever teaches changes without a file of anybody's being touched, and no mode that a student gives lets others in.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from mlmp_spawner.rules.courses import Course

INNER = "files"

READ, WRITE, PASS = 4, 2, 1
_VERSION = 2
_OWNER, _USER, _GROUP, _MASK, _OTHERS = 0x01, 0x02, 0x04, 0x10, 0x20
_NOBODY_IN_PARTICULAR = 0xFFFFFFFF


def directory_of(course: Course) -> str:
    """The name of a course's directory: of another course that once had the name it is another."""
    return f"{course.name}.{course.created_at}"


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
