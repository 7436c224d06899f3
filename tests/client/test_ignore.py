"""What the lines of a file of patterns leave out: as git reads them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlmp_spawner.client.ignore import Patterns


@pytest.mark.parametrize(
    ("lines", "out", "kept"),
    [
        (["*.bin"], ["a.bin", "x/b.bin"], ["a.bins", "bin"]),
        (["/data"], ["data"], ["x/data", "data2"]),
        (["a/b"], ["a/b"], ["x/a/b"]),
        (["a/**/b"], ["a/b", "a/x/b", "a/x/y/b"], ["b", "a/xb"]),
        (["**/logs"], ["logs", "a/logs", "a/b/logs"], ["logs2"]),
        (["out/**"], ["out/a", "out/a/b"], ["out"]),
        (["*.bin", "!keep.bin"], ["a.bin"], ["keep.bin"]),
        (["run[0-9]", "?.txt"], ["run7", "a.txt"], ["run77", "ab.txt", "runx"]),
        (["[!a]x", r"\#1", r"\!2"], ["bx", "#1", "!2"], ["ax", "1"]),
        (["# a word", "", "   "], [], ["a", "# a word"]),
        (["a*b*c"], ["abc", "axbxc"], ["ab/c", "acb"]),
    ],
)
def test_the_last_line_that_fits_decides(lines: list[str], out: list[str], kept: list[str]) -> None:
    patterns = Patterns(lines)
    assert [path for path in out + kept if patterns.leave_out(path, folder=False)] == out


def test_a_slash_at_the_end_means_folders_only() -> None:
    patterns = Patterns(["data/"])
    assert patterns.leave_out("x/data", folder=True)
    assert not patterns.leave_out("x/data", folder=False)


def test_a_line_that_is_no_pattern_is_named() -> None:
    with pytest.raises(ValueError, match=r"line 2: '\[z-a\]'"):
        Patterns(["fine", "[z-a]"])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(st.text("ab*?/!", min_size=1, max_size=6), max_size=3), path=st.text("ab/", min_size=1))
def test_it_agrees_with_git(tmp_path: Path, lines: list[str], path: str) -> None:
    names = [name for name in path.split("/") if name]
    if not names or any("***" in line or "//" in line for line in lines):
        return  # git itself is of two minds about these
    path = "/".join(names)
    parents = ["/".join(names[:number]) for number in range(1, len(names))]
    patterns = Patterns(lines)
    ours = any(patterns.leave_out(one, folder=True) for one in parents) or patterns.leave_out(path, folder=False)
    if not (tmp_path / ".git").exists():
        subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / ".gitignore").write_text("".join(f"{line}\n" for line in lines))
    asked = ["git", "-C", str(tmp_path), "check-ignore", "-q", "--no-index", path]
    assert ours == (subprocess.run(asked, check=False).returncode == 0)
