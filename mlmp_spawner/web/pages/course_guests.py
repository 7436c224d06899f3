"""The guests of a course: who came, new codes, and their end."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlencode

from mlmp_spawner.errors import Invalid, MLMPError, NotFound
from mlmp_spawner.operations.courses import courses, guests
from mlmp_spawner.units import DAY
from mlmp_spawner.web.api.courses import checked_name
from mlmp_spawner.web.api.guests import address_of, check_isolated
from mlmp_spawner.web.auth import Right
from mlmp_spawner.web.pages.base import Page
from mlmp_spawner.web.times import from_input, to_input

USUAL = 7 * DAY
DID = {"withdrawn": "The codes that nobody used are useless now.", "ended": "The guest's time is over."}


@dataclass(frozen=True, slots=True)
class Code:
    """A code, and the link that has it."""

    code: str
    link: str


class CourseGuests(Page):
    """For those who run the course."""

    here = "courses"
    right: Right = "run"

    @property
    def address(self) -> str:
        """Below the course."""
        return f"courses/{self.path_args[0]}/guests"

    async def get(self, name: str) -> None:
        """Shows who came."""
        await self.show()

    async def post(self, name: str) -> None:
        """Makes codes and shows them, this once; withdraws codes; ends a guest."""
        step, context = self.field("step"), self.context
        try:
            course, actor = checked_name(name), self.me.actor()
            if step == "invite":
                await self._invite(course)
                return
            if step == "withdraw":
                await context.run(guests.withdraw, self.site.engine, course, actor=actor, now=self.now)
                self.go(self.address, did="withdrawn")
            elif step == "end":
                await context.run(
                    guests.end, self.site.engine, course, self.field("guest"),
                    erase_after=context.settings.guest_erase_after, actor=actor, now=self.now,
                )  # fmt: skip
                self.go(self.address, did="ended")
            else:
                raise Invalid.field("step", "valid: invite, withdraw, end")
        except NotFound:
            raise
        except MLMPError as error:
            await self.refuse(error)

    async def _invite(self, course: str) -> None:
        check_isolated(self.context)
        text = self.field("count").strip()
        count = int(text) if text.isascii() and text.isdecimal() and len(text) < 5 else 0
        try:
            until = from_input(self.field("until"), self.zone)
        except ValueError as error:
            raise Invalid.field("until", str(error)) from None
        made = await self.context.run(
            guests.new_codes, self.site.engine, course, count, until=until, actor=self.me.actor(), now=self.now
        )
        address = address_of(self)
        await self.show(codes=[Code(one, f"{address}?{urlencode({'code': one})}") for one in made], until=until)

    async def show(
        self, *, problem: MLMPError | None = None, codes: list[Code] | None = None, until: int | None = None
    ) -> None:
        """The guests. :param codes: just made, good until ``until`` (ms UTC)."""
        name, actor = checked_name(self.path_args[0]), self.me.actor()
        found = await self.context.run(guests.of, self.site.engine, name, actor=actor, now=self.now)
        seen = await self.context.run(courses.get, self.site, name, actor=actor)
        settings = self.context.settings
        self.render_page(
            "course_guests.html", course=seen.course, guests=found.guests, open_codes=len(found.codes),
            codes=codes or [], until=until, code_address=address_of(self), isolated=settings.guest_isolation != "none",
            erase_after=settings.guest_erase_after,
            count=self.field("count", "10") if problem else "10",
            usual=self.field("until") if problem else to_input(self.now + USUAL, self.zone),
            saved=DID.get(self.query().get("did", "")), problem=problem.problem() if problem else None,
            **await self.live(),
        )  # fmt: skip
