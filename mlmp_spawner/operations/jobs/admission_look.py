"""The look at jobs where Kueue has their queue: it decides whose turn it is, the calendar what there is to give.

What waits stands there as the objects of its next attempt, made before anything of that is written here. So each look
says anew what follows from the calendar: which of these may ask, how much quota there is, and who of those that were
given some may start. All of it may be said twice, and a crash leaves nothing but work to do again: an attempt is
written before its answer is sent, and one that was written and still asks gets its answer in the next look.

Quotas are lowered before anybody is sent away, held or let in, and raised after that, so that Kueue never has more to
give away than there is.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field

from mlmp_spawner.deadlines import Deadline
from mlmp_spawner.errors import Changed, ConfigurationError, Conflict, MLMPError, NotFound, NotTaken, Unavailable
from mlmp_spawner.jobs.base import Order, Seen
from mlmp_spawner.jobs.kueue import Kueue
from mlmp_spawner.kube.job_queues import flavor_name
from mlmp_spawner.kube.workloads import Workload, active, ready
from mlmp_spawner.operations.jobs import deciding, losses, orders, quotas, standing, starting
from mlmp_spawner.operations.jobs.kueue_queues import KueueQueues, labels_of
from mlmp_spawner.operations.jobs.refusals import Refusals
from mlmp_spawner.operations.jobs.standing import Standing, Tenancy
from mlmp_spawner.operations.jobs.starting import Where
from mlmp_spawner.operations.jobs.starts import let_go
from mlmp_spawner.operations.jobs.steps import Steps, lives
from mlmp_spawner.operations.site import Site
from mlmp_spawner.rules import job_admission
from mlmp_spawner.rules.catalog import is_own
from mlmp_spawner.rules.job_admission import Admission, Asking, Going
from mlmp_spawner.rules.job_guarantees import Tenant, divide
from mlmp_spawner.rules.job_queue import Outlook, Start, Why
from mlmp_spawner.rules.jobs import Attempt, Job
from mlmp_spawner.rules.nodes import ClusterNode
from mlmp_spawner.store import jobs as store
from mlmp_spawner.store.transaction import Busy, Refused, read
from mlmp_spawner.units import MINUTE, SECOND

log = logging.getLogger(__name__)

OFFER_AGAIN = MINUTE
"""After so long a job is offered again whose objects could not be made, or that Kueue can't start."""

ANSWERS_AGAIN = 5 * SECOND
"""The same where the cluster did not take them just now: while Kueue is away it takes none."""

EAGER = 3 * SECOND
"""For so long after something was offered, raised or let in there is something to be seen soon."""

UNGATED_AGAIN = MINUTE
"""After so long one is told again that it may ask whose Workload Kueue did not make: it may be away."""

UNDECLARED = (
    "no node of the cluster says that it has any. Jobs on it can start once an admin has them declared: "
    "jobs.declareUnits of the Helm chart"
)

UNANSWERED = 3
"""So many words of one look that are not answered are the cluster's fault, not that of one object."""


@dataclass(slots=True)
class _Look:
    """What one look works with. ``known``: of each attempt what Kueue has of it; ``nodes``: those of the cluster, by
    their names; ``eager``: whether there is something to be seen soon; ``unanswered``: why words were not answered."""

    steps: Steps
    site: Site
    now: int
    decided: deciding.Decided
    standing: Standing
    known: Mapping[str, Workload]
    nodes: Mapping[str, ClusterNode]
    left: dict[str, int]
    eager: bool = False
    unanswered: list[Unavailable] = field(default_factory=list)


class KueueStarts:
    """:class:`~mlmp_spawner.operations.jobs.starts.Starts` where Kueue has the queue.

    :param nodes: those of the cluster, as they were last seen. :param namespace: that of users' pods.
    :param half_life: in ms, after which what was used counts half.
    """

    keeps = True

    def __init__(
        self, kueue: Kueue, nodes: Callable[[], Iterable[ClusterNode]], namespace: str, *, half_life: int
    ) -> None:
        self.half_life = half_life
        self.outlook: Mapping[str, Outlook] = {}
        self._kueue = kueue
        self._nodes = nodes
        self._queues = KueueQueues(kueue, namespace)
        self._known: dict[str, Workload] | None = None
        self._decided: deciding.Decided | None = None
        self._standing = Standing()
        self._not_before: dict[str, int] = {}
        self._ceded: set[str] = set()
        self._expected: Mapping[str, Outlook] = {}
        self._refusals = Refusals()
        self._ungated: dict[str, int] = {}
        self._eager_until = 0

    # -- what others have done -----------------------------------------------------------------------------------

    async def notice(self, steps: Steps, site: Site, now: int) -> None:
        """Writes down whom Kueue has sent away, for another or since it can't start it."""
        self._known = None
        try:
            found = await steps.asked(self._kueue.workloads())
        except MLMPError as error:
            log.warning("what Kueue has of jobs can't be read: %s", error.detail)
            return
        self._known = _by_attempt(found)
        lost = await asyncio.to_thread(losses.lost, site, self._known, now)
        self._ceded |= {one.attempt.id for one in lost if one.reason == "preempted"}
        await steps.each(lost, lambda one: asyncio.to_thread(losses.send_away, site, one, now))

    # -- the look ------------------------------------------------------------------------------------------------

    async def look(self, steps: Steps, site: Site, seen: Mapping[str, Seen], now: int) -> int:
        """Offers what waits, and answers what asks; of how many there will soon be something to be seen.

        :raises Unavailable: Kueue does not answer; what it refuses of one job or resource is in no other's way.
        """
        decided = await self._decide(steps, site, now)
        try:
            return await self._look(steps, site, seen, decided, now)
        finally:
            self.outlook = {**self._expected, **self._refusals.outlook(self._standing.jobs)}

    async def _look(
        self, steps: Steps, site: Site, seen: Mapping[str, Seen], decided: deciding.Decided, now: int
    ) -> int:
        self._ceded &= {attempt.id for _, attempt in decided.live}
        nodes = {node.name: node for node in self._nodes()}
        if self._known is None or not nodes:
            raise Unavailable("Kueue, or the nodes of the cluster, can't be asked just now: no job starts.")
        look = _Look(
            steps, site, now, decided, self._standing, self._known, nodes, standing.units_left(decided)
        )  # fmt: skip
        await self._queues.begin(site, now)
        await self._withdraw(look, seen)
        await self._offer(look, seen)
        await self._answer_again(look)
        for resource in sorted(decided.boards):
            try:
                await self._admit(look, resource)
                self._refusals.clear(resource)
            except (NotTaken, ConfigurationError) as error:
                self._refusals.note(resource, error)
        if look.eager:
            self._eager_until = now + EAGER
        if look.unanswered:
            raise look.unanswered[0]
        return int(now < self._eager_until)

    async def _decide(self, steps: Steps, site: Site, now: int) -> deciding.Decided:
        """Whose turn it would be here, what everybody may expect, and what is held; who stands in Kueue's queue."""
        found = await asyncio.to_thread(deciding.decide, site, self.half_life, now, last=self._decided)
        if found is not None:
            self._decided = None
            await let_go(steps, site, found, now)
            self._standing = await asyncio.to_thread(standing.standing, site, found)
            could = {job.id: Outlook(now, Why("turn")) for job, _ in found.starts}
            self._decided, self._expected = found, {**could, **found.outlook}
            self._refusals.keep({*self._standing.jobs, *found.boards})
            self._ungated = {one: at for one, at in self._ungated.items() if one in self._standing.jobs}
        assert self._decided is not None
        return self._decided

    async def _withdraw(self, look: _Look, seen: Mapping[str, Seen]) -> None:
        """Takes away what does not wait any more, or not there."""
        live = {attempt.id for _, attempt in look.decided.live}
        gone = []
        for one in seen.values():
            if one.phase == "ended" or one.phase == "running" or one.id in live:
                continue
            job, known = look.standing.jobs.get(one.id), look.known.get(one.id)
            if job is None:
                gone.append(one.id)
            elif known is not None and _out_of_place(look.site, job, known):
                self._not_before[one.id] = look.now + (OFFER_AGAIN if known.lost or known.finished else 0)
                gone.append(one.id)
        await look.steps.each(gone, lambda attempt: self._take_away(look, attempt))

    async def _take_away(self, look: _Look, attempt: str) -> None:
        if not await asyncio.to_thread(lives, look.site, attempt):
            await look.steps.asked(look.steps.backend.cancel(attempt, stop_at=look.now, kill_at=look.now))

    async def _offer(self, look: _Look, seen: Mapping[str, Seen]) -> None:
        """Makes the objects of those that have none."""
        self._not_before = {one: at for one, at in self._not_before.items() if at > look.now}
        new = [one for one in look.standing.jobs if one not in seen and one not in self._not_before]
        await look.steps.each(new, lambda attempt: self._submit(look, attempt))

    async def _submit(self, look: _Look, attempt: str) -> None:
        order = await asyncio.to_thread(_order, look.site, look.standing.jobs[attempt].id)
        if order is None or order.id != attempt:
            return
        self._not_before[attempt] = look.now + OFFER_AGAIN  # where that fails
        self._ungated.pop(attempt, None)
        try:
            await look.steps.asked(look.steps.backend.submit(order))
        except MLMPError as error:
            if isinstance(error, Unavailable) and not isinstance(error, NotTaken):
                self._not_before[attempt] = look.now + ANSWERS_AGAIN
            self._refusals.note(attempt, error)
            return
        look.steps.begun += 1
        look.eager = True
        self._refusals.clear(attempt)
        del self._not_before[attempt]

    async def _answer_again(self, look: _Look) -> None:
        """Lets in what was written down as begun and does not know it yet."""
        for _, attempt in look.decided.live:
            known = look.known.get(attempt.id)
            if known is not None and known.asks and attempt.started_at is None and look.now < attempt.stop_at:
                await self._say_ready(look, known, attempt)

    async def _admit(self, look: _Look, resource: str) -> None:
        """Does what follows from the calendar for the jobs that want one resource."""
        jobs, boards = look.standing.of(resource), look.decided.boards[resource]
        if jobs and is_own(resource) and not any(node.units.get(resource) for node in look.nodes.values()):
            raise ConfigurationError([f"{resource}: {UNDECLARED}"])
        flavors = {flavor_name(board.node): board.node for board in boards}
        tenancy = Tenancy.of(look.site, resource)
        going = standing.going(look.decided.live, look.known, flavors, tenancy, self._ceded)
        able = {one: job for one, job in jobs.items() if not _out_of_place(look.site, job, look.known.get(one))}
        asking = standing.asking(look.site, able, look.known, flavors, tenancy)
        found = job_admission.decide(asking, going, boards, look.now, left=look.left)
        live = {attempt.id: job for job, attempt in look.decided.live}
        used = _used(asking, going, found, live | jobs, tenancy)
        parts = divide(found.quotas, used, tenancy.guaranteed, found.fixed)
        await self._queues.lower(resource, look.nodes, parts)
        for attempt in (*found.recall, *found.hold):
            await self._activate(look, attempt, False)
        for start in found.start:
            await self._start(look, start, jobs[start.job])
        groups = {(job.group, tenancy.tenant(job)) for job in jobs.values()}
        if await self._queues.set(resource, look.nodes, parts, groups) and asking:
            look.eager = True
        for attempt in found.wake:
            await self._wake(look, attempt, jobs[attempt])

    async def _start(self, look: _Look, start: Start, job: Job) -> None:
        """Writes the attempt, then lets it in; what can't start is held."""
        known = look.known[start.job]
        where = Where(start.nodes, start.stop_at, start.kill_at)
        number = int(start.job.rpartition("-")[2])
        try:
            ready(known, Deadline(start.stop_at, start.kill_at), labels_of(look.nodes), now=look.now)
            attempt = await asyncio.to_thread(starting.start, look.site, job, where, now=look.now, number=number)
        except (Refused, Busy, Changed, Conflict, ValueError) as error:
            log.info("%s does not start now: %s", start.job, error)
            await self._activate(look, start.job, False)
            return
        units = job.units * job.workers
        if job.owner in look.left:
            look.left[job.owner] -= units
        look.eager = True
        await self._say_ready(look, known, attempt)

    async def _say_ready(self, look: _Look, known: Workload, attempt: Attempt) -> None:
        deadline = Deadline(attempt.stop_at, attempt.kill_at)
        try:
            answer = ready(known, deadline, labels_of(look.nodes), now=look.now)
        except ValueError as error:
            log.warning("%s can't be let in: %s", attempt.id, error)
            return
        await self._said(look, attempt.id, self._kueue.status(answer))

    async def _activate(self, look: _Look, attempt: str, wanted: bool) -> bool:
        """Whether that was news to Kueue, and taken."""
        known = look.known[attempt]
        if known.active == wanted or (wanted and known.lost):
            return False
        return await self._said(look, attempt, self._kueue.change(active(known, wanted)))

    async def _wake(self, look: _Look, attempt: str, job: Job) -> None:
        """Lets it ask: for the first time, or again."""
        known = look.known.get(attempt)
        if known is not None and not known.gated:
            look.eager |= await self._activate(look, attempt, True)
        elif job.workers > 1 or look.now < self._ungated.get(attempt, look.now):
            return
        elif await self._said(look, attempt, self._kueue.ungate(attempt)):
            self._ungated[attempt] = look.now + UNGATED_AGAIN
            look.eager = True

    async def _said(self, look: _Look, attempt: str, verb: Awaitable[object]) -> bool:
        """Says something of an attempt to Kueue; whether it was taken. What changed meanwhile is looked at the next
        time, and what is refused is tried then.

        :raises Unavailable: too much was not answered to go on.
        """
        try:
            await look.steps.asked(verb)
        except (Changed, NotFound) as error:
            log.debug("jobs: %s", error)
        except NotTaken as error:
            self._refusals.note(attempt, error)
        except Unavailable as error:
            look.unanswered.append(error)
            if len(look.unanswered) >= UNANSWERED:
                raise
        else:
            self._refusals.clear(attempt)
            return True
        return False


def _used(
    asking: Iterable[Asking], going: Iterable[Going], found: Admission, jobs: Mapping[str, Job], tenancy: Tenancy
) -> dict[Tenant, Counter[str]]:
    """What the jobs of each tenant use on each node, as Kueue counts it."""
    used: dict[Tenant, Counter[str]] = {}
    nodes = {one.id: one.nodes for one in going if one.counted and one.id not in found.recall}
    nodes |= {start.job: start.nodes for start in found.start}
    nodes |= {one.id: one.nodes for one in asking if one.id in found.wait and one.nodes}
    for attempt, places in nodes.items():
        job = jobs[attempt]
        count = used.setdefault(tenancy.tenant(job), Counter())
        for node in places:
            count[node] += job.units
    return used


def _by_attempt(found: Iterable[Workload]) -> dict[str, Workload]:
    """Of each attempt its Workload; one that is over counts only where there is no other."""
    return {one.attempt: one for one in sorted(found, key=lambda one: not one.finished)}


def _out_of_place(site: Site, job: Job, known: Workload | None) -> bool:
    """Whether it can't start where it stands: Kueue has given it up, or it is in a queue that is not its own."""
    if known is None:
        return False
    return bool(known.lost) or known.finished or known.queue != Tenancy.of(site, job.resource).queue(job)


def _order(site: Site, job_id: str) -> Order | None:
    """The order for the next attempt of a job; None where it does not wait any more."""
    with read(site.engine) as connection:
        job = store.find(connection, job_id)
        if job is None or job.state() != "queued" or job.cancel_asked_at is not None:
            return None
        limit = quotas.log_limit(connection, site, job, orders.LOG_LIMIT)
        return orders.waiting_order(connection, site, job, log_limit=limit)
