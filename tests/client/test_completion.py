"""The Tab key: what there is, at once, or nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.client.answers import ID, catalog, job, me, reservation
from tests.client.conftest import TOKEN, CommandLine
from tests.client.standin import Answer, StandIn

IMAGE = {"name": "lab", "reference": "example.org/lab:1", "description": "JupyterLab"}


def offered(words: str, **environment: str) -> list[str]:
    """What bash is offered after ``words``; the last one is not finished."""
    typed = words.split(" ")
    asked = {"_MLMP_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(len(typed) - 1)}
    command = [sys.executable, "-c", "from mlmp_spawner.client.cli import main; main()"]
    said = subprocess.run(
        command, env=os.environ | asked | environment, capture_output=True, text=True, timeout=30, check=True
    )
    assert said.stderr == ""
    return [line.partition(",")[2] for line in said.stdout.splitlines() if line]


@pytest.fixture
def signed_in(server: StandIn) -> dict[str, str]:
    server.on["GET me"] = Answer(200, me())
    server.on["GET catalog"] = Answer(200, catalog("gpu", "cpu") | {"nodes": [{"name": "box"}], "images": [IMAGE]})
    server.on["GET reservations"] = Answer(200, {"items": [reservation()], "next_cursor": None})
    return {"MLMP_URL": server.url, "MLMP_TOKEN": TOKEN}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_a_script_that_it_can_read(nobody: CommandLine, shell: str, tmp_path: Path) -> None:
    script = nobody("completion", shell).out
    assert f"_MLMP_COMPLETE={shell}_complete" in script
    if program := shutil.which(shell):
        file = tmp_path / "script"
        file.write_text(script)
        subprocess.run([program, "-n", str(file)], check=True)


def test_commands_are_offered(signed_in: dict[str, str]) -> None:
    assert offered("mlmp sto", **signed_in) == ["stop"]
    assert {"book", "free", "completion"} <= set(offered("mlmp ", **signed_in))


@pytest.mark.parametrize("command", ["show", "logs", "cancel", "resubmit", "wait"])
def test_ids_of_own_jobs_are_offered(signed_in: dict[str, str], server: StandIn, command: str) -> None:
    server.on["GET jobs"] = Answer(200, {"items": [job()], "next_cursor": None})
    assert offered(f"mlmp job {command} {ID[:2]}", **signed_in) == [ID]


@pytest.mark.parametrize("command", ["show", "extend", "cancel", "release", "start", "stop", "open"])
def test_ids_of_own_bookings_are_offered(signed_in: dict[str, str], command: str) -> None:
    assert offered(f"mlmp {command} {ID[:2]}", **signed_in) == [ID]
    assert offered(f"mlmp {command} zzz", **signed_in) == []


def test_profiles_nodes_and_images_are_offered(signed_in: dict[str, str]) -> None:
    assert offered("mlmp book --profile ", **signed_in) == ["gpu", "cpu"]
    assert offered("mlmp free --node ", **signed_in) == ["box"]
    assert offered("mlmp book --image l", **signed_in) == ["lab"]


def test_where_nothing_answers_nothing_is_offered_and_nobody_waits(server: StandIn, tmp_path: Path) -> None:
    assert offered("mlmp stop ", XDG_CONFIG_HOME=str(tmp_path), MLMP_URL="", MLMP_TOKEN="") == []
    begun = time.monotonic()
    assert offered("mlmp stop ", MLMP_URL="http://127.0.0.1:9/", MLMP_TOKEN=TOKEN) == []
    server.on["GET me"] = Answer(500, {})
    assert offered("mlmp stop ", MLMP_URL=server.url, MLMP_TOKEN=TOKEN) == []
    assert time.monotonic() - begun < 10
