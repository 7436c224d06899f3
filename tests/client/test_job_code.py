"""The snapshot of a job's code: what is in it, what is not, and that nothing from outside gets in."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import tarfile
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlmp_spawner.client import job_code
from mlmp_spawner.client.job_code import Found, pack, scan
from mlmp_spawner.errors import Invalid, NotFound, OverLimit
from mlmp_spawner.lab import job_code as job_code_of_lab


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home of who calls."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    return home


@pytest.fixture
def code(home: Path) -> Path:
    """A folder of code in the home."""
    folder = home / "code"
    folder.mkdir()
    return folder


def put(folder: Path, *names: str, content: str = "x") -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)


def names(found: Found) -> list[str]:
    return [one.name for one in found.entries]


def unpack(folder: Path, into: Path) -> list[str]:
    """Packs, and unpacks as a job does; what is in it, sorted."""
    packed = pack(scan(folder))
    with packed.packed as file:
        job_code_of_lab.unpack(file.fileno(), into)
        file.seek(0)
        with tarfile.open(fileobj=file) as archive:
            return sorted(archive.getnames())


def test_files_folders_and_what_may_be_run_come_through(code: Path, tmp_path: Path) -> None:
    put(code, "train.py", "lib/model.py", "lib/ümläut 😀.txt", content="print()")
    (code / "empty").mkdir()
    (code / "run.sh").write_bytes(b"#!/bin/sh\n")
    (code / "run.sh").chmod(0o700)
    os.mkfifo(code / "pipe")
    assert unpack(code, tmp_path / "job") == [
        "empty",
        "lib",
        "lib/model.py",
        "lib/ümläut 😀.txt",
        "run.sh",
        "train.py",
    ]
    assert (tmp_path / "job/run.sh").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "job/train.py").stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "job/lib/model.py").read_text() == "print()"
    assert scan(code).left_out == ("pipe: neither a file nor a folder",)


def test_names_that_are_no_text_come_through(code: Path, tmp_path: Path) -> None:
    (Path(os.fsdecode(os.fsencode(code) + b"/caf\xe9.txt"))).write_bytes(b"latin")
    unpack(code, tmp_path / "job")
    assert os.listdir(os.fsencode(tmp_path / "job")) == [b"caf\xe9.txt"]


def test_the_same_files_give_the_same_bytes(code: Path, home: Path) -> None:
    put(code, "b.py", "a/c.py")
    first = pack(scan(code))
    os.utime(code / "b.py", (1, 1))
    (home / "copy").mkdir()
    put(home / "copy", "a/c.py", "b.py")
    second = pack(scan(home / "copy"))
    assert (first.sha256, first.size) == (second.sha256, second.size)
    with first.packed as file:
        data = file.read()
    assert (hashlib.sha256(data).hexdigest(), len(data)) == (first.sha256, first.size)
    put(code, "b.py", content="y")
    third = pack(scan(code))
    assert third.sha256 != first.sha256
    second.close()
    third.close()


def test_what_is_never_code_is_left_out(code: Path) -> None:
    put(code, ".git/config", "lib/__pycache__/m.pyc", ".ipynb_checkpoints/a.ipynb", "venv/pyvenv.cfg", "venv/bin/x",
        "conda/conda-meta/history", "lib/m.py", ".env", "old.pyc")  # fmt: skip
    found = scan(code)
    assert names(found) == [".env", "lib", "lib/m.py"]
    assert found.left_out == (
        "conda/: an environment of installed packages",
        "venv/: an environment of installed packages",
    )


def test_a_file_of_patterns_says_what_else_is_left_out_and_what_is_brought_back(code: Path) -> None:
    put(code, "data/a.bin", "train.py", "node_modules/a.js", "x/data/b")
    put(code, ".mlmpignore", content="# data\n/data/\n!node_modules/\n")
    assert names(scan(code)) == [
        ".mlmpignore",
        "node_modules",
        "node_modules/a.js",
        "train.py",
        "x",
        "x/data",
        "x/data/b",
    ]
    put(code, ".mlmpignore", content="[z-a]\n")
    with pytest.raises(Invalid, match=r"line 1: .*z-a.* is not a pattern"):
        scan(code)


def test_links_stay_inside(code: Path, home: Path, tmp_path: Path) -> None:
    put(home, "secret", "data/set")
    put(code, "lib/m.py")
    for name, target in {"in": "lib/m.py", "whole": str(code / "lib/m.py"), "folder": "lib", "chain": "in",
                         "home": "../secret", "etc": "/etc/passwd", "data": str(home / "data"), "gone": "nothing",
                         "circle": "circle", "self": ".", "up": ".."}.items():  # fmt: skip
        (code / name).symlink_to(target)
    (code / "lib/back").symlink_to("../in")
    found = scan(code)
    targets = {one.name: one.target for one in found.entries if one.kind == "link"}
    assert targets == {
        "in": "lib/m.py", "whole": "lib/m.py", "folder": "lib", "chain": "lib/m.py", "lib/back": "m.py",
    }  # fmt: skip
    assert sorted(line.partition(":")[0] for line in found.left_out) == [
        "circle", "data", "etc", "gone", "home", "self", "up",
    ]  # fmt: skip
    unpack(code, tmp_path / "job")
    assert (tmp_path / "job/chain").read_text() == "x"


def test_a_file_or_folder_that_becomes_a_link_meanwhile_is_not_followed(code: Path, home: Path) -> None:
    put(home, "outside/m.py", content="secret")
    put(code, "lib/m.py")
    found = scan(code)
    shutil.rmtree(code / "lib")
    (code / "lib").symlink_to(home / "outside")
    with pytest.raises(Invalid, match="can't be read"):
        pack(found)
    (code / "lib").unlink()
    (code / "lib").mkdir()
    (code / "lib/m.py").symlink_to(home / "outside/m.py")
    with pytest.raises(Invalid, match="can't be read"):
        pack(found)
    (code / "lib/m.py").unlink()
    os.mkfifo(code / "lib/m.py")
    with pytest.raises(Invalid, match="is no file any more"):
        pack(found)


def test_of_the_home_itself_the_files_are_taken(home: Path) -> None:
    put(home, "train.py", ".bashrc", ".ssh/id", "data/big", "mlmp-jobs/x/log")
    found = scan(home)
    assert names(found) == ["train.py"]
    assert found.left_out[0].startswith("folders of your home (data, mlmp-jobs): they stay where they are")
    put(home, ".mlmpignore", content="data/\n")
    put(home, "lib/m.py", "mlmp-jobs/x/log")
    assert {"lib/m.py", "train.py"} <= set(names(scan(home)))
    assert not [name for name in names(scan(home)) if name.startswith((".", "data"))]


def test_what_is_too_large_is_refused_with_the_largest_files(code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code / "weights.bin").write_bytes(os.urandom(300_000))
    put(code, "train.py")
    with pytest.raises(
        OverLimit, match=r"more than 97.7 KiB packed. The largest files: weights.bin \(293 KiB\)"
    ) as told:
        pack(scan(code), limit=100_000)
    assert ".mlmpignore" in str(told.value.hint)
    monkeypatch.setattr(job_code, "LIMIT_UNPACKED", 200_000)
    with pytest.raises(OverLimit, match=r"weights.bin"):
        scan(code)
    monkeypatch.setattr(job_code, "MOST_FILES", 1)
    with pytest.raises(OverLimit, match="more than 1 files"):
        scan(code)


def test_a_sparse_file_of_a_terabyte_is_refused_before_it_is_read(code: Path) -> None:
    with (code / "huge").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(OverLimit, match=r"1 TiB"):
        scan(code)


def test_what_can_not_be_read_is_named(code: Path) -> None:
    put(code, "closed")
    found = scan(code)
    (code / "closed").unlink()
    with pytest.raises(Invalid, match="closed can't be read"):
        pack(found)


def test_no_folder_and_a_socket(code: Path) -> None:
    with pytest.raises(NotFound, match="no folder"):
        scan(code / "nothing")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(code / "s")) if len(str(code)) < 90 else os.mkfifo(code / "s")
        assert scan(code).left_out == ("s: neither a file nor a folder",)


NAMES = st.text(
    st.characters(blacklist_categories=["Cs"], blacklist_characters="/\0"), min_size=1, max_size=12
).filter(lambda name: name not in (".", "..") and len(name.encode()) < 200)
TREES = st.recursive(st.binary(max_size=50), lambda below: st.dictionaries(NAMES, below, max_size=4), max_leaves=6)


@settings(max_examples=25, deadline=None)
@given(tree=st.dictionaries(NAMES.filter(lambda name: name != ".mlmpignore"), TREES, max_size=4))
def test_any_tree_comes_out_as_it_went_in(tree: dict[str, object]) -> None:
    with tempfile.TemporaryDirectory() as place:
        code, job = Path(place) / "code", Path(place) / "job"
        _make(code, tree)
        unpack(code, job)
        assert _read(job) == _read(code)


def _make(folder: Path, tree: dict[str, object]) -> None:
    folder.mkdir()
    for name, content in tree.items():
        if isinstance(content, dict):
            _make(folder / name, content)
        else:
            (folder / name).write_bytes(bytes(content))  # type: ignore[call-overload]


def _read(folder: Path) -> dict[str, object]:
    return {path.name: _read(path) if path.is_dir() else path.read_bytes() for path in folder.iterdir()}
