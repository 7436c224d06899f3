"""What a person and their servers are called where SSH needs names: host names and principals of certificates."""

from __future__ import annotations

import re

from mlmp_spawner.rules.storage import directory_name

GATEWAY = "mlmp-gateway"
"""The principal of the gateway's host key, and what `mlmp ssh-config` calls it; no user gets it."""

_SERVER = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


def principal_of(user: str) -> str:
    """The principal of a user's certificates, and of the host key of their servers: the name itself where it is plain,
    and one word without spaces, commas or wildcards for every other name. No two names share one.
    """
    return directory_name(user)


def host_of(user: str, server: str = "") -> str:
    """The host name of a user's server: ``ann`` for the default one, ``ann--SERVER`` for another.

    :raises ValueError: a server's name that no host name can hold.
    """
    if not server:
        return directory_name(user)
    if not _SERVER.fullmatch(server):
        raise ValueError(f"{server[:60]!r} can't be part of a host name; valid: a-z, 0-9 and single hyphens")
    return f"{directory_name(user)}--{server}"


def server_of(user: str, host: str) -> str | None:
    """The server of this user that a host name stands for, "" for the default one; None: none of this user's."""
    name = directory_name(user)
    if host == name:
        return ""
    server = host.removeprefix(f"{name}--")
    return server if server != host and _SERVER.fullmatch(server) else None
