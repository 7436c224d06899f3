"""The guests' page of the hub: a form for a code, or by a link a button, so that whoever just looks at the link (a
program of mail or chat) uses nothing up."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from jupyterhub._xsrf_utils import _set_xsrf_cookie
from jupyterhub.handlers.base import BaseHandler
from jupyterhub.user import User
from jupyterhub.utils import url_path_join
from tornado import web

from mlmp_spawner import units
from mlmp_spawner.errors import MLMPError, TooManyRequests
from mlmp_spawner.operations.courses import guests
from mlmp_spawner.rules import guest_codes
from mlmp_spawner.rules.guests import is_guest
from mlmp_spawner.store.guests import Guest
from mlmp_spawner.store.transaction import Busy, Refused

ANSWER = 0.5
"""Seconds after which a code that can't be used is told, whatever is wrong with it."""
WRONG = "This code can't be used. Look whether it is typed as it is printed. Each code is good for one person, once."
BUSY = "Just now that can't be done. Your code is still good: try again in a moment."


class GuestPage(BaseHandler):
    """``GET /hub/guest[?code=…]`` shows the form; ``POST`` uses the code up and signs in."""

    authenticator: Any
    """A :class:`~mlmp_spawner.logins.guests.GuestLogin`."""

    async def get(self) -> None:
        """Nothing is looked up, and nothing used."""
        self._keep_away_from_others()
        user = self.current_user
        if user and is_guest(user.name):
            self.redirect(self._to_server())
            return
        token = self.xsrf_token
        if self.request.headers.get("Sec-Fetch-Mode", "navigate") == "navigate":
            _set_xsrf_cookie(self, self._xsrf_token_id, cookie_path=self.hub.base_url, xsrf_token=token)
        await self._show(code=self._typed(), signed_in=user.name if user else "")

    async def post(self) -> None:
        """Uses the code up. What is wrong with a code is not told, nor by the time that it takes."""
        self._keep_away_from_others()
        begun = time.monotonic()
        user = self.current_user
        if user:
            self.redirect(self._to_server() if is_guest(user.name) else self.request.path)
            return
        address = self.request.remote_ip or ""
        try:
            self.authenticator.tries.take(address)
        except TooManyRequests as error:
            self.set_header("Retry-After", str(error.data["retry_after"]))
            await self._show(status=429, problem=f"Too many codes were tried. {error.hint}", code=self._typed())
            return
        try:
            guest = await self._redeem()
        except (MLMPError, Busy, Refused) as error:
            self.log.warning("A guest's code could not be looked up: %s", error)
            await self._show(status=503, problem=BUSY, code=self._typed())
            return
        if guest is None:
            self.authenticator.tries.was_wrong(address)
            await asyncio.sleep(max(0.0, begun + ANSWER - time.monotonic()))
            await self._show(status=403, problem=WRONG, code=self._typed())
            return
        await self._let_in(guest)
        self.redirect(self._to_server())

    async def _redeem(self) -> Guest | None:
        typed, delay, now = self._typed(), self.authenticator.mlmp().guest_erase_after_ms, units.now()
        return await self.authenticator.ask_database(
            lambda engine: guests.redeem(engine, typed, erase_after=delay, now=now)
        )

    async def _let_in(self, guest: Guest) -> None:
        """Makes the user, and signs in. Where that is cut short, the service gives the code back."""
        model: dict[str, Any] = {"name": guest.name, "admin": False, "auth_state": None}
        if self.authenticator.manage_groups:
            model["groups"] = None  # the groups of courses are MLMP's
        user: User = await self.auth_to_user(model)
        await self.authenticator.ask_database(lambda engine: guests.entered(engine, guest.name, now=units.now()))
        self.set_login_cookie(user)
        user._auth_refreshed = time.monotonic()
        self._jupyterhub_user = user
        self.log.info("Guest %s of course %s is in", guest.name, guest.course)

    def _typed(self) -> str:
        return str(self.get_argument("code", "")[: guest_codes.LONGEST])

    def _to_server(self) -> str:
        return str(url_path_join(self.hub.base_url, "spawn"))

    def _keep_away_from_others(self) -> None:
        """The address may have a code in it."""
        self.set_header("Cache-Control", "no-store")
        self.set_header("Referrer-Policy", "no-referrer")

    async def _show(self, *, code: str, status: int = 200, problem: str = "", signed_in: str = "") -> None:
        self.set_status(status)
        read = guest_codes.read(code)
        days = self.authenticator.mlmp().guest_erase_after
        html = await self.render_template(
            "guest.html",
            code=guest_codes.shown(read) if read else code,
            by_link=self.request.method == "GET" and read is not None,
            problem=problem,
            signed_in=signed_in,
            erased_after=units.format_duration(round(days * 1000)),
            xsrf=self.xsrf_token.decode("ascii"),
        )
        self.finish(html)

    def check_xsrf_cookie(self) -> None:
        """As the hub does it, told for people."""
        try:
            super().check_xsrf_cookie()
        except web.HTTPError as error:
            raise web.HTTPError(
                error.status_code, "This page was open for too long. Go back and try again."
            ) from error
