"""Writes docs/reference from the code: the commands from click, the settings from their traits.

``python -m tools.reference`` writes, ``--check`` only says what is stale (exit status 1).
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

import click
from traitlets import TraitType
from traitlets.config import Configurable

from mlmp_spawner.client.cli import INTERNAL, cli
from mlmp_spawner.settings import MLMP
from mlmp_spawner.spawners.local import MLMPLocalSpawner

REFERENCE = Path(__file__).parents[1] / "docs" / "reference"
WIDTH = 88
CLASSES: tuple[type[Configurable], ...] = (MLMP, MLMPLocalSpawner)


def commands() -> str:
    """The page of the commands."""
    parts = [
        "# Commands",
        "*Written by `make docs` from the commands themselves.*",
        _help(cli, "mlmp"),
    ]
    for path, command in _walk(cli, "mlmp"):
        parts += [f"## {path}", _help(command, path)]
    return "\n\n".join(parts) + "\n"


def _walk(group: click.Group, path: str) -> Iterator[tuple[str, click.Command]]:
    """All commands that people use, those of a group after it."""
    context = click.Context(group, info_name=path)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is None or command.hidden or name in INTERNAL:
            continue
        yield f"{path} {name}", command
        if isinstance(command, click.Group):
            yield from _walk(command, f"{path} {name}")


def _help(command: click.Command, path: str) -> str:
    context = click.Context(command, info_name=path, terminal_width=WIDTH, max_content_width=WIDTH)
    return f"```text\n{command.get_help(context).rstrip()}\n```"


def settings() -> str:
    """The page of the settings."""
    parts = [
        "# Settings",
        "*Written by `make docs` from the traits themselves.*",
        "Set them in `jupyterhub_config.py` in the data directory, as in `c.MLMP.stop_lead = 60`. Any setting of\n"
        "[JupyterHub](https://jupyterhub.readthedocs.io/en/stable/reference/config-reference.html) can stand beside "
        "them.",
    ]
    for kind in CLASSES:
        parts += [f"## c.{kind.__name__}", inspect.cleandoc(kind.__doc__ or "").replace("``", "`")]
        parts += [_trait(kind, name, trait) for name, trait in sorted(_own(kind).items())]
    return "\n\n".join(parts) + "\n"


def _own(kind: type[Configurable]) -> dict[str, TraitType]:
    """The settings that this project defines; what is inherited from JupyterHub is documented there."""
    ours = [base for base in kind.__mro__ if base.__module__.startswith("mlmp_spawner.")]
    return {
        name: trait
        for name, trait in kind.class_traits(config=True).items()
        if any(name in vars(base) and isinstance(vars(base)[name], TraitType) for base in ours)
    }


def _trait(kind: type[Configurable], name: str, trait: TraitType) -> str:
    default = repr(trait.default())
    return (
        f"### c.{kind.__name__}.{name}\n\n`{type(trait).__name__}`, default `{default}`\n\n"
        f"{inspect.cleandoc(str(trait.help)).replace('``', '`')}"
    )


PAGES = {"cli.md": commands, "configuration.md": settings}


def main(check: bool) -> int:
    """Writes the pages, or with ``check`` says which are stale; the exit status."""
    status = 0
    for name, page in PAGES.items():
        path, text = REFERENCE / name, page()
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        if check:
            print(f"docs/reference/{name} is stale: run `make docs`", file=sys.stderr)
            status = 1
        else:
            path.write_text(text, encoding="utf-8")
            print(f"wrote docs/reference/{name}")
    return status


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
