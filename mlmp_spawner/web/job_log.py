"""A job's log as a page shows it: text, without colours, each line as a terminal would leave it.

``static/job_log.js`` does the same with what arrives later.
"""

from __future__ import annotations

import re

SHOWN = 256 * 1024
"""Bytes of a log that a page shows at once."""

_ESCAPE = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # colours, movements
    r"|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?"  # titles, links
    r"|\x1b[ -/]*[0-~]?"  # the rest
)
_CONTROL = re.compile(r"[\x00-\x07\x0b\x0c\x0e-\x1f\x7f-\x9f]")


def readable(data: bytes) -> str:
    """What a terminal would show of it: a progress bar that wrote over its line is there once."""
    text = _ESCAPE.sub("", data.decode("utf-8", "replace"))
    lines = _CONTROL.sub("", text).replace("\r\n", "\n").split("\n")
    return "\n".join(_left_standing(line) for line in lines)


def _left_standing(line: str) -> str:
    """What stays of a line that was written over from its beginning, and where characters were taken back."""
    line = next((part for part in reversed(line.split("\r")) if part), "")
    if "\b" not in line:
        return line
    left: list[str] = []
    for char in line:
        if char != "\b":
            left.append(char)
        elif left:
            left.pop()
    return "".join(left)
