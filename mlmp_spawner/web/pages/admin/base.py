"""What the admin's pages share."""

from __future__ import annotations

from typing import Any

from mlmp_spawner.errors import Invalid, MLMPError
from mlmp_spawner.web.auth import Right
from mlmp_spawner.web.pages.base import Page
from mlmp_spawner.web.times import from_input

TABS = {
    "admin": "Machines",
    "admin/bookings": "Bookings",
    "admin/people": "People and limits",
    "admin/health": "Health",
    "admin/audit": "Audit log",
}
"""The pages, by their address."""


class AdminPage(Page):
    """A page for admins. ``tab`` is its address."""

    right: Right = "admin"
    here = "admin"
    tab = "admin"

    @property
    def address(self) -> str:
        """Where it is."""
        return self.tab

    async def render_admin(self, name: str, *, problem: MLMPError | None = None, **values: Any) -> None:
        """Answers with a page of the admin's."""
        live = await self.live()
        shown: dict[str, Any] = {"problem": problem.problem() if problem else None, "did": await self.did()}
        done = self.get_query_argument("done", "")
        shown["saved"] = self.saved(done) if done and not problem else None
        self.render_page(name, **live | shown | {"tabs": TABS, "tab": self.tab} | values)

    def saved(self, done: str) -> str | None:
        """What was saved just now, as the redirect's ``done`` names it; None where it names nothing."""
        return None

    def instant(self, name: str, text: str) -> int | None:
        """A time of a form or a query; None where it is left out.

        :raises Invalid: it is none.
        """
        if not text:
            return None
        try:
            return from_input(text, self.zone)
        except (ValueError, OverflowError) as error:
            raise Invalid.field(name, "it is not a time") from error
