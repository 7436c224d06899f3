"""``mlmp start``, ``stop``, ``open``: the server of a booking."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable

import click

from mlmp_spawner.client import show
from mlmp_spawner.client.completion import BOOKING
from mlmp_spawner.client.models import Reservation
from mlmp_spawner.client.session import Session, command
from mlmp_spawner.errors import NotNow, Unavailable

PATIENCE = 600.0
"""Seconds that a server may take to start: images are large."""

GRACE = 5.0
"""Seconds after which a server that is not starting has failed to."""


@command()
@click.argument("id", type=BOOKING)
@click.option("--open", "and_open", is_flag=True, help="Open JupyterLab once it is there.")
@click.option("--no-wait", is_flag=True, help="Do not wait until it is ready.")
def start(session: Session, id: str, and_open: bool, no_wait: bool) -> None:
    """Start the server of booking ID and wait until it is ready."""
    client = session.client
    found = client.start(id)
    if not no_wait:
        found = _until(session, found, "starting", lambda one: one.server_state == "running")
    if session.json:
        show.print_json(found.raw)
    elif no_wait:
        session.say(f"It starts; look with: mlmp show {found.id}")
        return
    url = client.server_url(found)
    if not session.json:
        clock = session.clock()
        session.say(f"Ready until {clock.time(found.stops_at or found.end)} ({clock.zone_name}): {url or ''}")
    if and_open and url:
        _browse(session, url)


@command()
@click.argument("id", type=BOOKING)
@click.option("--no-wait", is_flag=True, help="Do not wait until it has stopped.")
def stop(session: Session, id: str, no_wait: bool) -> None:
    """Stop the server of booking ID. The booking stays yours: start it again as you like."""
    found = session.client.stop(id)
    if not no_wait:
        found = _until(session, found, "stopping", lambda one: one.server_state == "none")
    if session.json:
        show.print_json(found.raw)
        return
    clock = session.clock()
    done = "It stops." if no_wait else "Stopped."
    session.say(f"{done} The booking is yours until {clock.time(found.end)} ({clock.zone_name}).")
    session.say(f"  Give back the rest: mlmp release {found.id}")


@command(name="open")
@click.argument("id", type=BOOKING)
def open(session: Session, id: str) -> None:
    """Open the JupyterLab of booking ID in the browser, or print its address where there is none."""
    found = session.client.reservation(id)
    url = session.client.server_url(found)
    if found.server_state != "running" or url is None:
        if found.state == "active":
            raise NotNow("Its server does not run.", hint=f"mlmp start {found.id} --open")
        raise NotNow(f"Its server does not run: the booking is {show.state(found)}.", hint=f"mlmp show {found.id}")
    if session.json:
        show.print_json({"url": url})
        return
    if not _browse(session, url):
        session.say(url)


def _until(session: Session, found: Reservation, doing: str, done: Callable[[Reservation], bool]) -> Reservation:
    """Asks until it is done, with a sign of life on a terminal.

    :raises NotNow: the start has failed, or the booking is over. :raises Unavailable: it takes too long.
    """
    from rich.console import Console
    from rich.status import Status

    began = time.monotonic()
    target = Console(stderr=True) if sys.stderr.isatty() else Console(file=sys.stderr, quiet=True)
    with Status(f"{doing} {show.safe(found.id)}", console=target) as status:
        while not done(found):
            took = time.monotonic() - began
            if doing == "starting" and (found.server_state == "none" or found.state == "ended") and took > GRACE:
                raise NotNow(
                    "The server did not start.",
                    hint=f"What happened: mlmp show {found.id}; try again: mlmp start {found.id}",
                )
            if took > PATIENCE:
                raise Unavailable(f"It is still {doing} after 10 minutes.", hint=f"Look: mlmp show {found.id}")
            status.update(f"{doing} {show.safe(found.id)} ({took:.0f} s)")
            time.sleep(0.5 if took < 20 else 2.0)
            found = session.client.reservation(found.id)
    return found


def _browse(session: Session, url: str) -> bool:
    """Whether a browser was opened. Without a display there is at most one that takes over the terminal: none."""
    import webbrowser

    graphical = sys.platform == "darwin" or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
    )
    if not graphical or not webbrowser.open(url):
        return False
    session.note(f"opened {url}")
    return True
