"""The pages: Home, Book, My bookings, one booking.

Every page is whole without a script: forms post here and are answered with a redirect, or with the page again and the
refusal on it. ``static/mlmp.js`` makes the same forms and pages live.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any

from pydantic import ValidationError

from mlmp_spawner import units
from mlmp_spawner.errors import Invalid, MLMPError, NotAllowed
from mlmp_spawner.operations import admission, availability, booking, changes, history, listing, start_options
from mlmp_spawner.operations.planning import nodes_of
from mlmp_spawner.operations.requests import BookingRequest
from mlmp_spawner.rules.reservations import Reservation
from mlmp_spawner.units import MINUTE, from_iso
from mlmp_spawner.web import calls, models, sentence, views
from mlmp_spawner.web.auth import Right
from mlmp_spawner.web.page import Page
from mlmp_spawner.web.problems import as_error
from mlmp_spawner.web.times import local

UPCOMING = 5
"""How many of the next bookings Home lists."""


class Home(Page):
    """What I have, what I could have right now."""

    here = "home"

    async def get(self) -> None:
        """Shows it."""
        await self.show()

    async def show(self, *, problem: MLMPError | None = None) -> None:
        """Home, also with what was just done or refused."""
        live = await self.live()
        rules = self.site.catalog.limits_for(self.me.name, self.me.groups)
        used = await self.context.run(listing.used, self.site, self.me.name, now=self.now)
        hour = local(self.now, self.zone).hour
        self.render_page(
            "home.html",
            greeting="Good morning" if 4 <= hour < 12 else "Good afternoon" if 12 <= hour < 18 else "Good evening",
            upcoming=UPCOMING,
            use=views.use_line(rules, used),
            problem=problem.problem() if problem else None,
            **live | {"did": await self.did()},
        )


class StartNow(Home):
    """Home's buttons: start a booking, or something that is free now."""

    right: Right = "book"

    async def get(self) -> None:
        """There is nothing to see here: a reload after a refusal leads home."""
        self.go("")

    async def post(self) -> None:
        """Books from now, where that is needed, and starts."""
        try:
            await self.start(await self._chosen())
        except MLMPError as error:
            await self.refuse(error)

    async def _chosen(self) -> Reservation:
        wanted = self.field("reservation")
        if wanted:
            return await self.own(wanted)
        fields = {name: [self.field(name)] for name in self.request.body_arguments if name.isascii()}
        options = start_options.parse(start_options.from_form(fields))
        booked = await self.context.run(
            admission.walk_up, self.site, actor=self.me.actor(), server=None, options=options, now=self.now
        )
        await calls.tell(self.context, booked)
        return booked


class Book(Page):
    """One sentence, and what would come of it."""

    here = "book"

    async def get(self) -> None:
        """The sentence that the query says."""
        await self.show()

    async def post(self) -> None:
        """Books what the form says, and nothing else."""
        if not self.me.can_book:
            raise NotAllowed("You may look, but not book.", hint="Ask the people who run this hub.")
        try:
            request = self._request()
            key = self.field("key") or None
            if key and not re.fullmatch(r"[\x21-\x7e]{1,200}", key):
                raise Invalid.field("key", "1 to 200 printable characters")
            booked = await self.context.run(
                booking.book, self.site, request, actor=self.me.actor(), now=self.now, idempotency_key=key
            )
        except (MLMPError, ValidationError) as error:
            await self.refuse(as_error(error))
            return
        await calls.tell(self.context, booked)
        state = booked.state(self.now)
        action = "waitlisted" if state == "waiting" else "booked"
        self.go("" if state == "active" else "bookings", did=action, id=booked.id)

    def _request(self) -> BookingRequest:
        """The form as the API's body would be, checked by the same model."""
        names = ("profile", "start", "end", "duration", "node", "title", "server")
        body: dict[str, Any] = {name: value for name in names if (value := self.field(name))}
        for name in ("units", "node_count"):
            text = self.field(name)
            if text:
                body[name] = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else text
        checked = models.Booking.model_validate(body | {"waitlist": self.field("waitlist") == "1"})
        return BookingRequest(**{name: getattr(checked, name) for name in checked.model_fields_set})

    def _said(self) -> dict[str, str]:
        """The sentence: the query's, or after a refusal that of the form."""
        if self.request.method != "POST":
            return self.query()
        names = ("profile", "units", "start", "end", "duration", "node", "title")
        return {name: value for name in names if (value := self.get_body_argument(name, ""))}

    async def show(self, *, problem: MLMPError | None = None) -> None:
        """The page; after a refusal, with what is possible instead."""
        site = self.site
        profiles = site.catalog.profiles_for(self.me.groups)
        nodes = {profile.name: nodes_of(site, profile.name) for profile in profiles}
        told = sentence.read(self._said(), profiles, nodes, zone=self.zone, now=self.now)
        values: dict[str, Any] = {"said": told, "profiles": profiles}
        if told is not None:
            window = sentence.needed(told, self.now)
            found = await self.context.run(
                availability.availability,
                site,
                profile=told.profile.name,
                window=window,
                groups=self.me.groups,
                now=self.now,
                node=told.node,
            )
            outlook = sentence.outlook(told, found, zone=self.zone, now=self.now)
            values |= {
                "outlook": outlook,
                "lengths": sentence.lengths(told),
                "nodes": nodes[told.profile.name],
                "simulated": site.catalog.simulated(told.profile.resource),
                "start_input": sentence.input_value(told, self.zone, self.now),
                "request": sentence.request_of(told, outlook.wanted) if outlook.wanted else None,
            }
        live = await self.live()
        minute = self.now // MINUTE * MINUTE + MINUTE
        live["next"] = min(minute, live["next"] or minute)  # "now" moves on
        self.render_page("book.html", problem=problem.problem() if problem else None, **live | values)


class Bookings(Page):
    """All of one's own bookings."""

    here = "bookings"

    async def get(self) -> None:
        """Shows them."""
        await self.show()

    async def show(self, *, problem: MLMPError | None = None) -> None:
        """Active, coming, past."""
        before = self.now
        with suppress(ValueError):
            before = min(self.now, from_iso(self.get_query_argument("before", units.to_iso(self.now))))
        window = views.past_window(before, latest=before == self.now)
        past: list[Reservation] = []
        cursor: str | None = None
        while True:
            page, cursor = await self.context.run(
                listing.listing, self.site, now=self.now, window=window, owner=self.me.name, state="ended",
                limit=200, cursor=cursor,
            )  # fmt: skip
            past += page
            if cursor is None:
                break
        past.sort(key=lambda row: (row.start, row.id), reverse=True)
        live = await self.live()
        self.render_page(
            "bookings.html",
            past=await self.shown(past, extend=False),
            older=window.start,
            before=before if before < self.now else None,
            problem=problem.problem() if problem else None,
            **live | {"did": await self.did()},
        )


class One(Page):
    """One booking and its history."""

    here = "bookings"

    @property
    def address(self) -> str:
        """With its number."""
        return f"bookings/{self._wanted}"

    async def get(self, wanted: str) -> None:
        """Shows it."""
        self._wanted = wanted
        await self.show()

    async def show(self, *, problem: MLMPError | None = None) -> None:
        """The booking, who did what when."""
        found = await self.own(self._wanted)
        entries = await self.context.run(history.of, self.site.engine, found.id)
        live = await self.live()
        self.render_page(
            "booking.html",
            one=(await self.shown([found]))[0],
            entries=entries,
            problem=problem.problem() if problem else None,
            **live | {"did": await self.did()},
        )


class Action(One):
    """A button of a booking."""

    right: Right = "book"

    async def get(self, wanted: str, action: str) -> None:  # type: ignore[override]
        """There is nothing to see here: a reload after a refusal leads to the booking."""
        self.go(f"bookings/{wanted}")

    async def post(self, wanted: str, action: str) -> None:
        """Does it, and shows the page that the button was on."""
        self._wanted = wanted
        found = await self.own(wanted)
        back = self.field("back")
        back = back if back in ("", "bookings") else f"bookings/{wanted}"
        try:
            if action == "start":
                await self.start(found)
                return
            did = await getattr(self, f"_{action}")(found)
        except MLMPError as error:
            await self.refuse(error)
            return
        self.go(back, did=did, id=found.id)

    async def _extend(self, found: Reservation) -> str:
        try:
            end = from_iso(self.field("end"))
        except ValueError as error:
            raise Invalid.field("end", str(error)) from error
        extended = await self.context.run(
            changes.extend, self.site, found.id, actor=self.me.actor(), now=self.now, end=end
        )
        await calls.tell(self.context, extended)
        return "extended"

    async def _cancel(self, found: Reservation) -> str:
        begun = found.state(self.now) == "active"
        changed = await self.context.run(changes.cancel, self.site, found.id, actor=self.me.actor(), now=self.now)
        await calls.tell(self.context, changed)
        return "released" if begun else "cancelled"

    async def _stop(self, found: Reservation) -> str:
        await self.context.hub.stop_server(found.owner, found.server)
        self.context.changed()
        return "stopped"


def routes() -> list[tuple[Any, ...]]:
    """The pages: patterns below the service's prefix, and their handlers."""
    return [
        (r"", Home),
        (r"start", StartNow),
        (r"book", Book),
        (r"bookings", Bookings),
        (r"bookings/([a-z0-9]+)", One),
        (r"bookings/([a-z0-9]+)/(start|extend|cancel|stop)", Action),
    ]
