"""The host key that all of a user's servers share: made once, kept in the home, used from a copy."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from mlmp_spawner import private_files
from mlmp_spawner.errors import ConfigurationError

NAME = "host_key"


def prepare(kept: Path, runtime: Path) -> str:
    """Puts the host key into ``runtime`` and returns its public line. ``kept``: the user's directory for it.

    A copy, because sshd refuses a key file that others may read, and some volumes make all files group-readable.

    :raises ConfigurationError: it can't be kept, or made.
    """
    try:
        kept.mkdir(mode=0o700, parents=True, exist_ok=True)
        private = _use(kept / NAME, runtime)
        if private is None:
            _make(kept)
            private = _use(kept / NAME, runtime)
    except (OSError, subprocess.CalledProcessError) as error:
        raise ConfigurationError([f"SSH's host key can't be kept in {kept}: {error}"]) from None
    if private is None:
        raise ConfigurationError([f"{kept / NAME} is no private key; remove it, and a new one is made"])
    return private


def _use(source: Path, runtime: Path) -> str | None:
    """Copies the key; its public line, or None where there is none."""
    try:
        content = source.read_bytes()
    except FileNotFoundError:
        return None
    copy = runtime / NAME
    private_files.write(copy, content)
    made = subprocess.run(
        ["ssh-keygen", "-y", "-P", "", "-f", str(copy)],
        capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    if made.returncode != 0:
        raise ConfigurationError([f"{source} is no private key; remove it, and a new one is made"])
    return " ".join(made.stdout.split()[:2])


def _make(kept: Path) -> None:
    """Makes the key in one step as far as others see; whoever is first wins, as several servers may start at once."""
    with tempfile.TemporaryDirectory(dir=kept, prefix=".new-") as fresh:
        path = Path(fresh) / NAME
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "mlmp", "-f", str(path)]
        subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL)
        place(path, kept / NAME)


def place(made: Path, target: Path, *, link: Callable[[Path, Path], None] = os.link) -> None:
    """Puts a file that is whole where others may look for it; one that is there already stays.

    Some volumes have no hard links. There, of two that are put at the same moment, the later stays: a copy that only
    who is first may make would be left half written, and in everybody's way, where its maker is killed.
    """
    try:
        link(made, target)
    except FileExistsError:
        pass
    except OSError:
        if not target.exists():
            os.replace(made, target)
