"""What MLMP's extension of JupyterLab asks of the user's own server: the booking that it runs in, jobs,
and the files of courses.

An extension of Jupyter server. It speaks to the service with the server's token and reads files with the user's
rights; the browser speaks to nobody but this server.
"""

from __future__ import annotations

import os
from typing import Any


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "mlmp_spawner.lab.desk"}]


def _load_jupyter_server_extension(server: Any) -> None:
    from pathlib import Path

    from mlmp_spawner.lab.desk import tensorboard
    from mlmp_spawner.lab.desk.courses import Courses
    from mlmp_spawner.lab.desk.handlers import routes
    from mlmp_spawner.lab.desk.service import Desk
    from mlmp_spawner.lab.tensorboard_boards import TensorBoards

    root, base_url = Path(server.root_dir).expanduser().resolve(), server.web_app.settings["base_url"]
    desk = Desk(root)
    courses = Courses(lambda: desk.client.courses.mine())
    server.web_app.settings["mlmp_desk"], server.web_app.settings["mlmp_courses"] = desk, courses
    server.web_app.settings["mlmp_tensorboards"] = TensorBoards(root, Path.home(), parent=server)
    if "MLMP_RESERVATION_ID" in os.environ:
        courses.start()
    server.web_app.add_handlers(".*", [*routes(base_url), *tensorboard.routes(base_url)])
