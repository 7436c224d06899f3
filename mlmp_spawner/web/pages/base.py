"""What all pages share: the viewer's zone, what a template needs, how a refusal is shown and a server started."""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
from collections.abc import Sequence
from datetime import tzinfo
from functools import cached_property, partial
from typing import Any, cast, get_args
from urllib.parse import urlencode

from sqlalchemy import Engine

from mlmp_spawner import units
from mlmp_spawner.errors import Invalid, MLMPError, NotAllowed, NotFound
from mlmp_spawner.operations import availability, changes, history, notices
from mlmp_spawner.operations.courses import courses
from mlmp_spawner.operations.series_changes import Which
from mlmp_spawner.rules.reservations import Reservation
from mlmp_spawner.units import from_iso
from mlmp_spawner.web import models, views
from mlmp_spawner.web.api import common
from mlmp_spawner.web.auth import Caller
from mlmp_spawner.web.base import PageHandler
from mlmp_spawner.web.routes import check_text
from mlmp_spawner.web.times import ZONE_COOKIE, find_zone, said
from mlmp_spawner.web.views import Shown, Urls

log = logging.getLogger("mlmp.pages")

PATIENCE = 1.0
"""How long (seconds) a start is waited for, to show a refusal; then the hub's page shows how it goes on."""

LONGEST_MESSAGE = 200

_ID = re.compile(models.ID)
_starting: set[asyncio.Task[None]] = set()


def _news(engine: Engine, caller: Caller) -> tuple[int, int, bool]:
    """The last line of the history, how much a person has not read, and whether there are courses for them."""
    unread = notices.unread(engine, caller.name) if caller.kind == "user" else 0
    return history.latest(engine), unread, caller.can_teach or courses.is_in_any(engine, caller.name)


class Page(PageHandler):
    """What the pages share. ``here`` is the entry of the navigation that is marked."""

    here = ""
    unread = 0
    sees_courses = False
    latest = 0
    """The last line of the history that this page can know of: what comes later, its stream tells."""

    async def prepare(self) -> None:
        """Also counts what the caller has not read, for the bell of every page, and looks where else they may go."""
        await super().prepare()
        if self.caller is not None and not self._finished:
            self.latest, self.unread, self.sees_courses = await self.context.run(_news, self.site.engine, self.caller)

    @property
    def person(self) -> str:
        """The caller's name, if it is a person.

        :raises NotAllowed: it is a service.
        """
        if self.me.kind != "user":
            raise NotAllowed("This page is for people who are users of the hub.")
        return self.me.name

    @property
    def address(self) -> str:
        """Where this page is, below the service's prefix, also when a form's answer shows it."""
        return "" if self.here == "home" else self.here

    @cached_property
    def zone(self) -> tzinfo:
        """The viewer's zone, as far as it is known."""
        return find_zone(self.get_cookie(ZONE_COOKIE)) or find_zone(self.context.settings.zone) or units_zone()

    @cached_property
    def urls(self) -> Urls:
        """Where servers are."""
        return Urls(self.context.base_url, self.context.hub_prefix)

    @property
    def template_namespace(self) -> dict[str, Any]:
        """What the hub's page and ours need."""
        zoned = partial(said, now=self.now, zone=self.zone)
        catalog = self.site.catalog
        return super().template_namespace | {
            "here": self.here,
            "now": self.now,
            "iso": units.to_iso,
            "duration": views.in_words,
            "zoned": zoned,
            "zoned_iso": lambda text, show="clock": zoned(from_iso(text), show),
            "zone_name": str(self.zone),
            "mlmp": self.context.prefix,
            "page_url": self.context.prefix + self.address,
            "hub": self.context.hub_prefix,
            "titles": {name: profile.title for name, profile in catalog.profiles.items()},
            "can_book": self.caller is not None and self.me.can_book,
            "is_admin": self.caller is not None and self.me.is_admin,
            "sees_courses": self.sees_courses,
            "sees_images": self.context.images is not None and self.caller is not None and self.me.can_teach,
            "has_jobs": self.context.jobs is not None,
            "jobs_off": self.context.jobs_off(),
            "has_ssh": self.site.ssh.enabled and self.caller is not None and self.me.can_book,
            "without_ssh": {name for name, profile in catalog.profiles.items() if not profile.ssh},
            "key": secrets.token_urlsafe(12),
            "problem": None,
            "unread": self.unread,
            "latest": self.latest,
            "did": None,
        }

    def query(self) -> dict[str, str]:
        """The query's arguments, as text that can be stored; of those that are there twice, the last."""
        return {name: self.get_query_argument(name) for name in self.request.query_arguments if name.isascii()}

    def field(self, name: str, default: str = "") -> str:
        """A field of a form."""
        return check_text(self.get_body_argument(name, default))

    def which(self) -> Which:
        """Which bookings of a series are meant: the one alone, or those that follow too, or all.

        :raises Invalid: none of these.
        """
        said = self.field("which") or "this"
        if said not in get_args(Which):
            raise Invalid.field("which", f"valid: {', '.join(get_args(Which))}")
        return cast(Which, said)

    def message(self, found: Reservation) -> str:
        """Why something is done to somebody else's booking, as the form says it.

        :raises Invalid: it is too long, or not one line.
        """
        text = self.field("message").strip() if found.owner != self.me.name else ""
        if len(text) > LONGEST_MESSAGE or not text.isprintable():
            raise Invalid.field("message", f"at most {LONGEST_MESSAGE} printable characters in one line")
        return text

    async def shown(self, rows: Sequence[Reservation], *, extend: bool = True) -> list[Shown]:
        """Bookings with all that is shown of them."""
        return await self.context.run(
            views.shown, self.site, rows, actor=self.me.actor(), now=self.now, url=self.urls, extend=extend
        )

    async def did(self) -> dict[str, Any] | None:
        """What was done just now, from the redirect's query: its name and the booking."""
        action, wanted = self.get_query_argument("did", ""), self.get_query_argument("id", "")
        if action not in ("booked", "waitlisted", "cancelled", "released", "extended", "stopped", "changed"):
            return None
        if not _ID.fullmatch(wanted):
            return None
        try:
            found = await self.context.run(changes.get, self.site, wanted)
        except NotFound:
            return None
        if found.owner != self.me.name and not self.me.is_admin:
            return None
        end, before = None, None
        if action == "changed":
            entries = await self.context.run(history.of, self.site.engine, found.id)
            placed = [entry.details for entry in entries if entry.details.get("start") and entry.details.get("units")]
            before = placed[-2] if len(placed) > 1 and entries[-1].action == "changed" else None
        if action == "released":  # the row says when it was given back; until when it was, the history knows
            entries = await self.context.run(history.of, self.site.engine, found.id)
            end = next((entry.details.get("end") for entry in reversed(entries) if entry.action == "released"), None)
        return {
            "action": action,
            "view": (await self.shown([found], extend=False))[0],
            "end": end,
            "before": before,
            "dates": self._dates(),
        }

    def _dates(self) -> int:
        """How many bookings it was done to."""
        text = self.get_query_argument("dates", "1")
        return int(text) if re.fullmatch(r"[1-9][0-9]{0,3}", text) else 1

    async def live(self) -> dict[str, Any]:
        """The caller's bookings that are not over, in two lists, and what every page shows of them."""
        offer = await self.context.run(availability.offer, self.site, actor=self.me.actor(), now=self.now)
        found = await self.shown(offer.bookings)
        active = [one for one in found if one.state == "active"]
        return {
            "offer": offer,
            "active": active,
            "coming": [one for one in found if one.state != "active"],
            "warnings": [one for one in active if one.warn is not None and one.can_extend],
            "next": views.next_change(found, self.site, self.now),
        }

    async def show(self, *, problem: MLMPError | None = None) -> None:
        """Answers with the page, and with the refusal on it."""
        raise NotImplementedError

    async def refuse(self, error: MLMPError) -> None:
        """Shows the page again, with the refusal on it."""
        self.set_status(error.status)
        await self.show(problem=error)

    def go(self, page: str, **query: str) -> None:
        """Sends the browser to a page of ours."""
        self.redirect(f"{self.context.prefix}{page}{'?' if query else ''}{urlencode(query)}", status=303)

    async def own(self, wanted: str) -> Reservation:
        """A booking of the caller's (an admin may see all).

        :raises NotFound: there is none; also when it is somebody else's.
        """
        if not _ID.fullmatch(wanted):
            raise NotFound("There is no such booking.")
        found = await self.context.run(changes.get, self.site, wanted)
        if found.owner != self.me.name and not self.me.is_admin:
            raise NotFound("There is no such booking.", hint="It may be somebody else's.")
        return found

    async def start(self, found: Reservation) -> None:
        """Starts a booking's server and shows how that goes on.

        :raises MLMPError: it was refused at once.
        """
        task = asyncio.create_task(common.start(self.context, found, self.context.now()))
        done, _ = await asyncio.wait({task}, timeout=PATIENCE)
        if done:
            task.result()
        else:
            _starting.add(task)
            task.add_done_callback(_started)
        self.redirect(self.urls.pending(found), status=303)


def units_zone() -> tzinfo:
    """UTC, by the name that zones go by."""
    zone = find_zone("UTC")
    assert zone is not None, "there is no zone database"
    return zone


def _started(task: asyncio.Task[None]) -> None:
    _starting.discard(task)
    if not task.cancelled() and (error := task.exception()) is not None:
        log.info("a start failed: %s", error)  # the hub's own page shows why
