"""``mlmp image``: which image is on which node, and having one there before it is needed."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

import click

from mlmp_spawner.client import show
from mlmp_spawner.client.completion import IMAGE, NODE
from mlmp_spawner.client.session import Session, command
from mlmp_spawner.errors import NotNow
from mlmp_spawner.units import from_iso

WORDS = {"present": "there", "queued": "waits its turn", "absent": "not there", "unknown": "not known"}
UNDER_WAY = ("queued", "pulling")
STEP = 2.0
"""Seconds between two looks of --wait."""

_NODES = click.option("--node", "nodes", type=NODE, multiple=True, help="On this node only; may be repeated.")


@click.group()
def image() -> None:
    """Images on the nodes of a cluster: which is where, and pulling one before a course begins.

    \b
      mlmp image ls
      mlmp image preload torch --wait
      mlmp image preload torch --node gpu-2
    """


@command(name="ls")
def _ls(session: Session) -> None:
    """Which image is on which node (for who runs courses, and admins)."""
    found = session.client.images()
    if session.json:
        show.print_json(found)
        return
    _complain(session, found)
    clock = session.clock()
    rows = []
    for one in found["items"]:
        for there in one["nodes"]:
            if there["state"] != "absent" or there["node"] in one["offered"]:
                rows.append((one["name"], there["node"], *_words(there, clock)))
    show.table(session.out, ("image", "node", "is", ""), rows)
    if not rows:
        session.say("The catalog has no image that a node may run.")


@command(name="preload")
@click.argument("name", type=IMAGE)
@_NODES
@click.option("--wait", is_flag=True, help="Wait until it is there.")
def _preload(session: Session, name: str, nodes: tuple[str, ...], wait: bool) -> None:
    """Have image NAME pulled to every node that may run it, or to each --node."""
    found = session.client.preload_image(name, list(nodes) or None)
    meant = set(nodes or _one(found, name)["offered"])
    if wait:
        found = _until(session, found, name, meant)
    if session.json:
        show.print_json(found)
        return
    _complain(session, found)
    clock = session.clock()
    for there in _on(found, name, meant):
        session.say("  ".join(filter(None, (there["node"], *_words(there, clock)))))
    if not wait and any(there["state"] in UNDER_WAY for there in _on(found, name, meant)):
        session.say("It goes on without you; look with: mlmp image ls")


@command(name="cancel")
@click.argument("name", type=IMAGE)
@_NODES
def _cancel(session: Session, name: str, nodes: tuple[str, ...]) -> None:
    """End the pulls of image NAME. What a booking needs soon is pulled all the same."""
    for node in nodes or (None,):
        found = session.client.cancel_preload(name, node)
    if session.json:
        show.print_json(found)
    else:
        session.say(f"{name} is not pulled any more{' on ' + ', '.join(nodes) if nodes else ''}.")


for _each in (_ls, _preload, _cancel):
    image.add_command(_each)


def _until(session: Session, found: dict[str, Any], name: str, meant: set[str]) -> dict[str, Any]:
    """Asks until it is on all nodes that are meant, with a sign of life on a terminal.

    :raises NotNow: a pull failed; the reason is named.
    """
    from rich.console import Console
    from rich.status import Status

    began = time.monotonic()
    target = Console(stderr=True) if sys.stderr.isatty() else Console(file=sys.stderr, quiet=True)
    with Status(f"pulling {show.safe(name)}", console=target) as status:
        while True:
            mine = _on(found, name, meant)
            failed = [one for one in mine if one["state"] == "failed"]
            if failed:
                why = f"{name} could not be pulled to {failed[0]['node']}: {failed[0]['problem']}"
                again = (
                    "It is tried again; look with" if failed[0]["retries"] else "Mend that, and try again; look with"
                )
                raise NotNow(why, hint=f"{again}: mlmp image ls")
            left = [one for one in mine if one["state"] != "present"]
            if not left:
                return found
            there = f"{len(mine) - len(left)} of {len(mine)} nodes"
            status.update(f"pulling {show.safe(name)}: {there} ({time.monotonic() - began:.0f} s)")
            time.sleep(STEP)
            found = session.client.images()


def _one(found: Mapping[str, Any], name: str) -> dict[str, Any]:
    return next((dict(one) for one in found["items"] if one["name"] == name), {"nodes": [], "offered": []})


def _on(found: Mapping[str, Any], name: str, nodes: set[str]) -> list[dict[str, Any]]:
    return [there for there in _one(found, name)["nodes"] if there["node"] in nodes]


def _words(there: Mapping[str, Any], clock: show.Clock) -> tuple[str, str]:
    """How it is on a node, and more of that."""
    state = str(there["state"])
    if state == "failed":
        return "failed; it is tried again" if there["retries"] else "failed", str(there["problem"])
    since = f"since {clock.time(from_iso(there['since']))}" if state in UNDER_WAY and there["since"] else ""
    return WORDS.get(state, state), since


def _complain(session: Session, found: Mapping[str, Any]) -> None:
    """What keeps the answer from being the newest."""
    if found.get("problem"):
        session.note(str(found["problem"]))
    for node in found["nodes"]:
        if node["away"]:
            session.note(f"{node['name']}: {node['away']}; nothing is pulled there now")
