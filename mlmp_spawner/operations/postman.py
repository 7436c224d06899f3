"""The loop that plans and sends notices, beside the clock and never in its way.

Mail goes out in a thread of its own and webhooks one beside the other, each with a time limit: a server that fails or
hangs delays neither bookings nor the other way.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

import httpx

from mlmp_spawner import units
from mlmp_spawner.operations import delivery, mail, notices, webhook
from mlmp_spawner.operations.delivery import Delivery, Outbox
from mlmp_spawner.operations.site import Site
from mlmp_spawner.units import HOUR

log = logging.getLogger("mlmp.notices")

T = TypeVar("T")
Result = tuple[Delivery, str | None, bool]

POLL = 2.0
"""Seconds between two looks, when nobody says that there is something."""


class Postman:
    """Plans and sends what is written in the tables. :meth:`run` until cancelled; tests call the rounds themselves."""

    def __init__(self, site: Callable[[], Site], outbox: Outbox, *, poll: float = POLL) -> None:
        self._site, self.outbox, self._poll = site, outbox, poll
        self._events = {"plan": asyncio.Event(), "mail": asyncio.Event(), "webhook": asyncio.Event()}
        self._tidied = 0
        self._failing = False

    def wake(self) -> None:
        """Something was written just now."""
        self._events["plan"].set()

    async def run(self) -> None:
        """Plans and sends until cancelled. No failure ends it."""
        async with webhook.client() as http:
            await asyncio.gather(
                self._lane("plan", self.plan),
                self._lane("mail", self.send_mail),
                self._lane("webhook", lambda now: self.post_webhooks(http, now)),
            )

    async def _lane(self, name: str, work: Callable[[int], Awaitable[int]]) -> None:
        event = self._events[name]
        while True:
            event.clear()
            try:
                done = await work(units.now())
            except Exception:
                log.warning("notices (%s): failed; tried again", name, exc_info=True)
                done = 0
                await asyncio.sleep(self._poll)
            if not done:
                with suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(event.wait(), self._poll)

    async def plan(self, now: int) -> int:
        """One round of planning, and every hour of forgetting what is old; how many notices were new."""
        if now - self._tidied >= HOUR:
            before = now - self.outbox.keep
            if await asyncio.to_thread(notices.forget_old, self._site().engine, before=before) < notices.AT_ONCE:
                self._tidied = now
        planned = await asyncio.to_thread(delivery.plan, self._site(), self.outbox, now=now)
        if planned:
            self._events["mail"].set()
            self._events["webhook"].set()
        return planned

    async def send_mail(self, now: int) -> int:
        """One round of mail; how many were tried."""
        server, site = self.outbox.mail, self._site()
        if server is None:
            return 0
        claimed = await asyncio.to_thread(delivery.claim, site, self.outbox, ("mail",), now=now)
        if not claimed:
            return 0
        letters, results = self._letters(site, claimed)
        errors = await in_own_thread(lambda: mail.send_all(server, [letter for _, letter in letters]))
        results += [
            (one, None if error is None else _said(error), error is not None and mail.is_final(error))
            for (one, _), error in zip(letters, errors, strict=True)
        ]
        self._tell(results, f"the mail server {server.host}")
        await asyncio.to_thread(delivery.record, site, self.outbox, results, now=now)
        return len(results)

    def _letters(self, site: Site, claimed: list[Delivery]) -> tuple[list[tuple[Delivery, mail.Letter]], list[Result]]:
        """The mails, and what could not be written: that keeps no other from being sent."""
        letters: list[tuple[Delivery, mail.Letter]] = []
        failed: list[Result] = []
        for one in claimed:
            try:
                letters.append((one, delivery.letter(one, self.outbox, _titles(site))))
            except Exception as error:
                log.exception("the mail of notice %d can't be written", one.notice.id)
                failed.append((one, _said(error), False))
        return letters, failed

    async def post_webhooks(self, http: httpx.AsyncClient, now: int) -> int:
        """One round of webhooks; how many were tried."""
        site = self._site()
        claimed = await asyncio.to_thread(delivery.claim, site, self.outbox, ("webhook", "site"), now=now)
        if claimed:
            results = await asyncio.gather(*(self._post(http, site, one) for one in claimed))
            await asyncio.to_thread(delivery.record, site, self.outbox, results, now=now)
        return len(claimed)

    async def _post(self, http: httpx.AsyncClient, site: Site, one: Delivery) -> Result:
        try:
            await webhook.post(http, one.address, delivery.payload(one, self.outbox, _titles(site)))
        except webhook.WebhookRefused as error:
            return one, str(error), error.final
        except (httpx.HTTPError, httpx.InvalidURL, asyncio.TimeoutError, OSError) as error:
            return one, _said(error), isinstance(error, httpx.InvalidURL)
        except Exception as error:
            log.exception("the webhook of notice %d failed", one.notice.id)
            return one, _said(error), False
        return one, None, False

    def _tell(self, results: list[Result], where: str) -> None:
        """Says in the log when sending begins to fail and when it goes again, not each time."""
        failed = next((error for _, error, final in results if error and not final), None)
        if failed and not self._failing:
            log.warning("%s: %s; notices wait and are tried again", where, failed)
        elif self._failing and not failed:
            log.info("%s takes mail again", where)
        self._failing = failed is not None


def _titles(site: Site) -> dict[str, str]:
    return {name: profile.title for name, profile in site.catalog.profiles.items()}


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


async def in_own_thread(work: Callable[[], T]) -> T:
    """Runs something that may hang in a thread that nothing else needs, and that nobody waits for at the end."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.done():  # cancelled meanwhile
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, error = None, None
        try:
            result = work()
        except Exception as raised:  # noqa: BLE001 -- it is raised where it is waited for
            error = raised
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, daemon=True, name="mlmp-mail").start()
    return await future
