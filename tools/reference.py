"""Writes docs/reference from the code: the commands from click, the settings from their traits, the
catalog and the HTTP API from their schemas.

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
from mlmp_spawner.logins.ldap import LDAPLogin
from mlmp_spawner.logins.watched import MLMPLogin
from mlmp_spawner.settings import MLMP
from mlmp_spawner.spawners.kube import MLMPKubeSpawner
from mlmp_spawner.spawners.local import MLMPLocalSpawner
from mlmp_spawner.spawners.system_users import SystemUserSpawner
from mlmp_spawner.ssh.settings import MLMPSSHGateway
from tools import chart, schemas

REFERENCE = Path(__file__).parents[1] / "docs" / "reference"
WIDTH = 88
CLASSES: tuple[type[Configurable], ...] = (
    MLMP, MLMPLocalSpawner, SystemUserSpawner, MLMPKubeSpawner, MLMPSSHGateway, MLMPLogin, LDAPLogin,
)  # fmt: skip


def commands() -> str:
    """The page of the commands."""
    parts = [
        "# Commands",
        "*Written by `make docs` from the commands themselves.*",
    ]
    for context in _walk(cli, "mlmp", None):
        parts += [] if context.parent is None else [f"## {context.command_path}"]
        parts += [f"```text\n{context.command.get_help(context).rstrip()}\n```"]
    return "\n\n".join(parts) + "\n"


def _walk(command: click.Command, name: str, parent: click.Context | None) -> Iterator[click.Context]:
    """A command and all below it that people use, as they call it."""
    settings = {**command.context_settings, "terminal_width": WIDTH, "max_content_width": WIDTH}
    context = click.Context(command, parent, info_name=name, **settings)
    yield context
    internal = INTERNAL if parent is None else ()  # `mlmp run` is; `mlmp job run` is for people
    for below in command.list_commands(context) if isinstance(command, click.Group) else ():
        found = command.get_command(context, below)
        if found is not None and not found.hidden and below not in internal:
            yield from _walk(found, below, context)


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
    """The settings that this project defines; what is inherited is documented where it comes from."""
    shown = {
        above for listed in CLASSES if listed is not kind and issubclass(kind, listed) for above in listed.__mro__
    }
    ours = [base for base in kind.__mro__ if base.__module__.startswith("mlmp_spawner.") and base not in shown]
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


PAGES = {
    "cli.md": commands,
    "configuration.md": settings,
    "catalog.md": schemas.catalog,
    "job-manifest.md": schemas.job,
    "http-api.md": schemas.api,
    "helm.md": chart.page,
}


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
