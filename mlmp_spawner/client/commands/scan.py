"""``mlmp scan``: one program with many values of its parameters."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import click

from mlmp_spawner.client import show as shown
from mlmp_spawner.client.commands import job_run
from mlmp_spawner.client.scans import Planned, ScanRecord, best
from mlmp_spawner.client.session import Session, command
from mlmp_spawner.errors import Invalid, NotFound

LARGEST = 256 << 10
"""Bytes of a file with rows."""

_WHOLE = re.compile(r"-?(0|[1-9]\d{0,307})", re.ASCII)
_NUMBER = re.compile(r"-?(?:(?:0|[1-9]\d*)(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_RANGE = re.compile(rf"{_NUMBER.pattern}\.\.-?[.\d]")


@click.group()
def scan() -> None:
    """One program with many values of its parameters: a job for each row of values.

    \b
      mlmp scan run train.py --profile gpu --vary lr=0.1,0.01 --vary bs=32,64
      mlmp scan submit scan.yaml
      mlmp scan show ID --metric accuracy
      mlmp scan retry ID
      mlmp scan cancel ID
    """


@command(name="run", context_settings={"ignore_unknown_options": True, "help_option_names": ["--help"]})
@click.argument("script")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.option("--vary", multiple=True, metavar="NAME=VALUES", help="0.1,0.01 or FROM..TO:STEPS or FROM..TO:STEPS:log.")
@click.option(
    "--rows", type=click.Path(path_type=Path), metavar="FILE", help="The rows themselves, as a list in JSON."
)
@click.option("--samples", type=click.IntRange(min=1), help="So many rows by chance, not each combination.")
@click.option("--seed", type=click.IntRange(min=0), default=0, help="The same one gives the same rows. [default: 0]")
@click.option(
    "--out", metavar="DIR", help="In your home, where each row's MLMP_OUTPUT_DIR is: 'runs/lr={lr}/bs={bs}'."
)
@click.option("--at-once", type=click.IntRange(min=1), help="How many may run at a time. [default: all with room]")
@click.option("--dry-run", is_flag=True, help="Show the rows; submit nothing.")
@click.option("--wait", is_flag=True, help="Wait until all are over; exit status 1 if one did not succeed.")
@job_run.with_settings
@click.option("--code", type=click.Path(path_type=Path), metavar="DIR", help="The folder that is sent with it.")
def run(session: Session, script: str, arguments: tuple[str, ...], code: Path | None, **given: Any) -> None:
    """Run SCRIPT with ARGUMENTS once for each row of parameters.

    A script gets them as --name value, a notebook as its parameters. All jobs are submitted, or none.
    """
    from mlmp_spawner.client import job_submit

    if script.startswith("-"):
        raise Invalid.field(script[:40], "there is no such option; those of the script come after its name")
    kind, parameters = _parameters(given["vary"], given["rows"], given["samples"])
    runs, folder = job_submit.program(script, arguments, code=code)
    values = job_run.secret_values(given["secrets"])
    manifest = job_submit.in_python_here({**runs, **job_run.manifest_of(given)}, os.environ, note=session.note)
    asked = {"manifest": manifest, "kind": kind, "parameters": parameters} | {
        name: given[name] for name in ("samples", "seed", "out", "at_once")
    }
    api = session.client.scans
    if given["dry_run"]:
        _show_rows(session, api.check(asked))
        return
    work = job_submit.Work(manifest, folder, values)
    _answer(session, api.send(session.client.jobs, work, asked, note=session.note), waiting=given["wait"])


@command(name="submit")
@click.argument("file")
@job_run.with_code
@click.option("--dry-run", is_flag=True, help="Show the rows; submit nothing.")
@click.option("--wait", is_flag=True, help="Wait until all are over; exit status 1 if one did not succeed.")
def submit(session: Session, file: str, code: Path | None, no_code: bool, dry_run: bool, wait: bool) -> None:
    """Submit the scan that FILE describes, a job's manifest in YAML or JSON with a part `scan`.

    - reads standard input. Secrets and the Python environment are taken from here, as with `mlmp job submit`.
    """
    from mlmp_spawner.client import job_submit

    folder = job_run.folder_of(file, code, no_code=no_code)
    text = job_run.read_manifest(file)
    api = session.client.scans
    planned = api.check({"manifest": text})
    if dry_run:
        _show_rows(session, planned)
        return
    manifest = job_submit.in_python_here(planned.manifest, os.environ, note=session.note)
    values = job_run.secret_values([str(name) for name in manifest.get("secrets") or ()])
    work = job_submit.Work(manifest, folder, values)
    asked = {"manifest": manifest, **planned.scan}
    _answer(session, api.send(session.client.jobs, work, asked, note=session.note), waiting=wait)


def _answer(session: Session, made: ScanRecord, *, waiting: bool) -> None:
    """Tells of a scan that was just submitted, and waits for it if wished."""
    if not waiting:
        if session.json:
            shown.print_json(made.raw)
            return
        session.say(f"Submitted {made.size} jobs of {made.name}. The scan's id is {made.id}.")
        session.say(f"  Look: mlmp scan show {made.id}")
        return
    session.note(f"Submitted {made.size} jobs of {made.name}. The scan's id is {made.id}; Ctrl-C leaves it running.")
    over = session.client.scans.wait(made.id, None, lambda one: session.note(counts(one)))
    _show(session, over, None, lowest=False)
    click.get_current_context().exit(0 if over.counts.get("succeeded", 0) == over.size else 1)


@command(name="ls")
def ls(session: Session) -> None:
    """Your scans, the newest first."""
    found = session.client.scans.list()
    if session.json:
        shown.print_json({"items": [one.raw for one in found]})
    elif not found:
        session.say("You have no scans. The first: mlmp scan run train.py --profile PROFILE --vary lr=0.1,0.01")
    else:
        rows = [(one.id, one.name, one.size, ", ".join(one.parameters), counts(one)) for one in found]
        shown.table(session.out, ("id", "name", "rows", "parameters", "state"), rows)


@command(name="show")
@click.argument("id", metavar="ID")
@click.option("--metric", help="Sort by its last value, the best first.")
@click.option("--lowest", is_flag=True, help="The lowest value is the best.")
def show(session: Session, id: str, metric: str | None, lowest: bool) -> None:
    """One scan: of each row its values, its state and what it measured last."""
    _show(session, session.client.scans.get(id), metric, lowest=lowest)


@command(name="retry")
@click.argument("id", metavar="ID")
def retry(session: Session, id: str) -> None:
    """Submit once more each row of scan ID that failed, with the same code."""
    count, found = session.client.scans.retry(id)
    if session.json:
        shown.print_json({"retried": count, "scan": found.raw})
    else:
        session.say(f"Submitted {count} again: {counts(found)}." if count else "No row failed: nothing was submitted.")


@command(name="cancel")
@click.argument("id", metavar="ID")
def cancel(session: Session, id: str) -> None:
    """End all jobs of scan ID: at once what waits; what runs gets its grace."""
    found = session.client.scans.cancel(id)
    if session.json:
        shown.print_json(found.raw)
    else:
        session.say(f"Cancelled {found.id}: {counts(found)}.")


def counts(of: ScanRecord) -> str:
    """Its rows by state, as one line."""
    return ", ".join(f"{count} {state}" for state, count in sorted(of.counts.items()))


def _show(session: Session, of: ScanRecord, metric: str | None, *, lowest: bool) -> None:
    rows = list(of.rows)
    first = None
    if metric is not None:
        first = best(rows, metric, lowest=lowest)
        having = [one for one in rows if metric in one.metrics and one is not first]
        having.sort(key=lambda one: one.metrics[metric], reverse=not lowest)
        rest = [one for one in rows if metric not in one.metrics]
        rows = [*([first] if first else []), *having, *rest]
    if session.json:
        shown.print_json({**of.raw, "rows": [of.raw["rows"][one.row] for one in rows]})
        return
    metrics = sorted({name for one in rows for name in one.metrics})
    if metric is not None and first is None:
        session.note(f"No row that succeeded has a metric {metric!r} yet; there are {', '.join(metrics) or 'none'}.")
    session.say(f"{of.id}  {of.name}: {counts(of)}" + (", cancelled" if of.cancelled else ""))
    table = [
        (one.row + 1, *(one.parameters[name] for name in of.parameters), one.state + (" *" if one is first else ""),
         *(f"{one.metrics[name]:.6g}" if name in one.metrics else "" for name in metrics), one.job or "")
        for one in rows
    ]  # fmt: skip
    shown.table(session.out, ("row", *of.parameters, "state", *metrics, "job"), table,
                caption="* the best" if first else "")  # fmt: skip


def _show_rows(session: Session, planned: Planned) -> None:
    size, rows = planned.size, planned.rows
    if session.json:
        shown.print_json({"size": size, "rows": rows})
        return
    rest = f"; the first {len(rows)} are shown" if size > len(rows) else ""
    shown.table(session.out, list(rows[0]), [tuple(one.values()) for one in rows], caption=f"{size} rows{rest}")


def _parameters(vary: tuple[str, ...], file: Path | None, samples: int | None) -> tuple[str, Any]:
    if (file is None) == (not vary):
        raise Invalid.field("--vary", "say what to vary: --vary NAME=VALUES for each parameter, or --rows FILE")
    if file is not None:
        if samples is not None:
            raise Invalid.field("--samples", "is for --vary; --rows has the rows themselves")
        return "list", _rows(file)
    found: dict[str, Any] = {}
    for text in vary:
        name, equals, said = text.partition("=")
        if not equals or not said:
            raise Invalid.field("--vary", f"{text[:40]!r} is not NAME=VALUES")
        if name in found:
            raise Invalid.field("--vary", f"{name[:40]!r} is there twice")
        found[name] = _range(said) if _RANGE.match(said) else [_value(name, one) for one in said.split(",")]
    return ("random" if samples is not None else "grid"), found


def _range(said: str) -> dict[str, Any]:
    low, _, rest = said.partition("..")
    high, *more = rest.split(":")
    found: dict[str, Any] = {"from": _value("", low), "to": _value("", high)}
    for one in more:
        if one in ("lin", "log"):
            found["scale"] = one
        elif one.isdecimal() and len(one) < 7:
            found["steps"] = int(one)
        else:
            raise Invalid.field("--vary", f"{said[:40]!r}: a range is FROM..TO, FROM..TO:STEPS or FROM..TO:STEPS:log")
    return found


def _value(name: str, text: str) -> Any:
    """A number as JSON has it (or .5, or 5.), true or false; anything else is text."""
    text = text.strip()
    if not text:
        raise Invalid.field("--vary", f"{name[:40]!r} has a value that is empty: is there a comma too many?")
    if text in ("true", "false"):
        return text == "true"
    if _WHOLE.fullmatch(text):
        return int(text)
    return float(text) if _NUMBER.fullmatch(text) else text


def _rows(file: Path) -> Any:
    try:
        with file.expanduser().open("rb") as opened:
            data = opened.read(LARGEST + 1)
        if len(data) > LARGEST:
            raise Invalid.field("--rows", f"{file} is larger than 256 KiB")
        return json.loads(data)
    except FileNotFoundError:
        raise NotFound(f"There is no file {str(file)!r}.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise Invalid.field("--rows", f"{file} is no list in JSON: {error}") from None


for _each in (run, submit, ls, show, retry, cancel):
    scan.add_command(_each)
