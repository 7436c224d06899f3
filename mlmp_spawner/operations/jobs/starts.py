"""Who of those that wait starts, and how it does: the part of the look at jobs that differs between back-ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Protocol

from mlmp_spawner.errors import Changed, Conflict
from mlmp_spawner.jobs.base import Seen
from mlmp_spawner.operations.jobs import deciding, ending, starting
from mlmp_spawner.operations.jobs.cancel import cancel
from mlmp_spawner.operations.jobs.steps import Steps
from mlmp_spawner.operations.site import CLOCK, Site
from mlmp_spawner.rules.job_queue import Outlook, Why
from mlmp_spawner.rules.jobs import Attempt, Job
from mlmp_spawner.store.transaction import Busy, Refused

log = logging.getLogger(__name__)


class Starts(Protocol):
    """A way to start what waits."""

    @property
    def outlook(self) -> Mapping[str, Outlook]:
        """What is to be expected for each job that waits, as the last look knew it."""

    @property
    def keeps(self) -> bool:
        """Whether what waits stands in the back-end's own queue already, and what is not needed there any more is
        taken away from here."""

    async def notice(self, steps: Steps, site: Site, now: int) -> None:
        """Writes down what others than MLMP have done to what is under way, before its ends are. Asked after the
        back-end was."""

    async def look(self, steps: Steps, site: Site, seen: Mapping[str, Seen], now: int) -> int:
        """Starts who may start at ``now`` (ms UTC); of how many there will soon be something to be seen.

        :param seen: what the back-end sees. :raises MLMPError: what has to be asked does not answer.
        """


class AtOnce:
    """Whose turn it is is submitted, one after the other, and starts at once.

    :param half_life: in ms, after which what was used counts half.
    """

    keeps = False

    def __init__(self, half_life: int) -> None:
        self.half_life = half_life
        self.outlook: Mapping[str, Outlook] = {}
        self._done: deciding.Decided | None = None

    async def notice(self, steps: Steps, site: Site, now: int) -> None:
        """Nobody else has a part in it."""

    async def look(self, steps: Steps, site: Site, seen: Mapping[str, Seen], now: int) -> int:
        """Decides who starts, and starts them in that order; how many."""
        decided = await asyncio.to_thread(deciding.decide, site, self.half_life, now, last=self._done)
        if decided is None:
            return 0
        self._done = None
        await let_go(steps, site, decided, now)
        begun: list[Attempt] = []
        refused: dict[str, Outlook] = {}
        for job, where in decided.starts:
            try:
                begun.append(await asyncio.to_thread(starting.start, site, job, where, now=now))
            except (Refused, Busy, Changed, Conflict) as error:
                log.debug("%s does not start now: %s", job.id, error)
                refused[job.id] = Outlook(None, Why("in_use"))
        self.outlook = {**decided.outlook, **refused}
        self._done = None if refused else decided
        await steps.each(begun, lambda one: steps.submit(site, one))
        return len(begun)


async def let_go(steps: Steps, site: Site, decided: deciding.Decided, now: int) -> None:
    """Ends the jobs that nobody waits for any more, those that wait for a booking that is over, and those that came to
    a scan after it was cancelled."""
    await steps.each(decided.nobodys, lambda job: asyncio.to_thread(give_up, site, job, now))
    await steps.each(decided.called_off, lambda job: asyncio.to_thread(call_off, site, job, now))
    await steps.each(decided.too_late, lambda job: asyncio.to_thread(ending.too_late, site, job, now=now))


def give_up(site: Site, job: Job, now: int) -> None:
    """Ends a job whose owner the hub has deleted: a namesake must not run it."""
    cancel(site, job.id, actor=CLOCK, now=now, message="The account of its owner is gone.")


def call_off(site: Site, job: Job, now: int) -> None:
    """Ends a job whose scan was cancelled."""
    cancel(site, job.id, actor=CLOCK, now=now, message="Its scan was cancelled.")
