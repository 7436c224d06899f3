"""The files of the lab image do in IPython, Jupyter and a login shell what they are there for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ETC = Path(__file__).parents[2] / "images" / "lab" / "etc"


def said(*command: str, **variables: str) -> str:
    done = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.strip()


def test_the_history_of_ipython_is_on_no_network_file_system(tmp_path: Path) -> None:
    ask = "print(get_ipython().history_manager.hist_file)"
    config = ETC / "ipython" / "ipython_config.py"
    found = said(sys.executable, "-m", "IPython", f"--config={config}", "-c", ask, IPYTHONDIR=str(tmp_path))
    assert found.endswith("/tmp/ipython-history.sqlite")


def test_the_signatures_of_notebooks_are_on_no_network_file_system(tmp_path: Path) -> None:
    config = {"JUPYTER_CONFIG_PATH": str(ETC / "jupyter"), "JUPYTER_CONFIG_DIR": str(tmp_path)}
    for command in ("jupyter_server", "nbformat.sign"):
        assert "db_file = '/tmp/notebook-signatures.sqlite'" in said(
            sys.executable, "-m", command, "--show-config", **config
        )


def test_a_login_shell_finds_the_programs_of_jupyterlab_first() -> None:
    read = f"PATH=/usr/bin; . {ETC}/profile.d/mlmp.sh; echo $PATH"
    found = said("bash", "--noprofile", "-c", read, HOME="/home/ann")
    assert found == "/opt/mlmp/bin:/home/ann/.local/bin:/usr/bin"


def test_no_image_brings_host_keys_that_all_who_have_it_would_share() -> None:
    recipes = [path.read_text() for path in ETC.parents[1].glob("*/Containerfile")]
    with_sshd = [text for text in recipes if "openssh-server" in text]
    assert len(with_sshd) == 2
    assert all("/etc/ssh/ssh_host_*" in text for text in with_sshd)
