"""The program of a pod on its node, as a process of this machine."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlmp_spawner import units
from mlmp_spawner.kube.job_pods import MAIN
from mlmp_spawner.kube.labels import ATTEMPT
from mlmp_spawner.lab import job_pod
from mlmp_spawner.units import SECOND, to_iso

if TYPE_CHECKING:
    from tests.jobs.played_cluster import PlayedCluster

Json = dict[str, Any]

CHUNK = 16 << 10
"""Bytes of a line after which a container's log goes on in a line of its own."""


class PlayedPod:
    """The program of a pod on its node."""

    def __init__(self, cluster: PlayedCluster, pod: Json) -> None:
        self.cluster = cluster
        self.pod = pod
        self.attempt = pod["metadata"]["labels"][ATTEMPT]
        self.log: list[tuple[int, bytes]] = []
        self.process: asyncio.subprocess.Process | None = None
        self.over = False
        self._kill: asyncio.TimerHandle | None = None
        self.task = asyncio.ensure_future(self._run())
        self._stops: list[asyncio.Future[None]] = []

    def stop(self, seconds: int) -> None:
        """SIGTERM, and SIGKILL after that."""
        if self.cluster.stuck:
            self.over = True
            return
        if self._kill is None:
            self._stops.append(asyncio.ensure_future(self._ask()))
        else:
            self._kill.cancel()
        self._kill = asyncio.get_running_loop().call_later(seconds, self._kill_all)

    async def _ask(self) -> None:
        while self.process is None and not self.over:
            await asyncio.sleep(0.01)
        if self.process is not None and self.process.returncode is None:
            command = self._main["lifecycle"]["preStop"]["exec"]["command"]
            hook = await asyncio.create_subprocess_exec(
                *command, env={"PATH": os.environ["PATH"], **self._environment}
            )
            await hook.wait()
            with suppress(ProcessLookupError):
                self.process.terminate()

    @property
    def _main(self) -> Json:
        (main,) = self.pod["spec"]["containers"]
        return dict(main)

    @property
    def _environment(self) -> dict[str, str]:
        return self.cluster.environment(self.pod, self._main)

    async def _run(self) -> None:
        if self.cluster.stuck:
            self._says("Pending", {"waiting": self.cluster.stuck})
            return
        prepare = self.pod["spec"]["initContainers"][0]
        told = self.cluster.environment(self.pod, prepare) | {"MLMP_JOB_WORKERS": "[]"}  # nothing knows names here
        await asyncio.to_thread(job_pod.prepare, told)
        began = units.now()
        try:
            self.process = await asyncio.create_subprocess_exec(
                *(word.replace("$$", "$") for word in self._main["command"]), stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, start_new_session=True,
                cwd=self._main["workingDir"], env={"PATH": os.environ["PATH"], **self._environment},
            )  # fmt: skip
        except OSError as error:
            said = f'failed to start: unable to start container process: exec: "{error.filename}": {error.strerror}'
            self._ended(128, began, reason="StartError", message=said)
            return
        self._says("Running", {"running": {"startedAt": second(began)}})
        assert self.process.stdout is not None and self.process.stderr is not None
        printed = [asyncio.ensure_future(self._read(one)) for one in (self.process.stdout, self.process.stderr)]
        while (code := self.process.returncode) is None:  # wait() would wait for what it left behind, too
            await asyncio.sleep(0.01)
        while self._kill_all():
            await asyncio.sleep(0.01)
        await asyncio.gather(*printed)
        self._ended(128 - code if code < 0 else code, began, reason="Error" if code else "Completed")

    def _kill_all(self) -> int:
        """Of this worker; how many processes there were."""
        mark = f"MLMP_STOP_FILE={self._environment['MLMP_STOP_FILE']}".encode()
        found = 0
        for entry in os.scandir("/proc"):
            with suppress(OSError):
                if entry.name.isdecimal() and mark in Path(entry.path, "environ").read_bytes().split(b"\0"):
                    found += 1
                    os.kill(int(entry.name), 9)
        return found

    async def _read(self, stream: asyncio.StreamReader) -> None:
        rest = b""
        while data := await stream.read(1 << 16):
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                self._print(line + b"\n")
            while len(rest) >= CHUNK:
                self._print(rest[:CHUNK])
                rest = rest[CHUNK:]
        if rest:
            self._print(rest)

    def _print(self, text: bytes) -> None:
        while len(text) > CHUNK:
            self.log.append((time.time_ns(), text[:CHUNK]))
            text = text[CHUNK:]
        self.log.append((time.time_ns(), text))

    def _ended(self, code: int, began: int, **said: str) -> None:
        self.over = True
        if self._kill is not None:
            self._kill.cancel()
        times = {"startedAt": second(began), "finishedAt": second(units.now())}
        self._says("Failed" if code else "Succeeded", {"terminated": {"exitCode": code, **times, **said}})

    def _says(self, phase: str, state: Json) -> None:
        self.pod["status"] = {
            "phase": phase,
            "containerStatuses": [{"name": MAIN, "image": self._main["image"], "state": state}],
        }
        self.cluster.changed(self.pod)


def second(at: int) -> str:
    """An instant (ms UTC) as the API server writes it, in whole seconds."""
    return to_iso(at // SECOND * SECOND)
