"""What MLMP adds to a user's own Jupyter server: SSH. It knows the client, and nothing of hub and service.

It is an extension of Jupyter server too, for where jupyter-server-proxy is not one: there is its way to SSH then, and
to no port.
"""

from __future__ import annotations

from typing import Any


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "mlmp_spawner.lab"}]


def _load_jupyter_server_extension(server: Any) -> None:
    from jupyter_server_proxy.config import ServerProcess, make_handlers

    from mlmp_spawner.lab.proxy import ssh

    entry = ServerProcess(name="ssh", **ssh())
    server.web_app.add_handlers(".*", make_handlers(server.web_app.settings["base_url"], [entry]))
