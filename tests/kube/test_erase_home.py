"""The program that erases a user's folder, run as the pod runs it, on what a hostile user may leave."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlmp_spawner.kube.home_pods import ERASE
from tests.kube.test_make_home import ANN, AS_ANN, BOB, SQUASHED, WITH_ITS_RIGHTS, volume

__all__ = ["volume"]

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the folders are of other users")
WAYS = pytest.mark.parametrize("by", [WITH_ITS_RIGHTS, SQUASHED, AS_ANN], ids=["root", "squashed", "user"])
DEEP = 3000


def run(volume: Path, *by: str, name: str = "ann", uid: int = ANN) -> str:
    """Why not; "" when it is done."""
    command = [*by, sys.executable, "-I", "-c", ERASE.program, str(volume), name, str(uid), str(uid)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode == 0) == (done.stderr == ""), done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.fixture
def home(volume: Path) -> Path:
    """Ann's folder, in a volume where she may remove it."""
    volume.chmod(0o777)
    made = volume / "ann"
    made.mkdir()
    (volume / "bob").mkdir()
    (volume / "bob" / "kept").write_text("bob's")
    os.chown(volume / "bob", BOB, BOB)
    fill(made)
    return made


def fill(home: Path) -> None:
    """Links out, closed folders, hidden files, names that are no text, and folders deeper than any recursion."""
    (home / ".config").mkdir()
    (home / ".config" / "secret").write_text("x")
    (home / "out").symlink_to(home.parent / "bob")
    (home / "out.txt").symlink_to(home.parent / "bob" / "kept")
    os.mkfifo(home / "pipe")
    (home / os.fsdecode(b"\xff\n-rf")).mkdir()
    closed = home / "closed" / "inner"
    closed.mkdir(parents=True)
    (closed / "file").write_text("x")
    at = os.open(home, os.O_RDONLY)
    for _ in range(DEEP):
        os.mkdir("deep", dir_fd=at)
        inner = os.open("deep", os.O_RDONLY, dir_fd=at)
        os.fchown(inner, ANN, ANN)
        os.close(at)
        at = inner
    os.close(at)
    for path in (home, *home.glob("**/*")) if not (home / "deep").exists() else (home, *home.iterdir()):
        os.chown(path, ANN, ANN, follow_symlinks=False)
    for path in (home / ".config" / "secret", closed, closed / "file"):
        os.chown(path, ANN, ANN)
    closed.chmod(0o000)
    closed.parent.chmod(0o500)


@WAYS
def test_all_of_it_goes_and_nothing_of_anybody_else(home: Path, by: tuple[str, ...]) -> None:
    assert run(home.parent, *by) == ""
    assert not os.path.lexists(home)
    assert (home.parent / "bob" / "kept").read_text() == "bob's"


@WAYS
def test_again_there_is_nothing_to_do(volume: Path, by: tuple[str, ...]) -> None:
    assert run(volume, *by) == ""


@WAYS
def test_the_folder_of_somebody_else_stays(home: Path, by: tuple[str, ...]) -> None:
    said = run(home.parent, *by, name="bob")
    assert said.startswith("The folder bob belongs to uid")
    assert (home.parent / "bob" / "kept").exists()


def test_a_link_in_place_of_the_folder_leads_nowhere(volume: Path) -> None:
    (volume / "bob").mkdir()
    (volume / "bob" / "kept").touch()
    (volume / "ann").symlink_to(volume / "bob")
    os.chown(volume / "ann", ANN, ANN, follow_symlinks=False)
    assert run(volume) == ""
    assert not os.path.lexists(volume / "ann") and (volume / "bob" / "kept").exists()


def test_one_that_was_killed_in_the_middle_is_finished_by_the_next(home: Path) -> None:
    command = [sys.executable, "-I", "-c", ERASE.program, str(home.parent), "ann", str(ANN), str(ANN)]
    killed = subprocess.Popen(command)
    killed.kill()
    killed.wait()
    assert run(home.parent) == ""
    assert not home.exists()


@pytest.mark.parametrize("name", ["", ".", "..", "../bob", "a/b"])
def test_what_is_no_name_of_a_folder_is_refused(home: Path, name: str) -> None:
    assert "no name of a folder" in run(home.parent, name=name)
    assert home.exists()
