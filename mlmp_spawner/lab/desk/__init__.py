"""What MLMP's extension of JupyterLab asks of the user's own server: the booking that it runs in, and jobs.

An extension of Jupyter server. It speaks to the service with the server's token and reads files with the user's
rights; the browser speaks to nobody but this server.
"""

from __future__ import annotations

from typing import Any


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "mlmp_spawner.lab.desk"}]


def _load_jupyter_server_extension(server: Any) -> None:
    from pathlib import Path

    from mlmp_spawner.lab.desk import tensorboard
    from mlmp_spawner.lab.desk.handlers import routes
    from mlmp_spawner.lab.desk.service import Desk
    from mlmp_spawner.lab.tensorboard_boards import TensorBoards

    root, base_url = Path(server.root_dir).expanduser().resolve(), server.web_app.settings["base_url"]
    server.web_app.settings["mlmp_desk"] = Desk(root)
    server.web_app.settings["mlmp_tensorboards"] = TensorBoards(root, Path.home(), parent=server)
    server.web_app.add_handlers(".*", [*routes(base_url), *tensorboard.routes(base_url)])
