"""Accounts and groups of this machine, where "there is none" and "nobody answers" are two answers.

Python's ``pwd`` and ``grp`` raise KeyError for both: with sssd or nslcd away, all would look as if they had left.
"""

from __future__ import annotations

import ctypes
import errno
import os
from typing import Any, NamedTuple

from mlmp_spawner.errors import Unavailable

_LIBC = ctypes.CDLL(None)
_FIRST, _LARGEST = 1 << 14, 1 << 26  # bytes; a group with very many members needs much
_NOBODYS = 0xFFFFFFFE  # a number that no group has


class Account(NamedTuple):
    """As ``pwd`` has it, as far as it is needed here."""

    pw_name: str
    pw_uid: int
    pw_gid: int


class Group(NamedTuple):
    """As ``grp`` has it, as far as it is needed here."""

    gr_name: str
    gr_gid: int


class _Account(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p), ("password", ctypes.c_char_p), ("uid", ctypes.c_uint32), ("gid", ctypes.c_uint32),
        ("about", ctypes.c_char_p), ("home", ctypes.c_char_p), ("shell", ctypes.c_char_p),
    ]  # fmt: skip


class _Group(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p), ("password", ctypes.c_char_p), ("gid", ctypes.c_uint32),
        ("members", ctypes.c_void_p),
    ]  # fmt: skip


def account(name: str) -> Account:
    """An account by any of its names. :raises KeyError: there is none. :raises Unavailable: nobody answers."""
    return Account(*_look("getpwnam_r", _Account, name))


def account_of(number: int) -> Account:
    """An account by its number. :raises KeyError: there is none. :raises Unavailable: nobody answers."""
    return Account(*_look("getpwuid_r", _Account, number))


def group(name: str) -> Group:
    """A group by its name. :raises KeyError: there is none. :raises Unavailable: nobody answers."""
    return Group(*_look("getgrnam_r", _Group, name))


def groups_of(name: str) -> list[str]:
    """The names of all groups of an account.

    :raises KeyError: there is no such account. :raises Unavailable: nobody answers.
    """
    found = []
    for number in os.getgrouplist(name, account(name).pw_gid):
        try:
            found.append(str(_look("getgrgid_r", _Group, number)[0]))
        except KeyError:  # a group without a name can't be named in limits either
            continue
    return sorted(found)


def check_that_groups_are_told() -> None:
    """A list of somebody's groups lacks those of a source that is away, and does not say so. This asks every source.

    :raises Unavailable: one is away.
    """
    try:
        _look("getgrgid_r", _Group, _NOBODYS)
    except KeyError:
        return


def _look(function: str, kind: type[_Account | _Group], wanted: str | int) -> tuple[Any, ...]:
    """Only 0 without a result means that there is none: nslcd's part says ENOENT when nslcd is away."""
    if isinstance(wanted, str) and "\0" in wanted:
        raise KeyError(wanted)
    key: Any = ctypes.c_char_p(os.fsencode(wanted)) if isinstance(wanted, str) else ctypes.c_uint32(wanted)
    size = _FIRST
    while True:
        found, result, room = kind(), ctypes.c_void_p(), ctypes.create_string_buffer(size)
        code = _LIBC[function](key, ctypes.byref(found), room, ctypes.c_size_t(size), ctypes.byref(result))
        if code == errno.ERANGE and size < _LARGEST:
            size *= 4
        elif code:
            raise Unavailable(f"The accounts of this machine can't be read: {os.strerror(code)}.")
        elif not result.value:
            raise KeyError(wanted)
        else:
            name = os.fsdecode(found.name)
            return (name, found.uid, found.gid) if isinstance(found, _Account) else (name, found.gid)
