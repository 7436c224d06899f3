"""The log of a container as the cluster sends it: lines with their times, from which one place is found again.

A connection breaks, or the service is killed, and the log is asked for anew from a whole second on: what was taken
before is passed over by counting. Where the node has rotated the file meanwhile the lines that were counted are not
there any more; the times tell, so that none of the new ones is passed over in their place. Pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

LONGEST = 64 << 10
"""Bytes of a line that are waited for; what is longer comes in pieces."""
BEHIND = 2
"""Seconds by which lines of standard output and of standard error may be out of order."""

_PREFIX = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d) ")
_NANO = 10**9


@dataclass(slots=True)
class Position:
    """How far a log was taken. ``counts``: lines by the second of their time, the last few of those; ``last``: the
    latest time, in ns; ``inside``: bytes that were taken of the line after them, whose time is ``inside_at``."""

    counts: dict[int, int] = field(default_factory=dict)
    last: int = -1
    inside: int = 0
    inside_at: int = -1

    @property
    def since(self) -> int | None:
        """From where it has to be asked for, in ms UTC; None: from its beginning."""
        return max(0, min(self.counts)) * 1000 if self.counts else None

    def to_json(self) -> dict[str, Any]:
        """For a file."""
        counts = {str(second): count for second, count in self.counts.items()}
        return {"counts": counts, "last": self.last, "inside": self.inside, "inside_at": self.inside_at}

    @classmethod
    def of_json(cls, said: dict[str, Any]) -> Position:
        """:raises ValueError, KeyError, TypeError, AttributeError: it is none."""
        counts = {int(second): int(count) for second, count in said["counts"].items()}
        return cls(counts, int(said["last"]), int(said["inside"]), int(said["inside_at"]))


class Lines:
    """Takes what comes over one connection, and gives what is new of it.

    :param position: how far the log was taken; it moves on.
    """

    def __init__(self, position: Position) -> None:
        self.position = position
        self._to_skip = sum(position.counts.values())
        self._skip_inside = position.inside
        self._buffer = b""
        self._begun = False
        self._skipping = False
        self._time = -1

    def add(self, data: bytes) -> list[bytes]:
        """The new pieces: whole lines with their ends, and parts of those that are too long."""
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        found = [self._take(line + b"\n") for line in lines]
        if len(self._buffer) > LONGEST:
            found.append(self._take(self._buffer))
            self._buffer = b""
        return [piece for piece in found if piece]

    def end(self) -> list[bytes]:
        """What is left, once nothing will come any more: a line without an end."""
        rest, self._buffer = self._buffer, b""
        return [self._take(rest)] if rest else []

    def _take(self, piece: bytes) -> bytes:
        if not self._begun:
            piece = self._begin(piece)
        over = piece.endswith(b"\n")
        kept = b"" if self._skipping else self._new(piece)
        if over and not self._skipping:
            self._count()
        elif not self._skipping:
            self.position.inside += len(kept)
            self.position.inside_at = self._time
        self._begun = not over
        return kept

    def _begin(self, piece: bytes) -> bytes:
        """The line without its time; decides whether it was taken before."""
        self._begun = True
        found = _PREFIX.match(piece)
        if found is not None:
            piece = piece[found.end() :]
            self._time = _time(found)
        self._skipping = self._to_skip > 0 and self._time <= self.position.last
        self._to_skip = self._to_skip - 1 if self._skipping else 0
        if not self._skipping and self._time != self.position.inside_at:
            self._skip_inside = self.position.inside = 0
        return piece

    def _new(self, piece: bytes) -> bytes:
        old = min(self._skip_inside, len(piece))
        self._skip_inside -= old
        return piece[old:]

    def _count(self) -> None:
        position, second = self.position, max(0, self._time) // _NANO
        position.inside, position.inside_at, position.last = 0, -1, max(position.last, self._time)
        newest = max(0, position.last) // _NANO
        position.counts[second] = position.counts.get(second, 0) + 1
        for old in [one for one in position.counts if one < newest - BEHIND]:
            del position.counts[old]
        # As many as there are from that second on, so that counting from there is right though one second had none.
        position.counts.setdefault(newest - BEHIND, 0)


def _time(found: re.Match[bytes]) -> int:
    """In ns UTC."""
    whole, part, zone = (one.decode() if one else "" for one in found.groups())
    try:
        at = datetime.fromisoformat(whole + ("+00:00" if zone == "Z" else zone))
    except ValueError:
        return -1
    return int(at.timestamp()) * _NANO + int(part.ljust(9, "0")[:9])
