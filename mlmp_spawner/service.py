"""The service: API, pages and clock, as one process beside the hub.

``python -m mlmp_spawner.service --config jupyterhub_config.py``; where the hub is, it learns from the environment that
the hub gives to services (``JUPYTERHUB_*``). Either outlives the other's crash.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import hmac
import logging
import os
import signal
import sys
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin, urlsplit
from zoneinfo import ZoneInfo

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tzlocal import get_localzone_name

from mlmp_spawner import units
from mlmp_spawner.errors import ConfigurationError, MLMPError, Unavailable
from mlmp_spawner.hub import HubClient
from mlmp_spawner.jobs.off import switched_off
from mlmp_spawner.jobs.pod_tokens import PodTokens
from mlmp_spawner.operations import catalog_sync
from mlmp_spawner.operations.backend import make_backend
from mlmp_spawner.operations.catalog_files import LOOK, read_catalog
from mlmp_spawner.operations.clock import Clock
from mlmp_spawner.operations.courses.groups import GroupKeeper
from mlmp_spawner.operations.courses.service import ClassService
from mlmp_spawner.operations.delivery import outbox_of
from mlmp_spawner.operations.guest_ends import GuestEnds
from mlmp_spawner.operations.jobs.service import JobService
from mlmp_spawner.operations.postman import Postman
from mlmp_spawner.operations.site import Site, make_site
from mlmp_spawner.rules.catalog import Catalog
from mlmp_spawner.settings import MLMP, load_config
from mlmp_spawner.store import schema
from mlmp_spawner.store.engine import make_engine
from mlmp_spawner.throttle import Throttle
from mlmp_spawner.web.app import HARD_BODY_LIMIT, make_app
from mlmp_spawner.web.auth import HubAuthentication
from mlmp_spawner.web.context import Context, Jobs, State, WebSettings
from mlmp_spawner.web.feed import Feed
from mlmp_spawner.web.metrics import Metrics
from mlmp_spawner.web.pages import routes as pages

log = logging.getLogger("mlmp.service")

HUB_LOOK = 5.0
"""Seconds between two looks at the hub and at our route in the proxy."""

TICK_PATIENCE = 60.0
# tornado.application warns of each visit by a browser that does not say what kind of request it makes.
QUIETER = {
    "httpx": logging.WARNING,
    "alembic": logging.WARNING,
    "tornado.application": logging.ERROR,
    "kubernetes_asyncio": logging.ERROR,
}

LAST_REQUESTS = 10.0
"""Seconds that requests under way get when the service is told to stop."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where the service is, and where the hub is: the hub's environment for services."""

    api_url: str
    api_token: str
    prefix: str
    base_url: str
    client_id: str
    host: str
    port: int
    name: str = "mlmp"

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Surroundings:
        """From ``JUPYTERHUB_*``.

        :raises ConfigurationError: what is missing, all at once.
        """
        needed = ("JUPYTERHUB_API_URL", "JUPYTERHUB_API_TOKEN", "JUPYTERHUB_SERVICE_URL")
        missing = [name for name in needed if not environment.get(name)]
        if missing:
            raise ConfigurationError([f"{name} is not set; `mlmp up` sets it" for name in missing])
        name = environment.get("JUPYTERHUB_SERVICE_NAME") or "mlmp"
        base = _slashed(environment.get("JUPYTERHUB_BASE_URL") or "/")
        url = urlsplit(environment["JUPYTERHUB_SERVICE_URL"])
        return cls(
            api_url=environment["JUPYTERHUB_API_URL"],
            api_token=environment["JUPYTERHUB_API_TOKEN"],
            prefix=_slashed(environment.get("JUPYTERHUB_SERVICE_PREFIX") or f"{base}services/{name}/"),
            base_url=base,
            client_id=environment.get("JUPYTERHUB_CLIENT_ID") or f"service-{name}",
            host=url.hostname or "127.0.0.1",
            port=url.port or 0,
            name=name,
        )


def _slashed(path: str) -> str:
    path = path.strip("/")
    return f"/{path}/" if path else "/"


class Service:
    """All the parts, wired.

    :param settings: of the site. :param where: the hub's environment.
    :raises ConfigurationError: catalog, settings or database are not as they must be.
    """

    def __init__(self, settings: MLMP, where: Surroundings) -> None:
        self.settings = settings
        self.where = where
        self.engine = make_engine(settings.db_url, pool_size=10)
        self.files = read_catalog(settings)
        for note in self.files.notes:
            log.info("%s", note)
        self.site = self._make_site(self.files.catalog)
        self.hub = HubClient(where.api_url, where.api_token)
        self.metrics = Metrics()
        secret = where.api_token.encode()
        self.backend = make_backend(lambda: self.site, settings, self.hub, seen=self.metrics.use, secret=secret)
        tick = round(settings.tick * 1000)
        self.clock = Clock(
            lambda: self.site,
            self.backend.servers,
            interval=tick,
            watched=self.backend.watched,
            start_grace=self.backend.start_grace,
        )
        self.feed = Feed(lambda: self.site)
        self.jobs = JobService(lambda: self.site, self.backend.jobs, settings, self.backend.job_starts)
        self.classes = ClassService(
            lambda: self.site, self.hub, settings, activity=self.backend.activity, images=self.backend.images
        )
        self.zone = settings.zone or _zone()
        address = urljoin(settings.public_url, where.prefix) if settings.public_url else ""
        self.postman = Postman(lambda: self.site, outbox_of(settings, address, ZoneInfo(self.zone)))
        self.guest_ends = GuestEnds(lambda: self.site, self.hub, settings.guest_erase_after_ms, self.jobs.files)
        self.groups = GroupKeeper(lambda: self.site, self.hub, make_users=settings.roster_users)
        self.context = self._make_context()
        cookies = hmac.new(secret, b"mlmp cookies", hashlib.sha256).digest()
        self.app = make_app(self.context, pages=pages.routes(), cookie_secret=cookies)
        self._hub_up = False
        self._due = asyncio.Event()
        self._server = HTTPServer(self.app, xheaders=True, max_body_size=HARD_BODY_LIMIT, body_timeout=30)
        self._tasks: list[asyncio.Task[None]] = []

    def _make_site(self, catalog: Catalog) -> Site:
        return make_site(self.engine, catalog, self.settings)

    def _make_context(self) -> Context:
        where, settings = self.where, self.settings
        web = WebSettings(
            rate=settings.requests_per_minute / 60,
            burst=settings.requests_per_minute,
            show_owners=settings.show_owners,
            zone=self.zone,
            ways=self.postman.outbox.ways,
            pages=self.postman.outbox.pages,
            guest_isolation=settings.guest_isolation,
            guest_erase_after=settings.guest_erase_after_ms,
        )
        return Context(
            site=self.site,
            hub=self.hub,
            groups=self.groups,
            classes=self.classes,
            auth=make_auth(where),
            feed=self.feed,
            throttle=Throttle(web.rate, web.burst),
            metrics=self.metrics,
            prefix=where.prefix,
            base_url=where.base_url,
            settings=web,
            changed=self.wake,
            published=self.clock.published,
            state=self.state,
            activity=self.backend.activity,
            images=self.backend.images,
            jobs=self._jobs() if self.jobs.off is None else None,
            jobs_off=self.jobs.off or switched_off,
            former_jobs=self._jobs() if self.jobs.off is switched_off else None,
        )

    def _jobs(self) -> Jobs:
        """What handlers need of jobs."""
        return Jobs(
            self.jobs.files,
            self.jobs.backend,
            code_limit=self.settings.job_code_limit,
            outlook=self.jobs.queue.outlook,
            wake=self.wake,
            tokens=PodTokens(self.where.api_token.encode()),
        )

    def wake(self) -> None:
        """Something changed: clock and queue look at once."""
        self._due.set()
        self.jobs.wake()
        self.postman.wake()

    def state(self) -> State:
        """How it is, for ``GET health``."""
        last = self.clock.last_tick
        age = None if last is None else round((units.now() - last) / 1000, 1)
        return State(self._hub_up, age, self.clock.failures, self.files.wrong, self.backend.answers())

    async def reload(self, *, always: bool = True) -> None:
        """Reads the catalog, and what is plugged in, again; a wrong one changes nothing."""
        if await asyncio.to_thread(self.files.read, always=always):
            self.context.site = self.site = self._make_site(self.files.catalog)
            await self._sync()

    async def _catalog_loop(self) -> None:
        """Sees that a file of the catalog changed. No failure ends it."""
        while True:
            await asyncio.sleep(LOOK)
            try:
                await self.reload(always=False)
            except Exception:
                log.exception("reading the catalog failed; tried again when it changes")

    async def _sync(self) -> None:
        for lost in await asyncio.to_thread(catalog_sync.sync, self.site, now=units.now()):
            log.warning("capacity was lost: booking %s of %r: %s", lost.reservation, lost.owner, lost.outcome)

    # -- running -----------------------------------------------------------------------------------------------

    async def run(self, stop: asyncio.Event) -> None:
        """Serves until ``stop`` is set, then ends in order: no new requests, those under way, streams, loops."""
        await self._sync()
        sockets = bind_sockets(self.where.port, self.where.host)
        self._server.add_sockets(sockets)
        log.info("serving %s at %s:%d", self.where.prefix, *sockets[0].getsockname()[:2])
        loops: list[Coroutine[Any, Any, None]] = [
            self._clock_loop(),
            self._hub_loop(),
            self.feed.run(),
            self._catalog_loop(),
            self.postman.run(),
            self.groups.run(),
            self.guest_ends.run(),
            *self.backend.loops(),
            *self.jobs.loops(),
            *self.classes.loops(),
        ]
        self._tasks = [asyncio.create_task(loop) for loop in loops]
        try:
            await stop.wait()
        finally:
            await self._end()

    async def _end(self) -> None:
        log.info("stopping")
        self._server.stop()
        self.feed.end()
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self.context.under_way.wait(), LAST_REQUESTS)
        await self._server.close_all_connections()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.backend.close()
        await self.hub.close()
        self.engine.dispose()

    async def _clock_loop(self) -> None:
        """Ticks whenever something is due. No failure ends it."""
        while True:
            now = units.now()
            self._due.clear()
            try:
                following = await asyncio.wait_for(self.clock.tick(now), TICK_PATIENCE)
                self.metrics.ticks.labels("done").inc()
                self.metrics.last_tick.set(now / 1000)
            except MLMPError as error:  # a part does not answer: that needs no traceback each second
                log.warning("the clock could not do all of its work, tried again: %s", error.detail)
                following = self._tick_failed(now)
            except Exception:
                log.exception("a tick of the clock failed; the next one follows")
                following = self._tick_failed(now)
            self.metrics.cluster_up.set(self.backend.answers() is not False)
            wait = max(0.1, (following - units.now()) / 1000)
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._due.wait(), wait)

    def _tick_failed(self, now: int) -> int:
        """Counts it; when the next one follows, in ms UTC."""
        self.metrics.ticks.labels("failed").inc()
        return now + 1000

    async def _hub_loop(self) -> None:
        """Sees whether the hub answers, and gives a restarted proxy its routes back. No failure ends it."""
        while True:
            try:
                self._hub_up = await self.hub.alive()
                self.metrics.hub_up.set(self._hub_up)
                if self._hub_up and not await self.hub.has_route(self.where.prefix):
                    log.warning("the proxy does not know %s: asking the hub for all routes", self.where.prefix)
                    await self.hub.restore_routes()
            except MLMPError as error:
                log.warning("asking the hub about our route: %s", error.detail)
            except Exception:
                log.exception("looking at the hub failed; tried again")
            await asyncio.sleep(HUB_LOOK)


def _zone() -> str:
    """The machine's own time zone, by its IANA name."""
    try:
        return get_localzone_name() or "UTC"
    except (ValueError, LookupError, OSError):  # none is set, or several that differ
        return "UTC"


def make_auth(where: Surroundings) -> HubAuthentication:
    """The hub's OAuth client for this service."""
    return HubAuthentication(
        api_url=where.api_url,
        api_token=where.api_token,
        base_url=where.prefix,
        hub_prefix=f"{where.base_url}hub/",
        oauth_client_id=where.client_id,
        oauth_redirect_uri=f"{where.prefix}oauth_callback",
        access_scopes={"access:services", f"access:services!service={where.name}"},
    )


def check_schema(db_url: str) -> None:
    """Refuses to work on a database of another version.

    :raises ConfigurationError: saying what to run.
    """
    found, wanted = schema.current(db_url), schema.head()
    if found != wanted:
        raise ConfigurationError([f"the database has schema {found or 'none'}, not {wanted}: run `mlmp db upgrade`"])


async def serve(settings: MLMP, where: Surroundings) -> None:
    """Runs the service until SIGTERM or SIGINT; SIGHUP reads the catalog again."""
    service = Service(settings, where)
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    reloads: set[asyncio.Task[None]] = set()

    def reload() -> None:
        task = loop.create_task(service.reload())
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, reload)
    await service.run(stop)


def main(arguments: list[str] | None = None) -> int:
    """The entry point; the exit status: 0 told to stop, 2 wrong configuration, 3 what it needs does not answer."""
    parser = argparse.ArgumentParser(prog="mlmp_spawner.service", description="The MLMP service, beside a JupyterHub.")
    parser.add_argument("--config", required=True, help="the hub's jupyterhub_config.py")
    parser.add_argument("--log-level", default=os.environ.get("MLMP_LOG_LEVEL", "INFO"))
    options = parser.parse_args(arguments)
    logging.basicConfig(level=options.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for chatty, level in QUIETER.items():
        logging.getLogger(chatty).setLevel(level)
    try:
        settings = MLMP(config=load_config(options.config))
        check_schema(settings.db_url)
        asyncio.run(serve(settings, Surroundings.from_environment(os.environ)))
    except ConfigurationError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        return 2
    except Unavailable as error:
        print(f"can't begin: {error.detail}", file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
