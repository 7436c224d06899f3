"""Spark from a notebook: the driver and the master in this Python, the executors as jobs on machines of MLMP.

::

    from mlmp_spawner.client import spark_scale, spark_session

    spark = spark_session(executors=4, profile="cpu-small")
    spark_scale(8)
    spark.stop()

It needs ``pyspark`` and Java 17. The executors are gone when the session is stopped, this Python ends, or the booking
of its server is over.
"""

from __future__ import annotations

import atexit
import json
import os
import secrets
import shutil
import socket
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlmp_spawner.errors import Conflict, Invalid

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from mlmp_spawner.client.api import Client
    from mlmp_spawner.client.spark_progress import Progress
    from mlmp_spawner.client.spark_workers import Workers

MOST = 1000
WAIT = 300.0
"""Seconds for which executors are waited for."""
LOOK = 1.0
"""Seconds between two looks at whether the session was stopped."""
SESSIONS = ".cache/mlmp/spark"
"""In the home: what each session's processes read, and where its pages are."""


class _Driver:
    """What this Python has of Spark: one virtual machine of Java, and one session at a time."""

    def __init__(self) -> None:
        self.id = secrets.token_hex(6)
        self.secret = secrets.token_urlsafe(32)
        self.folder = Path.home() / SESSIONS / self.id
        self.host = own_host()
        self.workers: Workers | None = None
        self.progress: Progress | None = None
        self.session: Any = None
        self._master: Any = None
        self._closing = threading.RLock()

    def open(self, settings: Mapping[str, str]) -> None:
        """Starts Java, with what it may read by itself alone.

        :raises Conflict: it runs already, without MLMP's settings.
        """
        from pyspark import SparkContext

        from mlmp_spawner.client import spark_conf, spark_folder

        if SparkContext._gateway is not None:
            raise Conflict(
                "Spark was started in this Python without MLMP.",
                hint="Restart the kernel, and call spark_session first.",
            )
        spark_folder.clear_dead(self.folder.parent)
        self._lock = spark_folder.take(self.folder)
        spark_conf.write(self.folder, spark_conf.closed(self.secret, self.host) | dict(settings))
        spark_conf.quiet(self.folder)
        atexit.register(self.clear)
        os.environ.update(SPARK_CONF_DIR=str(self.folder), SPARK_LOCAL_IP=self.host)
        SparkContext._ensure_initialized()

    def master(self) -> str:
        """Starts the master, in the same virtual machine; its address."""
        from pyspark import SparkContext

        java: Any = SparkContext._jvm
        settings = java.org.apache.spark.SparkConf(True)
        started = java.org.apache.spark.deploy.master.Master.startRpcEnvAndEndpoint(self.host, 0, 0, settings)
        self._master = started._1()
        return str(self._master.address().toSparkURL())

    def note_pages(self) -> None:
        """Writes down where the session's pages are, for the user's own Jupyter server."""
        from mlmp_spawner.client import spark_conf

        url, token = self.session.sparkContext.uiWebUrl, spark_conf.ui_token(self.secret)
        file = self.folder / "session.json"
        file.touch(mode=0o600)
        file.write_text(json.dumps({"url": url, "token": token, "pid": os.getpid()}))

    def executors(self) -> int:
        """How many are in the session."""
        found = self.session.sparkContext._jsc.sc().statusTracker().getExecutorInfos()
        return len(found) - 1  # the driver is one of them

    def watch(self) -> None:
        """Ends what belongs to the session once that is stopped."""
        session = self.session
        while session.sparkContext._jsc is not None:
            time.sleep(LOOK)
        self.current()

    def current(self) -> Any:
        """The session; None where there is none. What belongs to one that was stopped is ended."""
        with self._closing:
            if self.session is not None and self.session.sparkContext._jsc is None:
                self.close()
            return self.session

    def close(self) -> None:
        """Ends session, executors and master."""
        with self._closing:
            session, workers, progress, master = self.session, self.workers, self.progress, self._master
            self.session = self.workers = self.progress = self._master = None
            if progress is not None:
                progress.close()
            if workers is not None:
                workers.end()
            if session is not None and session.sparkContext._jsc is not None:
                session.stop()
            if master is not None:
                master.shutdown()

    def clear(self) -> None:
        """At the end of this Python."""
        self.close()
        shutil.rmtree(self.folder, ignore_errors=True)


_drivers: list[_Driver] = []
"""The one of this Python, once there is one."""


def spark_session(
    executors: int = 2,
    profile: str | None = None,
    *,
    memory: str = "1g",
    wait: float = WAIT,
    progress: bool = True,
    app_name: str = "mlmp",
    conf: Mapping[str, Any] | None = None,
    client: Client | None = None,
    **manifest: Any,
) -> SparkSession:
    """A Spark session with executors on machines of MLMP; where there is one already, it is given that many.

    :param executors: how many; 0: none but this server's own processors.
    :param profile: what each runs on. :param memory: of each for Spark itself, as ``4g``; Python and Spark's own
        worker need some beside it.
    :param wait: seconds for which they are waited for. :param progress: whether a bar shows how far Spark is.
    :param conf: further settings of Spark.
    :param manifest: further keys of their job, such as ``units``, ``hours``, ``image``; ``hours`` is what is left of
        the booking, otherwise, and ``server`` the booking itself.
    :raises OverLimit, NotAllowed, Invalid: they are refused. :raises NotNow: they have not come in time; it says why.
    :raises Conflict: Spark runs in this Python without MLMP. In all of these nothing is left running.
    """
    _check(executors, profile)
    if _drivers and (session := _drivers[0].current()) is not None:
        spark_scale(executors, wait=wait)
        return session
    driver = _open(conf or {})
    try:
        if executors == 0:
            return _begin(driver, f"local[{cores_here()}]", app_name, conf or {}, progress)
        url = driver.master()
        driver.workers = _workers(driver, url, client, {"profile": profile, **manifest}, memory)
        settings = {"spark.executor.memory": memory, **driver.workers.gpu_settings(), **(conf or {})}
        driver.workers.scale(executors)
        session = _begin(driver, url, app_name, settings, progress)
        driver.workers.wait(driver.executors, wait, _tell)
        return session
    except BaseException:
        driver.close()
        raise


def spark_scale(executors: int, *, wait: float = WAIT) -> None:
    """Gives the session more executors, or fewer.

    :raises Conflict: there is none, or it has no executors but this server's. :raises: see :func:`spark_session`.
    """
    driver = _drivers[0] if _drivers else None
    if driver is None or driver.current() is None:
        raise Conflict("There is no Spark session.", hint="Begin one: spark_session(executors=2, profile=…)")
    if driver.workers is None:
        if executors == 0:
            return
        raise Conflict("This session runs in this server alone.", hint="spark.stop(), and begin one with executors.")
    _check(executors, "")
    driver.workers.scale(executors)
    driver.workers.wait(driver.executors, wait, _tell)


def cores_here() -> int:
    """How many processors this server may use."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        limit = int(quota) // int(period)
    except (OSError, ValueError):  # no control groups, or "max"
        limit = MOST
    return max(1, min(limit, len(os.sched_getaffinity(0))))


def own_host() -> str:
    """Where executors reach this server: in a pod by its address, on one machine by no network at all."""
    if not os.environ.get("KUBERNETES_SERVICE_HOST"):
        return "127.0.0.1"
    return socket.gethostbyname(socket.gethostname())


def _check(executors: int, profile: str | None) -> None:
    if not isinstance(executors, int) or isinstance(executors, bool) or not 0 <= executors <= MOST:
        raise Invalid.field("executors", f"{executors!r} is not a whole number from 0 to {MOST}")
    if executors and profile is None:
        raise Invalid.field("profile", "say what executors run on, as in `mlmp profiles`")


def _open(conf: Mapping[str, Any]) -> _Driver:
    try:
        import pyspark  # noqa: F401
    except ImportError:
        raise Invalid(
            "There is no pyspark in this Python.",
            hint="Use the image lab-spark, or: pip install 'mlmp-spawner[spark]'",
        ) from None
    from mlmp_spawner.client import spark_conf, spark_java

    settings = spark_conf.checked({name: str(value) for name, value in conf.items()})
    if not _drivers:
        spark_java.check(os.environ)
        driver = _Driver()
        driver.open(settings)
        _drivers.append(driver)
    return _drivers[0]


def _begin(driver: _Driver, master: str, name: str, settings: Mapping[str, Any], progress: bool) -> SparkSession:
    from pyspark.sql import SparkSession

    from mlmp_spawner.client import spark_link, spark_progress

    builder = SparkSession.builder.master(master).appName(name)
    ours = {"spark.driver.host": driver.host, "spark.ui.port": "0", "spark.ui.showConsoleProgress": "false"}
    settings = {**ours, **settings}
    if prefix := os.environ.get("JUPYTERHUB_SERVICE_PREFIX"):
        settings["spark.ui.proxyBase"] = f"{prefix}mlmp/spark/{driver.id}"
    for key, value in settings.items():
        builder = builder.config(key, str(value))
    driver.session = builder.getOrCreate()
    driver.note_pages()
    spark_link.show(spark_pages())
    if progress:
        driver.progress = spark_progress.Progress(driver.session.sparkContext)
    threading.Thread(target=driver.watch, name="mlmp-spark", daemon=True).start()
    return driver.session


def _workers(driver: _Driver, url: str, client: Client | None, manifest: Mapping[str, Any], memory: str) -> Workers:
    from mlmp_spawner.client import config, jobs, spark_workers

    client = client or jobs._client(config.load())
    given = {name: value for name, value in manifest.items() if value is not None}
    given = spark_workers.of_server(client, os.environ, int(time.time() * 1000)) | given
    spark_workers.check_memory(client, memory, given)
    return spark_workers.Workers(client, url, memory, driver.secret, given)


def spark_pages() -> str:
    """The address of Spark's own pages of the session, through one's Jupyter server.

    :raises Conflict: there is no session.
    """
    if not _drivers or _drivers[0].current() is None:
        raise Conflict("There is no Spark session.", hint="Begin one: spark_session(executors=2, profile=…)")
    return f"{os.environ.get('JUPYTERHUB_SERVICE_PREFIX', '/')}mlmp/spark/{_drivers[0].id}/"


def _tell(text: str) -> None:
    """In a notebook not as an error: those are red."""
    from mlmp_spawner.client.spark_progress import shell

    print(text, file=sys.stdout if shell() is not None else sys.stderr, flush=True)
