"""Course files out of a directory: what is not there comes, what is there stays, whatever lies in the directory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mlmp_spawner.errors import OverLimit, Unavailable
from mlmp_spawner.lab import course_copy


@pytest.fixture
def source(tmp_path: Path) -> Path:
    made = tmp_path / "shared" / "ml"
    (made / "data").mkdir(parents=True)
    (made / "one.ipynb").write_text("first\n")
    (made / "data" / "a.csv").write_text("1\n")
    (made / "run.sh").write_text("#!/bin/sh\n")
    (made / "run.sh").chmod(0o755)
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "courses").mkdir()
    return tmp_path / "courses" / "ml"


def test_new_files_come_and_no_file_is_ever_overwritten(source: Path, folder: Path) -> None:
    assert course_copy.bring(source, folder) == 3
    (folder / "one.ipynb").write_text("my answer\n")
    (source / "one.ipynb").write_text("mended\n")
    (source / "two.ipynb").write_text("second\n")
    assert course_copy.bring(source, folder) == 1
    assert (folder / "one.ipynb").read_text() == "my answer\n"
    assert (folder / "two.ipynb").read_text() == "second\n"
    assert (folder / "data" / "a.csv").read_text() == "1\n"
    assert os.access(folder / "run.sh", os.X_OK)


def test_a_link_of_its_users_is_not_written_through(source: Path, folder: Path, tmp_path: Path) -> None:
    folder.mkdir()
    (folder / "one.ipynb").symlink_to(tmp_path / "elsewhere")
    course_copy.bring(source, folder)
    assert not (tmp_path / "elsewhere").exists()


def test_links_and_pipes_of_the_directory_are_left_out(source: Path, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key").write_text("secret")
    (source / "folder").symlink_to(tmp_path / "secret")
    (source / "file").symlink_to(tmp_path / "secret" / "key")
    os.mkfifo(source / "pipe")
    assert course_copy.bring(source, folder) == 3
    assert sorted(one.name for one in folder.iterdir()) == ["data", "one.ipynb", "run.sh"]


def test_what_a_killed_one_left_is_no_file_of_the_course(
    source: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def killed(*_: object) -> bool:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(course_copy, "_put", killed)
        with pytest.raises(Killed):
            course_copy.bring(source, folder)
    assert not [one for one in folder.rglob("*") if one.is_file()]
    assert course_copy.bring(source, folder) == 3


def test_a_file_in_place_of_a_directory_is_said(source: Path, folder: Path) -> None:
    folder.mkdir()
    (folder / "data").write_text("mine")
    with pytest.raises(Unavailable, match="data"):
        course_copy.bring(source, folder)
    assert (folder / "data").read_text() == "mine"


def test_a_directory_that_is_not_there_and_one_with_too_many_files_are_refused(
    source: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Unavailable, match="is not there"):
        course_copy.bring(source / "none", folder)
    monkeypatch.setattr(course_copy, "MOST", 2)
    with pytest.raises(OverLimit):
        course_copy.bring(source, folder)
