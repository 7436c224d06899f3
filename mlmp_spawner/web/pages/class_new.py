"""Book the classes of a course: when, how long and how often, and what would fit where that does not."""

from __future__ import annotations

import re
from typing import Any

from pydantic import ValidationError

from mlmp_spawner.errors import Invalid, MLMPError, NotAllowed, NotFound
from mlmp_spawner.operations.courses import classes, courses
from mlmp_spawner.operations.courses.term import ClassRequest, Dates
from mlmp_spawner.operations.requests import Recurrence
from mlmp_spawner.units import HOUR, to_iso
from mlmp_spawner.web import class_models, models, recurrence_form
from mlmp_spawner.web.api.courses import checked_name
from mlmp_spawner.web.auth import Right
from mlmp_spawner.web.pages.base import Page
from mlmp_spawner.web.problems import as_error
from mlmp_spawner.web.times import from_input, to_input

FIELDS = ("start", "duration", "seats", "repeat", "until", "holidays")
_KEY = re.compile(r"[\x21-\x7e]{1,200}")


class NewClass(Page):
    """For those who run the course."""

    here = "courses"
    right: Right = "run"

    @property
    def address(self) -> str:
        """Below the course, also as the answer of a form."""
        return f"courses/{self.path_args[0]}/new-class"

    async def get(self, name: str) -> None:
        """Shows the form."""
        await self.show()

    async def post(self, name: str) -> None:
        """Books all of it or nothing, or only looks whether it fits."""
        by: dict[str, Any] = {"actor": self.me.actor(), "now": self.now}
        try:
            request = self._request(checked_name(name))
            if self.field("step") == "look":
                await self.show(fits=await self.context.run(classes.check, self.site, request, **by))
                return
            first = await self.context.run(classes.book, self.site, request, idempotency_key=self._key(), **by)
        except NotFound:
            raise
        except (MLMPError, ValidationError) as error:
            await self.refuse(as_error(error))
            return
        self.context.feed.wake()
        self.context.changed()
        self.go(f"courses/{name}/classes/{first.id}", did="booked")

    def _key(self) -> str:
        """Of this form, so that sent twice it books once. :raises Invalid: it is none."""
        key = self.field("key")
        if not _KEY.fullmatch(key):
            raise Invalid.field("key", "1 to 200 printable characters")
        return key

    def _request(self, course: str) -> ClassRequest:
        """The form as the API's body would be, checked by the same model.

        :raises Invalid, ValidationError: it makes no sense.
        """
        body: dict[str, Any] = {"zone": str(self.zone), "duration": self.field("duration").strip(),
                                "holidays": re.findall(r"[^\s,;]+", self.field("holidays"))}  # fmt: skip
        seats = self.field("seats").strip()
        if seats:
            body["seats"] = int(seats) if seats.isascii() and seats.isdecimal() and len(seats) < 10 else seats
        if again := self.field("recurrence"):  # of an alternative
            body["recurrence"] = models.Recurrence.model_validate_json(again)
        elif rule := recurrence_form.rule_of(self.field("repeat"), self.field("until")):
            body["recurrence"] = {"rrule": rule, "zone": str(self.zone)}
        try:
            start = from_input(self.field("start"), self.zone)
        except ValueError as error:
            raise Invalid.field("start", str(error)) from None
        asked = class_models.ClassBody.model_validate(body | {"start": to_iso(start)})
        repeats = asked.recurrence
        return ClassRequest(
            course=course, start=start, duration=asked.duration, seats=asked.seats,
            recurrence=Recurrence(repeats.rrule, repeats.zone, tuple(repeats.without)) if repeats else None,
            holidays=tuple(asked.holidays), zone=asked.zone,
        )  # fmt: skip

    async def show(self, *, problem: MLMPError | None = None, fits: Dates | None = None) -> None:
        """The form, or what was sent. :param fits: the dates that could be booked."""
        name = checked_name(self.path_args[0])
        seen = await self.context.run(courses.get, self.site, name, actor=self.me.actor())
        if not seen.runs:
            raise NotAllowed("Only its instructors book classes of a course.")
        tomorrow = (self.now // HOUR + 24) * HOUR
        fields = {"start": to_input(tomorrow, self.zone), "duration": "2h", "seats": seen.course.seats}
        if self.request.method == "POST":
            fields |= {name: self.field(name) for name in FIELDS}
        self.render_page(
            "class_new.html", course=seen.course, fields=fields, fits=fits, repeat=fields.get("repeat", ""),
            until=fields.get("until", ""), problem=problem.problem() if problem else None, **await self.live(),
        )  # fmt: skip
