"""What the commands of one call share: the client, the time, and how to answer."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mlmp_spawner import units
from mlmp_spawner.errors import Invalid

if TYPE_CHECKING:
    from rich.console import Console

    from mlmp_spawner.client.api import Client
    from mlmp_spawner.client.models import Reservation
    from mlmp_spawner.client.show import Clock

F = TypeVar("F", bound=Callable[..., Any])


class Session:
    """One call of ``mlmp``. Everything is made when it is first used, so that ``--help`` needs nothing."""

    def __init__(self) -> None:
        self.json = False
        self.context: dict[str, Any] = {}
        """The booking that is about to change (``id``, ``end`` in ms): a refusal names commands for it."""

    @cached_property
    def client(self) -> Client:
        """The service. :raises NotSignedIn: nobody has signed in here."""
        from mlmp_spawner.client import config
        from mlmp_spawner.client.api import Client

        client = Client(config.load(), notice=self.note)
        click.get_current_context().call_on_close(client.close)
        return client

    def clock(self) -> Clock:
        """The time, in this user's zone.

        :raises Invalid: the zone is not known.
        """
        from mlmp_spawner.client import when
        from mlmp_spawner.client.show import Clock

        try:
            return Clock(units.now(), when.local_zone())
        except ValueError as error:
            raise Invalid.field("TZ", str(error)) from None

    @cached_property
    def out(self) -> Console:
        """For what was asked."""
        from mlmp_spawner.client.show import console

        return console()

    @cached_property
    def err(self) -> Console:
        """For what is said beside it."""
        import sys

        from mlmp_spawner.client.show import console

        return console(sys.stderr)

    def note(self, text: str) -> None:
        """A word beside the answer, on stderr."""
        from mlmp_spawner.client.show import safe

        self.err.print(safe(text), style="dim")

    def say(self, text: str) -> None:
        """A line of the answer; control characters are made harmless."""
        from mlmp_spawner.client.show import safe

        self.out.print(safe(text))

    def about(self, found: Reservation) -> None:
        """Remembers which booking is about to change."""
        self.context = {"id": found.id, "end": found.end}


def instant(text: str | None, session: Session, option: str) -> int | None:
    """An option's plain words as ms. :raises Invalid: not understood; examples are named."""
    if text is None:
        return None
    from mlmp_spawner.client.when import parse_when

    clock = session.clock()
    try:
        return parse_when(text, now=clock.now, zone=clock.zone)
    except ValueError as error:
        raise Invalid.field(option, str(error)) from None


class Length(click.ParamType):
    """An option that takes ``90m``, ``4h``, ``2d``; its value is the text as the API takes it."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Checks it, so that a slip is seen before anything is asked."""
        try:
            ms = units.parse_duration(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if ms < units.SECOND:
            self.fail("it is shorter than a second", param, ctx)
        return units.compact_duration(ms)


LENGTH = Length()


def command(**settings: Any) -> Callable[[F], click.Command]:
    """A command that takes ``--json`` and gets the :class:`Session` first."""

    def wrap(function: F) -> click.Command:
        def run(*args: Any, json_output: bool, **options: Any) -> Any:
            session = click.get_current_context().ensure_object(Session)
            session.json = json_output
            return function(session, *args, **options)

        run.__doc__ = function.__doc__
        run.__click_params__ = getattr(function, "__click_params__", [])  # type: ignore[attr-defined]
        option = click.option("--json", "json_output", is_flag=True, help="Answer in JSON, for programs.")
        return click.command(**settings)(option(run))

    return wrap
