"""PScan: the results of a parameter scan side by side, by what the paths of the files say of their parameters.

An extension of Jupyter server: the page ``…/pscan`` reads with the rights of the user whose server it is.
"""

from __future__ import annotations

from typing import Any


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "mlmp_spawner.lab.pscan"}]


def _load_jupyter_server_extension(server: Any) -> None:
    from pathlib import Path

    from mlmp_spawner.lab.pscan.browse import Browser
    from mlmp_spawner.lab.pscan.handlers import routes

    server.web_app.settings["mlmp_pscan"] = Browser(Path(server.root_dir))
    server.web_app.add_handlers(".*", routes(server.web_app.settings["base_url"]))
