"""A job as a person sees it before it is submitted: a manifest as YAML, and the command that means the same."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import yaml

from mlmp_spawner.client import job_submit
from mlmp_spawner.client.commands import job_run
from mlmp_spawner.client.session import Session
from mlmp_spawner.errors import Invalid, NotFound

START = ("mlmp", "job", "run")
LARGEST = 64 << 10
"""Characters of a manifest or a command."""


@dataclass(frozen=True, slots=True)
class Draft:
    """What is to run. ``folder``: whose files are sent with it."""

    manifest: dict[str, Any]
    folder: Path

    def shown(self, root: Path) -> dict[str, str | None]:
        """As JupyterLab shows it. ``command``: None where no command can say it."""
        text = yaml.safe_dump(self.manifest, sort_keys=False, allow_unicode=True)
        return {
            "manifest": text, "command": command(self, root), "folder": _below(self.folder, root),
            "profile": str(self.manifest.get("profile") or ""),
        }  # fmt: skip

    def on(self, profile: str) -> Draft:
        """The same, on something else."""
        return Draft({**self.manifest, "profile": profile}, self.folder)


def of_file(path: str, root: Path, *, profile: str) -> Draft:
    """To run a script or notebook of the user's; the files beside it are sent along.

    :param path: below ``root``. :raises NotFound: there is no such file.
    """
    file = _inside(path, root)
    runs, folder = _program(file, (), file.parent)
    return Draft({**runs, "name": job_submit.name_of(file), "profile": profile}, folder)


def of_manifest(text: str, folder: str, root: Path) -> Draft:
    """From what somebody wrote. :raises Invalid: it is no YAML, or no mapping."""
    _check_text(text, "manifest")
    try:
        _refuse_aliases(text)
        found = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        reason = getattr(error, "problem", None) or str(error).partition("\n")[0]
        raise Invalid.field("manifest", f"it is no YAML{where}: {reason}") from None
    try:
        json.dumps(found, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        problem = "a value is neither text nor number, list or mapping; put a date, or what is to be text, into quotes"
        raise Invalid.field("manifest", problem) from None
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise Invalid.field("manifest", "write it as lines of `name: value`")
    code = _inside(folder, root, follow=True)
    if not code.is_dir():
        raise NotFound(f"There is no folder {folder!r}.")
    return Draft(found, code)


def _refuse_aliases(text: str) -> None:
    """A few lines of them could stand for more than fits into memory."""
    for event in yaml.parse(text, yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise Invalid.field("manifest", f"it has *{event.anchor}; write out what that stands for")


def of_command(text: str, root: Path) -> Draft:
    """From a line ``mlmp job run SCRIPT …``, as it would be typed in the folder ``root``.

    :raises Invalid: it is another command, or has options that there are not.
    """
    _check_text(text, "command")
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise Invalid.field("command", f"it can't be read: {error}") from None
    if tuple(words[:3]) != START:
        raise Invalid.field("command", "write it as: mlmp job run SCRIPT --profile NAME")
    try:
        with job_run.run.make_context("mlmp job run", words[3:], obj=Session()) as context:
            given = dict(context.params)
    except click.exceptions.Exit:  # --help
        raise Invalid.field("command", "write it as: mlmp job run SCRIPT --profile NAME") from None
    except click.ClickException as error:
        raise Invalid.field("command", error.format_message()) from None
    if given["as_command"] or given["script"].startswith("-"):
        raise Invalid.field("command", "here it is a script or a notebook that runs; use a terminal for all else")
    file = _inside(given["script"], root)
    code = file.parent if given["code"] is None else _inside(str(given["code"]), root, follow=True)
    runs, folder = _program(file, given["arguments"], code)
    said = job_run.manifest_of(given)
    if given["secrets"]:
        said["secrets"] = list(given["secrets"])
    name = said.pop("name", None) or job_submit.name_of(file)
    return Draft({**runs, "name": name, **said}, folder)


def _program(file: Path, arguments: Sequence[str], code: Path) -> tuple[dict[str, Any], Path]:
    """Without what says nothing."""
    runs, folder = job_submit.program(file, arguments, code=code)
    return {key: value for key, value in runs.items() if value}, folder


def command(draft: Draft, root: Path) -> str | None:
    """What to type for the same in a terminal in ``root``; None: no command can say all of it."""
    said = dict(draft.manifest)
    script = said.pop("script", None) or said.pop("notebook", None)
    arguments = said.pop("arguments", None) or []
    if not isinstance(script, str) or not isinstance(arguments, list):
        return None
    file = draft.folder / script
    if root not in file.parents or ".." in file.parts:
        return None
    name = _below(file, root)
    words = [*START, f"./{name}" if name.startswith("-") else name, "--code", _below(draft.folder, root)]
    try:
        for key, value in said.items():
            words += _option(key, value)
    except _Unsayable:
        return None
    if arguments:
        words += ["--", *map(str, arguments)]
    return shlex.join(words)


class _Unsayable(Exception):
    """There is no option for it."""


def _option(key: str, value: Any) -> list[str]:
    if value is None:
        return []
    if key in job_run.PLAIN and isinstance(value, (str, int, float)) and not isinstance(value, bool):
        return [f"--{key}", str(value)]
    if key == "preemptible" and isinstance(value, bool):
        return [] if value else ["--no-preempt"]
    if key in ("environment", "parameters") and isinstance(value, Mapping):
        form = str if key == "environment" else _json
        name = "--env" if key == "environment" else "--parameter"
        return [word for one, said in value.items() for word in (name, f"{one}={form(said)}")]
    if key == "secrets" and isinstance(value, list):
        return [word for name in value for word in ("--secret", str(name))]
    if key == "metrics" and isinstance(value, list) and all(_is_pair(one) for one in value):
        return [word for one in value for kind, at in one.items() for word in ("--metric", f"{kind}={at}")]
    raise _Unsayable(key)


def _is_pair(one: Any) -> bool:
    return isinstance(one, Mapping) and len(one) == 1 and set(one) <= set(job_run.METRICS)


def _json(value: Any) -> str:
    """As ``--parameter`` reads it back: text as it is, unless it would be taken for something else."""
    if not isinstance(value, str):
        return json.dumps(value)
    try:
        json.loads(value)
    except ValueError:
        return value
    return json.dumps(value)


def _inside(path: str, root: Path, *, follow: bool = False) -> Path:
    """:param follow: whether it is what a link leads to that counts.

    :raises Invalid: it is not in the folder that JupyterLab shows.
    """
    _check_text(path, "path", 4000)
    found = root / path.removeprefix("~/")
    plain = found.resolve() if follow or found.name in ("", "..") else found.parent.resolve() / found.name
    if plain != root and root not in plain.parents:
        raise Invalid.field("path", f"{path[:80]!r} is not in {root}")
    return plain


def _below(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def _check_text(text: str, field: str, most: int = LARGEST) -> None:
    if len(text) > most:
        raise Invalid.field(field, f"it is longer than {most} characters")
    if re.search("[\0\ud800-\udfff]", text):
        raise Invalid.field(field, "it has characters that no text has")
