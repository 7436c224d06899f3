"""What a job prints and notes, on its way into files that nothing may fill the disk with.

Everything here comes from a user's program: the amount is bounded, and what is no note of a known kind is dropped.
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

TAIL = 64 << 10
"""Bytes of the end of a log that are kept, however long it is."""
METRICS_LIMIT = 64 << 20
"""Bytes of the metrics of one attempt."""
LONGEST_NOTE = 256 << 10
MOST_VALUES = 256
LONGEST_NAME = 200
LONGEST_MESSAGE = 500

_CONTROL = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Log:
    """The output in a file of at most ``limit`` bytes: its beginning as it comes and, once it ended, its last words.

    :param file: opened to append. :param cut_file: where it says how many bytes were left out, once any were.
    """

    def __init__(self, file: int, cut_file: int, limit: int) -> None:
        self.file = file
        self.cut_file = cut_file
        self.limit = limit
        self.left_out = 0
        self.tail = b""
        self._lock = threading.Lock()
        self.measure()

    def measure(self) -> None:
        """Sees how much the file has room for, such as after it was cut."""
        self.room = max(0, self.limit - TAIL - os.fstat(self.file).st_size)

    def add(self, data: bytes) -> None:
        """Takes a piece. No failure of the disk holds up who prints."""
        with self._lock:
            kept, rest = data[: self.room], data[self.room :]
            if kept:
                self.room -= len(kept)
                _write(self.file, kept)
            if rest and not self.left_out:
                _write(self.file, b"\n[mlmp: no more of this output is kept, but for its last words]\n")
            self.left_out += len(rest)
            self.tail = (self.tail + data)[-TAIL:]

    def end(self) -> None:
        """Writes the last words, where something was left out."""
        with self._lock:
            last = self.tail[-self.left_out :] if self.left_out else b""
            cut = self.left_out - len(last)
            if cut:
                _write(self.file, f"[mlmp: {cut} bytes were left out here]\n".encode())
                _write(self.cut_file, str(cut).encode())
            _write(self.file, last)

    def last_line(self) -> str:
        """The last line that says something, fit to be shown; "" where there is none."""
        with self._lock:
            lines = self.tail[-4096:].decode(errors="replace").splitlines()
        return next((line for line in map(readable, reversed(lines)) if line), "")


class Notes:
    """What the part of us that runs with the user's rights notes: metrics, and how the program ended.

    :param file: for the metrics, one JSON line each, opened to append.
    """

    def __init__(self, file: int, limit: int = METRICS_LIMIT) -> None:
        self.file = file
        self.room = max(0, limit - os.fstat(file).st_size)
        self.ended: dict[str, Any] = {}
        self._rest = b""

    def add(self, data: bytes) -> None:
        """Takes a piece: lines, the last of which may go on in the next piece."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if len(line) <= LONGEST_NOTE:
                self._note(line)
        if len(self._rest) > LONGEST_NOTE:
            self._rest = b"\0" * (LONGEST_NOTE + 1)  # dropped when it ends, whatever follows

    def _note(self, line: bytes) -> None:
        try:
            note = json.loads(line)
        except (ValueError, RecursionError):
            return
        if not isinstance(note, dict):
            return
        if isinstance(note.get("ended"), dict):
            self.ended = outcome(note["ended"])
        elif (found := metrics(note)) is not None:
            text = json.dumps(found, separators=(",", ":")).encode() + b"\n"
            if len(text) <= self.room:
                self.room -= len(text)
                _write(self.file, text)


def metrics(note: dict[str, Any]) -> dict[str, Any] | None:
    """A line of metrics as it is kept, of numbers alone; None where it is none."""
    at, step, values = note.get("at"), note.get("step"), note.get("values")
    if type(at) is not int or not (step is None or type(step) is int) or not isinstance(values, dict):
        return None
    if not 0 <= at < 1 << 53 or (step is not None and abs(step) >= 1 << 53):
        return None
    named = {name[:LONGEST_NAME]: _number(value) for name, value in list(values.items())[:MOST_VALUES]}
    kept = {name: value for name, value in named.items() if value is not None}
    return {"at": at, "step": step, "values": kept} if kept else None


def _number(value: Any) -> float | None:
    if type(value) not in (int, float):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def outcome(note: dict[str, Any]) -> dict[str, Any]:
    """How the program ended, as far as its note says so in a way that can be."""
    found: dict[str, Any] = {}
    for name, least, most in (("exit_status", 0, 255), ("signal", 1, 64)):
        if type(note.get(name)) is int and least <= note[name] <= most:
            found[name] = note[name]
    if note.get("reason") == "start":
        found["reason"] = "start"
    if isinstance(note.get("message"), str):
        found["message"] = readable(note["message"])
    return found


def readable(text: str) -> str:
    """``text`` as one line that can be shown, and written anywhere: no control characters, no half ones, not too
    long."""
    whole = text[: 4 * LONGEST_MESSAGE].encode("utf-8", "replace").decode()
    return _CONTROL.sub("", whole.replace("\n", " "))[:LONGEST_MESSAGE].strip()


def pump(source: int, take: Callable[[bytes], None]) -> threading.Thread:
    """Begins to hand over what comes out of a pipe, until all its writers are gone."""

    def run() -> None:
        with open(source, "rb", buffering=0) as file:
            while data := file.read(1 << 16):
                take(data)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def _write(file: int, data: bytes) -> None:
    with suppress(OSError):  # a full disk: what is lost is a piece of the log, not the job
        while data:
            data = data[os.write(file, data) :]
