"""Who sat in a class is forgotten some time after it; what it took is not."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from mlmp_spawner.operations import admission, changes
from mlmp_spawner.operations.admission import StartOptions, admit
from mlmp_spawner.operations.courses import classes, forgetting
from mlmp_spawner.operations.site import Actor, Site
from mlmp_spawner.rules.reservations import Reservation
from mlmp_spawner.store import tables
from mlmp_spawner.store.transaction import read
from mlmp_spawner.units import DAY, MINUTE
from tests.operations.courses.term import STUDENTS, course, opened, seats


@pytest.fixture
def row(site: Site) -> Reservation:
    """A class of long ago, in which s1 was and which s2 left."""
    course(site)
    made = opened(site)
    admit(site, actor=Actor("s1"), server="", options=StartOptions(), now=made.start)
    admission.started(site, seats(site, made.id)["s1"].id, now=made.start + MINUTE)
    changes.cancel(site, seats(site, made.id)["s2"].id, actor=Actor("s2"), now=made.start + MINUTE)
    return made


def names(site: Site) -> set[str]:
    """Of the students, those who are in any row but those of their roster and of the hub."""
    others = [one for one in tables.metadata.sorted_tables if one.name not in ("users", "mlmp_course_member")]
    with read(site.engine) as connection:
        text = str([connection.execute(select(one)).all() for one in others])
    return {name for name in STUDENTS if f"'{name}'" in text}


def facts(site: Site, row: Reservation) -> list[object]:
    """What seats took, without who had them."""
    found = classes.seats_of(site, [row.id])[row.id]
    return [(one.id, one.start, one.end, one.state(row.end), one.started_at, one.allocations) for one in found]


def test_after_the_time_no_row_has_the_name_of_who_had_a_seat(site: Site, row: Reservation) -> None:
    before = facts(site, row)
    assert forgetting.forget(site.engine, before=row.end) == 0 and {"s1", "s2"} < names(site)
    assert forgetting.forget(site.engine, before=row.end + DAY) == len(before) == 4
    assert names(site) == set()
    assert facts(site, row) == before
    after = classes.seats_of(site, [row.id])[row.id]
    assert {one.owner for one in after} == {row.owner}
    assert forgetting.forget(site.engine, before=row.end + DAY) == 0


def test_it_goes_on_where_it_was_ended(site: Site, row: Reservation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forgetting, "AT_ONCE", 1)
    give, given = forgetting._give, []

    def killed(connection: object, seat: str, person: str, owner: str) -> None:
        if len(given) == 2:
            raise MemoryError("killed here")
        given.append(seat)
        give(connection, seat, person, owner)  # type: ignore[arg-type]

    with monkeypatch.context() as broken:
        broken.setattr(forgetting, "_give", killed)
        with pytest.raises(MemoryError):
            forgetting.forget(site.engine, before=row.end + DAY)
    assert forgetting.forget(site.engine, before=row.end + DAY) == 2
    assert names(site) == set()
