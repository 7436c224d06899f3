"""A class under way whose servers are played: who is in, who is stuck."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

from mlmp_spawner.errors import Unavailable
from mlmp_spawner.operations.courses import courses, opening
from mlmp_spawner.operations.courses.servers import ClassServers
from mlmp_spawner.rules import course_yaml
from mlmp_spawner.rules.reservations import Reservation
from mlmp_spawner.store.tables import users
from mlmp_spawner.store.transaction import transaction
from mlmp_spawner.units import HOUR, MINUTE, SECOND, to_iso
from tests.operations.conftest import NOW, admin
from tests.operations.courses.term import seats
from tests.operations.courses.test_running import Hub
from tests.web.harness import RunningApp

BEGINS = NOW + HOUR


@dataclass
class PlayedClass:
    """The class, what starts its servers, and the hub that it asks. ``where``: its address below the service."""

    app: RunningApp
    id: str
    servers: ClassServers
    hub: Hub

    @property
    def where(self) -> str:
        return f"courses/ml/classes/{self.id}"

    def seats(self) -> dict[str, Reservation]:
        return seats(self.app.site, self.id, self.app.now)

    def look(self) -> None:
        """The service looks once."""
        self.hub.now = self.app.now
        self.app.call(self._look())

    async def _look(self) -> None:
        await self.servers.look(self.app.now)
        await self.servers.idle()
        self.app.feed.wake()

    def comes(self, name: str) -> None:
        """Somebody comes into their server."""
        seat = self.seats()[name]
        self.hub.visits[name, seat.server] = self.app.now - SECOND


def a_class(
    app: RunningApp, students: Iterable[str] = ("ann", "eve", "zoe"), *, title: str = "Deep Learning", seats: int = 6
) -> PlayedClass:
    """ann is in, zoe's server does not come up, the others' run and nobody came yet; eve was never there."""
    names = list(students)
    with transaction(app.site.engine) as connection:
        known = {row.name for row in connection.execute(users.select())}
        for number, name in enumerate([one for one in names if one not in known and one != "never"], 50):
            connection.execute(users.insert().values(id=number, name=name))
    course = {
        "name": "ml",
        "title": title,
        "profile": "gpu",
        "seats": seats,
        "instructors": ["ben"],
        "students": names,
    }
    courses.apply(app.site, course_yaml.parse(course), actor=admin, now=app.now)
    with app.client("teacher-token") as client:
        booked = client.post("courses/ml/classes", json={"start": to_iso(BEGINS), "duration": "2h"})
        assert booked.status_code == 201, booked.text
    app.now = BEGINS - 10 * MINUTE
    opening.look(app.site, app.now)
    hub = Hub(app.site)
    hub.refusals["zoe"] = Unavailable("The image is gone.")
    played = PlayedClass(app, booked.json()["id"], ClassServers(lambda: app.site, hub), hub)
    service: Any = SimpleNamespace(servers=played.servers, watch=SimpleNamespace(last={}))
    app.context.classes = cast(Any, service)
    for minute in range(0, 12, 3):
        app.now = BEGINS - 10 * MINUTE + minute * MINUTE
        if minute == 6:
            played.comes("ann")
        played.look()
    app.now = BEGINS
    return played
