"""Progress lines with times, and commands whose failure says what they said."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

BEGAN = time.monotonic()


class RigError(Exception):
    """The cluster can't be had; the text says why and what to do."""


def say(text: str) -> None:
    """A line on stderr, with the seconds since the program began."""
    print(f"{time.monotonic() - BEGAN:7.1f} s  {text}", file=sys.stderr, flush=True)


@contextmanager
def step(text: str) -> Iterator[None]:
    """Says what begins, and afterwards how long it took."""
    say(f"{text} …")
    began = time.monotonic()
    yield
    say(f"{text}: {time.monotonic() - began:.1f} s")


def run(
    *command: str | Path,
    text_in: str | None = None,
    env: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> str:
    """What the command printed. Raises RigError with the command and the end of what it said when it fails."""
    words = [str(word) for word in command]
    try:
        done = subprocess.run(words, input=text_in, env=env, cwd=folder, capture_output=True, text=True)
    except FileNotFoundError:
        raise RigError(f"{words[0]} is not here. tests/install.sh cluster installs what the cluster needs.") from None
    if done.returncode:
        said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-25:])
        raise RigError(f"`{' '.join(words)}` failed with status {done.returncode}:\n{said}")
    return done.stdout


def wait_until(true: Callable[[], bool], what: str, *, seconds: float, every: float = 0.1) -> None:
    """Raises RigError when it is not so within ``seconds``."""
    ends = time.monotonic() + seconds
    while not true():
        if time.monotonic() > ends:
            raise RigError(f"{what}: not within {seconds:g} s")
        time.sleep(every)
