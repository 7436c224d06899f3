"""``mlmp job run`` and ``submit``: what is on this machine becomes a job; its log is followed where somebody looks."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn

import click

from mlmp_spawner.client import show
from mlmp_spawner.client.completion import BOOKING, IMAGE, PROFILE
from mlmp_spawner.client.job_models import JobRecord
from mlmp_spawner.client.session import LENGTH, Session, command
from mlmp_spawner.errors import Invalid, NotFound

METRICS = ("tensorboard", "json_lines", "pattern")
LARGEST = 64 << 10
"""Bytes of a manifest."""
DETACHED = 130
"""The exit status after Ctrl-C, as of any program that was interrupted."""

_FOLLOW = click.option(
    "--follow/--detach", default=None, help="Show its log until it is over. [default: on a terminal]"
)
_CODE = click.option("--code", type=click.Path(path_type=Path), metavar="DIR", help="The folder that is sent with it.")
_SETTINGS: tuple[Callable[[Any], Any], ...] = (
    click.option("--profile", type=PROFILE, required=True, help="What it runs on; `mlmp free` lists what there is."),
    click.option("--hours", type=click.FloatRange(min=0, min_open=True),
                 help="How long it may run. [default: the profile's]"),
    click.option("--units", type=click.IntRange(min=1), help="How many for each worker. [default: the profile's]"),
    click.option("--workers", type=click.IntRange(min=1), help="How many run together, all or none."),
    click.option("--name", help="What you know it by. [default: the script's]"),
    click.option("--image", type=IMAGE, help="What it runs in, on a cluster. [default: the profile's first]"),
    click.option("--env", "environment", multiple=True, metavar="NAME=VALUE",
                 help="Environment; NAME alone: as it is here."),
    click.option("--secret", "secrets", multiple=True, metavar="NAME",
                 help="The same, of a value that is never shown: taken from the environment here, or asked for."),
    click.option("--parameter", "parameters", multiple=True, metavar="NAME=VALUE", help="Of a notebook."),
    click.option("--retries", type=click.IntRange(min=0), help="How often to try again after a failure of its own."),
    click.option("--checkpoint", metavar="DIR", help="In your home: where it finds its checkpoints again."),
    click.option("--outputs", metavar="DIR", help="In your home: what it makes."),
    click.option("--metric", "metrics", multiple=True, metavar="KIND=WHERE",
                 help="What to plot: tensorboard=DIR, json_lines=FILE or pattern=REGEX."),
    click.option("--grace", type=LENGTH, help="From the wish to end it to its end: 60s. [default: 60s]"),
    click.option("--priority", type=click.Choice(["low", "normal", "high"]), help="Among your own jobs."),
    click.option("--no-preempt", is_flag=True, help="Never end it for a booking; it starts later then."),
    click.option("--inside", type=BOOKING, metavar="ID", help="Run it in this booking of yours."),
    click.option("--server", type=BOOKING, metavar="ID",
                 help="Let it and the server of this booking of yours connect to each other."),
    click.option("--group", help="The group for whose share it counts."),
)  # fmt: skip
PLAIN = ("profile", "hours", "units", "workers", "name", "image", "retries", "checkpoint", "outputs", "grace",
         "priority", "inside", "server", "group")  # fmt: skip
"""Options that say what a key of the manifest of the same name does."""


def with_settings(function: Any) -> Any:
    """The options that say what a job takes."""
    for option in reversed(_SETTINGS):
        function = option(function)
    return function


def with_code(function: Any) -> Any:
    """The options that say which files go with a manifest that is read from FILE: see :func:`folder_of`."""
    directory = click.Path(path_type=Path)
    for option in (
        click.option("--no-code", is_flag=True, help="Send no files: its command is installed where it runs."),
        click.option(
            "--code", type=directory, metavar="DIR", help="The folder that is sent with it. [default: of FILE]"
        ),
    ):
        function = option(function)
    return function


def folder_of(file: str, code: Path | None, *, no_code: bool) -> Path | None:
    """What is packed with the manifest in ``file``; None for nothing.

    :raises Invalid: both were said, a folder and none.
    """
    if code and no_code:
        raise Invalid.field("--no-code", "give it or --code, not both")
    return None if no_code else code or (Path.cwd() if file == "-" else Path(file).expanduser().parent)


# Options that are not known here are the script's, wherever they stand; so there are no short ones, -p would be taken
# out of -epochs.
@command(name="run", context_settings={"ignore_unknown_options": True, "help_option_names": ["--help"]})
@click.argument("script")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@with_settings
@_CODE
@click.option(
    "--command", "as_command", is_flag=True, help="SCRIPT is an installed program; no code is sent but --code."
)
@_FOLLOW
def run(
    session: Session,
    script: str,
    arguments: tuple[str, ...],
    code: Path | None,
    as_command: bool,
    follow: bool | None,
    **given: Any,
) -> None:
    """Run SCRIPT (a program or a notebook) with ARGUMENTS as a job.

    \b
      mlmp job run train.py --profile gpu --hours 2 --lr 0.1
      mlmp job run train.py --profile gpu -- --name mine     after --, all is the script's
      mlmp job run study.ipynb --profile gpu --parameter epochs=20
      mlmp job run --profile gpu --command -- python -m train

    The files in the folder are packed as they are now (the current folder, or the script's if it is elsewhere);
    .mlmpignore leaves out more. It runs in the Python environment (venv, conda) that is active, if this is a terminal
    of MLMP. The job may be ended for a booking: it gets SIGTERM, and later runs once more with the same checkpoints.
    On a terminal its log is shown; Ctrl-C leaves it running.
    """
    from mlmp_spawner.client import job_submit

    if script.startswith("-"):
        raise Invalid.field(script[:40], "there is no such option; those of the script come after its name")
    runs: dict[str, Any] = {"command": [script, *arguments]}
    folder = code
    if not as_command:
        runs, folder = job_submit.program(script, arguments, code=code)
    values = secret_values(given["secrets"])
    manifest = job_submit.in_python_here({**runs, **manifest_of(given)}, os.environ, note=session.note)
    work = job_submit.Work(manifest, folder, values)
    answer(session, job_submit.submit(session.client.jobs, work, note=session.note), follow)


@command(name="submit")
@click.argument("file")
@with_code
@_FOLLOW
def submit(session: Session, file: str, code: Path | None, no_code: bool, follow: bool | None) -> None:
    """Submit the job that FILE describes, a manifest in YAML or JSON; - reads standard input.

    Values of its secrets are taken from the environment here, or asked for. It runs in the Python environment that is
    active, as with `run`, unless FILE says an image or a PATH.
    """
    from mlmp_spawner.client import job_submit

    folder = folder_of(file, code, no_code=no_code)
    text = read_manifest(file)
    api = session.client.jobs
    normal = api.check(text)
    python = job_submit.in_python_here(normal, os.environ, note=session.note)
    values = secret_values([str(name) for name in normal.get("secrets") or ()])
    work = job_submit.Work(text if python == normal else python, folder, values)
    answer(session, job_submit.submit(api, work, note=session.note), follow)


def answer(session: Session, made: JobRecord, following: bool | None) -> None:
    """Tells of a job that was just submitted, and follows it if wished (None: where somebody looks).

    With ``--json`` the job comes on stdout at the end, its log on stderr.
    """
    from mlmp_spawner.client import job_show

    if following is None:
        following = sys.stdout.isatty() and not session.json
    if session.json and not following:
        show.print_json(made.raw)
        return
    text = f"Submitted {job_show.what(made)}. Its id is {made.id}."
    if following:
        session.note(text)
        follow(session, made)
    session.say(text)
    if made.why:
        session.say(f"  {made.why}")
    session.say(f"  Its log: mlmp job logs -f {made.id}")


def follow(session: Session, record: JobRecord, *, start: int = 0) -> NoReturn:
    """Shows the log until the job is over, and ends with 0 if it succeeded, else 1. Ctrl-C leaves it running."""
    from mlmp_spawner.client import job_show

    screen = job_show.Screen(sys.stderr if session.json else sys.stdout)
    context = click.get_current_context()
    clock = session.clock()
    try:
        for piece in session.client.jobs.follow(record.id, start=start):
            if isinstance(piece, str):
                screen.write(piece)
            else:
                record = piece
                session.note(job_show.line(record, clock))
    except KeyboardInterrupt:
        screen.close()
        session.note("")
        session.note(f"Job {record.id} goes on without you. Its log: mlmp job logs -f {record.id}; "
                     f"to end it: mlmp job cancel {record.id}")  # fmt: skip
        context.exit(DETACHED)
    screen.close()
    if session.json:
        show.print_json(record.raw)
    context.exit(0 if record.succeeded else 1)


def manifest_of(given: dict[str, Any]) -> dict[str, Any]:
    """What the options say, as keys of the manifest; what was not said is left out."""
    said = {key: given[key] for key in PLAIN if given[key] is not None}
    if given["environment"]:
        said["environment"] = dict(_variable(one) for one in given["environment"])
    if given["secrets"]:
        said["secrets"] = list(given["secrets"])
    if given["parameters"]:
        said["parameters"] = {name: _value(text) for name, text in _pairs("--parameter", given["parameters"])}
    if given["metrics"]:
        said["metrics"] = [_metric(one) for one in given["metrics"]]
    if given["no_preempt"]:
        said["preemptible"] = False
    return said


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if equals:
        return name, value
    if name not in os.environ:
        raise Invalid.field(
            "--env", f"{name[:40]!r} is not in the environment here; give it a value: {name[:40]}=VALUE"
        )
    return name, os.environ[name]


def _pairs(option: str, texts: Iterable[str]) -> Iterable[tuple[str, str]]:
    for text in texts:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise Invalid.field(option, f"{text[:40]!r} is not NAME=VALUE")
        yield name, value


def _value(text: str) -> Any:
    """A number, true, false, null, a list or mapping as JSON has them; anything else is text."""
    try:
        found = json.loads(text)
        json.dumps(found, allow_nan=False)
    except (ValueError, RecursionError):
        return text
    return found


def _metric(text: str) -> dict[str, str]:
    kind, equals, where = text.partition("=")
    kind = kind.replace("-", "_")
    if kind not in METRICS or not equals or not where:
        raise Invalid.field("--metric", f"{text[:40]!r}: write tensorboard=DIR, json_lines=FILE or pattern=REGEX")
    return {kind: where}


def secret_values(names: Iterable[str]) -> dict[str, str]:
    """The values, from the environment here or asked for on the terminal.

    :raises Invalid: one is in neither; or a value was given on the command line, where others see it.
    """
    values = {}
    for name in names:
        if "=" in name:
            raise Invalid.field("--secret", f"give the name alone: {name.partition('=')[0]}; commands are no secret")
        if name in os.environ:
            values[name] = os.environ[name]
        elif sys.stdin.isatty():
            values[name] = click.prompt(name, hide_input=True, err=True)
        else:
            raise Invalid.field("--secret", f"there is no {name[:40]!r} in the environment here")
    return values


def read_manifest(file: str) -> str:
    """The text of a file; ``-``: standard input.

    :raises NotFound: there is no such file. :raises Invalid: it can't be read, or is no manifest by its size."""
    try:
        if file == "-":
            data = sys.stdin.buffer.read(LARGEST + 1)
        else:
            with Path(file).expanduser().open("rb") as opened:
                data = opened.read(LARGEST + 1)
    except FileNotFoundError:
        raise NotFound(f"There is no file {file!r}.") from None
    except OSError as error:
        raise Invalid(f"{file}: {error.strerror}") from error
    if len(data) > LARGEST:
        raise Invalid(f"{file} is larger than a manifest may be, 64 KiB.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Invalid(f"{file} is not UTF-8 text ({error.reason} at byte {error.start}).") from None
