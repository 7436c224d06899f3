"""The program that makes a user's folder, run as the pod runs it: as root, as a user, and as a root without rights."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from mlmp_spawner.kube import make_home
from mlmp_spawner.kube.home_pods import PROGRAM, RIGHTS

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="folders are given away by root")

ANN, BOB = 12345, 12346
# What an export with root_squash does to root: nothing is given away, and other people's folders are closed to it.
SQUASHED = ("setpriv", "--bounding-set=-chown,-dac_override,-dac_read_search,-fowner", "--inh-caps=-all")
WITH_ITS_RIGHTS = ("setpriv", "--bounding-set=-all," + ",".join(f"+{right.lower()}" for right in RIGHTS))
AS_ANN = ("setpriv", f"--reuid={ANN}", f"--regid={ANN}", "--clear-groups")


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """A volume of root's alone, where everybody may pass."""
    for folder in (tmp_path, *list(tmp_path.parents)[:-2]):
        if not folder.stat().st_mode & 0o001:
            folder.chmod(folder.stat().st_mode | 0o011)
    root = tmp_path / "volume"
    root.mkdir(mode=0o755)
    return root


def run(volume: Path, *by: str, name: str = "ann", uid: int = ANN, around: tuple[str, ...] = ()) -> str:
    """Why not; "" when it is done."""
    command = [*by, sys.executable, "-I", "-c", PROGRAM, str(volume), name, str(uid), str(uid), *around]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert (done.returncode == 0) == (done.stderr == ""), done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def assert_is(folder: Path, uid: int, mode: int = 0o700) -> None:
    found = folder.lstat()
    assert stat.S_ISDIR(found.st_mode)
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (uid, uid, mode)


def test_the_folder_is_its_users_and_closed_to_everybody_else(volume: Path) -> None:
    assert run(volume, *WITH_ITS_RIGHTS) == ""
    assert_is(volume / "ann", ANN)


def test_run_again_it_changes_nothing(volume: Path) -> None:
    run(volume)
    (volume / "ann" / "kept").write_text("x")
    (volume / "ann").chmod(0o750)  # its user's own choice
    assert run(volume) == ""
    assert_is(volume / "ann", ANN, 0o750)
    assert (volume / "ann" / "kept").read_text() == "x"


@pytest.mark.parametrize("mode", [0o700, 0o777])
def test_one_that_the_kubelet_or_a_killed_run_left_as_roots_is_given_to_its_user(volume: Path, mode: int) -> None:
    (volume / "ann").mkdir()
    (volume / "ann").chmod(mode)
    assert run(volume, *WITH_ITS_RIGHTS) == ""
    assert_is(volume / "ann", ANN)


@pytest.mark.parametrize("by", [WITH_ITS_RIGHTS, SQUASHED, AS_ANN], ids=["root", "squashed", "user"])
def test_roots_folder_with_something_in_it_is_never_given_away(volume: Path, by: tuple[str, ...]) -> None:
    folder = volume / "backup"
    folder.mkdir(mode=0o755)
    (folder / "dump.sql").touch()
    said = run(volume, *by, name="backup")
    assert "The folder backup belongs to" in said
    assert folder.stat().st_uid == 0


def test_somebody_elses_empty_folder_stays_theirs(volume: Path) -> None:
    (volume / "ann").mkdir()
    os.chown(volume / "ann", BOB, BOB)
    assert f"belongs to uid {BOB}" in run(volume, *WITH_ITS_RIGHTS)
    assert (volume / "ann").stat().st_uid == BOB


def test_what_a_killed_run_left_to_nobody_is_begun_anew(volume: Path) -> None:
    volume.chmod(0o1777)
    (volume / "ann").mkdir()
    os.chown(volume / "ann", make_home.NOBODY, make_home.NOBODY)
    assert run(volume, *WITH_ITS_RIGHTS) == ""
    assert_is(volume / "ann", ANN)


def test_in_a_volume_of_a_group_the_folder_is_of_its_users_group(volume: Path) -> None:
    os.chown(volume, 0, BOB)
    volume.chmod(0o2775)
    as_one_of_them = ("setpriv", f"--reuid={ANN}", f"--regid={ANN}", f"--groups={BOB}")
    assert run(volume, *as_one_of_them) == ""
    assert_is(volume / "ann", ANN)


def test_the_mark_of_the_volumes_group_is_not_taken_on(volume: Path) -> None:
    volume.chmod(0o3777)
    assert run(volume) == ""
    assert_is(volume / "ann", ANN)
    os.chown(volume, 0, ANN)
    assert run(volume, *AS_ANN, name="again") == ""
    assert_is(volume / "again", ANN)


@pytest.mark.parametrize("by", [(), AS_ANN], ids=["root", "user"])
def test_somebody_elses_folder_is_never_given_away(volume: Path, by: tuple[str, ...]) -> None:
    folder = volume / "ann"
    folder.mkdir()
    (folder / "theirs").touch()
    os.chown(folder, BOB, BOB)
    said = run(volume, *by)
    assert f"belongs to uid {BOB}, and its user is uid {ANN}" in said
    assert folder.stat().st_uid == BOB


@pytest.mark.parametrize("by", [(), AS_ANN], ids=["root", "user"])
def test_a_link_or_a_file_in_its_place_is_refused_and_not_followed(
    volume: Path, tmp_path: Path, by: tuple[str, ...]
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (volume / "ann").symlink_to(tmp_path / "elsewhere")
    assert "is no folder" in run(volume, *by)
    assert (tmp_path / "elsewhere").stat().st_uid == 0


def test_where_root_has_no_rights_the_user_makes_it(volume: Path) -> None:
    volume.chmod(0o1777)
    assert run(volume, *SQUASHED) == ""
    assert_is(volume / "ann", ANN)


def test_where_neither_may_the_reason_says_what_to_do(volume: Path) -> None:
    os.chown(volume, BOB, BOB)
    said = run(volume, *SQUASHED)
    assert "root_squash" in said
    assert f"belongs to {BOB}:{BOB} with mode 0755" in said
    assert "chmod 1777" in said
    assert not (volume / "ann").exists()


def test_run_as_the_user_alone_it_needs_a_volume_that_lets_it(volume: Path) -> None:
    said = run(volume, *AS_ANN)
    assert f"{ANN}:{ANN} may not make a folder in this volume, which belongs to 0:0 with mode 0755" in said
    assert "root_squash" not in said
    volume.chmod(0o1777)
    assert run(volume, *AS_ANN) == ""
    assert_is(volume / "ann", ANN)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../x", "/etc"])
def test_only_a_folder_of_the_volume_itself_can_be_made(volume: Path, name: str) -> None:
    assert "is no name of a folder" in run(volume, name=name)
    assert not list(volume.iterdir())


@pytest.mark.parametrize("uid", [0, -1])
def test_root_gets_no_folder(volume: Path, uid: int) -> None:
    with pytest.raises(make_home.NotMade):
        make_home.make(str(volume), "ann", uid, ANN)


def test_a_volume_that_is_not_there_is_said(volume: Path) -> None:
    assert "can't be made" in run(volume / "none")


# -- within others: where students hand in ------------------------------------------------------------------------

COURSE = (".hand-in", "ml.17")


@pytest.mark.parametrize("by", [WITH_ITS_RIGHTS, SQUASHED, AS_ANN], ids=["root", "squashed", "user"])
def test_a_folder_within_others_is_its_users_and_the_node_may_pass_to_it(volume: Path, by: tuple[str, ...]) -> None:
    volume.chmod(0o1777)
    assert run(volume, *by, name="", around=COURSE) == ""  # who teaches was first
    assert list(volume.joinpath(*COURSE).iterdir()) == []
    for name in ("ann", "ben", "ann"):
        assert run(volume, *by, name=name, around=COURSE) == ""
        assert_is(volume.joinpath(*COURSE, name), ANN)
    assert_is(volume / ".hand-in", ANN, 0o711)
    assert_is(volume.joinpath(*COURSE), ANN, 0o711)


def test_in_a_volume_that_only_root_may_enter_it_is_made_too(volume: Path) -> None:
    volume.chmod(0o700)
    assert run(volume, *WITH_ITS_RIGHTS, around=COURSE) == ""
    assert_is(volume.joinpath(*COURSE, "ann"), ANN)


@pytest.mark.parametrize("by", [WITH_ITS_RIGHTS, SQUASHED], ids=["root", "squashed"])
def test_a_run_that_was_killed_between_two_of_them_is_finished(volume: Path, by: tuple[str, ...]) -> None:
    volume.chmod(0o1777)
    (volume / ".hand-in").mkdir(mode=0o700)
    os.chown(volume / ".hand-in", ANN, ANN)
    assert run(volume, *by, around=COURSE) == ""
    assert_is(volume / ".hand-in", ANN, 0o711)
    assert_is(volume.joinpath(*COURSE, "ann"), ANN)


@pytest.mark.parametrize("at", [".hand-in", ".hand-in/ml.17", ".hand-in/ml.17/ann"])
def test_no_link_among_them_is_followed(volume: Path, tmp_path: Path, at: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o755)
    (volume / at).parent.mkdir(parents=True, exist_ok=True)
    for folder in (volume / at).parents:
        if folder.is_relative_to(volume) and folder != volume:
            os.chown(folder, ANN, ANN)
    (volume / at).symlink_to(elsewhere)
    assert "is no folder" in run(volume, *WITH_ITS_RIGHTS, around=COURSE)
    assert list(elsewhere.iterdir()) == [] and elsewhere.stat().st_uid == 0


def test_among_folders_of_another_account_nothing_is_made(volume: Path) -> None:
    assert run(volume, *WITH_ITS_RIGHTS, uid=BOB, around=COURSE) == ""
    assert f"belongs to uid {BOB}" in run(volume, *WITH_ITS_RIGHTS, around=COURSE)
    assert [one.name for one in volume.joinpath(*COURSE).iterdir()] == ["ann"]
    assert_is(volume.joinpath(*COURSE, "ann"), BOB)


@pytest.mark.parametrize("around", [("..",), ("a/b",), (".hand-in", "..")])
def test_what_is_around_is_within_the_volume(volume: Path, around: tuple[str, ...]) -> None:
    assert "is no name of a folder" in run(volume, *WITH_ITS_RIGHTS, around=around)
