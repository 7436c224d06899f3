"""A real JupyterLab with PScan, where neither a hub nor anything of this machine's configuration says more."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

from mlmp_spawner.lab import pscan
from tests.live import wait_for

TOKEN = "the-token-of-this-test"
LABEXTENSIONS = Path(pscan.__file__).with_name("labextensions")
GREEN = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
"""A picture of one point."""


@contextmanager
def lab(
    work: Path, home: Path, *options: str, environment: Mapping[str, object] = MappingProxyType({})
) -> Iterator[str]:
    """Runs one in ``work``; its address with a slash at the end. What Jupyter keeps is in ``home``."""
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--port=0", f"--ServerApp.root_dir={work}",
        f"--IdentityProvider.token={TOKEN}", "--ServerApp.jpserver_extensions=mlmp_spawner.lab.pscan=True",
        f"--LabApp.extra_labextensions_path={LABEXTENSIONS}", "--LabApp.news_url=None", *options,
    ]  # fmt: skip
    runtime = home / "runtime"
    settings = {"HOME": home, "JUPYTER_RUNTIME_DIR": runtime, "JUPYTER_CONFIG_DIR": home / "config",
                "JUPYTER_DATA_DIR": home / "data", "JUPYTER_NO_CONFIG": "1", **environment}  # fmt: skip
    with (home / "lab.log").open("wb") as log:
        process = subprocess.Popen(command, env=_environment(settings), stdout=log, stderr=log, cwd=work)
    try:
        yield wait_for(lambda: _address(process, runtime, home), 90, "JupyterLab")
    finally:
        process.terminate()
        process.wait(60)


def _environment(settings: Mapping[str, object]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("JUPYTER")}
    return kept | {name: str(value) for name, value in settings.items()}


def _address(process: subprocess.Popen[bytes], runtime: Path, home: Path) -> str | None:
    assert process.poll() is None, (home / "lab.log").read_text()
    for file in runtime.glob("jpserver-*.json"):
        try:
            return str(json.loads(file.read_text())["url"])
        except ValueError:  # half of it
            return None
    return None
