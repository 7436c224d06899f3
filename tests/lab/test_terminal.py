"""A terminal of JupyterLab: a login shell, in which what people put into their own files counts, and mlmp is there."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from mlmp_spawner.spawners.local import TERMINAL


def typed(lines: str, home: Path, shell: str = "/bin/bash") -> list[str]:
    """What a terminal answers to these lines."""
    environment = {"HOME": str(home), "SHELL": shell, "PATH": os.defpath}
    ran = subprocess.run(
        ["/bin/sh", TERMINAL, "/opt/mlmp lab/bin"], input=lines, env=environment, capture_output=True, text=True,
        check=False, timeout=60,
    )  # fmt: skip
    return ran.stdout.split("\n")[:-1]


@pytest.mark.parametrize("shell", ["/bin/bash", "/bin/sh"])
def test_the_programs_of_mlmp_are_found_after_all_others(tmp_path: Path, shell: str) -> None:
    (path, rest) = typed('echo "$PATH"; echo "${MLMP_PROGRAMS-}${MLMP_TERMINAL-}"\n', tmp_path, shell)
    assert path.endswith(":/opt/mlmp lab/bin")
    assert path.count("/opt/mlmp lab/bin") == 1
    assert rest == ""


def test_what_people_set_in_their_own_files_comes_first(tmp_path: Path) -> None:
    (tmp_path / ".profile").write_text("export FROM_PROFILE=yes PATH=/profile:$PATH\n")
    (tmp_path / ".bashrc").write_text("PATH=/bashrc:$PATH\n")
    (path, said) = typed('echo "$PATH"; echo "$FROM_PROFILE"\n', tmp_path)
    assert path.startswith("/bashrc:/profile:")
    assert said == "yes"
