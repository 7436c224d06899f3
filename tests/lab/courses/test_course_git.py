"""Course files out of a real git repository behind https, by nbgitpuller: nobody's work is lost, no trick leads on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mlmp_spawner.errors import Conflict, Invalid, Unavailable
from mlmp_spawner.lab import course_git
from tests.lab.courses.served import Repository, repository


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Repository]:
    root = tmp_path / "served"
    root.mkdir()
    with repository(root) as found:
        found.publish({"one.ipynb": "first\n\n\nlast\n", "data/a.csv": "1\n", "gone.py": "x\n"})
        yield found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    around = tmp_path / "home" / "courses"
    around.mkdir(parents=True)
    return around / "ml"


def bring(served: Repository, folder: Path, branch: str | None = None, url: str | None = None) -> None:
    course_git.bring(url or served.url, branch, folder, environ=served.environ | {"HOME": str(folder.parents[1])})


def test_the_files_come_and_what_is_new_comes_later(served: Repository, folder: Path) -> None:
    bring(served, folder)
    assert (folder / "data/a.csv").read_text() == "1\n"
    served.publish({"two.ipynb": "second\n"})
    bring(served, folder, branch="main")
    assert (folder / "two.ipynb").read_text() == "second\n"
    assert [one.name for one in folder.parent.iterdir()] == ["ml"]


def test_what_its_user_changed_made_and_kept_stays(served: Repository, folder: Path) -> None:
    bring(served, folder)
    (folder / "one.ipynb").write_text("first\n\n\nmy answer\n")
    (folder / "mine.py").write_text("mine\n")
    (folder / "two.ipynb").write_text("my own second\n")
    (folder / "gone.py").write_text("changed by me\n")
    served.publish({"one.ipynb": "first, mended\n\n\nlast, mended\n", "two.ipynb": "theirs\n", "gone.py": None})
    bring(served, folder)
    assert (folder / "one.ipynb").read_text().endswith("my answer\n")
    assert (folder / "mine.py").read_text() == "mine\n"
    assert (folder / "gone.py").read_text() == "changed by me\n"
    assert (folder / "two.ipynb").read_text() == "theirs\n"
    (renamed,) = folder.glob("two__*.ipynb")
    assert renamed.read_text() == "my own second\n"


def test_what_was_deleted_comes_back(served: Repository, folder: Path) -> None:
    bring(served, folder)
    (folder / "one.ipynb").unlink()
    bring(served, folder)
    assert (folder / "one.ipynb").exists()


@pytest.mark.parametrize("what", ["a folder", "another clone", "a file", "a folder in a repository"])
def test_nothing_is_merged_into_what_is_not_the_courses(served: Repository, folder: Path, what: str) -> None:
    if what == "a file":
        folder.write_text("mine")
    else:
        folder.mkdir()
        (folder / "one.ipynb").write_text("mine")
    if what == "another clone":
        served.git("init", "--quiet", cwd=folder)
        served.git("remote", "add", "origin", "https://localhost:9/mine.git", cwd=folder)
    if what == "a folder in a repository":
        served.git("init", "--quiet", cwd=folder.parents[1])
        served.git("remote", "add", "origin", served.url, cwd=folder.parents[1])
    with pytest.raises(Conflict, match="~/courses/ml is there already"):
        bring(served, folder)
    assert (folder if what == "a file" else folder / "one.ipynb").read_text() == "mine"


def test_where_it_fails_it_is_said_in_words_and_nothing_is_left(served: Repository, folder: Path) -> None:
    base = served.url.removesuffix("ml.git")
    with pytest.raises(Unavailable, match="has no branch 'autumn'"):
        bring(served, folder, branch="autumn")
    with pytest.raises(Unavailable, match="not found"):
        bring(served, folder, url=f"{base}none.git")
    with pytest.raises(Unavailable, match="https://localhost:9/ml can't be read: fatal: "):
        bring(served, folder, url="https://localhost:9/ml")
    assert list(folder.parent.iterdir()) == []


def test_nobody_is_asked_for_a_password_and_none_is_given_away(served: Repository, folder: Path) -> None:
    home = folder.parents[1]
    (home / ".git-credentials").write_text(served.url.replace("https://", "https://ann:secret@") + "\n")
    (home / ".gitconfig").write_text("[credential]\n\thelper = store\n")
    with pytest.raises(Unavailable) as refused:
        bring(served, folder, url=served.url.replace("/ml.git", "/closed/ml.git"))
    assert "secret" not in str(refused.value.detail)


@pytest.mark.parametrize("url", ["http://localhost/ml", "file:///etc", "ssh://localhost/ml", "ext::sh -c id",
                                 "--upload-pack=id", "/etc"])  # fmt: skip
def test_only_https_is_followed(served: Repository, folder: Path, url: str) -> None:
    with pytest.raises(Invalid):
        bring(served, folder, url=url)


def test_no_redirect_leads_away_from_https(served: Repository, folder: Path) -> None:
    with pytest.raises(Unavailable, match="can't be read"):
        bring(served, folder, url=served.url.replace("/ml.git", "/elsewhere/ml.git"))


def test_no_link_of_a_repository_leads_to_what_else_its_user_has(served: Repository, folder: Path) -> None:
    thesis = folder.parents[1] / "thesis.tex"
    thesis.write_text("mine")
    (served.work / "up").symlink_to("../..")
    served.publish({})
    bring(served, folder)
    assert not (folder / "up").is_symlink()
    (served.work / "up").unlink()
    served.publish({"up/thesis.tex": "theirs"})
    bring(served, folder)
    assert (thesis.read_text(), (folder / "up" / "thesis.tex").read_text()) == ("mine", "theirs")


def test_names_of_any_letters_are_as_others(served: Repository, folder: Path) -> None:
    served.publish({"Übung 1.ipynb": "theirs"})
    bring(served, folder)
    (folder / "Übung 1.ipynb").unlink()
    (folder / "Übung 2.ipynb").write_text("mine")
    served.publish({"Übung 1.ipynb": None, "Übung 2.ipynb": "theirs"})
    bring(served, folder)
    assert not (folder / "Übung 1.ipynb").exists() and (folder / "Übung 2.ipynb").read_text() == "theirs"
    (renamed,) = folder.glob("Übung 2__*.ipynb")
    assert renamed.read_text() == "mine"


@pytest.mark.parametrize("meanwhile", ["deleted", "of that name", "changed"])
def test_a_file_that_is_renamed_gets_its_new_name(served: Repository, folder: Path, meanwhile: str) -> None:
    text = "theirs\n" * 50
    served.publish({"day1.py": text})
    bring(served, folder)
    if meanwhile == "deleted":
        (folder / "day1.py").unlink()
    elif meanwhile == "of that name":
        (folder / "monday.py").write_text("mine")
    else:
        (folder / "day1.py").write_text(text + "mine\n")
    served.publish({"day1.py": None, "monday.py": text})
    bring(served, folder)
    assert (folder / "monday.py").read_text().startswith(text)
    assert any("mine" in one.read_text() for one in folder.glob("*.py")) == (meanwhile != "deleted")


def test_another_branch_a_tag_and_another_default_branch_are_followed(served: Repository, folder: Path) -> None:
    bring(served, folder, branch="main")
    (folder / "mine.py").write_text("mine")
    served.publish({"two.ipynb": "second"})
    served.git("checkout", "--quiet", "-b", "autumn")
    served.git("push", "--quiet", str(served.served), "autumn")
    served.publish({"two.ipynb": "in spring"})
    served.git("tag", "v1")
    served.git("push", "--quiet", str(served.served), "autumn", "v1")
    bring(served, folder, branch="autumn")
    assert (folder / "two.ipynb").read_text() == "in spring"
    for _ in range(2):
        bring(served, folder, branch="v1")
    served.git("symbolic-ref", "HEAD", "refs/heads/autumn", cwd=served.served)
    served.git("branch", "-D", "main", cwd=served.served)
    bring(served, folder)
    assert (folder / "mine.py").read_text() == "mine"


def test_a_history_that_was_written_anew_is_merged_where_it_begins_as_it_did(served: Repository, folder: Path) -> None:
    served.publish({"one.ipynb": "second"})
    bring(served, folder)
    (folder / "mine.py").write_text("mine")
    (served.work / "one.ipynb").write_text("second, mended")
    served.git("commit", "--quiet", "--all", "--amend", "--message", "more")
    served.git("push", "--quiet", "--force", str(served.served), "main")
    bring(served, folder)
    assert (folder / "mine.py").read_text() == "mine"
    served.git("checkout", "--quiet", "--orphan", "anew")
    served.git("commit", "--quiet", "--all", "--message", "anew")
    served.git("push", "--quiet", "--force", str(served.served), "anew:main")
    with pytest.raises(Conflict, match="has begun anew"):
        bring(served, folder)
    assert (folder / "mine.py").read_text() == "mine"


def test_an_address_may_be_written_in_another_way(served: Repository, folder: Path) -> None:
    bring(served, folder)
    served.publish({"two.ipynb": "second"})
    bring(served, folder, url=served.url + "/")
    assert (folder / "two.ipynb").exists()


def test_a_branch_is_no_option(served: Repository, folder: Path) -> None:
    with pytest.raises(Invalid):
        bring(served, folder, branch="--upload-pack=id")


def test_submodules_of_other_protocols_are_not_followed_and_hooks_do_not_run(served: Repository, folder: Path) -> None:
    served.publish({".gitmodules": '[submodule "x"]\n\tpath = x\n\turl = file:///etc\n'})
    bring(served, folder)
    ran = folder.parent / "ran"
    hook = folder / ".git" / "hooks" / "post-merge"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch {ran}\n")
    hook.chmod(0o755)
    served.publish({"three.py": "3\n"})
    bring(served, folder)
    assert (folder / "three.py").exists() and not ran.exists()


def test_a_server_that_never_answers_is_given_up(served: Repository, folder: Path) -> None:
    with pytest.raises(Unavailable, match=r"longer than 0\.01 s"):
        course_git.bring(served.url, None, folder, environ=served.environ, patience=0.01)
    bring(served, folder)
    assert (folder / "one.ipynb").exists()
