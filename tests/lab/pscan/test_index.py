"""What is below a root, and that nothing else can be got at."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from mlmp_spawner.errors import Invalid, NotFound
from mlmp_spawner.lab.pscan import index


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "runs"
    for name in ("a/1.png", "a/2.png", "b/c/3.png", "4.png"):
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_text(name)
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key").write_text("secret")
    return made


def test_all_files_are_found_by_their_paths_from_the_root_on(root: Path):
    found = index.walk(root)
    assert sorted(found.files) == ["4.png", "a/1.png", "a/2.png", "b/c/3.png"]
    assert (found.links, found.unreadable, found.cut) == (0, 0, False)


def test_links_are_counted_and_not_followed(root: Path):
    (root / "out").symlink_to(root.parent / "secret")
    (root / "within").symlink_to("a")
    (root / "loop").symlink_to(".")
    (root / "file.png").symlink_to("4.png")
    found = index.walk(root)
    assert (len(found.files), found.links) == (4, 4)


def test_hidden_folders_and_files_are_left_out(root: Path):
    (root / ".git").mkdir()
    (root / ".git" / "x.png").touch()
    (root / ".hidden.png").touch()
    assert len(index.walk(root).files) == 4


def test_only_plain_files_are_found(root: Path):
    os.mkfifo(root / "pipe")
    assert len(index.walk(root).files) == 4


def test_more_than_can_be_looked_at_is_said_to_be_cut(root: Path):
    found = index.walk(root, most=2)
    assert (len(found.files), found.cut) == (2, True)


def test_a_tree_without_an_end_is_cut(root: Path):
    deep = root
    for _ in range(index.DEEPEST + 2):
        deep = deep / "d"
    deep.mkdir(parents=True)
    (deep / "x").touch()
    assert index.walk(root).cut


def test_a_folder_that_vanishes_is_counted(root: Path):
    assert index.walk(root / "gone").unreadable == 1


class Silent:
    """An entry of a folder on a file system that does not say what it is."""

    name = "silent.png"

    def is_symlink(self) -> bool:
        """Asks, in vain."""
        raise OSError(errno.EIO, "Input/output error")


def test_an_entry_that_does_not_say_what_it_is_is_counted(root: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(index, "_entries", lambda *_: iter([Silent()]))
    assert (index.walk(root).files, index.walk(root).unreadable) == ([], 1)


def test_a_root_is_named_from_home_on_or_from_the_top(root: Path):
    assert index.root_of("runs/a", root.parent) == root / "a"
    assert index.root_of(str(root), Path("/")) == root
    assert index.root_of("", root) == root
    assert index.root_of("~", root) == Path.home().resolve()


@pytest.mark.parametrize("name", ["gone", "runs/4.png", "~nobody-of-that-name/x", "loop", "\udcff"])
def test_a_root_that_is_none_is_refused(root: Path, name: str):
    (root.parent / "loop").symlink_to("loop")
    with pytest.raises(NotFound):
        index.root_of(name, root.parent)


@pytest.mark.parametrize("name", ["a\0b", "x" * 4001])
def test_a_root_that_is_no_name_is_refused(root: Path, name: str):
    with pytest.raises(Invalid):
        index.root_of(name, root)


def test_a_file_is_read_as_far_as_is_asked_for(root: Path):
    assert index.read(root, "b/c/3.png", 3) == (b"b/c", 9)


@pytest.mark.parametrize(
    "path",
    ["", "/", "/etc/passwd", "../secret/key", "a/../../secret/key", "a/./1.png", "a//1.png", "a", "gone", "a/1.png/x",
     "pipe", "link", "way/key", "within/1.png", "a\0", "\ud800", "x" * 300, "a/" * 100 + "x"],
)  # fmt: skip
def test_nothing_but_plain_files_below_the_root_can_be_opened(root: Path, path: str):
    os.mkfifo(root / "pipe")
    (root / "link").symlink_to(root.parent / "secret" / "key")
    (root / "way").symlink_to(root.parent / "secret")
    (root / "within").symlink_to("a")
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(NotFound):
        index.read(root, path, 100)
    assert len(os.listdir("/proc/self/fd")) == before
