"""A worker of somebody's Spark session, as the program of a job: ``python -m mlmp_spawner.lab.spark_worker MASTER
MEMORY``, with the session's secret in the environment.

It runs Spark's own worker with what it needs to trust, prints what its executors print, and ends when it is told to or
when the session's master is gone for a while: the session, its server or its booking is over then.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from urllib.parse import urlsplit

from mlmp_spawner.client import spark_conf, spark_java
from mlmp_spawner.errors import Invalid

VARIABLE = "SPARK_SESSION_SECRET"
CLASS = "org.apache.spark.deploy.worker.Worker"
DAEMON_MEMORY = "256m"
"""Of Spark's worker itself, which only starts executors; a container has to have room for both."""
GONE_AFTER = 10.0
"""Seconds for which the master may not answer."""
MOST_STARTS = 5
"""So often in a row a worker that dies is started again."""
STEADY = 60.0
"""Seconds after which a worker has not died in a row."""
LOOK = 0.5


class Worker:
    """Spark's worker.

    :param master: ``spark://HOST:PORT``. :param memory: for executors, as ``4g``.
    :param folder: for what it makes, of this account's own.
    :raises Invalid: that can't be.
    """

    def __init__(self, master: str, memory: str, environ: Mapping[str, str], folder: Path) -> None:
        address = urlsplit(master)
        if address.scheme != "spark" or not address.hostname or not address.port or not environ.get(VARIABLE):
            raise Invalid(f"A worker needs spark://HOST:PORT, not {master[:80]!r}, and {VARIABLE} in its environment.")
        self.address = (address.hostname, address.port)
        spark_java.check(environ)
        self.folder = folder
        self.host = _own_address(self.address)
        settings = spark_conf.closed(environ[VARIABLE], self.host) | _resources(environ, folder)
        spark_conf.write(folder / "conf", settings)
        self.environ = {name: value for name, value in environ.items() if name != VARIABLE}
        self.environ |= {"SPARK_DAEMON_MEMORY": DAEMON_MEMORY}
        self.environ |= {"SPARK_CONF_DIR": str(folder / "conf"), "SPARK_LOCAL_IP": self.host}
        self.command = [
            spark_class(), CLASS, "--host", self.host, "--port", "0", "--webui-port", "0",
            "--cores", environ.get("OMP_NUM_THREADS") or "1", "--memory", memory,
            "--work-dir", str(folder / "work"), master,
        ]  # fmt: skip
        self.ending = threading.Event()

    def run(self) -> int:
        """Until the session ends; the exit status."""
        printing = threading.Thread(target=print_files, args=(self.folder / "work", self.ending), daemon=True)
        printing.start()
        starts = 0
        while not self.ending.is_set():
            began = time.monotonic()
            with subprocess.Popen(self.command, env=self.environ, stdin=subprocess.DEVNULL) as process:
                self._watch(process)
                _end(process)
            starts = 1 if time.monotonic() - began > STEADY else starts + 1
            if not self.ending.is_set() and starts >= MOST_STARTS:
                print(f"Spark's worker ended {starts} times in a row.", file=sys.stderr, flush=True)
                return 1
        printing.join(2)
        return 0

    def stop(self, number: int = 0, frame: FrameType | None = None) -> None:
        """Begins its end."""
        self.ending.set()

    def _watch(self, process: subprocess.Popen[bytes]) -> None:
        seen = time.monotonic()
        while process.poll() is None and not self.ending.wait(LOOK):
            if answers(self.address):
                seen = time.monotonic()
            elif time.monotonic() - seen > GONE_AFTER:
                print("The Spark session is over: its master does not answer any more.", file=sys.stderr, flush=True)
                self.stop()


def answers(address: tuple[str, int]) -> bool:
    """Whether somebody listens there."""
    try:
        socket.create_connection(address, timeout=2).close()
    except OSError:
        return False
    return True


def spark_class() -> str:
    """The program that starts Spark's processes. :raises Invalid: there is none."""
    found = shutil.which("spark-class")
    if found is None:
        raise Invalid(
            "There is no Spark where the job runs.",
            hint="Its Python environment or image needs pyspark, and Java 17: the image lab-spark has both.",
        )
    return found


def print_files(folder: Path, ending: threading.Event) -> None:
    """Prints what executors write into their files, as they write it, each line with whose it is."""
    read: dict[Path, int] = {}
    while True:
        last = ending.is_set()
        for file in sorted(folder.glob("app-*/*/std*")):
            read[file] = _print_rest(file, read.get(file, 0), whole=last)
        if last:
            return
        ending.wait(LOOK)


def _print_rest(file: Path, start: int, *, whole: bool) -> int:
    try:
        with file.open("rb") as stream:
            stream.seek(start)
            data = stream.read()
    except OSError:
        return start
    end = len(data) if whole else data.rfind(b"\n") + 1
    for line in data[:end].splitlines():
        print(f"[executor {file.parent.name}] {line.decode(errors='replace')}", flush=True)
    return start + end


def _own_address(master: tuple[str, int]) -> str:
    """By which the master's machine reaches this one. :raises Invalid: there is no way to it."""
    try:
        with socket.create_connection(master, timeout=30) as way:
            return str(way.getsockname()[0])
    except OSError as error:
        raise Invalid(f"The Spark session at {master[0]}:{master[1]} can't be reached: {error}") from None


def _resources(environ: Mapping[str, str], folder: Path) -> dict[str, str]:
    """The GPUs that this worker has, so that Spark gives each task its own.

    They are numbered as PyTorch numbers them, and as Spark's own TorchDistributor looks them up: among those that this
    worker has.
    """
    count = _gpus(environ)
    if not count:
        return {}
    names = ", ".join(f'"{number}"' for number in range(count))
    script = folder / "gpus.sh"
    script.write_text(f'#!/bin/sh\necho \'{{"name": "gpu", "addresses": [{names}]}}\'\n')
    script.chmod(0o700)
    return {
        "spark.worker.resource.gpu.amount": str(count),
        "spark.worker.resource.gpu.discoveryScript": str(script),
    }


def _gpus(environ: Mapping[str, str]) -> int:
    """How many: those that are named to it; in a container, where none are, all that it sees."""
    named = environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return len([one for one in named.split(",") if one and not one.startswith("simulated-")])
    try:
        seen = subprocess.run(
            ["nvidia-smi", "--list-gpus"], env=dict(environ), capture_output=True, timeout=60, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return 0
    return sum(line.startswith(b"GPU ") for line in seen.stdout.splitlines())


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(3)
    except subprocess.TimeoutExpired:
        process.kill()


def main(arguments: Sequence[str]) -> int:
    """The entry point."""
    master, memory = arguments
    os.umask(0o077)
    with tempfile.TemporaryDirectory(prefix="mlmp-spark-", ignore_cleanup_errors=True) as folder:
        try:
            worker = Worker(master, memory, os.environ, Path(folder))
        except Invalid as error:
            print(error, file=sys.stderr)
            return 2
        signal.signal(signal.SIGTERM, worker.stop)
        return worker.run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
