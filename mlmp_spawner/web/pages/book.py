"""Book: one sentence, and what would come of it."""

from __future__ import annotations

import re
from typing import Any

from pydantic import ValidationError

from mlmp_spawner.errors import Invalid, MLMPError, NoCapacity, NotAllowed
from mlmp_spawner.operations import availability, outages, preview, series, series_changes
from mlmp_spawner.operations.planning import nodes_of
from mlmp_spawner.operations.preview import Preview
from mlmp_spawner.operations.requests import BookingRequest
from mlmp_spawner.rules.reservations import Interval, Reservation
from mlmp_spawner.units import MINUTE
from mlmp_spawner.web import models, recurrence_form, sentence, would
from mlmp_spawner.web.api.common import booking_request, tell
from mlmp_spawner.web.pages.base import Page
from mlmp_spawner.web.problems import as_error
from mlmp_spawner.web.sentence import Sentence


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
            booked = await self._book()
        except (MLMPError, ValidationError) as error:
            await self.refuse(self._said_of_undo(as_error(error)))
            return
        await tell(self.context, booked)
        state = booked.state(self.now)
        did = {"did": "waitlisted" if state == "waiting" else "booked", "id": booked.id}
        if booked.series:
            _, rows = await self.context.run(series_changes.look, self.site, booked.series)
            did["dates"] = str(len(rows))
        if booked.owner != self.me.name:
            self.go("admin/bookings", owner=booked.owner, **did)
        else:
            self.go("" if state == "active" else "bookings", **did)

    async def _book(self) -> Reservation:
        request = await self._request()
        key = self.field("key") or None
        if key and not re.fullmatch(r"[\x21-\x7e]{1,200}", key):
            raise Invalid.field("key", "1 to 200 printable characters")
        booked: Reservation = await self.context.run(
            series.book, self.site, request, actor=self.me.actor(), now=self.now, idempotency_key=key
        )
        return booked

    def _said_of_undo(self, error: MLMPError) -> MLMPError:
        """A refusal, which after Undo means that somebody was quicker."""
        if isinstance(error, NoCapacity) and self.field("undo"):
            detail = f"It can't be had back: somebody took it meanwhile. {error.detail}"
            return NoCapacity(detail, hint=error.hint, **error.data)
        return error

    async def _request(self) -> BookingRequest:
        """The form as the API's body would be, checked by the same model."""
        names = ("profile", "start", "end", "duration", "node", "title", "server", "image", "owner")
        body: dict[str, Any] = {name: value for name in names if (value := self.field(name))}
        for name in ("units", "node_count"):
            text = self.field(name)
            if text:
                body[name] = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else text
        if again := self.field("recurrence"):  # of an alternative
            body["recurrence"] = models.Recurrence.model_validate_json(again)
        elif rule := recurrence_form.rule_of(self.field("repeat"), self.field("until")):
            body["recurrence"] = {"rrule": rule, "zone": str(self.zone)}
        checked = models.Booking.model_validate(body | {"waitlist": self.field("waitlist") == "1"})
        return booking_request(checked, await self._groups(checked.owner) if checked.owner else None)

    async def _groups(self, owner: str) -> frozenset[str]:
        """The groups that count for a booking of this owner.

        :raises NotFound: the hub has no such user.
        """
        if owner in ("", self.me.name) or not self.me.is_admin:
            return self.me.groups
        return (await self.context.hub.get_user(owner)).groups

    def _said(self) -> dict[str, str]:
        """The sentence: the query's, or after a refusal that of the form."""
        if self.request.method != "POST":
            return self.query()
        names = ("profile", "units", "start", "end", "duration", "node", "node_count", "title", "image", "owner")
        return {name: value for name in names if (value := self.get_body_argument(name, ""))}

    async def show(self, *, problem: MLMPError | None = None) -> None:
        """The page; after a refusal, with what is possible instead."""
        said = self._said()
        if not self.me.is_admin:
            said.pop("owner", None)
        groups, known = self.me.groups, True
        try:
            groups = await self._groups(said.get("owner", ""))
        except MLMPError as error:
            problem, known = problem or error, False
        profiles = self.site.catalog.profiles_for(groups)
        nodes = {profile.name: nodes_of(self.site, profile.name) for profile in profiles}
        told = sentence.read(said, profiles, nodes, zone=self.zone, now=self.now)
        values: dict[str, Any] = {"said": told, "profiles": profiles}
        if told is not None:
            values |= await self._outlook(told, groups) | {"nodes": nodes[told.profile.name]}
            if not known:  # nothing to press: it would be booked for somebody else than was meant
                values["request"] = None
        live = await self.live()
        if self.request.method == "POST":
            values |= {name: self.get_body_argument(name, "") for name in ("repeat", "until")}
        minute = self.now // MINUTE * MINUTE + MINUTE
        live["next"] = min(minute, live["next"] or minute)  # "now" moves on
        self.render_page("book.html", problem=problem.problem() if problem else None, **live | values)

    async def _outlook(self, told: Sentence, groups: frozenset[str]) -> dict[str, Any]:
        """What would come of the sentence."""
        found = await self.context.run(
            availability.availability,
            self.site,
            profile=told.profile.name,
            window=sentence.needed(told, self.now),
            groups=groups,
            now=self.now,
            node=told.node,
        )
        outlook = sentence.outlook(told, found, zone=self.zone, now=self.now)
        nodes = [told.node] if told.node else nodes_of(self.site, told.profile.name)
        previewed = await self._preview(told, outlook.wanted, groups) if outlook.wanted else None
        return {
            "outlook": outlook,
            "away": await self.context.run(outages.during, self.site, nodes, outlook.window),
            "until_told": outages.NO_END,
            "images": self.site.choice_of_images(told.profile),
            "lengths": sentence.lengths(told),
            "not_enforced": self.site.not_enforced,
            "simulated": self.site.catalog.simulated(told.profile.resource),
            "start_input": sentence.input_value(told, self.zone, self.now),
            "request": sentence.request_of(told, outlook.wanted) if outlook.wanted else None,
            "over": previewed.refusal if previewed else None,
            "within": would.within(told, previewed) if previewed and previewed.refusal else None,
            "would_line": would.line(previewed) if previewed else "",
        }

    async def _preview(self, told: Sentence, wanted: Interval, groups: frozenset[str]) -> Preview | None:
        """What the limits would say to it; None where it could not be booked at all."""
        request = BookingRequest(
            profile=told.profile.name, start=wanted.start, end=wanted.end, units=told.units, node=told.node,
            node_count=told.node_count, owner=told.owner or None, owner_groups=groups,
        )  # fmt: skip
        try:
            return await self.context.run(preview.preview, self.site, request, actor=self.me.actor(), now=self.now)
        except MLMPError:
            return None
