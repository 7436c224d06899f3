"""A job's program is started as its manifest says, with its code unpacked and nothing written elsewhere."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlmp_spawner.lab import job_code, job_main
from mlmp_spawner.lab.job_command import NotStarted
from tests.live import wait_for


class Home:
    """A home, and attempts of job ``one`` in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.folder = path / "mlmp-jobs" / "one"
        self.number = 0
        self.notes: list[dict[str, Any]] = []
        self.output = ""

    def run(
        self, *, code: bytes | None = None, workers: int = 1, ours: dict[str, str] | None = None,
        secrets: dict[str, str] | None = None, asked_with: str = "", **manifest: Any,
    ) -> dict[str, Any]:  # fmt: skip
        """Runs an attempt to its end; how it noted that it ended. It is asked to end once its home has a file of the
        name ``asked_with``."""
        self.number += 1
        order = {
            "job": "one", "number": self.number, "grace": 10_000, "manifest": {"name": "try", **manifest},
            "code": code is not None, "environment": {"FROM_SITE": "yes"}, "secrets": secrets or {},
            "ours": ours or {},
            "workers": [{"units": [f"unit-{rank}"], "cpus": 2.0} for rank in range(workers)],
        }  # fmt: skip
        read, write = os.pipe()
        notice, told = os.pipe()
        files = [memory_file(json.dumps(order).encode()), memory_file(code or b""), write, notice]
        command = [sys.executable, "-I", "-m", job_main.__name__, *map(str, files)]
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.path)}
        process = subprocess.Popen(
            command, cwd=self.path, env=environment, pass_fds=files, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True,
        )  # fmt: skip
        for file in files:
            os.close(file)
        if asked_with:
            wait_for((self.path / asked_with).exists, 120, "the file with which it is asked to end")
            os.write(told, b"{}\n")
        self.output, _ = process.communicate(timeout=120)
        os.close(told)
        with open(read) as noted:
            self.notes = [json.loads(line) for line in noted]
        assert process.returncode == 0, self.output
        ended: dict[str, Any] = self.notes[-1]["ended"]
        return ended


def memory_file(content: bytes) -> int:
    number = os.memfd_create("test")
    os.write(number, content)
    return number


def packed(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        for member, content in members:
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return made.getvalue()


def code_of(**files: str) -> bytes:
    return packed(*((named(name.replace("_", ".")), content.encode()) for name, content in files.items()))


def named(name: str, **values: Any) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    for key, value in ({"mode": 0o644} | values).items():
        setattr(member, key, value)
    return member


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    (tmp_path / "home").mkdir()
    return Home(tmp_path / "home")


def test_code_is_unpacked_once_and_a_later_attempt_finds_what_the_first_one_left(home: Home) -> None:
    code = code_of(train_py="import pathlib\nleft = pathlib.Path('left')\nprint(left.exists())\nleft.touch()\n")
    assert home.run(script="train.py", code=code) == {"exit_status": 0}
    assert home.output == "False\n"
    (home.folder / "train.py").write_text("print('changed')")
    home.run(script="train.py", code=code)
    assert home.output == "changed\n"


def test_it_runs_in_its_directory_with_its_arguments(home: Home) -> None:
    code = packed((named("deep/run.sh", mode=0o755), b"#!/bin/sh\npwd; echo $1\n"))
    assert home.run(script="run.sh", directory="deep", arguments=["a b"], code=code) == {"exit_status": 0}
    assert home.output.splitlines() == [str(home.folder / "deep"), "a b"]


def test_a_text_is_run_by_a_shell_and_a_list_is_not(home: Home) -> None:
    home.run(command="echo $FROM_SITE $((1 + 1))")
    assert home.output == "yes 2\n"
    home.run(command=["echo", "$FROM_SITE"])
    assert home.output == "$FROM_SITE\n"


def test_what_is_ours_can_not_be_changed_by_the_manifest(home: Home) -> None:
    home.run(
        command="echo $MLMP_JOB_ID $COLOUR $TOKEN; cd $MLMP_CHECKPOINT_DIR && pwd; cd $MLMP_OUTPUT_DIR && pwd",
        environment={"MLMP_JOB_ID": "mine", "COLOUR": "blue", "TOKEN": "public"}, secrets={"TOKEN": "hidden"},
        ours={"MLMP_JOB_ID": "one"}, checkpoint="points/{name}", outputs="mlmp-jobs/{id}/out",
    )  # fmt: skip
    assert home.output.splitlines() == [
        "one blue hidden", str(home.path / "points/try"), str(home.folder / "out")
    ]  # fmt: skip


def test_workers_know_each_other_and_each_has_its_units(home: Home) -> None:
    home.run(
        workers=2, command="echo $RANK $NODE_RANK $WORLD_SIZE $MASTER_ADDR $CUDA_VISIBLE_DEVICES $OMP_NUM_THREADS"
    )
    assert sorted(home.output.splitlines()) == ["[0] 0 0 2 127.0.0.1 unit-0 2", "[1] 1 1 2 127.0.0.1 unit-1 2"]


def test_what_several_workers_print_is_kept_to_the_last_word_and_says_whose_it_is(home: Home) -> None:
    home.run(workers=3, command="seq -f \"line %g of $RANK\" 2000; echo failed >&2; printf 'last word'")
    lines = home.output.splitlines()
    for rank in range(3):
        own = [line.removeprefix(f"[{rank}] ") for line in lines if line.startswith(f"[{rank}] ")]
        assert own == [*(f"line {number} of {rank}" for number in range(1, 2001)), "failed", "last word"]
    assert len(lines) == 3 * 2002
    home.run(command="echo alone")
    assert home.output == "alone\n"


def test_nobody_waits_for_what_workers_left_behind(home: Home) -> None:
    assert home.run(workers=2, command="echo begun; sleep 60 & exit 0") == {"exit_status": 0}
    assert sorted(home.output.splitlines()) == ["[0] begun", "[1] begun"]


def test_when_one_worker_fails_the_others_do_not_wait_for_it(home: Home) -> None:
    ended = home.run(workers=3, command="if [ $RANK = 1 ]; then exit 5; fi; exec sleep 1000")
    assert ended == {"exit_status": 5}


SAVES = """\
import os, pathlib, signal, time
home = pathlib.Path.home()
told = []
signal.signal(signal.SIGTERM, lambda *_: told.append("told"))
(home / os.environ["RANK"]).symlink_to(str(os.getpid()))
while not (home / "0").is_symlink() or not (home / "1").is_symlink():
    time.sleep(0.01)
other = os.readlink(home / "0")
(home / "ready").touch()
while not told:
    time.sleep(0.01)
if os.environ["RANK"] == "0":
    raise SystemExit(1)
while os.path.exists(f"/proc/{other}"):
    time.sleep(0.01)
time.sleep(0.2)
print(*told)
"""


def test_who_was_asked_to_end_is_not_asked_again_when_another_ends_first(home: Home) -> None:
    home.run(workers=2, script="saves.py", code=code_of(saves_py=SAVES), asked_with="ready")
    assert home.output == "[1] told\n"


SAVES_LATE = """\
import pathlib, signal, time
told = []
signal.signal(signal.SIGTERM, lambda *_: told.append("told"))
(pathlib.Path.home() / "ready").touch()
while not told:
    time.sleep(0.01)
time.sleep(0.5)
pathlib.Path("metrics.jsonl").write_text('{"step": 1, "loss": 0.5}\\n')
print("saved")
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_what_a_program_behind_a_shell_says_after_it_was_asked_to_end_is_kept(home: Home, workers: int) -> None:
    command = f"if [ ${{RANK:-0}} = 0 ]; then '{sys.executable}' saves.py; fi"
    home.run(
        workers=workers, command=command, code=code_of(saves_py=SAVES_LATE), asked_with="ready",
        metrics=[{"json_lines": "metrics.jsonl"}],
    )  # fmt: skip
    assert "saved" in home.output
    assert [note["values"] for note in home.notes if "values" in note] == [{"loss": 0.5}]


@pytest.mark.parametrize(
    ("manifest", "said"),
    [
        ({"script": "missing.py"}, "no file 'missing.py'"),
        ({"notebook": "missing.ipynb"}, "no file 'missing.ipynb'"),
        ({"command": ["/nowhere/to-be-found"]}, "no program '/nowhere/to-be-found'"),
        ({"script": "plain.txt"}, "chmod +x"),
        ({"command": ["true"], "directory": "missing"}, "no directory 'missing'"),
        ({"command": ["true"], "directory": "../.."}, "no directory '../..'"),
    ],
)
def test_what_can_not_be_started_says_why(home: Home, manifest: dict[str, Any], said: str) -> None:
    ended = home.run(code=code_of(plain_txt="no program"), **manifest)
    assert ended["reason"] == "start" and said in ended["message"]


def test_its_metrics_are_noted_to_the_last_one(home: Home) -> None:
    program = """for i in 1 2 3; do echo "{\\"step\\": $i, \\"loss\\": 0.$i}" >> $HOME/m.jsonl; done"""
    home.run(command=program, metrics=[{"json_lines": "~/m.jsonl"}])
    assert [(note["step"], note["values"]) for note in home.notes[:-1]] == [
        (1, {"loss": 0.1}), (2, {"loss": 0.2}), (3, {"loss": 0.3})
    ]  # fmt: skip


@pytest.mark.faults
def test_a_notebook_is_run_with_its_parameters_and_kept_as_it_was_run(home: Home) -> None:
    cells = [
        {"cell_type": "code", "metadata": {"tags": ["parameters"]}, "source": "lr = 1", "outputs": [],
         "execution_count": None, "id": "a"},
        {"cell_type": "code", "metadata": {}, "source": "print('rate', lr * 2, name)", "outputs": [],
         "execution_count": None, "id": "b"},
    ]  # fmt: skip
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    ended = home.run(
        notebook="try.ipynb", parameters={"lr": 0.25, "name": "it's: [one]"}, outputs="mlmp-jobs/{id}",
        code=code_of(try_ipynb=json.dumps(notebook)),
    )  # fmt: skip
    assert ended == {"exit_status": 0}, home.output
    assert "rate 0.5 it's: [one]" in home.output
    done = (home.folder / "try-done.ipynb").read_text()
    assert "rate 0.5" in done


# -- hostile snapshots ---------------------------------------------------------------------------------------------

NAMES = st.sampled_from(["a", "b", "a/b", "../out", "/tmp/mlmp-hostile", "a/../../out", ".", "..", "a/b/c", "\u202e"])
KINDS = st.sampled_from([tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE,
                         tarfile.CHRTYPE])  # fmt: skip


@settings(deadline=None)
@given(st.lists(st.tuples(NAMES, KINDS, NAMES), max_size=6))
def test_whatever_a_snapshot_has_nothing_outside_is_touched(
    tmp_path_factory: pytest.TempPathFactory, members: list[tuple[str, bytes, str]]
) -> None:
    around = tmp_path_factory.mktemp("around")
    (around / "out").write_text("untouched")
    folder = around / "jobs" / "one"
    archive = packed(*(
        (named(name, type=kind, linkname=link, mode=0o4777), b"new" if kind == tarfile.REGTYPE else b"")
        for name, kind, link in members
    ))  # fmt: skip
    file = memory_file(archive)
    try:
        job_code.unpack(file, folder)
    except NotStarted:
        assert not folder.exists()
    finally:
        os.close(file)
    assert (around / "out").read_text() == "untouched"
    assert not Path("/tmp/mlmp-hostile").exists()
    assert {path.name for path in around.iterdir()} == {"out", "jobs"}
    assert {path.name for path in (around / "jobs").iterdir()} <= {"one"}
    for path in folder.rglob("*"):
        assert path.is_symlink() or path.is_dir() or path.is_file()
        assert Path(os.path.realpath(path)).is_relative_to(folder)


@pytest.mark.parametrize(
    "content", [b"", b"nonsense", packed((named("a"), b"x" * 5_000))[:-40]], ids=["empty", "nonsense", "cut off"]
)
def test_what_is_no_snapshot_leaves_nothing_behind(tmp_path: Path, content: bytes) -> None:
    file = memory_file(content)
    with pytest.raises(NotStarted, match="can't be unpacked"):
        job_code.unpack(file, tmp_path / "jobs" / "one")
    os.close(file)
    assert list((tmp_path / "jobs").iterdir()) == []


def test_a_snapshot_that_grows_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_code, "MOST_BYTES", 1 << 20)
    file = memory_file(packed((named("zeros"), bytes(2 << 20))))
    with pytest.raises(NotStarted, match="more than"):
        job_code.unpack(file, tmp_path / "jobs" / "one")
    os.close(file)
