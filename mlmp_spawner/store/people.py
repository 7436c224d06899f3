"""What the hub's own tables say of people. They are the hub's: only read here."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Column, Connection, Integer, String, Table, inspect, select

from mlmp_spawner.store.tables import hub_metadata, users

AT_ONCE = 500
"""Names in one statement: databases bound how many values one may have."""

_groups = Table("groups", hub_metadata, Column("id", Integer, primary_key=True), Column("name", String(255)))
_members = Table("user_group_map", hub_metadata, Column("user_id", Integer), Column("group_id", Integer))


def known(connection: Connection, names: Collection[str]) -> frozenset[str]:
    """Which of these names are users of the hub."""
    wanted = sorted(names)
    found: set[str] = set()
    for at in range(0, len(wanted), AT_ONCE):
        query = select(users.c.name).where(users.c.name.in_(wanted[at : at + AT_ONCE]))
        found |= set(connection.execute(query).scalars())
    return frozenset(found)


def groups_of(connection: Connection, user_id: int | None) -> frozenset[str]:
    """The hub's groups that a user is in, for what is done for them while they are not asking."""
    if user_id is None or not inspect(connection).has_table(_members.name):
        return frozenset()
    joined = select(_groups.c.name).join(_members, _members.c.group_id == _groups.c.id)
    return frozenset(connection.execute(joined.where(_members.c.user_id == user_id)).scalars())
