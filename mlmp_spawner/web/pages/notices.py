"""What I was told."""

from __future__ import annotations

from functools import partial

from mlmp_spawner.errors import Invalid, MLMPError
from mlmp_spawner.operations import notices
from mlmp_spawner.web.api.notices import shown
from mlmp_spawner.web.pages.base import Page
from mlmp_spawner.web.times import said

AT_ONCE = 30


class Notices(Page):
    """The notices of the caller, newest first."""

    here = "notices"

    async def get(self) -> None:
        """Shows them."""
        await self.show()

    async def post(self) -> None:
        """Marks as read all up to the newest that the page showed."""
        text = self.field("up_to")
        if not text.isascii() or not text.isdigit() or len(text) > 18:
            raise Invalid.field("up_to", "the number of a notice")
        engine = self.site.engine
        await self.context.run(notices.mark_read, engine, self.person, up_to=int(text), now=self.now)
        self.go("notices")

    async def show(self, *, problem: MLMPError | None = None) -> None:
        """The page."""
        before = self.get_query_argument("before", None)
        found = await self.context.run(
            notices.page, self.site.engine, self.person, limit=AT_ONCE, cursor=before or None
        )
        self.unread = found.unread
        when = partial(said, show="clock", now=self.now, zone=self.zone)
        self.render_page(
            "notices.html",
            items=[shown(one, self.context, self.me, when) for one in found.items],
            older=found.cursor,
            before=before,
            problem=problem.problem() if problem else None,
            **await self.live(),
        )
