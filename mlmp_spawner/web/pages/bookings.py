"""My bookings, one booking, and its buttons."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import Any

from mlmp_spawner import units
from mlmp_spawner.errors import Invalid, MLMPError, NotFound
from mlmp_spawner.operations import changes, history, listing, series_changes, usage
from mlmp_spawner.rules.reservations import Reservation
from mlmp_spawner.units import HOUR, from_iso
from mlmp_spawner.web import views
from mlmp_spawner.web.api.common import tell
from mlmp_spawner.web.auth import Right
from mlmp_spawner.web.pages.base import Page
from mlmp_spawner.web.times import to_input

SHOWN = {"": "All", "upcoming": "Upcoming", "past": "Past"}
"""Which bookings the page can be narrowed to."""


class Bookings(Page):
    """All of one's own bookings."""

    here = "bookings"

    async def get(self) -> None:
        """Shows them."""
        await self.show()

    async def show(self, *, problem: MLMPError | None = None) -> None:
        """Active, coming, past."""
        shown = self.query().get("show", "")
        shown = shown if shown in SHOWN else ""
        past, older, before = await self._past() if shown != "upcoming" else ([], self.now, None)
        live = await self.live()
        self.render_page(
            "bookings.html",
            past=past,
            older=older,
            before=before,
            show=shown,
            tabs=SHOWN,
            problem=problem.problem() if problem else None,
            **live | {"did": await self.did()},
        )

    async def _past(self) -> tuple[list[views.Shown], int, int | None]:
        """What is over, newest first; how far back that goes; before when it is, where that is not now."""
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
        return await self.shown(past, extend=False), window.start, before if before < self.now else None


class One(Page):
    """One booking and its history."""

    here = "bookings"

    @property
    def address(self) -> str:
        """With its number, also before the page knows whether it may be seen."""
        return f"bookings/{self.path_args[0]}"

    async def get(self, wanted: str) -> None:
        """Shows it; where a job holds it, that."""
        found = await self.own(wanted)
        if found.kind == "job" and (job := await self.context.run(listing.job_behind, self.site, found.id)):
            self.redirect(f"{self.context.prefix}jobs/{job}")
            return
        await self.show()

    async def show(self, *, problem: MLMPError | None = None) -> None:
        """The booking, who did what when."""
        found = await self.own(self.path_args[0])
        entries = [] if self.me.is_guest else await self.context.run(history.of, self.site.engine, found.id)
        live = await self.live()
        self.render_page(
            "booking.html",
            one=(await self.shown([found]))[0],
            entries=entries,
            choices=views.choices(self.site, found),
            image=views.image_of(self.site, found),
            as_input=partial(to_input, zone=self.zone),
            problem_of=found,
            series=await self._series(found),
            busy=await self._busy(found),
            here="bookings" if found.owner == self.me.name else "admin",
            problem=problem.problem() if problem else None,
            **live | {"did": await self.did()},
        )

    async def _busy(self, found: Reservation) -> float | None:
        """How much of the last hour its units did something, 0 to 1; None where nobody has seen a server of it."""
        shares = await self.context.run(usage.share_of_last, self.site, [found.id], now=self.now, span=HOUR)
        return shares.get(found.id) if found.server_state() != "none" else None

    async def _series(self, found: Reservation) -> dict[str, Any] | None:
        """The series that it is of: how often, and how many of it are still to come."""
        if found.series is None:
            return None
        with suppress(NotFound):
            series, rows = await self.context.run(series_changes.look, self.site, found.series)
            ahead = sum(row.state(self.now) in ("booked", "waiting") for row in rows)
            return {"words": views.rule_in_words(series.rrule), "ahead": ahead}
        return None


class Action(One):
    """A button of a booking."""

    right: Right = "book"
    dates = 1

    async def get(self, wanted: str, action: str) -> None:  # type: ignore[override]
        """There is nothing to see here: a reload after a refusal leads to the booking."""
        self.go(f"bookings/{wanted}")

    async def post(self, wanted: str, action: str) -> None:
        """Does it, and shows the page that the button was on."""
        found = await self.own(wanted)
        back = self.field("back")
        back = back if back in ("", "bookings", "timeline") else f"bookings/{wanted}"
        try:
            if action == "start":
                await self.start(found)
                return
            did = await getattr(self, f"_{action}")(found)
        except MLMPError as error:
            await self.refuse(error)
            return
        self.go(back, did=did, id=found.id, **({"dates": str(self.dates)} if self.dates > 1 else {}))

    async def _extend(self, found: Reservation) -> str:
        try:
            end = from_iso(self.field("end"))
        except ValueError as error:
            raise Invalid.field("end", str(error)) from error
        extended = await self.context.run(
            changes.extend, self.site, found.id, actor=self.me.actor(), now=self.now, end=end
        )
        await tell(self.context, extended)
        return "extended"

    async def _cancel(self, found: Reservation) -> str:
        begun, which = found.state(self.now) == "active", self.which()
        if which == "this":
            changed = await self.context.run(
                changes.cancel, self.site, found.id, actor=self.me.actor(), now=self.now, message=self.message(found)
            )
        else:
            done = await self.context.run(
                series_changes.cancel, self.site, found.id, which=which, actor=self.me.actor(), now=self.now
            )
            changed, self.dates = done.reservation, len(done.touched)
        await tell(self.context, changed)
        return "released" if begun and which == "this" else "cancelled"

    async def _stop(self, found: Reservation) -> str:
        await self.context.hub.stop_server(found.owner, found.server)
        self.context.changed()
        return "stopped"
