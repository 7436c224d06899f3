"""The entry for jupyter-server-proxy: ``…/user/NAME/ssh/`` is a WebSocket to the user's own sshd."""

from __future__ import annotations

import os
import sys
from typing import Any

SOCKET = "MLMP_SSH_SOCKET"
"""Variable with the path of a socket where somebody else listens already, such as the container beside this one."""


def ssh() -> dict[str, Any]:
    """How jupyter-server-proxy gets at SSH: it starts our listener with the first connection."""
    entry: dict[str, Any] = {"raw_socket_proxy": True, "launcher_entry": {"enabled": False}}
    if os.environ.get(SOCKET):
        return entry | {"unix_socket": os.environ[SOCKET]}
    # -I: nothing in the user's home is imported in place of ours.
    command = [sys.executable, "-I", "-m", "mlmp_spawner.lab.ssh_listener", "{unix_socket}"]
    return entry | {"command": command, "unix_socket": True, "timeout": 30}
