"""One TensorBoard as a process of the user's: its start, whether it answers, its end."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from jupyter_server_proxy.unixsock import UnixResolver
from tornado.httpclient import HTTPClientError
from tornado.simple_httpclient import SimpleAsyncHTTPClient

from mlmp_spawner.errors import Unavailable

SOCKET = "socket"
WANTED = "wanted.json"
_KEPT_BACK = ("JUPYTERHUB_", "MLMP_", "JPY_", "JUPYTER_TOKEN")
LONGEST_SOCKET = 107
"""Characters of a socket's path that Linux takes."""
LOOK = 0.1
FIRST_LOOKS = 50
"""So often the first runs are looked for: a page that comes before them says that there are none."""
GRACE = 5.0
MOST_SAID = 4 << 10
"""Bytes kept of what it complained of last."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be seen. ``id``: part of its address. ``runs``: folders by the names they get; a single one without a
    name is shown as it is."""

    id: str
    title: str
    runs: Mapping[str, Path]


class Board:
    """A TensorBoard, which may run or not. ``used``: when it was asked for something last, in ms UTC; ``busy``: how
    many requests are under way."""

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self.used = 0
        self.busy = 0
        self._answered = False
        self._process: asyncio.subprocess.Process | None = None
        self._folder: Path | None = None
        self._listening: asyncio.Task[None] | None = None
        self._said = b""

    @property
    def running(self) -> bool:
        """Whether its process is there."""
        return self._process is not None and self._process.returncode is None

    @property
    def answers(self) -> bool:
        """Whether its start is over and nobody removed its socket."""
        return self._answered and self.running and os.path.exists(self.socket)

    @property
    def socket(self) -> str:
        """Where it listens."""
        return f"{self._folder}/{SOCKET}"

    async def start(self, patience: float) -> None:
        """Until it answers. :param patience: seconds. :raises Unavailable: it does not."""
        await self.stop()
        self._folder = private_folder()
        self._said = b""
        _write(self.wanted, self._folder)
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "mlmp_spawner.lab.tensorboard_main", cwd=self._folder,
            env=_environment(self._folder), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        self._listening = asyncio.create_task(self._listen(self._process))
        try:
            await asyncio.wait_for(self._until_it_answers(), patience)
        except asyncio.TimeoutError:
            await self.stop()
            raise Unavailable(f"TensorBoard did not answer within {patience:g} s.", hint="Try again.") from None
        except BaseException:
            await self.stop()
            raise
        await self._until_there_are_runs()
        self._answered = True

    async def stop(self) -> None:
        """Ends it, if it runs, and removes what it had."""
        process, folder, listening = self._process, self._folder, self._listening
        self._process = self._folder = self._listening = None
        self._answered = False
        if process is not None and process.returncode is None:
            with suppress(ProcessLookupError):
                process.terminate()
            try:
                await asyncio.wait_for(process.wait(), GRACE)
            except asyncio.TimeoutError:
                with suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        if listening is not None:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
        if folder is not None:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def _until_it_answers(self) -> None:
        while await self._ask() is None:
            if not self.running:
                raise Unavailable(f"TensorBoard did not start: {await self._last_words()}")
            await asyncio.sleep(LOOK)

    async def _until_there_are_runs(self) -> None:
        for _ in range(FIRST_LOOKS):
            if await self._ask() != b"[]":
                return
            await asyncio.sleep(LOOK)

    async def _ask(self) -> bytes | None:
        """Its list of runs; None while it does not answer."""
        client = SimpleAsyncHTTPClient(force_instance=True, resolver=UnixResolver(self.socket))
        try:
            return (await client.fetch("http://localhost/data/runs", request_timeout=10)).body.strip()
        except (OSError, HTTPClientError):
            return None
        finally:
            client.close()

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None
        while data := await process.stderr.read(MOST_SAID):
            self._said = (self._said + data)[-MOST_SAID:]

    async def _last_words(self) -> str:
        if self._listening is not None:
            await asyncio.wait({self._listening}, timeout=GRACE)
        lines = self._said.decode(errors="replace").strip().splitlines()
        return lines[-1][:500] if lines else "it said nothing"


def private_folder() -> Path:
    """A new folder that nobody else comes into, with a path short enough for a socket."""
    folder = tempfile.mkdtemp(prefix="mlmp-tensorboard-")
    if len(os.fsencode(f"{folder}/{SOCKET}")) > LONGEST_SOCKET:
        os.rmdir(folder)
        folder = tempfile.mkdtemp(prefix="mlmp-tensorboard-", dir="/tmp")
    return Path(folder)


def _write(wanted: Wanted, folder: Path) -> None:
    """What its process reads."""
    runs = {name: str(run) for name, run in wanted.runs.items()}
    said = {"title": f"{wanted.title} - TensorBoard", "shown": str(next(iter(wanted.runs.values()))), "runs": runs}
    (folder / WANTED).write_text(json.dumps(said))


def _environment(folder: Path) -> dict[str, str]:
    """Without what opens hub, service and server, which no plugin needs. In the folder for temporary files TensorBoard
    tells what it shows, for everybody to read and to write."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_KEPT_BACK)}
    return {**kept, "TMPDIR": str(folder), "TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": ""}
