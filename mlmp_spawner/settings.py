"""The settings of MLMP as traits, so that an admin's ``jupyterhub_config.py`` stays the one place for all of them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from traitlets import Bool, Dict, Float, Integer, List, Unicode
from traitlets.config import Config
from traitlets.config.loader import PyFileConfigLoader

from mlmp_spawner.cluster_settings import ClusterSettings
from mlmp_spawner.course_settings import CourseSettings
from mlmp_spawner.guest_settings import GuestSettings
from mlmp_spawner.job_settings import JobSettings
from mlmp_spawner.notice_settings import NoticeSettings
from mlmp_spawner.ssh_settings import SSHSettings
from mlmp_spawner.use_settings import UseSettings


class MLMP(NoticeSettings, UseSettings, ClusterSettings, SSHSettings, JobSettings, CourseSettings, GuestSettings):
    """What the hub, the service and the commands share: ``c.MLMP.* = …``."""

    db_url = Unicode(
        help="""The hub's database, as SQLAlchemy writes it. SQLite on one machine, else PostgreSQL
        (``postgresql+psycopg://…``). MLMP keeps its own tables in it, named ``mlmp_…``."""
    ).tag(config=True)
    catalog = Unicode(
        help="Directory of the catalog: images.yaml, profiles.yaml, limits.yaml and, for several machines, nodes.yaml."
    ).tag(config=True)
    data = Unicode(help="Directory for all that MLMP keeps on this machine; readable by its own account only.").tag(
        config=True
    )
    simulate = Bool(
        False, help="Offer four simulated units instead of what the machine has; bookings from a minute, no limits."
    ).tag(config=True)
    stop_lead = Float(
        30,
        min=0,
        help="""Seconds before the end of a booking at which its server begins to be stopped, so that the units are
        free *at* the end. Never more than a tenth of the booking.""",
    ).tag(config=True)
    warn_before = List(Float(min=0), [600.0, 120.0], help="Seconds before the end at which the owner is told.").tag(
        config=True
    )
    announce_before = Float(
        900, min=0, allow_none=True, help="Seconds before the start at which the owner is told; None: never."
    ).tag(config=True)
    offer_before = Float(
        1800,
        min=0,
        allow_none=True,
        help="""Seconds before the end at which the owner is told how far the booking can be extended, if nobody waits
        for the units. Never before half of the booking is over; None: never.""",
    ).tag(config=True)
    idle_after = Float(
        3600,
        min=0,
        allow_none=True,
        help="After how many seconds in which a server did nothing its owner is told; None: never.",
    ).tag(config=True)
    idle_release = Float(
        None,
        min=0,
        allow_none=True,
        help="""How many seconds after that, if the server still does nothing, the rest of the booking is given back
        and the server is stopped; None: never.""",
    ).tag(config=True)
    tick = Float(5, min=0.05, help="The longest that the clock waits between two looks, in seconds.").tag(config=True)
    hub_silent_after = Float(
        10, min=0.1, help="After how many seconds without an answer the service stops servers past the hub."
    ).tag(config=True)
    show_owners = Bool(True, help="Whether users see by whom the bookings of others are.").tag(config=True)
    requests_per_minute = Integer(
        600, min=1, help="How many requests to the API one user may make in a minute; a burst of as many is fine."
    ).tag(config=True)

    not_enforced = Dict(
        value_trait=Unicode(),
        key_trait=Unicode(),
        help="""What of a booking's share (``memory``, ``cpu``, ``processes``, ``devices``) can't be enforced on this
        machine, each with the reason. ``mlmp up`` finds it out by trying; pages and API say it.""",
    ).tag(config=True)

    @property
    def stop_lead_ms(self) -> int:
        """:attr:`stop_lead` in ms."""
        return round(self.stop_lead * 1000)

    @property
    def warn_before_ms(self) -> tuple[int, ...]:
        """:attr:`warn_before` in ms, the longest first."""
        return tuple(sorted((round(seconds * 1000) for seconds in self.warn_before), reverse=True))


def load_config(path: str | Path) -> Config:
    """Runs a ``jupyterhub_config.py`` and returns what it configures.

    :raises FileNotFoundError: there is no such file.
    """
    path = Path(path).resolve()
    loader = PyFileConfigLoader(path.name, path=str(path.parent))
    return loader.load_config()


def shared_file(name: str) -> Path:
    """A folder or file that comes with MLMP: beside the package in a clone, else under ``share/mlmp``.

    :raises FileNotFoundError: it is in neither place.
    """
    clone = Path(__file__).resolve().parents[1] / name
    if clone.exists() and (clone.parent / "setup.cfg").exists():
        return clone
    installed = Path(sys.prefix) / "share" / "mlmp" / name
    if installed.exists():
        return installed
    raise FileNotFoundError(f"{name} is neither beside the package nor in {installed.parent}; reinstall mlmp-spawner")


def private_directory(path: str | Path) -> Path:
    """Makes a directory that only its owner can look into, with its parents."""
    path = Path(path)
    path.mkdir(parents=True, exist_ok=True)
    os.chmod(path, 0o700)
    return path
