"""What is wrong with configuration, catalog and machine: everything at once, each with what to do about it."""

from __future__ import annotations

import ipaddress
import os
import shlex
import socket
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import TypeVar

import psutil
from packaging.requirements import Requirement
from pydantic import ValidationError
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError
from traitlets import TraitError
from traitlets.config import Config, Configurable

from mlmp_spawner import units
from mlmp_spawner.errors import ConfigurationError, MLMPError
from mlmp_spawner.operations import limits
from mlmp_spawner.operations import ssh_authority as authority
from mlmp_spawner.operations.one_machine import one_machine_catalog
from mlmp_spawner.operations.outages import NO_END
from mlmp_spawner.operations.site import authority_file
from mlmp_spawner.rules.catalog import Catalog
from mlmp_spawner.rules.nodes import is_automatic
from mlmp_spawner.rules.values import choices, quoted
from mlmp_spawner.settings import load_config
from mlmp_spawner.store import limits as limit_entries
from mlmp_spawner.store import outages, schema
from mlmp_spawner.store import reservations as store
from mlmp_spawner.store.engine import database_url, make_engine
from mlmp_spawner.store.tables import reservation
from mlmp_spawner.store.transaction import Busy, read
from mlmp_spawner.units import format_size, to_iso

T = TypeVar("T")

GIB = 1 << 30
NETWORK_FILE_SYSTEMS = ("nfs", "cifs", "smb", "fuse.sshfs", "ceph", "lustre", "gpfs", "9p", "afs")


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that people should know. ``wrong``: it must be mended; else it is a remark."""

    subject: str
    message: str
    hint: str = ""
    wrong: bool = True


@dataclass(frozen=True, slots=True)
class ToCheck:
    """What is to be checked: where things are, and how MLMP would be started.

    ``config`` is the admin's own file, if there is one; ``classes`` are those whose traits it may set.
    ``programs`` look for what else is needed, and raise a ConfigurationError where it is not there.
    ``several_accounts``: users' servers run as users of the system. No ``ports``: MLMP listens at them already.
    ``extras``: the parts of MLMP that must be installed, ``elsewhere``: packages of theirs that need not be here.
    """

    data: Path
    catalog: Path
    db_url: str
    config: Path | None = None
    classes: Mapping[str, type[Configurable]] = field(default_factory=dict)
    programs: Sequence[Callable[[], object]] = ()
    host: str = "127.0.0.1"
    ports: Sequence[int] = (8000,)
    several_accounts: bool = False
    simulate: bool = False
    python: Path = Path(sys.executable)
    extras: Sequence[str] = ("hub",)
    elsewhere: Sequence[str] = ()


def check(what: ToCheck) -> list[Finding]:
    """All findings, those that are wrong first."""
    parts: tuple[Callable[[ToCheck], Iterator[Finding]], ...] = (
        packages, python, programs, configuration, data_directory, ssh_authority, database, lost_places, away,
        set_limits, address, catalog,
    )  # fmt: skip
    return wrong_first(finding for part in parts for finding in part(what))


def check_beside_cluster(what: ToCheck) -> list[Finding]:
    """All that can be said without the cluster, where servers run on one: what is installed, settings, database."""
    parts = (packages, configuration, database, lost_places, away, set_limits)
    return wrong_first(finding for part in parts for finding in part(what))


def wrong_first(found: Iterable[Finding]) -> list[Finding]:
    """In the same order, but what is wrong before the remarks."""
    return sorted(found, key=lambda finding: not finding.wrong)


def packages(what: ToCheck) -> Iterator[Finding]:
    """Whether all that a hub needs is installed, in versions that go together."""
    install = f"pip install 'mlmp-spawner[{','.join(what.extras)}]'"
    try:
        wanted = [Requirement(text) for text in requires("mlmp-spawner") or ()]
    except PackageNotFoundError:
        yield Finding("packages", "mlmp-spawner is not installed, only its files are there", "pip install .[hub]")
        return
    for requirement in wanted:
        marker = requirement.marker
        if requirement.name in what.elsewhere:
            continue
        if marker is not None and not any(marker.evaluate({"extra": extra}) for extra in what.extras):
            continue
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            yield Finding("packages", f"{requirement.name} is missing", install)
            continue
        if not requirement.specifier.contains(found, prereleases=True):
            message = f"{requirement.name} {found} is installed; needed is {requirement.specifier}"
            yield Finding("packages", message, install)


def python(what: ToCheck) -> Iterator[Finding]:
    """Whether the users can run our Python, where their servers run as themselves."""
    if what.several_accounts:
        for place in dict.fromkeys((what.python, what.python.resolve())):
            for closed in (part for part in (place, *place.parents) if _closed(part)):
                mode = stat.S_IMODE(closed.stat().st_mode)
                yield Finding(
                    "python",
                    f"{closed} has mode {mode:04o}, so users' servers can't run {place}",
                    f"chmod o+rx {closed}, or install MLMP elsewhere, such as under /opt",
                )


def _closed(path: Path) -> bool:
    """Whether others may not read and pass it."""
    return path.exists() and path.stat().st_mode & 0o005 != 0o005


def programs(what: ToCheck) -> Iterator[Finding]:
    """Whether the programs that are not Python's are there."""
    for find in what.programs:
        try:
            find()
        except ConfigurationError as error:
            yield from (Finding("programs", problem) for problem in error.problems)


def configuration(what: ToCheck) -> Iterator[Finding]:
    """Whether the admin's configuration runs, and sets only what there is."""
    if what.config is None:
        return
    try:
        config = load_config(what.config)
    except (Exception, SystemExit) as error:  # noqa: BLE001 -- it is a program, it may raise anything
        said = "; ".join(str(error).splitlines())
        yield Finding("configuration", f"{what.config}: {type(error).__name__}: {said}")
        return
    for name, known in what.classes.items():
        section = config.get(name, Config())
        traits = known.class_trait_names(config=True)
        for key in section:
            if key not in traits:
                near = choices(key, traits) if len(traits) < 60 else choices(key, traits).partition("valid:")[0]
                yield Finding("configuration", f"{what.config}: there is no c.{name}.{key}; {near}".rstrip("; "))
    if "MLMP" in what.classes:
        try:
            what.classes["MLMP"](config=Config({"MLMP": config.get("MLMP", Config())}))
        except TraitError as error:
            yield Finding("configuration", f"{what.config}: {error}")


def data_directory(what: ToCheck) -> Iterator[Finding]:
    """Whether the data directory is ours alone, can be written, and is on a disk that a database may be on."""
    there = next(part for part in (what.data, *what.data.absolute().parents) if part.exists())
    if not there.is_dir():
        yield Finding("data", f"{there} is not a directory")
        return
    if not os.access(there, os.W_OK | os.X_OK):
        yield Finding("data", f"{there} can't be written by this account (uid {os.geteuid()})")
    if there == what.data:
        status = there.stat()
        if stat.S_IMODE(status.st_mode) & (0o007 if what.several_accounts else 0o077):
            message = f"{there} has mode {stat.S_IMODE(status.st_mode):04o}; it holds secrets and everybody's files"
            yield Finding("data", message, f"chmod {'o=' if what.several_accounts else '700'} {there}")
        if not what.several_accounts and status.st_uid != os.geteuid():
            yield Finding("data", f"{there} belongs to uid {status.st_uid}, not to this account (uid {os.geteuid()})")
    kind = _file_system(there)
    if kind.startswith(NETWORK_FILE_SYSTEMS) and what.db_url.startswith("sqlite"):
        message = f"{there} is on {kind}, where SQLite loses its locks"
        yield Finding("data", message, "take a local disk, or a PostgreSQL with c.MLMP.db_url")
    free = psutil.disk_usage(str(there)).free
    if free < GIB:
        yield Finding("data", f"{there} has {format_size(free)} free", wrong=False)


def ssh_authority(what: ToCheck) -> Iterator[Finding]:
    """Whether the SSH CA's private key, where there is one, can be used, and by the service's account alone."""
    said = Config()
    with suppress(Exception, SystemExit):  # told elsewhere
        said = load_config(what.config).get("MLMP", Config()) if what.config else said
    if not said.get("ssh", True):
        return
    file = Path(said.get("ssh_ca_file") or authority_file(what.data))
    try:
        found = authority.look(file)
        mode = stat.S_IMODE(file.stat().st_mode) if found else 0
    except ConfigurationError as error:
        yield Finding("ssh", "; ".join(error.problems))
        return
    if said.get("ssh_ca_file") and not found and not os.access(file.parent, os.W_OK | os.X_OK):
        yield Finding("ssh", f"the SSH CA, {file}: there is none, and this account can't make it there",
                      authority.WHERE_MOUNTED)  # fmt: skip
    if mode & 0o077:
        yield Finding("ssh", f"{file} has mode {mode:04o}; whoever can read it can pass for every server",
                      f"chmod 600 {file}")  # fmt: skip


def _file_system(path: Path) -> str:
    """The kind of the file system that ``path`` is on; empty if it can't be told."""
    mounts = {Path(mount.mountpoint): mount.fstype for mount in psutil.disk_partitions(all=True)}
    return next((mounts[part] for part in (path.resolve(), *path.resolve().parents) if part in mounts), "")


def database(what: ToCheck) -> Iterator[Finding]:
    """Whether the database answers, and has the tables of this release."""
    if not what.db_url:
        yield Finding("database", "c.MLMP.db_url is not known here, so the database was not looked at", wrong=False)
        return
    try:
        url = database_url(what.db_url)
        if url.get_backend_name() == "sqlite" and not Path(url.database or "").exists():
            return  # it is made by the first start
        current = schema.current(url)
    except ConfigurationError as error:
        yield from (Finding("database", problem) for problem in error.problems)
    except (MLMPError, SQLAlchemyError, OSError) as error:
        cause = error.__cause__ if isinstance(error, MLMPError) and error.__cause__ else error
        said = str(getattr(cause, "orig", None) or cause).strip().splitlines()
        yield Finding("database", f"it does not answer: {said[0] if said else cause}")
    else:
        if current != schema.head():
            message = f"its tables have version {current or 'none'}, this release needs {schema.head()}"
            yield Finding("database", message, "mlmp db upgrade; `mlmp up` does it by itself")


def lost_places(what: ToCheck) -> Iterator[Finding]:
    """Which bookings lost their place when the catalog changed, and still wait for another."""
    lost = (reservation.c.waiting_reason == "capacity_lost", reservation.c.end > units.now())
    for row in _of_database(what, lambda connection: store.select_where(connection, *lost)):
        asked = f"{row.units} × {quoted(row.profile)} from {to_iso(row.start)} until {to_iso(row.end)}"
        message = f"booking {row.id} of {quoted(row.owner)} lost its place and waits: {asked}"
        yield Finding("bookings", message, "it gets a place when one is free; or cancel it", wrong=False)


def away(what: ToCheck) -> Iterator[Finding]:
    """Which nodes take no bookings now, and how many bookings wait."""
    now = units.now()
    for one in _of_database(what, lambda connection: outages.current(connection, since=now)):
        if one.start <= now:
            why = f": {quoted(one.reason)}" if one.reason else ""
            until = "somebody ends it" if one.end >= NO_END else to_iso(one.end)
            hint = f"mlmp undrain {shlex.quote(one.node)}"
            if is_automatic(one):
                until, hint = "the cluster has it again", "it then takes bookings by itself"
            yield Finding("maintenance", f"{quoted(one.node)} takes no bookings until {until}{why}", hint, wrong=False)
    if waiting := len(_of_database(what, lambda connection: store.waiting(connection, now))):
        yield Finding("bookings", f"{waiting} wait for a place", wrong=False)


def set_limits(what: ToCheck) -> Iterator[Finding]:
    """Whether the limits that were set in the database can be read."""
    for entry in _of_database(what, limit_entries.entries):
        try:
            limits.parse(entry.limits)
        except ValidationError as error:
            subject = f"{entry.kind}:{entry.name}" if entry.name else entry.kind
            wrong = "; ".join(f"{_where(one['loc'])}{one['msg']}" for one in error.errors(include_url=False)[:3])
            message = f"what was set for {quoted(subject)} can't be read, so the catalog's limits hold: {wrong}"
            yield Finding("limits", message, f"mlmp limits reset {shlex.quote(subject)}; or set them anew")


def _where(path: tuple[int | str, ...]) -> str:
    return "".join(f"{part}: " for part in path)


def _of_database(what: ToCheck, question: Callable[[Connection], list[T]]) -> list[T]:
    """What the database answers; nothing where something is wrong with it, which is said elsewhere."""
    if not what.db_url:
        return []
    try:
        url = database_url(what.db_url)
        if (url.get_backend_name() == "sqlite" and not Path(url.database or "").exists()) or (
            schema.current(url) != schema.head()
        ):
            return []
        engine = make_engine(url, pool_size=1)
        try:
            with read(engine) as connection:
                return question(connection)
        finally:
            engine.dispose()
    except (MLMPError, Busy, SQLAlchemyError, OSError):
        return []


def address(what: ToCheck) -> Iterator[Finding]:
    """Whether the address can be listened on."""
    if not what.several_accounts and not _loopback(what.host):
        message = f"{what.host} can be reached from outside, but everybody's server runs as the same account"
        yield Finding("address", message, "keep 127.0.0.1, with an SSH tunnel; `mlmp up` refuses this unless forced")
    for port in what.ports:
        try:
            family, *_, place = socket.getaddrinfo(what.host or None, port, type=socket.SOCK_STREAM)[0]
            with socket.socket(family, socket.SOCK_STREAM) as listener:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind(place)
        except PermissionError:
            yield Finding("address", f"port {port} is for root alone", "take --port 8000 or higher")
        except OSError as error:
            taken = f"port {port} on {what.host} can't be listened on: {error.strerror or error}"
            yield Finding("address", taken, "choose another with --port")


def _loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def catalog(what: ToCheck) -> Iterator[Finding]:
    """Whether the catalog is right, on this machine."""
    try:
        found, notes = one_machine_catalog(what.catalog, simulate=what.simulate)
    except ConfigurationError as error:
        yield from (Finding("catalog", problem) for problem in error.problems)
        return
    yield from (Finding("catalog", note, wrong=False) for note in notes)
    yield from overbooked(found)


def overbooked(catalog: Catalog) -> Iterator[Finding]:
    """Where a node has more units than cores or memory for them: all can be booked, but not all be served well."""
    for profile in catalog.profiles.values():
        for node in catalog.nodes_for(profile):
            units = node.units(profile.resource)
            share = catalog.share(profile, node.name, units)
            if share.cpus and node.cpus and share.cpus > node.cpus + 0.01:
                message = (
                    f"all {units} units of {quoted(profile.name)} on {node.name} would take {share.cpus:g} cores of "
                )
                yield Finding("catalog", f"{message}{node.cpus:g}", wrong=False)
            if share.memory and node.memory and share.memory > node.memory:
                message = f"all {units} units of {quoted(profile.name)} on {node.name} would take "
                sizes = f"{format_size(share.memory)} of {format_size(node.memory)}"
                yield Finding("catalog", message + sizes, wrong=False)
