"""The command line of a job's program, from what its manifest says."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class NotStarted(Exception):
    """The program of a job can't be started; the message is for its owner."""


def command_of(
    manifest: Mapping[str, Any], directory: Path, outputs: Path, environment: Mapping[str, str]
) -> list[str]:
    """The command line.

    :param directory: where it starts. :param outputs: where an executed notebook goes.
    :raises NotStarted: what it names is not there.
    """
    if manifest.get("script"):
        return [*_interpreter(manifest["script"], directory, environment), *map(str, manifest.get("arguments") or ())]
    if manifest.get("notebook"):
        return _notebook(manifest, directory, outputs)
    command = manifest.get("command")
    return ["sh", "-c", command] if isinstance(command, str) else [str(word) for word in command or ()]


def _interpreter(script: str, directory: Path, environment: Mapping[str, str]) -> list[str]:
    found = _there(script, directory)
    if found.suffix == ".py":
        path = environment.get("PATH")
        python = shutil.which("python", path=path) or shutil.which("python3", path=path) or sys.executable
        return [python, script]
    if found.suffix in (".sh", ".bash"):
        return ["bash", script]
    return [str(found)]


def _notebook(manifest: Mapping[str, Any], directory: Path, outputs: Path) -> list[str]:
    if importlib.util.find_spec("papermill") is None:
        raise NotStarted("Notebooks are run by papermill, which is not installed here: pip install papermill")
    notebook = manifest["notebook"]
    done = outputs / f"{_there(notebook, directory).stem}-done.ipynb"
    command = [sys.executable, "-m", "papermill", notebook, str(done), "--log-output", "--no-progress-bar"]
    given = manifest.get("parameters") or {}
    return [*command, "--parameters_yaml", json.dumps(given)] if given else command


def _there(named: str, directory: Path) -> Path:
    found = directory / named
    if not found.is_file():
        raise NotStarted(f"Its code has no file {named!r}.")
    return found
