"""Scalars out of TensorBoard's event files, as their records are written and no more of them.

A file is a row of records (length, its checksum, data, their checksum); the data are a protocol buffer ``Event``. Of
that four fields are needed, so that nothing of TensorBoard has to be installed beside the program that writes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

LONGEST = 1 << 20
"""Bytes of a record that is looked into: images and graphs are longer."""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FLOAT, _DOUBLE = 1, 2


@dataclass(frozen=True, slots=True)
class Scalar:
    """A value. ``at``: ms UTC."""

    name: str
    step: int
    at: int
    value: float


class Broken(Exception):
    """This is no event file, or it is damaged."""


def length_of(data: bytes) -> int:
    """How many bytes the first record has, with all that belongs to it; ``data`` has at least its first 12.

    :raises Broken: that can't be.
    """
    (length,) = struct.unpack_from("<Q", data)
    if length > 1 << 34:
        raise Broken(f"a record of {length} bytes")
    return 12 + int(length) + 4


def records(data: bytes) -> tuple[list[bytes], int]:
    """The whole records at the beginning of ``data``, without those that are too long, and how many bytes it was.

    :raises Broken: what is there can't be the beginning of a record.
    """
    found: list[bytes] = []
    at = 0
    while len(data) - at >= 12:
        end = at + length_of(data[at : at + 12])
        if end > len(data):
            break
        if end - at <= LONGEST:
            found.append(data[at + 12 : end - 4])
        at = end
    return found, at


def scalars(record: bytes) -> list[Scalar]:
    """The scalars of an event.

    :raises Broken: it is none.
    """
    at, step = 0.0, 0
    values: list[bytes] = []
    for number, kind, integer, data in _fields(record):
        if (number, kind) == (1, _FIXED64):
            (at,) = struct.unpack("<d", data)
        elif (number, kind) == (2, _VARINT):
            step = integer - (1 << 64) if integer >= 1 << 63 else integer
        elif (number, kind) == (5, _BYTES):
            values += [one for field, form, _, one in _fields(data) if (field, form) == (1, _BYTES)]
    if not 0 <= at < 1 << 40:
        raise Broken(f"a time of {at}")
    found = [_value(one) for one in values]
    return [Scalar(name, step, int(at * 1000), value) for name, value in found if name and value is not None]


def _value(summary: bytes) -> tuple[str, float | None]:
    """A ``Summary.Value``: its tag, and its number where it is one."""
    name = ""
    value: float | None = None
    for number, kind, _, data in _fields(summary):
        if (number, kind) == (1, _BYTES):
            name = data.decode(errors="replace")
        elif (number, kind) == (2, _FIXED32):
            (value,) = struct.unpack("<f", data)
        elif (number, kind) == (8, _BYTES):
            value = _tensor(data)
    return name, value


def _tensor(tensor: bytes) -> float | None:
    """The number in a tensor that is a single one."""
    form, found = 0, b""
    for number, kind, integer, data in _fields(tensor):
        if (number, kind) == (1, _VARINT):
            form = integer
        elif (number, kind) == (2, _BYTES) and any(field == 2 for field, *_ in _fields(data)):
            return None  # it has a shape
        elif number in (4, 5, 6):  # its bytes as they are, its floats, its doubles
            found = data
    code = {(_FLOAT, 4): "<f", (_DOUBLE, 8): "<d"}.get((form, len(found)))
    return None if code is None else float(struct.unpack(code, found)[0])


def _fields(message: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """The fields of a message: number, kind, and what it has: a varint's integer, or the bytes of all else.

    :raises Broken: it is none.
    """
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        kind, length, integer = key & 7, 0, 0
        if kind == _VARINT:
            integer, at = _varint(message, at)
        elif kind == _BYTES:
            length, at = _varint(message, at)
        elif kind in (_FIXED64, _FIXED32):
            length = 8 if kind == _FIXED64 else 4
        else:
            raise Broken(f"a field of kind {kind}")
        if at + length > len(message):
            raise Broken("a field that does not end")
        yield key >> 3, kind, integer, message[at : at + length]
        at += length


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise Broken("a number that does not end")
        value |= (data[at] & 0x7F) << shift
        at += 1
        if not data[at - 1] & 0x80:
            return value, at
    raise Broken("a number that is too long")
