"""Book: one sentence, and what would come of it."""

from __future__ import annotations

import re
from typing import Any

from pydantic import ValidationError

from mlmp_spawner.errors import Invalid, MLMPError, NotAllowed
from mlmp_spawner.operations import availability, booking
from mlmp_spawner.operations.planning import nodes_of
from mlmp_spawner.operations.requests import BookingRequest
from mlmp_spawner.units import MINUTE
from mlmp_spawner.web import models, sentence
from mlmp_spawner.web.api.common import tell
from mlmp_spawner.web.pages.base import Page
from mlmp_spawner.web.problems import as_error


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
        await tell(self.context, booked)
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
