"""Who asks, and who may: kinds of callers, and what each gets where."""

from __future__ import annotations

import httpx
import pytest

from mlmp_spawner.units import HOUR, to_iso
from tests.operations.conftest import NOW
from tests.web.harness import PlayedImages, RunningApp
from tests.web.job_parts import SLEEP

PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFZ/NjApOsAaTTRQGQiFxbHjDryfYzQkpSQ/Ust23aVj"

#: What a caller gets on a booking of ann's: `in` (answered), or the status of the refusal.
CALLERS = {
    "nobody": None,
    "unknown token": "no-such-token",
    "outsider": "outsider-token",  # may book, but is not let in to this service
    "reader": "reader-token",  # ann, let in, without the scope to book
    "owner": "ann-token",
    "owner's server": "server-token",
    "other": "ben-token",
    "instructor": "teacher-token",
    "foreign": "foreign-token",  # eve, with a scope that is filtered to ann
    "narrow admin": "narrow-admin-token",  # "admin": true, but without any admin scope
    "filtered admin": "filtered-admin-token",
    "admin": "admin-token",
    "hub admin": "hub-admin-token",
}
ANYBODY = dict.fromkeys(CALLERS, "in")
LET_IN = ANYBODY | {"nobody": 401, "unknown token": 401, "outsider": 403}
BOOKERS = LET_IN | {"reader": 403, "foreign": 403, "narrow admin": 403, "filtered admin": 403}
OWNERS = BOOKERS | {"other": 403, "instructor": 403}
ADMINS = dict.fromkeys(LET_IN, 403) | {"nobody": 401, "unknown token": 401, "admin": "in", "hub admin": "in"}
TEACHERS = ADMINS | {"instructor": "in"}
RUNNERS = TEACHERS | {"other": "in"}  # ben, whom the roster names, without the scope to make courses
SEERS = LET_IN | {"other": 403, "instructor": 403, "foreign": 403, "narrow admin": 403, "filtered admin": 403}
THEMSELVES = BOOKERS | {"owner's server": 403}  # what would outlive the server's token
ITS_OWNER = THEMSELVES | dict.fromkeys(("other", "instructor", "admin", "hub admin"), 404)  # others see none of it

ITS_READERS = SEERS | {"admin": 403, "hub admin": 403}  # nobody sees another's logs and files
THEIR_PODS = dict.fromkeys(CALLERS, 401)  # no token of the hub is one of theirs

COURSE_SEERS = LET_IN | dict.fromkeys(("foreign", "narrow admin", "filtered admin"), 404)  # ann and ben are in it

SCAN = {"manifest": SLEEP, "parameters": {"lr": [0.1, 0.01]}}
COURSE = {"name": "ml", "title": "ML", "profile": "gpu", "seats": 2, "instructors": ["ben"], "students": ["ann"]}
A_CLASS = {"start": to_iso(NOW + 9 * HOUR), "duration": "1h", "seats": 1}


@pytest.fixture(autouse=True)
def images(app: RunningApp) -> None:
    """The site is a cluster's, so that there are images to see."""
    app.context.images = PlayedImages()


@pytest.fixture
def booked(ann: httpx.Client) -> str:
    return ann.post("reservations", json={"profile": "gpu", "duration": "1h", "title": "ann's"}).json()["id"]


def class_of(app: RunningApp) -> str:
    """A class of the course that is there, by its id."""
    with app.client("admin-token") as client:
        made = client.post("courses/ml/classes", json=A_CLASS)
        return str(made.json()["id"])
