"""A job as JupyterLab shows it before it is submitted: the manifest and the command say the same."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from mlmp_spawner.errors import Invalid, MLMPError
from mlmp_spawner.lab.desk import draft

BOMB = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30))
"""More than any memory, where names are looked up."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path.resolve() / "home"
    (made / "code" / "deep").mkdir(parents=True)
    for name in ("top.py", "-x.py", "code/train.py", "code/deep/a b.py", "code/study.ipynb"):
        (made / name).touch()
    (tmp_path / "secret.py").touch()
    (made / "way.py").symlink_to(tmp_path / "secret.py")
    (made / "out").symlink_to(tmp_path)
    return made


@pytest.mark.parametrize(
    ("path", "manifest", "command"),
    [
        ("code/train.py", {"script": "train.py", "name": "train"}, "code/train.py --code code --name train"),
        ("top.py", {"script": "top.py", "name": "top"}, "top.py --code . --name top"),
        ("-x.py", {"script": "-x.py", "name": "x"}, "./-x.py --code . --name x"),
        (
            "code/study.ipynb",
            {"notebook": "study.ipynb", "name": "study"},
            "code/study.ipynb --code code --name study",
        ),
        ("code/deep/a b.py", {"script": "a b.py", "name": "a-b"}, "'code/deep/a b.py' --code code/deep --name a-b"),
    ],
)
def test_a_file_is_run_with_what_is_beside_it(root: Path, path: str, manifest: dict[str, str], command: str):
    made = draft.of_file(path, root, profile="gpu")
    assert made.manifest == {**manifest, "profile": "gpu"}
    assert made.folder == (root / path).parent
    assert draft.command(made, root) == f"mlmp job run {command} --profile gpu"


@pytest.mark.parametrize(
    "rest",
    [
        "--name x --profile gpu --hours 2.5 --units 2 --workers 3 --retries 1 --grace 90s --priority low",
        "--profile gpu --env A=1 --env 'B=x y' --secret KEY --no-preempt --name train",
        "--profile gpu --name train --metric tensorboard=runs --metric 'pattern=loss=(?P<loss>.*)'",
        "--profile gpu --name train -- --profile mine --epochs 3 'a b'",
    ],
)
def test_a_command_read_and_written_again_means_the_same(root: Path, rest: str):
    first = draft.of_command(f"mlmp job run code/train.py {rest}", root)
    written = draft.command(first, root)
    assert written is not None
    again = draft.of_command(written, root)
    assert again == first
    shown = first.shown(root)
    assert draft.of_manifest(str(shown["manifest"]), str(shown["folder"]), root) == first


def test_parameters_of_a_notebook_keep_their_kinds(root: Path):
    values = "{a: 1, b: '1', c: true, d: x y, e: [1, 2], f: 'null'}"
    text = f"notebook: study.ipynb\nprofile: gpu\nname: s\nparameters: {values}\n"
    first = draft.of_manifest(text, "code", root)
    again = draft.of_command(str(draft.command(first, root)), root)
    assert again.manifest["parameters"] == first.manifest["parameters"]


def test_what_no_option_says_is_left_to_the_manifest(root: Path):
    for more in (
        "command: [python, -V]",
        "script: /etc/passwd",
        "notebook: ../../x.ipynb",
        "script: train.py\nsomething: new",
        "script: train.py\nmetrics: [1]",
    ):
        assert draft.command(draft.of_manifest(f"profile: gpu\n{more}\n", "code", root), root) is None


def test_on_something_else_it_is_the_same(root: Path):
    made = draft.of_command("mlmp job run code/train.py --name mine --hours 7 --profile gpu -- --lr 1", root)
    moved = made.on("cpu")
    assert draft.command(moved, root) == str(draft.command(made, root)).replace("gpu", "cpu")
    assert moved.shown(root)["profile"] == "cpu"


@pytest.mark.parametrize(
    "path", ["../secret.py", "out", "out/secret.py", "/etc/passwd", "a\0b", "a\ud800b", "..", "x" * 5000]
)
def test_nothing_outside_of_what_jupyterlab_shows_is_taken(root: Path, path: str):
    with pytest.raises(MLMPError):
        draft.of_file(path, root, profile="gpu")
    with pytest.raises(MLMPError):
        draft.of_command(f"mlmp job run code/train.py --profile gpu --code {shlex.quote(path)}", root)
    with pytest.raises(MLMPError):
        draft.of_manifest("script: a\n", path, root)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("rm -rf /", "write it as: mlmp job run"), ("mlmp job run 'x", "can't be read"),
        ("mlmp job run code/train.py", "Missing option '--profile'"), ("mlmp job run --help", "write it as"),
        ("mlmp job run --command --profile gpu -- python", "a script or a notebook"),
        ("mlmp job run gone.py --profile gpu", "There is no file"),
        ("mlmp job run code/train.py --profile gpu --hours x", "not a valid float"),
    ],
)  # fmt: skip
def test_a_command_that_makes_no_sense_is_refused_in_words(root: Path, text: str, words: str):
    with pytest.raises(MLMPError, match=re.escape(words)):
        draft.of_command(text, root)


def test_a_date_is_told_to_want_quotes(root: Path):
    with pytest.raises(Invalid, match="into quotes"):
        draft.of_manifest("name: 2024-01-01", "code", root)


@pytest.mark.parametrize("text", ["[", "- a", "x", "", "a: .nan", "1: 2", "a: &a [*a]", "!!python/object:os.system {}",
                                  "x: 2026-01-01", "a: &a {b: 1}\nc: *a", BOMB, "a: \ud800", "a: \0"])  # fmt: skip
def test_a_manifest_that_is_none_is_refused_in_words(root: Path, text: str):
    with pytest.raises(Invalid, match="manifest: "):
        draft.of_manifest(text, "code", root)
