"""What every handler can reach: the site, the hub, the settings of the web side."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from mlmp_spawner import units
from mlmp_spawner.errors import JobsOff
from mlmp_spawner.jobs.base import Backend
from mlmp_spawner.jobs.files import JobFiles
from mlmp_spawner.jobs.off import switched_off
from mlmp_spawner.jobs.pod_numbers import PodNumbers
from mlmp_spawner.jobs.pod_tokens import PodTokens
from mlmp_spawner.operations.image_states import Preloading
from mlmp_spawner.operations.people import Ways
from mlmp_spawner.operations.site import Site
from mlmp_spawner.operations.watch import Activity
from mlmp_spawner.rules.job_queue import Outlook
from mlmp_spawner.rules.reservations import Reservation
from mlmp_spawner.throttle import Throttle

if TYPE_CHECKING:
    from tornado.web import RequestHandler

    from mlmp_spawner.hub import HubClient
    from mlmp_spawner.operations.courses.groups import GroupKeeper
    from mlmp_spawner.operations.courses.service import ClassService
    from mlmp_spawner.web.auth import Caller, HubAuthentication
    from mlmp_spawner.web.feed import Feed
    from mlmp_spawner.web.metrics import Metrics

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class WebSettings:
    """What an admin can set about the web side. Rates are requests per second, ages seconds, sizes bytes."""

    rate: float = 30.0
    burst: int = 300
    body_limit: int = 64 * 1024
    streams_per_user: int = 8
    stream_age: float = 900.0
    heartbeat: float = 15.0
    poll: float = 0.5
    show_owners: bool = True
    zone: str = "UTC"
    ways: Ways = field(default_factory=Ways)
    guest_isolation: str = "none"
    guest_erase_after: int = 0
    """From the end of a guest's time until the erasure, ms."""
    pages: str = ""
    """Where the pages are for those who come from a mail or a calendar, with a slash at the end; "": not known."""


@dataclass(frozen=True, slots=True)
class State:
    """How the service is: whether the hub answered last time, seconds since the clock ticked (None: never), how many
    of the clock's actions failed, what is wrong with the catalog's files where the one from before still holds,
    whether the cluster answered last time (None: there is none)."""

    hub: bool = True
    clock_age: float | None = None
    failures: int = 0
    catalog: tuple[str, ...] = ()
    cluster: bool | None = None


class UnderWay:
    """The requests that are being answered."""

    def __init__(self) -> None:
        self._requests: set[RequestHandler] = set()
        self._idle = asyncio.Event()
        self._idle.set()

    def add(self, request: RequestHandler) -> None:
        """One begins."""
        self._requests.add(request)
        self._idle.clear()

    def discard(self, request: RequestHandler) -> None:
        """One is answered, or nobody waits for it any more."""
        self._requests.discard(request)
        if not self._requests:
            self._idle.set()

    async def wait(self) -> None:
        """Returns when all are answered."""
        await self._idle.wait()


async def _nobody(reservation: Reservation) -> bool:
    """There are no enforcers to tell."""
    return True


@dataclass
class Jobs:
    """What handlers need of jobs, where there are any. ``code_limit``: bytes of a snapshot; ``outlook``: when one that
    waits probably starts, and why it waits; ``wake`` is called after each change that was made here. ``tokens``: those
    of pods, as the back-end makes them."""

    files: JobFiles
    backend: Backend
    code_limit: int = 256 << 20
    outlook: Callable[[str], Outlook | None] = lambda job: None
    wake: Callable[[], None] = lambda: None
    tokens: PodTokens = field(default_factory=lambda: PodTokens(os.urandom(32)))
    numbers: PodNumbers = field(init=False)
    open: Counter[str] = field(default_factory=Counter)
    """Logs that are followed, snapshots that come in and numbers that are read, by person."""
    reading: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(2))
    """Numbers are read for so many at once: that takes a thread for seconds, and all else needs threads, too."""
    pods: Throttle = field(default_factory=lambda: Throttle(10, 100))
    """For what the pods of one attempt send."""
    lines: Throttle = field(default_factory=lambda: Throttle(500, 30_000, of="lines"))
    """For the lines of numbers in it: each has to be read, and short ones are many."""

    def __post_init__(self) -> None:
        self.numbers = PodNumbers(self.files)


@dataclass
class Context:
    """The parts that handlers use. ``prefix`` and ``hub_prefix`` begin and end with a slash."""

    site: Site
    hub: HubClient
    groups: GroupKeeper
    auth: HubAuthentication
    feed: Feed
    throttle: Throttle
    metrics: Metrics
    prefix: str = "/services/mlmp/"
    base_url: str = "/"
    settings: WebSettings = field(default_factory=WebSettings)
    now: Callable[[], int] = units.now
    changed: Callable[[], None] = lambda: None
    """Called after each change that was made here, so that the clock need not wait for its next tick."""
    published: Callable[[Reservation], Awaitable[bool]] = _nobody
    """Tells the enforcers of a changed booking; False where they may have acted before they knew."""
    state: Callable[[], State] = State
    activity: Callable[[], Activity] = Activity
    images: Preloading | None = None
    """What has images on their nodes ahead of time; None where servers run in none."""
    jobs: Jobs | None = None
    """What runs jobs; None where there are none."""
    jobs_off: Callable[[], JobsOff] = switched_off
    """Why there are none, where there are none."""
    former_jobs: Jobs | None = None
    """Where none run any more, what is kept of those that did."""
    classes: ClassService | None = None
    """What looks after classes; None where nothing does."""
    under_way: UnderWay = field(default_factory=UnderWay)
    seldom: Throttle = field(default_factory=lambda: Throttle(1 / 300, 5))
    """For what a person does a few times an hour at most."""

    @property
    def kept_jobs(self) -> Jobs | None:
        """What logs, numbers and code of jobs are read from, also where none run any more; None: nothing is kept."""
        return self.jobs or self.former_jobs

    def shows_owners(self, caller: Caller) -> bool:
        """Whether a caller sees by whom the bookings of others are."""
        return self.settings.show_owners and not caller.is_guest

    @property
    def hub_prefix(self) -> str:
        """The path of the hub: ``/hub/``."""
        return f"{self.base_url}hub/"

    @property
    def api_prefix(self) -> str:
        """The path of the API: ``/services/mlmp/api/v1/``."""
        return f"{self.prefix}api/v1/"

    def server_url(self, owner: str, server: str) -> str:
        """The path of a user's server, as the hub's proxy has it."""
        path = f"{self.base_url}user/{quote(owner, safe='@~')}/"
        return f"{path}{quote(server, safe='@~')}/" if server else path

    async def run(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Runs a synchronous operation in a worker thread."""
        return await asyncio.to_thread(function, *args, **kwargs)
