"""What was used in a class is the course's, which booked it, and nobody's own."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo

from mlmp_spawner.operations import usage
from mlmp_spawner.operations.courses import opening
from mlmp_spawner.operations.site import Site
from mlmp_spawner.operations.usage import Spent
from mlmp_spawner.rules.reservations import Interval
from mlmp_spawner.store.tables import use
from mlmp_spawner.store.transaction import transaction
from mlmp_spawner.units import HOUR, MINUTE
from tests.operations.conftest import NOW
from tests.operations.courses.term import a_class, course, seats


def test_the_use_of_a_seat_counts_for_its_course(site: Site):
    course(site, seats=2)
    row = a_class(site)
    opening.look(site, row.start)
    seat = seats(site, row.id)["s1"]
    seen = {"node": seat.nodes[0], "watched": 5 * MINUTE, "busy": 2 * MINUTE, "cpu": 0, "memory": 0}
    with transaction(site.engine) as connection:
        connection.execute(use.insert().values(reservation=seat.id, at=row.start, **seen))

    def spent(**more: Any) -> usage.Usage:
        asked: dict[str, Any] = {"by": "user", "zone": ZoneInfo("UTC"), "now": row.end + HOUR} | more
        return usage.usage(site, Interval(NOW, row.end), **asked)

    booked = 2 * (row.end - row.start)
    assert dict(spent().rows) == {"course:ml": Spent(booked, 2 * MINUTE, 3 * MINUTE)}
    assert dict(spent(by="group", groups={}).rows) == {"course-ml": Spent(booked, 2 * MINUTE, 3 * MINUTE)}
    assert spent(owner="s1").total == Spent(), "nothing of it is the student's"
    assert spent().days[0].spent == Spent(booked, 2 * MINUTE, 3 * MINUTE)
