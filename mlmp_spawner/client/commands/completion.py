"""``mlmp completion``: the script that makes a shell complete."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

SHELLS = ("bash", "zsh", "fish")


@click.command(name="completion")
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print the script that lets SHELL complete commands, options, bookings, profiles and nodes.

    \b
      bash    mlmp completion bash > ~/.local/share/bash-completion/completions/mlmp
      zsh     mlmp completion zsh > "${fpath[1]}/_mlmp"
      fish    mlmp completion fish > ~/.config/fish/completions/mlmp.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(click.get_current_context().find_root().command, {}, "mlmp", "_MLMP_COMPLETE").source())
