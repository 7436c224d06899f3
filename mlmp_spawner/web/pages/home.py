"""Home: what I have, and what I could have right now."""

from __future__ import annotations

from mlmp_spawner.errors import MLMPError
from mlmp_spawner.operations import admission, limits, listing, start_options
from mlmp_spawner.operations.courses import guests
from mlmp_spawner.rules.reservations import Reservation
from mlmp_spawner.web import views
from mlmp_spawner.web.api.common import tell
from mlmp_spawner.web.auth import Right
from mlmp_spawner.web.pages.base import Page
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
        rules = await self.context.run(limits.of_person, self.site, self.me.name, self.me.groups)
        used = await self.context.run(listing.used, self.site, self.me.name, now=self.now)
        hour = local(self.now, self.zone).hour
        self.render_page(
            "home.html",
            greeting="Good morning" if 4 <= hour < 12 else "Good afternoon" if 12 <= hour < 18 else "Good evening",
            upcoming=UPCOMING,
            use=views.use_line(rules, used),
            guest_until=await self._guest_until(),
            guest_jobs=self.me.is_guest and self.me.runs_jobs,
            problem=problem.problem() if problem else None,
            **live | {"did": await self.did()},
        )

    async def _guest_until(self) -> int | None:
        """When a guest's time is over, ms UTC; None for everybody else. :raises NotAllowed: it is over."""
        if not self.me.is_guest:
            return None
        until: int = await self.context.run(guests.until, self.site.engine, self.me.name, now=self.now)
        return until


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
            admission.from_now, self.site, actor=self.me.actor(), options=options, now=self.now
        )
        await tell(self.context, booked)
        return booked
