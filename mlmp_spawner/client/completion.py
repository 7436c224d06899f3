"""What the Tab key offers: bookings, jobs, profiles, nodes, images and courses, as the service has them just now.

Nobody waits for it: it asks once, for a second at most, and where nothing answers it offers nothing and says nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from mlmp_spawner import units
from mlmp_spawner.errors import MLMPError

if TYPE_CHECKING:
    from mlmp_spawner.client.api import Client

PATIENCE = 1.0
"""Seconds that an answer may take."""
FAR = 400 * units.DAY
MOST = 50
"""The newest jobs, of more there are too many to choose from."""

Offered = Iterable[tuple[str, str]]
"""Values, each with a word on it."""


class Known(click.ParamType):
    """A text of which the service knows the likely values.

    :param known: asks for them.
    """

    name = "text"

    def __init__(self, known: Callable[[Client], Offered]) -> None:
        self.known = known

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Takes what is typed: the service judges it."""
        return str(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The values that begin as typed; none where the service does not answer at once."""
        from mlmp_spawner.client import config
        from mlmp_spawner.client.api import Client

        try:
            with Client(config.load(), patience=0, timeout=PATIENCE) as client:
                offered = list(self.known(client))
        except (MLMPError, OSError, ValueError):
            return []
        return [CompletionItem(value, help=word) for value, word in offered if value.startswith(incomplete)]


def _bookings(client: Client) -> Offered:
    now = units.now()
    window = {"start": units.to_iso(now), "end": units.to_iso(now + FAR)}
    for one in client.reservations(owner=client.me().name, **window):
        yield one.id, one.title or f"{one.profile}, {one.state}"


def _jobs(client: Client) -> Offered:
    for one in islice(client.jobs.list(owner=client.me().name, limit=MOST), MOST):
        yield one.id, f"{one.name}, {one.outcome or one.state}"


def _profiles(client: Client) -> Offered:
    return ((one.name, one.title) for one in client.profiles())


def _nodes(client: Client) -> Offered:
    return ((name, "") for name in client.node_names())


def _images(client: Client) -> Offered:
    return client.image_names().items()


def _courses(client: Client) -> Offered:
    return ((one["name"], one["title"]) for one in client.courses.list())


BOOKING, JOB, PROFILE, NODE, IMAGE = map(Known, (_bookings, _jobs, _profiles, _nodes, _images))
COURSE = Known(_courses)
