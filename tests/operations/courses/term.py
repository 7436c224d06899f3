"""A course to hold classes of, on the small site: two nodes with four and two units."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from sqlalchemy import insert

from mlmp_spawner.operations import changes
from mlmp_spawner.operations.courses import classes, opening
from mlmp_spawner.operations.courses.term import ClassRequest
from mlmp_spawner.operations.requests import Recurrence
from mlmp_spawner.operations.site import Actor, Site
from mlmp_spawner.rules.courses import Course, Member
from mlmp_spawner.rules.reservations import Reservation
from mlmp_spawner.store import classes as store
from mlmp_spawner.store import courses
from mlmp_spawner.store.tables import users
from mlmp_spawner.store.transaction import read, transaction
from mlmp_spawner.units import HOUR, MINUTE
from tests.operations.conftest import NOW

TEACHER = Actor("teacher")
STUDENTS = ("s1", "s2", "s3", "s4", "s5", "s6")
BEGINS = NOW + HOUR
"""When :func:`a_class` begins; its setup is 10 minutes, its grace 15."""


def course(site: Site, name: str = "ml", students: Iterable[str] = STUDENTS, **more: Any) -> Course:
    """A course with its roster; everybody on it is a user of the hub."""
    fields: dict[str, Any] = {"title": "Deep Learning", "profile": "gpu", "seats": 4, **more}
    made = Course(name=name, created_at=NOW, **fields)
    names = ["teacher", *students]
    with transaction(site.engine) as connection:
        known = {row.name for row in connection.execute(users.select())}
        new = [{"id": len(known) + n, "name": one} for n, one in enumerate(names, 1) if one not in known]
        if new:
            connection.execute(insert(users), new)
        courses.insert_course(connection, made)
        roles = [Member(name, "teacher", "instructor", NOW)]
        roles += [Member(name, one, "student", NOW + n) for n, one in enumerate(names[1:])]
        courses.put_members(connection, name, roles)
    return made


def request(**more: Any) -> ClassRequest:
    fields: dict[str, Any] = {"course": "ml", "start": BEGINS, "duration": 2 * HOUR, **more}
    if isinstance(fields.get("recurrence"), str):
        fields["recurrence"] = Recurrence(fields["recurrence"], "Europe/Zurich", more.get("without", ()))
    fields.pop("without", None)
    return ClassRequest(**fields)


def a_class(site: Site, *, now: int = NOW, **more: Any) -> Reservation:
    return classes.book(site, request(**more), actor=TEACHER, now=now)


def seats(site: Site, class_id: str, now: int | None = None) -> dict[str, Reservation]:
    """The seats that people have, by their names; those that are over too, unless ``now`` is given."""
    with read(site.engine) as connection:
        found = store.seats(connection, class_id)
    return {seat.owner: seat for seat in found if now is None or seat.state(now) == "active"}


def now_in(row: Reservation, minutes: int = 0) -> int:
    """So long after the seats of a class may be given out."""
    return row.start + minutes * MINUTE


def without_nodes(site: Site, *names: str) -> Site:
    nodes = {name: node for name, node in site.catalog.nodes.items() if name not in names}
    return replace(site, catalog=site.catalog.model_copy(update={"nodes": nodes}))


def opened(site: Site, **more: Any) -> Reservation:
    row = a_class(site, **more)
    opening.look(site, row.start)
    return changes.get(site, row.id)


def takes(site: Site, class_id: str, now: int) -> dict[str, int]:
    return {a.node: a.units for a in changes.get(site, class_id).allocations if a.start <= now < a.end}
