"""Files that are there as a whole or not at all, for one account's eyes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mlmp_spawner import private_files


def test_a_file_is_for_its_owner_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        private_files.write(tmp_path / "key", b"secret")
    finally:
        os.umask(before)
    assert ((tmp_path / "key").stat().st_mode & 0o777, (tmp_path / "key").read_bytes()) == (0o600, b"secret")


@pytest.mark.parametrize(("replace", "stays"), [(True, b"second"), (False, b"first")])
def test_one_that_is_there_is_replaced_or_stays_and_nothing_else_is_left(
    tmp_path: Path, replace: bool, stays: bytes
) -> None:
    for content in (b"first", b"second"):
        private_files.write(tmp_path / "key", content, replace=replace)
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [stays]


def test_what_can_not_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "key").mkdir()
    with pytest.raises(OSError):
        private_files.write(tmp_path / "key", b"secret")
    assert [file.name for file in tmp_path.iterdir()] == ["key"]
