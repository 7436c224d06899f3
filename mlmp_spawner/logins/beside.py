"""Says in a hub's configuration that guests are let in beside the login that it names.

Service and commands read that configuration too, and have no use for a login: only the hub imports one, by the name
that is put here.
"""

from __future__ import annotations

from typing import Any

from traitlets.config import Config

WITH_GUESTS = "mlmp_spawner.logins.guests.WithGuests"

_theirs: dict[str, Any] = {}


def beside(c: Config) -> None:
    """Lets guests in beside the login that ``c`` configures, where something keeps them apart from others.

    To be called when nothing else is configured any more.
    """
    if c.MLMP.get("guest_isolation", "none") != "none" and c.JupyterHub.authenticator_class != WITH_GUESTS:
        _theirs["login"] = c.JupyterHub.authenticator_class
        c.JupyterHub.authenticator_class = WITH_GUESTS


def theirs() -> Any:
    """The login that was configured: a class, or how JupyterHub names one. :raises KeyError: none was."""
    return _theirs["login"]
