"""``mlmp ssh-key``: the public keys that open your servers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from mlmp_spawner.client import show
from mlmp_spawner.client.session import Session, command
from mlmp_spawner.errors import Invalid, NotFound
from mlmp_spawner.units import from_iso

USUAL = ("id_ed25519.pub", "id_ed25519_sk.pub", "id_ecdsa.pub", "id_ecdsa_sk.pub", "id_rsa.pub")
"""What ``ssh-keygen`` calls its public keys, the best first."""

LARGEST = 64 * 1024


@click.group(name="ssh-key")
def ssh_key() -> None:
    """The public SSH keys that open your servers.

    \b
      mlmp ssh-key ls
      mlmp ssh-key add ~/.ssh/id_ed25519.pub
      mlmp ssh-key rm KEY                       its id, fingerprint or name

    'mlmp ssh' registers a key of its own by itself; these are for other programs, and for the gateway.
    """


@command(name="ls")
def list_keys(session: Session) -> None:
    """Your keys, the oldest first."""
    found = session.client.ssh_keys()
    if session.json:
        show.print_json({"items": found, "next_cursor": None})
        return
    if not found:
        session.say("No key yet. mlmp ssh-key add FILE.pub registers one; mlmp ssh does it by itself.")
        return
    clock = session.clock()

    def time(at: Any) -> str:
        return clock.time(from_iso(str(at))) if at else "never"

    rows = [
        (one["id"], one["title"], one["fingerprint"], time(one["added_at"]), time(one["used_at"])) for one in found
    ]
    show.table(session.out, ("id", "name", "fingerprint", "added", "used"), rows,
               caption=f"times in {clock.zone_name}")  # fmt: skip


@command(name="add")
@click.argument("file", required=False)
@click.option("--title", default="", help="Its name in the list; else the comment in the file.")
def add_key(session: Session, file: str | None, title: str) -> None:
    """Register the public key in FILE; - reads standard input. Without FILE, the usual one in ~/.ssh is taken."""
    made = session.client.add_ssh_key(_read(file), title)
    if session.json:
        show.print_json(made)
        return
    session.say(f"Added: {made['title']} ({made['fingerprint']})")


@command(name="rm")
@click.argument("key")
def remove_key(session: Session, key: str) -> None:
    """Remove KEY: its id, its fingerprint or its name. Its open sessions end within seconds."""
    found = _find(session.client.ssh_keys(), key)
    session.client.remove_ssh_key(found["id"])
    if session.json:
        show.print_json(found)
        return
    session.say(f"Removed: {found['title']} ({found['fingerprint']})")


def _find(keys: list[dict[str, Any]], wanted: str) -> dict[str, Any]:
    """:raises NotFound: none is called so. :raises Invalid: several are."""
    found = [one for one in keys if wanted in (one["id"], one["fingerprint"])]
    found = found or [one for one in keys if wanted == one["title"]]
    if not found:
        raise NotFound(f"None of your keys is {wanted[:80]!r}.", hint="Your keys: mlmp ssh-key ls")
    if len(found) > 1:
        ids = ", ".join(one["id"] for one in found)
        raise Invalid(f"{len(found)} of your keys are called {wanted[:80]!r}.", hint=f"Name one by its id: {ids}")
    return found[0]


def _read(file: str | None) -> str:
    """The text of a public key. A private one never leaves this computer.

    :raises Invalid: it is a private key, or can't be read. :raises NotFound: there is no such file.
    """
    if file == "-":
        text = sys.stdin.read(LARGEST)
    else:
        path = Path(file).expanduser() if file else _usual()
        try:
            with path.open("rb") as opened:
                text = opened.read(LARGEST).decode("utf-8", "replace")
        except FileNotFoundError:
            raise NotFound(f"There is no file {str(path)!r}.", hint="ssh-keygen -t ed25519 makes a key.") from None
        except OSError as error:
            raise Invalid(f"{path}: {error.strerror}") from error
    if "PRIVATE KEY" in text.upper() or "PUTTY-USER-KEY-FILE" in text.upper():
        public = f"mlmp ssh-key add {file}.pub" if file and file != "-" else "the file that ends in .pub"
        raise Invalid(
            "That is a private key: it stays on this computer, and nothing was sent.",
            hint=f"Give the public one: {public}",
        )
    return text


def _usual() -> Path:
    """:raises NotFound: there is none of the usual files."""
    folder = Path.home() / ".ssh"
    for name in USUAL:
        if (folder / name).is_file():
            return folder / name
    raise NotFound(
        f"There is none of the usual keys in {folder}.",
        hint="Name a file: mlmp ssh-key add FILE.pub; ssh-keygen -t ed25519 makes one.",
    )


for each in (list_keys, add_key, remove_key):
    ssh_key.add_command(each)
