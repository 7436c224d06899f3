"""The metrics of a job: numbers by name and step, from its own files or by a pattern from its log."""

from __future__ import annotations

from typing import Any

import re2

LONGEST_PATTERN = 1000
MOST_GROUPS = 20
STEP = "step"
"""The named group that is the step and no metric."""

_PATTERN_MEMORY = 1 << 20
"""Bytes that one compiled pattern may have, its automaton with it. RE2 takes linear time whatever the pattern."""


def compile_pattern(pattern: str) -> Any:
    """The compiled pattern, for lines of a log as UTF-8 bytes. Each of its named groups is a metric, but ``step``.

    :raises ValueError: it is none that RE2 takes, too long or too large, or names no metric.
    """
    if len(pattern) > LONGEST_PATTERN:
        raise ValueError(f"the pattern has {len(pattern)} characters; at most {LONGEST_PATTERN}")
    options = re2.Options()
    options.max_mem = _PATTERN_MEMORY
    options.log_errors = False
    try:
        compiled = re2.compile(pattern, options)
    except re2.error as error:
        said = error.args[0] if error.args else ""
        said = said.decode("utf-8", "replace") if isinstance(said, bytes) else said
        raise ValueError(
            f"RE2 can't take the pattern: {said} (it knows no lookaround and no backreferences)"
        ) from None
    if compiled.groups > MOST_GROUPS:
        raise ValueError(f"the pattern has {compiled.groups} groups; at most {MOST_GROUPS}")
    if not set(compiled.groupindex) - {STEP}:
        raise ValueError("the pattern names no metric; a named group does, such as loss=(?P<loss>[0-9.e+-]+)")
    return compiled
