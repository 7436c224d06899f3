"""Brings the files of the user's courses to ``~/courses/NAME`` while the server runs; nothing of it holds that up.

Beside the files are links, where there is something to lead to: ``NAME.data`` to the course's data, ``NAME.hand-in``
to what is handed in.
"""

from __future__ import annotations

import json
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mlmp_spawner.errors import Conflict, MLMPError, NotAllowed, Unavailable
from mlmp_spawner.lab import course_copy, course_git, course_hand_in

FOLDER = "courses"
LOOK = 10.0
"""Seconds between two looks at what was handed in."""
NO_SHARED_DATA = "This hub has no shared data."
NO_HAND_IN = (
    "Nothing can be handed in here: this hub can't keep what somebody hands in from the others, or could not make the "
    "place when this server started."
)
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")
_log = logging.getLogger(__name__)


class Courses:
    """The courses of one user. May be used by several threads.

    :param mine: asks the service for them. :param environ: of the server: ``HOME``, ``MLMP_SHARED`` (where shared data
        are) and ``MLMP_HAND_IN`` (where things are handed in, as JSON by course).
    """

    def __init__(self, mine: Callable[[], list[dict[str, Any]]], environ: Mapping[str, str] = os.environ) -> None:
        self._mine, self._environ = mine, environ
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._problem = ""
        self._items: dict[str, dict[str, Any]] = {}
        self._handed_in: set[Path] = set()
        self._keeper: threading.Thread | None = None

    def start(self) -> None:
        """Brings everything up to date in the background, unless that is being done."""
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._bring_all, name="course files", daemon=True)
                self._thread.start()

    def keep_readable(self) -> None:
        """Lets who teaches read what was handed in up to now."""
        for place in self._handed_in.copy():
            course_hand_in.open_up(place)

    def wait(self, seconds: float) -> bool:
        """Whether what was started is done within so many seconds."""
        thread = self._thread
        if thread is not None:
            thread.join(seconds)
        return thread is None or not thread.is_alive()

    def state(self) -> dict[str, Any]:
        """``working``, ``problem`` (why nothing is known) and of each course ``state`` (``working``, ``done``,
        ``failed``) and ``problems``."""
        with self._lock:
            working = self._thread is not None and self._thread.is_alive()
            return {"working": working, "problem": self._problem, "items": [dict(one) for one in self._items.values()]}

    def _bring_all(self) -> None:
        try:
            courses = [one for one in self._mine() if _NAME.fullmatch(str(one["name"]))]
        except MLMPError as error:
            self._note_problem(_sentence(error))
            return
        with self._lock:
            self._problem = ""
            self._items = {one["name"]: _item(one, "working", []) for one in courses}
        for course in courses:
            problems = self._bring(course)
            with self._lock:
                self._items[course["name"]] = _item(course, "failed" if problems else "done", problems)

    def _note_problem(self, problem: str) -> None:
        with self._lock:
            self._problem = problem

    def _bring(self, course: Mapping[str, Any]) -> list[str]:
        """What of it could not be done, in sentences."""
        problems = []
        for part in (self._files, self._data, self._hand_in):
            try:
                part(course)
            except MLMPError as error:
                problems.append(_sentence(error))
            except OSError as error:
                problems.append(f"{error.filename or FOLDER}: {error.strerror}.")
            except Exception:  # noqa: BLE001 -- the other parts and courses are worth having
                _log.exception("the files of course %s", course["name"])
                problems.append("Something went wrong; the log of this server says what.")
        return problems

    @property
    def _folder(self) -> Path:
        """:raises OSError: it can't be made."""
        made = Path(self._environ["HOME"]) / FOLDER
        made.mkdir(mode=0o700, exist_ok=True)
        return made

    def _files(self, course: Mapping[str, Any]) -> None:
        files = course["files"]
        if not files:
            return
        folder = self._folder / course["name"]
        if files["git"]:
            course_git.bring(files["git"], files["branch"], folder, environ=self._environ)
        else:
            course_copy.bring(self._shared(files["directory"]), folder)

    def _data(self, course: Mapping[str, Any]) -> None:
        if course["data"]:
            _link(self._folder / f"{course['name']}.data", self._shared(course["data"]))

    def _hand_in(self, course: Mapping[str, Any]) -> None:
        if not course["hand_in"] or course["role"] == "guest":
            return
        place = json.loads(self._environ.get("MLMP_HAND_IN") or "{}").get(course["name"])
        if place is None:
            raise Unavailable(NO_HAND_IN)
        _link(self._folder / f"{course['name']}.hand-in", Path(place))
        if course["role"] == "student":
            self._handed_in.add(Path(place))
            self.keep_readable()
            self._keep()

    def _keep(self) -> None:
        """Looks again and again, while the server runs."""
        if self._keeper is None:
            self._keeper = threading.Thread(target=self._keep_on, name="handed in", daemon=True)
            self._keeper.start()

    def _keep_on(self) -> None:
        while True:
            time.sleep(LOOK)
            self.keep_readable()

    def _shared(self, below: str) -> Path:
        """:raises Unavailable: there are no shared data. :raises NotAllowed: it is not below them."""
        root = self._environ.get("MLMP_SHARED")
        if not root:
            raise Unavailable(NO_SHARED_DATA)
        if any(part in ("", ".", "..") for part in below.split("/")):
            raise NotAllowed(f"{below[:80]!r} is no directory of the shared data.")
        return Path(root) / below


def _link(link: Path, target: Path) -> None:
    """Makes a link, in place of one that led elsewhere. :raises Conflict: something else has its name."""
    if link.is_symlink():
        if os.readlink(link) == str(target):
            return
        link.unlink()
    try:
        link.symlink_to(target)
    except FileExistsError:
        raise Conflict(f"~/{FOLDER}/{link.name} is there already.", hint="Give it another name.") from None


def _item(course: Mapping[str, Any], state: str, problems: list[str]) -> dict[str, Any]:
    return {"name": course["name"], "title": course["title"], "state": state, "problems": problems,
            "folder": f"{FOLDER}/{course['name']}"}  # fmt: skip


def _sentence(error: MLMPError) -> str:
    return f"{error.detail} {error.hint}" if error.hint else error.detail
