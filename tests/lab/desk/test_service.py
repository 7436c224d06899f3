"""What is asked of the service for JupyterLab, and what it may cost the server that JupyterLab comes from."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from pathlib import Path

import pytest

from mlmp_spawner.client.problems import NotReachable
from mlmp_spawner.lab.desk.service import AT_ONCE, Desk


async def test_a_service_that_hangs_takes_none_of_the_servers_own_threads(tmp_path: Path):
    desk, over = Desk(tmp_path, {}), threading.Event()
    began = [threading.Event() for _ in range(AT_ONCE + 20)]

    def hangs(number: int) -> None:
        began[number].set()
        over.wait(300)

    asked = [asyncio.create_task(desk.run(hangs, number)) for number in range(len(began))]
    await asyncio.to_thread(lambda: [one.wait(60) for one in began[:AT_ONCE]])
    assert sum(one.is_set() for one in began) == AT_ONCE
    over.set()
    await asyncio.gather(*asked)


@pytest.mark.faults
def test_a_service_that_takes_calls_and_never_answers_is_soon_said_to_be_away(tmp_path: Path):
    tries = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        at = f"http://127.0.0.1:{server.getsockname()[1]}/"
        desk = Desk(tmp_path, {"MLMP_URL": at, "MLMP_TOKEN": "x", "MLMP_RESERVATION_ID": "abcdefgh1234"})

        def take() -> None:
            with contextlib.suppress(OSError):
                while True:
                    tries.append(server.accept())

        threading.Thread(target=take, daemon=True).start()
        with pytest.raises(NotReachable, match="took too long"):
            desk.state(0)
        assert 1 <= len(tries) <= 2
    for one, _ in tries:
        one.close()
