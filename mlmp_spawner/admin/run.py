"""``mlmp run``: see :mod:`mlmp_spawner.spawners.guard`, which takes the arguments as they are."""

from __future__ import annotations

import sys

import click

from mlmp_spawner.spawners import guard


class _AsTheyAre(click.Command):
    """Leaves all arguments alone, ``--`` too."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.args = list(args)
        return ctx.args


@click.command(cls=_AsTheyAre, hidden=True, add_help_option=False)
@click.pass_context
def run(ctx: click.Context) -> None:
    """Run a command that ends on time, with all that it starts (internal)."""
    sys.exit(guard.main(ctx.args))
