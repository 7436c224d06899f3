"""``mlmp``: the command line.

A command's module is imported when the command is called, so that ``mlmp --help`` is there at once. The commands of
admins come with the extra ``[hub]``; they are found by the entry-point group ``mlmp.commands``.

Exit status: 0 done, 1 refused by the rules, 2 usage or configuration, 3 not reachable or not allowed in.
"""

from __future__ import annotations

import importlib
import sys
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import click
from click.shell_completion import CompletionItem

from mlmp_spawner import __version__
from mlmp_spawner.client.problems import exit_status
from mlmp_spawner.client.session import Session
from mlmp_spawner.errors import MLMPError

OWN = {
    "login": ("access", "Sign in to a hub and keep the token."),
    "whoami": ("access", "Who you are, on which hub, and your limits."),
    "logout": ("access", "Forget the token."),
    "free": ("look", "What is free, and from when."),
    "book": ("book", "Book units for a time."),
    "ls": ("look", "Your bookings."),
    "show": ("look", "One booking and its history."),
    "usage": ("usage", "What was booked, and what of it was used."),
    "extend": ("book", "End a booking later."),
    "cancel": ("book", "Cancel a booking that has not begun."),
    "release": ("book", "Give back a booking that has begun."),
    "limits": ("limits", "How much you may take, and what of it you use."),
    "maintenance": ("maintenance", "When nodes take no bookings; admins plan it."),
    "drain": ("maintenance", "Let a node take no bookings from now on."),
    "undrain": ("maintenance", "Let a node take bookings again."),
    "image": ("image", "Images on the nodes of a cluster; pull one before a course."),
    "notices": ("notices", "What you were told."),
    "calendar": ("notices", "Your bookings in other calendars."),
    "start": ("server", "Start the server of a booking."),
    "stop": ("server", "Stop the server and keep the booking."),
    "open": ("server", "Open JupyterLab in the browser."),
    "ssh": ("ssh", "A shell in the server of a booking, or a command there."),
    "ssh-config": ("ssh", "Let ssh, scp, rsync and editors find your servers."),
    "ssh-key": ("ssh_key", "The public SSH keys that open your servers."),
    "job": ("job", "Training jobs in the time that nobody booked."),
    "scan": ("scan", "One program with many values of its parameters, as jobs."),
    "course": ("course", "Courses: what is taught, on which units, to whom."),
    "completion": ("completion", "Let your shell complete with Tab."),
}
"""Command to (module of ``client.commands``, a word on it), in the order of ``--help``."""

ADMIN = {
    "up": "Run hub, proxy and service on this machine.",
    "check": "List everything that is wrong with configuration and catalog.",
    "db": "Upgrade or inspect MLMP's tables.",
    "catalog": "Write a catalog from what this machine has.",
}
"""A word on the commands of the extra, so that ``--help`` need not import them."""

INTERNAL = {"run", "enforce"}


class Commands(click.Group):
    """The commands, found by name and imported when called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Our own, then those of the extras."""
        return [*OWN, *sorted(set(_admin()) - set(OWN) - INTERNAL, key=lambda name: (name not in ADMIN, name))]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Imports the command. :raises click.ClickException: it needs an extra that is not installed."""
        if cmd_name in OWN:
            module = importlib.import_module(f"mlmp_spawner.client.commands.{OWN[cmd_name][0]}")
            command: click.Command = getattr(module, cmd_name.replace("-", "_"))
            return command
        found = _admin().get(cmd_name)
        return _load(found) if found else None

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Names of commands, and options, without importing what is listed."""
        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        words = {name: word for name, (_, word) in OWN.items()} | ADMIN
        names = [name for name in self.list_commands(ctx) if name.startswith(incomplete)]
        return [CompletionItem(name, help=words.get(name)) for name in names]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of ``--help``, without importing what is listed."""
        names = self.list_commands(ctx)
        with formatter.section("Commands"):
            formatter.write_dl([(name, OWN[name][1]) for name in names if name in OWN])
        admin = [(name, ADMIN.get(name, "")) for name in names if name not in OWN]
        if admin:
            with formatter.section("For admins"):
                formatter.write_dl(admin)

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command; a refusal is told and becomes the exit status."""
        session = ctx.ensure_object(Session)
        try:
            return super().invoke(ctx)
        except MLMPError as error:
            tell(error, session)
            ctx.exit(exit_status(error))
        except BrokenPipeError:  # the reader has seen enough, as in `mlmp ls | head`
            sys.stderr.close()
            ctx.exit(0)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="mlmp", message="%(prog)s %(version)s")
def cli() -> None:
    """Book the GPU machines you share, and work on them.

    \b
      mlmp free --for 4h                        what is free, and from when
      mlmp book --profile gpu --for 4h          book from now on
      mlmp start ID --open                      start JupyterLab and open it

    Durations are written 90m, 4h, 2d; times 14:00, tomorrow 9:00 or ISO 8601. Every listing and every change takes
    --json. Exit status: 0 done, 1 refused by the rules, 2 usage or configuration, 3 not reachable or not allowed in.
    """


def main() -> None:
    """The console script."""
    cli(prog_name="mlmp")


def tell(error: MLMPError, session: Session) -> None:
    """An error on stderr; with ``--json`` its problem document on stdout too."""
    from mlmp_spawner.client import show

    if session.json:
        show.print_json(error.problem())
    show.report(error, session.clock, target=session.err, context=session.context)


def _admin() -> dict[str, EntryPoint]:
    return {found.name: found for found in entry_points(group="mlmp.commands")}


def _load(found: EntryPoint) -> click.Command:
    try:
        command = found.load()
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing == "mlmp_spawner":  # ours to mend, not something to install
            raise
        raise _Missing(f"'mlmp {found.name}' needs {missing}: pip install 'mlmp-spawner[hub]'") from error
    if not isinstance(command, click.Command):
        raise _Missing(f"'mlmp {found.name}' is not a command: {found.value}")
    return command


class _Missing(click.ClickException):
    exit_code = 2


if __name__ == "__main__":
    main()
