"""Queries on courses and their rosters. Every function takes an open connection."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import asdict

from sqlalchemy import ColumnElement, Connection, bindparam, delete, exists, func, insert, null, select, update

from mlmp_spawner.rules.courses import Course, Member, Role
from mlmp_spawner.rules.guests import GUESTS, is_guest, may_use
from mlmp_spawner.store.course_tables import course, course_group, course_member
from mlmp_spawner.store.people import AT_ONCE
from mlmp_spawner.store.tables import users


def find(connection: Connection, name: str, *, lock: bool = False) -> Course | None:
    """One course, or None. :param lock: until the end of the transaction."""
    found = _read(connection, course.c.name == name, lock=lock)
    return found[0] if found else None


def all_of(connection: Connection) -> list[Course]:
    """All courses, by name."""
    return _read(connection)


def with_member(connection: Connection, name: str) -> dict[str, tuple[Course, Member]]:
    """The courses that somebody is in, with what they are there, by the course's name."""
    mine = {member.course: member for member in _members(connection, course_member.c.name == name)}
    found = _read(connection, course.c.name.in_(sorted(mine))) if mine else []
    return {one.name: (one, mine[one.name]) for one in found}


def in_any(connection: Connection, name: str) -> bool:
    """Whether somebody is in a course."""
    return connection.execute(select(exists().where(course_member.c.name == name))).scalar() or False


def insert_course(connection: Connection, new: Course) -> None:
    """:raises sqlalchemy.exc.IntegrityError: there is one of that name."""
    connection.execute(insert(course).values(_row(new)))


def update_course(connection: Connection, changed: Course) -> None:
    """Writes it as it is given; its ``version`` is the caller's."""
    connection.execute(update(course).where(course.c.name == changed.name).values(_row(changed)))


def delete_course(connection: Connection, name: str) -> None:
    """Drops it with its roster."""
    connection.execute(delete(course_member).where(course_member.c.course == name))
    connection.execute(delete(course).where(course.c.name == name))


def members(connection: Connection, name: str, *roles: Role) -> list[Member]:
    """The roster of a course in the order in which people were put on it. :param roles: only these."""
    conditions: list[ColumnElement[bool]] = [course_member.c.course == name]
    if roles:
        conditions.append(course_member.c.role.in_(roles))
    return _members(connection, *conditions)


def member(connection: Connection, name: str, person: str) -> Member | None:
    """Somebody on the roster of a course, or None."""
    found = _members(connection, course_member.c.course == name, course_member.c.name == person)
    return found[0] if found else None


def counts(connection: Connection) -> dict[str, dict[str, int]]:
    """How many there are of each role, by course."""
    c = course_member.c
    found: dict[str, dict[str, int]] = {}
    for name, role, number in connection.execute(select(c.course, c.role, func.count()).group_by(c.course, c.role)):
        found.setdefault(name, {})[role] = number
    return found


def put_members(connection: Connection, name: str, new: Iterable[Member]) -> None:
    """Puts people on the roster of a course, or gives those that are there another role; since when stays."""
    there = set(connection.execute(select(course_member.c.name).where(course_member.c.course == name)).scalars())
    rows = [asdict(one) | {"course": name} for one in new]
    changed = [{"who": row["name"], "what": row["role"]} for row in rows if row["name"] in there]
    added = [row for row in rows if row["name"] not in there]
    if changed:
        same = (course_member.c.course == name, course_member.c.name == bindparam("who"))
        connection.execute(update(course_member).where(*same).values(role=bindparam("what")), changed)
    if added:
        connection.execute(insert(course_member), added)


def remove_members(connection: Connection, name: str, people: Collection[str]) -> None:
    """Takes people off a roster."""
    names = sorted(people)
    for at in range(0, len(names), AT_ONCE):
        some = course_member.c.name.in_(names[at : at + AT_ONCE])
        connection.execute(delete(course_member).where(course_member.c.course == name, some))


def set_agreed(connection: Connection, name: str, person: str, at: int | None) -> bool:
    """Notes that somebody agreed to be looked into, None: does not any more; whether they are on the roster."""
    same = (course_member.c.course == name, course_member.c.name == person)
    return connection.execute(update(course_member).where(*same).values(agreed_at=at)).rowcount > 0


def in_hub(connection: Connection, name: str) -> dict[str, int]:
    """Those of a roster that the hub knows: their ids by name."""
    joined = select(users.c.name, users.c.id).join(course_member, course_member.c.name == users.c.name)
    return {row.name: row.id for row in connection.execute(joined.where(course_member.c.course == name))}


def teachers(connection: Connection, owner: str) -> dict[str, int]:
    """The instructors of the course that is the ``owner`` of a class, as the hub knows them: their ids by name."""
    joined = select(users.c.name, users.c.id).join(course_member, course_member.c.name == users.c.name)
    mine = (course_member.c.course == owner.removeprefix("course:"), course_member.c.role == "instructor")
    return {row.name: row.id for row in connection.execute(joined.where(*mine))}


def counting_groups(connection: Connection, name: str, known: frozenset[str]) -> frozenset[str]:
    """The groups that count for somebody: ``known``, and for a guest besides what the course lets them use."""
    if not is_guest(name):
        return known
    found = with_member(connection, name)
    mine = {group for one, _ in found.values() for group in (one.group, may_use(one.profile))}
    return known | mine | {GUESTS}


def guest_jobs(connection: Connection, person: str) -> float | None:
    """Unit-hours that a guest may use in jobs in all, by the course that allows most; None: no jobs."""
    mine = (course_member.c.name == person, course_member.c.role == "guest")
    query = select(func.max(course.c.guest_jobs)).join(course_member, course_member.c.course == course.c.name)
    return connection.execute(query.where(*mine)).scalar()


def self_study(connection: Connection, person: str | None = None) -> dict[str, dict[str, float]]:
    """Unit-hours a week that students and guests have outside class: by person and course, where it says any.

    :param person: of whom alone; None: of everybody.
    """
    c, m = course.c, course_member.c
    query = select(m.name, m.course, c.self_study).join(course, c.name == m.course)
    query = query.where(c.self_study.is_not(None), m.role != "instructor")
    found: dict[str, dict[str, float]] = {}
    for row in connection.execute(query if person is None else query.where(m.name == person)):
        found.setdefault(row.name, {})[row.course] = row.self_study
    return found


def groups(connection: Connection) -> frozenset[str]:
    """The groups of the hub that are MLMP's own."""
    return frozenset(connection.execute(select(course_group.c.name)).scalars())


def add_group(connection: Connection, name: str, *, at: int) -> None:
    """Notes that a group of the hub is MLMP's own."""
    if name not in groups(connection):
        connection.execute(insert(course_group).values(name=name, made_at=at))


def drop_group(connection: Connection, name: str) -> None:
    """It is not any more."""
    connection.execute(delete(course_group).where(course_group.c.name == name))


def _read(connection: Connection, *conditions: ColumnElement[bool], lock: bool = False) -> list[Course]:
    query = select(course).where(*conditions).order_by(course.c.name)
    rows = connection.execute(query.with_for_update() if lock else query)
    return [Course.model_validate(dict(row._mapping)) for row in rows]


def _members(connection: Connection, *conditions: ColumnElement[bool]) -> list[Member]:
    query = select(course_member).where(*conditions).order_by(course_member.c.added_at, course_member.c.name)
    return [Member(**row._mapping) for row in connection.execute(query)]


def _row(one: Course) -> dict[str, object]:
    row = one.model_dump(mode="json")
    return row | ({"files": null()} if row["files"] is None else {})
