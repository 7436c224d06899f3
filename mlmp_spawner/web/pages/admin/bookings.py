"""Anybody's bookings: find them, look at them, book for somebody."""

from __future__ import annotations

from typing import Any, get_args

from mlmp_spawner.errors import Invalid, MLMPError
from mlmp_spawner.operations import listing
from mlmp_spawner.rules.reservations import Interval, State
from mlmp_spawner.web import models, views
from mlmp_spawner.web.pages.admin.base import AdminPage

FILTERS = ("owner", "node", "state", "start", "end")
PAGE = 50


class AllBookings(AdminPage):
    """Bookings of everybody, by start; from now on (what is over: of the last month) unless the query says more."""

    tab = "admin/bookings"

    async def get(self) -> None:
        """Shows a page of them."""
        await self.show()

    async def show(self, *, problem: MLMPError | None = None) -> None:
        """A page of them; what can't be read in the query is said and left out."""
        said = self.query()
        try:
            wanted = self._wanted(said)
            rows, cursor = await self.context.run(
                listing.listing, self.site, now=self.now, limit=PAGE, cursor=said.get("cursor") or None, **wanted
            )
        except MLMPError as error:
            problem, said = problem or error, {}
            self.set_status(problem.status)
            rows, cursor = await self.context.run(
                listing.listing, self.site, now=self.now, limit=PAGE, **self._wanted(said)
            )
        await self.render_admin(
            "admin_bookings.html", problem=problem, rows=await self.shown(rows, extend=False), cursor=cursor,
            chosen={name: said[name] for name in FILTERS if said.get(name)}, later="cursor" in said,
            states=get_args(State), nodes=sorted(self.site.catalog.nodes),
        )  # fmt: skip

    def _wanted(self, said: dict[str, str]) -> dict[str, Any]:
        start, end = (self.instant(name, said.get(name, "")) for name in ("start", "end"))
        state = said.get("state", "")
        if state and state not in get_args(State):
            raise Invalid.field("state", f"valid: {', '.join(get_args(State))}")
        if start is None:
            start = self.now - views.PAST if state == "ended" else self.now
        end = models.LATEST if end is None else end
        if end <= start:
            raise Invalid.field("end", "it must be after the start")
        return {
            "window": Interval(start, end),
            "owner": said.get("owner") or None,
            "state": state or None,
            "node": said.get("node") or None,
        }
