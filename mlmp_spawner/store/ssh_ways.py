"""By which token the gateway enters a running server: the server's own, which opens no other.

Its user has it anyway, so that nothing is given away by sending it there; a token that opens everybody's servers would
be theirs with the first connection. The hub revokes it with the server.
"""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection, delete, insert, select

from mlmp_spawner.store.tables import ssh_way


def keep(connection: Connection, server: str, token: str, *, at: int) -> None:
    """Keeps the token of the server that was started under this reservation, in place of a former one."""
    remove(connection, [server])
    connection.execute(insert(ssh_way).values(server=server, token=token, at=at))


def remove(connection: Connection, servers: Collection[str]) -> None:
    """Forgets those of servers that are gone."""
    connection.execute(delete(ssh_way).where(ssh_way.c.server.in_(sorted(servers))))


def of(connection: Connection, servers: Collection[str]) -> dict[str, str]:
    """The tokens by the reservation that each server was started under."""
    rows = connection.execute(select(ssh_way.c.server, ssh_way.c.token).where(ssh_way.c.server.in_(sorted(servers))))
    return {row.server: row.token for row in rows}
