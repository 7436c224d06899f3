"""What turns a spawner of JupyterHub into one that starts nothing without a booking.

Put it before the class that knows how to start a server: ``class MySpawner(ReservationMixin, TheirSpawner)``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

from jinja2 import Environment, FileSystemLoader
from jupyterhub.roles import get_default_roles
from jupyterhub.spawner import Spawner, SpawnException
from jupyterhub.utils import maybe_future, url_escape_path, url_path_join
from traitlets import Float, Unicode, default

from mlmp_spawner import units
from mlmp_spawner.errors import MLMPError, Unavailable
from mlmp_spawner.operations import admission, availability, start_options
from mlmp_spawner.operations.admission import Admission, StartOptions, WaitingForUnits
from mlmp_spawner.operations.courses import guests
from mlmp_spawner.operations.site import Actor, Site
from mlmp_spawner.rules.catalog import Share
from mlmp_spawner.rules.guests import is_guest
from mlmp_spawner.settings import MLMP
from mlmp_spawner.spawners import sites
from mlmp_spawner.spawners.hub import FOR_EVERYBODY, SERVICE
from mlmp_spawner.store import reservations as store
from mlmp_spawner.store.transaction import Busy, Refused, read
from mlmp_spawner.units import format_duration, to_iso

T = TypeVar("T")

THREADS = (
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS",
    "RAYON_NUM_THREADS", "POLARS_MAX_THREADS",
)  # fmt: skip
"""Each library asks another variable for how many threads to start; all get the share of the booked units."""

APPEARS_WITHIN = 2.0
"""Seconds in which a process that was started says so, on a busy machine too."""

_templates = Environment(loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True)
_templates.globals.update(iso=to_iso, duration=format_duration)
_templates.filters["urlencode"] = lambda value: urlencode(value) if isinstance(value, Mapping) else quote(str(value))


class Refusal(SpawnException):
    """The refusal of a start, as the hub shows it: the same ``detail`` in form, progress page and API.

    :param html: the same for a page of the hub, with what can be had instead.
    """

    def __init__(self, error: MLMPError, html: str) -> None:
        super().__init__(error.detail, reason=error.code, status_code=error.status)
        self.error = error
        self.jupyterhub_message = error.detail
        self.jupyterhub_html_message = html


def _live(site: Site, owner: str, server: str) -> list[str]:
    """The ids under which the database has this server running."""
    with read(site.engine) as connection:
        return [row.server_id for row in store.live(connection) if (row.owner, row.server) == (owner, server)]


def _titles(site: Site) -> dict[str, str]:
    return {name: profile.title for name, profile in site.catalog.profiles.items()}


def _share(site: Site, admitted: Admission) -> Share:
    """What of the node goes with the booked units."""
    profile = site.catalog.profiles.get(admitted.reservation.profile)
    return site.catalog.share(profile, admitted.node, admitted.reservation.units) if profile else Share(None, None)


class ReservationMixin(Spawner):
    """Admits a server under a booking, tells it so, and reports when it is up and gone."""

    mlmp_url = Unicode(
        help="""The hub's address as users' servers reach it: MLMP_URL in their environment. By default the hub's
        public address."""
    ).tag(config=True)
    units_timeout = Float(
        90, min=0, help="Seconds that a start waits for the former server on its units before it gives up."
    ).tag(config=True)

    reservation_id = ""
    server_id = ""
    _admitted: Admission | None = None
    _start_options = StartOptions()
    _share = Share(None, None)
    _told_started = False
    _events: tuple[dict[str, Any], ...] = ()

    @default("poll_interval")
    def _default_poll_interval(self) -> int:
        return 3

    @default("start_timeout")
    def _default_start_timeout(self) -> int:
        return 900  # a job on its units may have ten minutes to make way

    @default("http_timeout")
    def _default_http_timeout(self) -> int:
        return 120

    @default("default_url")
    def _default_default_url(self) -> str:
        return "/lab"

    @default("options_form")
    def _default_options_form(self) -> Callable[..., Any]:
        return lambda spawner: spawner.render_offer()

    @default("options_from_form")
    def _default_options_from_form(self) -> Callable[..., Any]:
        return self._from_form

    @default("apply_user_options")
    def _default_apply_user_options(self) -> Callable[..., Any]:
        return lambda spawner, given: spawner._apply(given)

    @default("server_token_scopes")
    def _default_server_token_scopes(self) -> Callable[..., Any]:
        of_the_hub = next(role["scopes"] for role in get_default_roles() if role["name"] == "server")
        return lambda _: sorted({*of_the_hub, *FOR_EVERYBODY})

    # -- what people choose ---------------------------------------------------------------------------------------

    async def render_offer(self) -> str:
        """The spawn form: the user's bookings and what is free now, as HTML."""
        mine = self._actor()
        try:
            offer = await self._ask(
                lambda site: availability.offer(site, actor=guests.as_known(site, mine), now=units.now())
            )
        except MLMPError as error:
            return self._html(error, {})
        return self._render("offer_form.html", offer=offer, server=self.name, spawn_url=self._spawn_url)

    def _from_form(self, form: Mapping[str, Sequence[Any]], _: Spawner | None = None) -> dict[str, Any]:
        try:
            return start_options.from_form(form)
        except MLMPError as error:
            raise self._refusal(error) from None

    async def _apply(self, given: object) -> None:
        """Checks what was asked for. Nothing of it is trusted: anybody may POST anything."""
        try:
            self._start_options = start_options.parse(given)
        except MLMPError as error:
            raise self._refusal(error) from None

    # -- its life -------------------------------------------------------------------------------------------------

    async def start(self) -> Any:
        """Starts the server under a booking.

        :raises Refusal: there is none, and none could be made.
        """
        self._events = ()
        self._tell(10, "Looking for your booking")
        admitted = await self._admit()
        self._admitted = admitted
        self.reservation_id, self.server_id = admitted.reservation.id, admitted.reservation.server_id
        self._share = await self._ask(lambda site: _share(site, admitted))
        # Any other token would be its user's with the gateway's first connection.
        await self._report(admission.keep_way, self.server_id, token=self.api_token)
        await self.prepare(admitted)
        self._told_started = True  # below, as soon as it is
        self._tell(40, f"Starting on {admitted.node}")
        address = await super().start()
        self._tell(90, "It is up")
        await self._report(admission.started, self.reservation_id)
        return address

    async def prepare(self, admitted: Admission) -> None:
        """What is to be known of the booking before the server is started."""

    async def stop(self, now: bool = False) -> None:
        """Stops the server; returns when it is gone and its units are free."""
        await super().stop(now=now)
        await self._report_gone()

    async def poll(self) -> int | None:
        """None while the server runs, else its exit status."""
        status: int | None = await super().poll()
        if status is not None and self._check_pending and not self.server_id:
            status = await self._look_again(status)
        if status is not None:
            await self._report_gone()
        elif self.server_id and not self._told_started and self.ready:
            # The hub was restarted while it started.
            self._told_started = True
            await self._report(admission.started, self.server_id)
        return status

    async def _look_again(self, status: int) -> int | None:
        """The hub was restarted and died in the middle of this start: admitted, but nothing is seen to run.

        What was being started then gets a moment to appear; else the units are given back at once.
        """
        owner, server = self.user.name, self.name
        lost = await self._ask(lambda site: _live(site, owner, server))
        if not lost:
            return status
        await asyncio.sleep(APPEARS_WITHIN)
        found: int | None = await super().poll()
        if found is not None:
            for server_id in lost:
                await self._report(admission.gone, server_id)
        return found

    async def _admit(self) -> Admission:
        mine, server, chosen = self._actor(), self.name, self._start_options

        def admit(site: Site) -> Admission:
            actor = guests.as_known(site, mine)
            return admission.admit(site, actor=actor, server=server, options=chosen, now=units.now())

        begun = units.now()
        while True:
            try:
                return await self._ask(admit)
            except WaitingForUnits as waiting:
                waited = units.now() - begun
                # A job that makes way has its own time for that.
                until = max(begun, waiting.until or 0) + self.units_timeout * 1000
                if begun + waited > until:
                    raise self._refusal(waiting) from None
                what = waiting.detail if self.shows_others() else waiting.anonymous
                self._tell(20, what if waited < 1000 else f"{what} ({format_duration(waited)})")
                await asyncio.sleep(0.5)
            except MLMPError as error:
                titles = await self._ask(
                    lambda site: {name: each.title for name, each in site.catalog.profiles.items()}
                )
                raise self._refusal(error, titles) from None

    async def _report(self, report: Callable[..., None], which: str, **more: str) -> None:
        """Tells the database what was seen. If that fails, the clock will see the same a little later."""
        try:
            await self._ask(lambda site: report(site, which, now=units.now(), **more))
        except Exception:
            self.log.exception("could not write down that %s of %s", report.__name__, self._log_name)

    async def _report_gone(self) -> None:
        if self.server_id:
            gone, self.server_id = self.server_id, ""
            await self._report(admission.gone, gone)

    async def run_post_stop_hook(self) -> None:
        """After the end, whoever saw it: the server's token ends too. JupyterHub knows it no longer once the hub was
        restarted, and would let it live for ever."""
        await maybe_future(super().run_post_stop_hook())
        base = url_path_join(self.user.base_url, url_escape_path(self.name), "/")
        for token in list(self.user.orm_user.api_tokens):
            if token.note == f"Server at {base}":
                self.db.delete(token)
        self.db.commit()

    def get_state(self) -> dict[str, Any]:
        """What outlives a restart of the hub."""
        state: dict[str, Any] = super().get_state()
        if self.server_id:
            state |= {"server_id": self.server_id, "reservation": self.reservation_id}
        return state

    def load_state(self, state: dict[str, Any]) -> None:
        """Comes back after a restart of the hub."""
        super().load_state(state)
        self.server_id = str(state.get("server_id", ""))
        self.reservation_id = str(state.get("reservation", ""))
        self._told_started = bool(self.server_id)

    def clear_state(self) -> None:
        """Forgets the last server."""
        super().clear_state()
        self.reservation_id = self.server_id = ""
        self._admitted = None
        self._told_started = False

    # -- what it is told ------------------------------------------------------------------------------------------

    def get_env(self) -> dict[str, str]:
        """The environment of the server: whose booking it is, until when, with what."""
        env: dict[str, str] = super().get_env()
        admitted = self._admitted
        if admitted is None:
            return env
        reservation = admitted.reservation
        for name in THREADS:
            if name not in self.environment:
                env[name] = str(max(1, int(self._share.cpus or 1)))
        return env | {
            "MLMP_URL": self.mlmp_url or str(self.public_hub_url).removesuffix("hub/"),
            "MLMP_TOKEN": self.api_token,
            "MLMP_RESERVATION_ID": reservation.id,
            "MLMP_RESERVATION_ENDS_AT": to_iso(reservation.end),
            "MLMP_NODE": admitted.node,
            "MLMP_PROFILE": reservation.profile,
        }

    # -- progress and refusals ------------------------------------------------------------------------------------

    async def progress(self) -> AsyncIterator[dict[str, Any]]:
        """What happens while the server starts; the hub ends it when the start is over."""
        seen = 0
        while True:
            events = self._events
            for event in events[seen:]:
                yield event
            seen = len(events)
            await asyncio.sleep(0.2)

    def _tell(self, progress: int, message: str) -> None:
        if not self._events or self._events[-1]["message"] != message:
            self._events = (*self._events, {"progress": progress, "message": message})

    def _refusal(self, error: MLMPError, titles: Mapping[str, str] | None = None) -> Refusal:
        return Refusal(error, self._html(error, titles or {}))

    def _html(self, error: MLMPError, titles: Mapping[str, str]) -> str:
        return self._render("refusal.html", problem=error.problem(), titles=titles)

    def _render(self, template: str, **values: Any) -> str:
        base = self.hub.base_url.removesuffix("hub/")
        return _templates.get_template(template).render(mlmp=f"{base}services/{SERVICE}/", **values)

    def _spawn_url(self, server: str) -> str:
        return str(url_path_join(self.hub.base_url, "spawn", self.user.escaped_name, quote(server, safe="@~")))

    # -- the database ---------------------------------------------------------------------------------------------

    def _settings(self) -> MLMP:
        return MLMP(config=self.config)

    def shows_others(self) -> bool:
        """Whether the user may know the names of others: no guest may."""
        return bool(self._settings().show_owners) and not is_guest(self.user.name)

    def _actor(self) -> Actor:
        return Actor(self.user.name, frozenset(group.name for group in self.user.groups))

    async def _ask(self, question: Callable[[Site], T]) -> T:
        """Asks the database in a worker thread: the hub's loop waits for nobody.

        :raises MLMPError: it refuses, or has no time to answer.
        """
        where = sites.source(self._settings())
        try:
            return await asyncio.to_thread(lambda: question(where.get()))
        except (Busy, Refused) as error:
            raise Unavailable("The database is too busy just now.", hint="Try again in a moment.") from error
