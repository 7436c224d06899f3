"""Which folders a TensorBoard may show, and what is said where there is none to be had."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlmp_spawner.errors import Invalid, NotAllowed, NotFound, Unavailable
from mlmp_spawner.lab.tensorboard_boards import TensorBoards
from mlmp_spawner.lab.tensorboard_main import DEEPEST, folders_with_events
from mlmp_spawner.lab.tensorboard_process import LONGEST_SOCKET, Board, private_folder


class Missing(TensorBoards):
    """Where it is not installed."""

    module = "a_module_that_is_nowhere"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    made = tmp_path / "home"
    (made / "runs").mkdir(parents=True)
    return made


async def test_where_it_is_not_installed_one_is_told_what_to_install(home: Path):
    boards = Missing(home, home)
    with pytest.raises(Unavailable, match="not installed") as found:
        await boards.open(boards.folder("runs"), now=0)
    assert "pip install tensorboard" in str(found.value.hint)


def test_a_folder_is_known_again_however_it_is_named(home: Path):
    boards = TensorBoards(home, home)
    assert boards.folder("runs") == boards.folder("~/runs") == boards.folder("./runs/../runs")
    assert boards.folder("runs").title == "~/runs"


def test_further_folders_may_be_shown_where_that_is_set(home: Path, tmp_path: Path):
    data = tmp_path / "data"
    data.mkdir()
    with pytest.raises(NotAllowed):
        TensorBoards(home, home).folder(str(data))
    assert TensorBoards(home, home, folders=[str(data)]).folder(str(data)).runs == {"": data}


def test_a_link_to_a_folder_outside_is_outside(home: Path):
    (home / "out").symlink_to("/etc")
    with pytest.raises(NotAllowed):
        TensorBoards(home, home).folder("out")
    with pytest.raises(NotAllowed):
        TensorBoards(home, home).folders_of("job x", "x", {"outputs": "out"})


def test_a_circle_of_links_is_no_folder(home: Path):
    (home / "a").symlink_to("b")
    (home / "b").symlink_to("a")
    with pytest.raises(NotFound):
        TensorBoards(home, home).folder("a")


@pytest.mark.parametrize("path", ["a\0b", "x" * 5000])
def test_what_can_be_no_name_is_refused(home: Path, path: str):
    with pytest.raises(Invalid):
        TensorBoards(home, home).folder(path)


def test_folders_shown_together_have_names_of_their_own(home: Path):
    named = {"lr=0.1,a/b": "1", "lr=0.1,a b": "2", "lr=0.1,a_b-2": "3", "../..": "4", "": "5"}
    found = TensorBoards(home, home).folders_of("scan x", "x", named)
    assert list(found.runs) == ["lr=0.1,a_b", "lr=0.1,a_b-2", "lr=0.1,a_b-2-2", "_..", "run"]
    assert [path.name for path in found.runs.values()] == list(named.values())


async def test_one_that_ended_is_not_started_again_for_another_site(home: Path):
    boards = TensorBoards(home, home)
    wanted = boards.folder("runs")
    boards._boards[wanted.id] = Board(wanted)
    with pytest.raises(NotFound):
        await boards.reach(wanted.id, 0, may_start=False)


def test_the_socket_has_a_path_that_a_socket_can_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    long = tmp_path / ("x" * 120)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    folder = private_folder()
    try:
        assert len(f"{folder}/socket") <= LONGEST_SOCKET
        assert folder.stat().st_mode & 0o777 == 0o700
    finally:
        folder.rmdir()


def test_runs_are_found_down_to_where_it_makes_sense_and_not_in_hidden_folders(tmp_path: Path):
    for folder in ("a", "a/b", ".hidden", "/".join(["deep"] * (DEEPEST + 2))):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / "events.out.tfevents.1.x").touch()
    found = {Path(one).relative_to(tmp_path).as_posix() for one in folders_with_events(str(tmp_path))}
    assert found == {"a", "a/b"}
