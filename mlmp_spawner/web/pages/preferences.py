"""What I am told, and how; my calendar in other programs."""

from __future__ import annotations

from typing import Any

from mlmp_spawner.errors import MLMPError, NotAllowed
from mlmp_spawner.operations import people
from mlmp_spawner.rules.notices import CHANNELS, KINDS
from mlmp_spawner.web.api import calendar
from mlmp_spawner.web.api.notices import check_herself, test
from mlmp_spawner.web.auth import Right
from mlmp_spawner.web.pages.base import Page

DONE = {
    "saved": "Saved. This is what you are told from now on, and how.",
    "tested": "A test notice is on its way: ",
    "revoked": "The address of your calendar is dead. Programs that had it get nothing any more.",
}
WAYS = {"browser": "here, on the page", "mail": "by mail", "webhook": "by webhook"}


class Preferences(Page):
    """The choices of the caller."""

    here = "preferences"

    async def get(self) -> None:
        """Shows them."""
        await self.show()

    async def post(self) -> None:
        """Keeps what the form says."""
        self.check_right()
        choices = {kind: [way for way in CHANNELS if self.field(f"{kind}:{way}") == "1"] for kind in KINDS}
        found = await self.context.run(people.find, self.site.engine, self.person)
        # A way that can't be had now is not on the form: what was chosen for it stays.
        for kind in KINDS:
            hidden = found.channels(kind) - self.ways(found)
            choices[kind] = [way for way in CHANNELS if way in choices[kind] or way in hidden]
        ways = self.context.settings.ways
        try:
            await self.context.run(
                people.change, self.site.engine, self.person, ways, choices=choices,
                mail=self.field("mail") if ways.choose else found.mail,
                webhook=self.field("webhook") if ways.webhook_hosts else found.webhook,
            )  # fmt: skip
        except MLMPError as error:
            await self.refuse(error)
            return
        self.go("preferences", done="saved")

    def ways(self, found: people.Person) -> set[str]:
        """The ways that the form offers."""
        ways = self.context.settings.ways
        mail = {"mail"} if found.mail_address(ways) or (ways.mail and ways.choose) else set()
        return {"browser"} | mail | ({"webhook"} if ways.webhook_hosts else set())

    def check_right(self) -> None:
        """:raises NotAllowed: a login that may only look, or the token of a server."""
        if not self.me.can_book:
            raise NotAllowed("You may look, but not change anything.", hint="Ask the people who run this hub.")
        check_herself(self.me)

    async def show(
        self, *, problem: MLMPError | None = None, address: str | None = None
    ) -> None:  # fmt: skip
        """The page; ``address``: of the calendar, when it was made just now."""
        found = await self.context.run(people.find, self.site.engine, self.person)
        ways = self.context.settings.ways
        offered = self.ways(found)
        again = self.request.method == "POST" and problem is not None
        values: dict[str, Any] = {
            "kinds": KINDS,
            "offered": [way for way in CHANNELS if way in offered],
            "chosen": {kind: found.channels(kind) for kind in KINDS},
            "mail": self.field("mail") if again else found.mail,
            "mail_to": found.mail_address(ways),
            "webhook": self.field("webhook") if again else found.webhook,
            "ways": ways,
            "address": address,
            "since": found.calendar_since,
            "done": self._done(found),
        }
        self.render_page(
            "preferences.html", problem=problem.problem() if problem else None, **values, **await self.live()
        )

    def _done(self, found: people.Person) -> str | None:
        done = self.get_query_argument("done", "") if self.request.method == "GET" else ""
        if done != "tested":
            return DONE.get(done)
        ways = self.context.settings.ways
        own = {"browser": "yes", "mail": found.mail_address(ways), "webhook": found.webhook_address(ways)}
        return DONE[done] + ", ".join(WAYS[way] for way, address in own.items() if address) + "."


class PreferencesAction(Preferences):
    """The further buttons of the page."""

    right: Right = "book"

    async def get(self, action: str) -> None:  # type: ignore[override]
        """There is nothing to see here: a reload leads back."""
        self.go("preferences")

    async def post(self, action: str) -> None:  # type: ignore[override]
        """Makes or ends the address of the calendar, or sends a test notice."""
        if action != "test":
            self.check_right()
        try:
            if action == "test":
                await test(self.context, self.person, self.now)
                self.go("preferences", done="tested")
            elif action == "revoke":
                await self.context.run(people.revoke_calendar_token, self.site.engine, self.person)
                self.go("preferences", done="revoked")
            else:
                # Shown at once and never again: only its hash is kept.
                await self.show(address=await calendar.make_address(self, self.person))
        except MLMPError as error:
            await self.refuse(error)
