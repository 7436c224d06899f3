"""The files of a course out of a git repository, by nbgitpuller's program: what its user changed stays as it is.

It runs with the user's rights in the user's own server. Git asks nobody for a password and takes none from where the
user keeps them, follows no address but https, and reads no settings but the machine's.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from mlmp_spawner.errors import Conflict, Invalid, MLMPError, Unavailable

PATIENCE = 600.0
"""Seconds that one program may take."""
BEGUN = ".mlmp-fetching-"
"""How the names of folders begin in which files arrive; they get their own name when all is there."""
_OLD = 86_400
_SETTINGS = {
    "credential.helper": "", "core.hooksPath": "/dev/null", "submodule.recurse": "false",
    # Links of a repository could lead nbgitpuller, which renames what is in the way, to any file of the user's.
    "core.symlinks": "false",
    # nbgitpuller takes names out of what git says: as they are, and each file for itself.
    "core.quotePath": "false", "diff.renames": "false", "merge.renames": "true",
}  # fmt: skip
_SLOW = {"GIT_HTTP_LOW_SPEED_LIMIT": "1000", "GIT_HTTP_LOW_SPEED_TIME": "60"}


def bring(
    url: str, branch: str | None, folder: Path, *, environ: Mapping[str, str] = os.environ, patience: float = PATIENCE
) -> None:
    """Makes ``folder`` a clone, or brings one that is there up to date. May be killed at any time and called again.

    :param branch: None: what the repository has as its default.
    :raises Invalid: no address by https. :raises Conflict: something else is there under that name.
    :raises Unavailable: the repository can't be had, or git fails; in its words.
    """
    if not url.startswith("https://") or (branch or "").startswith("-"):
        raise Invalid("Course files come from a git repository by https.")
    if shutil.which("git") is None:
        raise Unavailable("There is no git in this server's image.")
    how = _Git(_environment(environ, folder.parent), patience)
    if os.path.lexists(folder):
        _check_ours(how, folder, url)
        ref = _find(how, url, branch)
        _follow(how, url, ref, folder)
        _pull(how, url, ref, folder)
        return
    _remove_old(folder.parent)
    ref = _find(how, url, branch)
    with tempfile.TemporaryDirectory(prefix=BEGUN, dir=folder.parent) as place:
        arrived = Path(place) / "files"
        _pull(how, url, ref, arrived)
        try:
            os.rename(arrived, folder)
        except OSError:
            raise _taken(folder) from None


class _Git:
    """Runs programs that end in time, with nobody to ask."""

    def __init__(self, environ: Mapping[str, str], patience: float) -> None:
        self._environ, self._patience = environ, patience

    def run(self, *command: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        with subprocess.Popen(
            command, cwd=cwd, env=self._environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, errors="replace", start_new_session=True,
        ) as process:  # fmt: skip
            try:
                output, _ = process.communicate(timeout=self._patience)
            except subprocess.TimeoutExpired:
                _end(process)
                raise Unavailable(f"It took longer than {self._patience:g} s.") from None
            except BaseException:
                _end(process)
                raise
        return subprocess.CompletedProcess(command, process.returncode, output)


def _end(process: subprocess.Popen[str]) -> None:
    """All that it started too."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _environment(environ: Mapping[str, str], around: Path) -> dict[str, str]:
    # What names a file of certificates stays: the site's own may be the only one that is valid here.
    kept = {
        name: value for name, value in environ.items() if not name.startswith("GIT_") or name.startswith("GIT_SSL")
    }
    made = kept | _SLOW | {
        "GIT_ALLOW_PROTOCOL": "https", "GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "true", "SSH_ASKPASS": "true",
        "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CEILING_DIRECTORIES": str(around), "NBGITPULLER_DEPTH": "1",
        "GIT_CONFIG_COUNT": str(len(_SETTINGS)), "LC_ALL": "C",
    }  # fmt: skip
    made.pop("GIT_SSL_NO_VERIFY", None)
    for number, (name, value) in enumerate(_SETTINGS.items()):
        made |= {f"GIT_CONFIG_KEY_{number}": name, f"GIT_CONFIG_VALUE_{number}": value}
    return made


def _check_ours(git: _Git, folder: Path, url: str) -> None:
    """Nothing is merged into what is no clone of the course's: it may be somebody's own work.

    :raises Conflict: it is not.
    """
    if not (folder / ".git").is_dir():
        raise _taken(folder)
    found = git.run("git", "config", "--local", "--get", "remote.origin.url", cwd=folder)
    if found.returncode != 0 or _plain(found.stdout) != _plain(url):
        raise _taken(folder)


def _plain(url: str) -> str:
    """The same for all ways of writing the address of a repository."""
    return url.strip().rstrip("/").removesuffix(".git")


def _taken(folder: Path) -> MLMPError:
    where = f"~/{folder.parent.name}/{folder.name}"
    return Conflict(
        f"{where} is there already and is no copy of this course's repository.",
        hint="Give it another name, and get the course files again.",
    )


def _find(git: _Git, url: str, branch: str | None) -> str:
    """The full name of the branch, or tag, that is followed: ``refs/heads/main``.

    :raises Unavailable: the repository can't be read, or has no such branch; in git's words.
    """
    wanted = [f"refs/heads/{branch}", f"refs/tags/{branch}"] if branch else ["HEAD"]
    done = git.run("git", "ls-remote", "--symref", "--", url, *wanted)
    if done.returncode != 0:
        raise Unavailable(f"{url} can't be read: {_said(done.stdout)}")
    there = re.findall(r"refs/(?:heads|tags)/\S+", done.stdout)
    found = next((ref for ref in (wanted if branch else there) if ref in there), None)
    if found is None:
        raise Unavailable(f"{url} has no branch {branch!r}." if branch else f"{url} is empty.")
    return found


def _short(ref: str) -> str:
    return ref.split("/", 2)[2]


def _follow(git: _Git, url: str, ref: str, folder: Path) -> None:
    """Has a clone follow this branch, which may be another than that it was made of.

    :raises Conflict: nothing ties what is there to it. :raises Unavailable: git fails; in its words.
    """
    theirs = f"refs/remotes/origin/{_short(ref)}"
    for name, value in (("remote.origin.url", url), ("remote.origin.fetch", f"+{ref}:{theirs}")):
        git.run("git", "config", "--local", "--replace-all", name, value, cwd=folder)
    fetched = git.run("git", "fetch", cwd=folder)
    if fetched.returncode != 0:
        raise Unavailable(f"{url} can't be read: {_said(fetched.stdout)}")
    related = ("git", "merge-base", "HEAD", theirs)
    if git.run(*related, cwd=folder).returncode == 0:
        return
    git.run("git", "fetch", "--unshallow", cwd=folder)  # where the two part is before what a shallow clone has
    if git.run(*related, cwd=folder).returncode != 0:
        raise Conflict(
            f"The course's repository has begun anew: nothing ties it to ~/{folder.parent.name}/{folder.name}.",
            hint="Give that another name, and get the course files again.",
        )


def _pull(git: _Git, url: str, ref: str, folder: Path) -> None:
    done = git.run(sys.executable, "-I", "-m", "nbgitpuller.pull", "--", url, _short(ref), str(folder))
    if "No module named" in done.stdout and "nbgitpuller" in done.stdout:
        raise Unavailable("There is no nbgitpuller in this server's image.")
    if done.returncode != 0:
        raise Unavailable(f"The files of {url} can't be brought here: {_said(done.stdout)}")


def _said(output: str) -> str:
    """What is worth telling of an output: git's own words, else its last line."""
    lines = ["".join(one for one in line if one.isprintable()).strip() for line in output.splitlines()]
    found = [line for line in lines if line.startswith(("fatal:", "error:", "CONFLICT"))] or [
        one for one in lines if one
    ]
    return (found[-1] if found else "it says no more")[:300]


def _remove_old(around: Path) -> None:
    """What killed servers left behind."""
    for old in around.glob(f"{BEGUN}*"):
        with suppress(OSError):
            if time.time() - old.lstat().st_mtime > _OLD:
                shutil.rmtree(old)
