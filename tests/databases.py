"""Real databases for tests and benchmarks: SQLite files, and a private PostgreSQL cluster in a temporary directory."""

from __future__ import annotations

import ctypes
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import create_engine, text

from mlmp_spawner.store import schema

TEMPLATE = "mlmp_template"


def postgresql_programs() -> Path | None:
    """Where PostgreSQL's programs are; None where there are none."""
    if (found := shutil.which("initdb")) is not None:
        return Path(found).resolve().parent
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return installed[-1].parent if installed else None


class PostgreSQL:
    """A cluster of its own, reached through a socket in its directory only. ``durable``: with fsync, to measure."""

    def __init__(self, *, durable: bool = False) -> None:
        programs = postgresql_programs()
        if programs is None:
            raise FileNotFoundError("no PostgreSQL here; on Debian and Ubuntu: apt-get install postgresql")
        self._directory = Path(tempfile.mkdtemp(prefix="mlmp-pg-"))
        self._names = (f"t{n}" for n in itertools.count(1))
        # PostgreSQL refuses to run as root.
        self._as: dict[str, Any] = {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}
        if self._as:
            shutil.chown(self._directory, "postgres", "postgres")
        data = self._directory / "data"
        initdb = [str(programs / "initdb"), "-D", str(data), "-U", "postgres", "-A", "trust", "-E", "UTF8"]
        subprocess.run([*initdb, "--locale=C", "--no-sync"], check=True, capture_output=True, cwd="/", **self._as)
        settings = {"listen_addresses": "", "unix_socket_directories": str(self._directory), "max_connections": "120",
                    "shared_buffers": "256MB", "max_wal_size": "2GB"}  # fmt: skip
        if not durable:
            settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "autovacuum": "off"}
        options = [f"-c{name}={value}" for name, value in settings.items()]
        self._command = [str(programs / "postgres"), "-D", str(data), *options]
        self.start()

    def start(self) -> None:
        """Starts the server, again too; returns when it answers."""
        with (self._directory / "log").open("ab") as log:
            self._server = subprocess.Popen(
                self._command, stdout=log, stderr=log, cwd="/", preexec_fn=_end_with_parent, **self._as
            )
        self._wait()

    def kill(self) -> None:
        """Ends it as a loss of power would; :meth:`start` recovers. What was acknowledged is kept if ``durable``."""
        os.kill(self._server.pid, signal.SIGKILL)
        self._server.wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + 60
        while True:
            try:
                self._execute("SELECT 1")
            except psycopg.OperationalError:
                if time.monotonic() > deadline or self._server.poll() is not None:
                    self.stop(keep=True)
                    raise
                time.sleep(0.05)
            else:
                return

    def _execute(self, *statements: str) -> None:
        with psycopg.connect(host=str(self._directory), user="postgres", dbname="postgres", autocommit=True) as link:
            for statement in statements:
                link.execute(statement)  # type: ignore[call-overload]

    def url(self, name: str) -> str:
        """The URL of one of its databases."""
        return f"postgresql+psycopg://postgres@/{name}?host={self._directory}"

    def create(self, *, template: str | None = TEMPLATE) -> str:
        """A new database, a copy of ``template`` (None: empty); its URL."""
        name = next(self._names)
        self._execute(f"CREATE DATABASE {name} TEMPLATE {template or 'template0'}")
        return self.url(name)

    def create_template(self) -> None:
        """Makes the database that others are copies of: a hub's users and our schema."""
        self._execute(f"CREATE DATABASE {TEMPLATE}")
        prepare(self.url(TEMPLATE))

    def drop(self, url: str) -> None:
        """Drops a database, whoever is still connected."""
        name = url.partition("?")[0].rpartition("/")[2]
        self._execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def stop(self, *, keep: bool = False) -> None:
        """Ends the server and, unless it is to be looked at, removes everything."""
        if self._server.poll() is None:
            self._server.send_signal(signal.SIGINT)  # fast shutdown
            with suppress(subprocess.TimeoutExpired):
                self._server.wait(timeout=30)
        if self._server.poll() is None:
            self._server.kill()
            self._server.wait()
        if not keep:
            shutil.rmtree(self._directory, ignore_errors=True)


def _end_with_parent() -> None:
    """In the child: a test run that is killed leaves no server behind."""
    ctypes.CDLL(None).prctl(1, signal.SIGINT)  # PR_SET_PDEATHSIG; SIGINT is PostgreSQL's fast shutdown


def prepare(url: str) -> None:
    """Makes the part of the hub's schema that we refer to, and ours."""
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE users (id INTEGER PRIMARY KEY, name VARCHAR(255) UNIQUE)"))
    engine.dispose()
    schema.upgrade(url)


def sqlite_template(path: Path) -> Path:
    """Makes a SQLite file that others are copies of."""
    prepare(f"sqlite:///{path}")
    return path


def sqlite_copy(template: Path, path: Path) -> str:
    """A new SQLite file; its URL."""
    shutil.copyfile(template, path)
    return f"sqlite:///{path}"
