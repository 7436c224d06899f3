"""What every operation needs to know about the site: the database, the catalog, the times of the house."""

from __future__ import annotations

import os
import pwd
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import Engine

from mlmp_spawner.cgroups import PROCESSES
from mlmp_spawner.rules import job_guarantees
from mlmp_spawner.rules.catalog import Catalog, Image, Profile
from mlmp_spawner.rules.due import ANNOUNCE_BEFORE, IDLE_AFTER, OFFER_BEFORE, WARN_BEFORE
from mlmp_spawner.rules.reservations import DEFAULT_STOP_LEAD
from mlmp_spawner.settings import MLMP
from mlmp_spawner.ssh_settings import gateway


@dataclass(frozen=True, slots=True)
class SSH:
    """How SSH is at this site. ``login``: the account inside servers, ``{username}`` stands for people's own;
    ``gateway``: host and port, None: there is none; ``ca_file``: the private key of the CA."""

    enabled: bool = True
    login: str = "jovyan"
    gateway: tuple[str, int] | None = None
    ca_file: str = ""

    def login_of(self, user: str) -> str:
        """The account in this user's servers."""
        return self.login.replace("{username}", user)


@dataclass(frozen=True, slots=True)
class Site:
    """A site as it is now; a changed catalog makes a new one.

    The times of the house are in ms; None: never. What each means: :class:`mlmp_spawner.rules.due.Times`.
    ``not_enforced``: what of a booking's share is not, each with the reason. ``images``: whether servers run in images
    of the catalog, so that one can be chosen. ``job_guarantees``: of each group how many units of which resource are
    kept for its jobs.
    """

    engine: Engine
    catalog: Catalog
    stop_lead: int = DEFAULT_STOP_LEAD
    warn_before: tuple[int, ...] = WARN_BEFORE
    announce_before: int | None = ANNOUNCE_BEFORE
    offer_before: int | None = OFFER_BEFORE
    idle_after: int | None = IDLE_AFTER
    idle_release: int | None = None
    not_enforced: Mapping[str, str] = field(default_factory=dict)
    images: bool = False
    cluster: bool = False
    """Whether the units are those of a Kubernetes cluster, which may have fewer than the catalog lists."""
    ssh: SSH = SSH()
    job_guarantees: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    roster_domains: tuple[str, ...] = ()
    """Of mail addresses: of theirs the part before the ``@`` is a user's name."""

    def choice_of_images(self, profile: Profile) -> tuple[Image, ...]:
        """The images to choose from, the usual one first; none where there is no choice."""
        found = [self.catalog.images[name] for name in profile.images if name in self.catalog.images]
        return tuple(found) if self.images and len(found) > 1 else ()


def make_site(engine: Engine, catalog: Catalog, settings: MLMP) -> Site:
    """The site by its settings: the same for hub and service."""
    return Site(
        engine,
        catalog,
        stop_lead=settings.stop_lead_ms,
        warn_before=settings.warn_before_ms,
        announce_before=_ms(settings.announce_before),
        offer_before=_ms(settings.offer_before),
        idle_after=_ms(settings.idle_after),
        idle_release=_ms(settings.idle_release),
        not_enforced=_not_enforced(settings),
        images=settings.backend == "kubernetes",
        cluster=settings.backend == "kubernetes",
        ssh=ssh_of(settings),
        job_guarantees=job_guarantees.checked(settings.job_guarantees),
        roster_domains=tuple(settings.roster_domains),
    )


def authority_file(data: Path) -> Path:
    """Where the SSH CA's private key is in a data directory: in what of it the service's account may write."""
    own = data / "db"  # where root's hub shares the data directory with that account
    return (own if own.is_dir() else data) / "ssh_ca"


def ssh_of(settings: MLMP) -> SSH:
    """What the settings say of SSH."""
    default = authority_file(Path(settings.data)) if settings.data else ""
    login = settings.ssh_login or ("jovyan" if settings.backend == "kubernetes" else account_of(os.getuid()))
    return SSH(settings.ssh, login, gateway(settings.ssh_gateway), settings.ssh_ca_file or str(default))


def account_of(uid: int) -> str:
    """The name of an account, whatever LOGNAME says; "" where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""


def _not_enforced(settings: MLMP) -> dict[str, str]:
    """On a cluster all but the number of processes is: that is for each node's kubelet to say, for all pods alike."""
    if settings.backend != "kubernetes":
        return dict(settings.not_enforced)
    return {PROCESSES: "their number is set on the nodes, by podPidsLimit", **settings.not_enforced}


def _ms(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1000)


@dataclass(frozen=True, slots=True)
class Actor:
    """Who does something. ``admin`` may act for others."""

    name: str
    groups: frozenset[str] = field(default=frozenset())
    admin: bool = False


CLOCK = Actor("clock", admin=True)
"""The clock itself, in the history."""

_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"  # nothing that is mistaken for another when read aloud


def new_id() -> str:
    """A short opaque id, ``[a-z0-9]{12}``: also a valid name of a server."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(12))
