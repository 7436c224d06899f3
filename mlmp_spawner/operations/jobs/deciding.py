"""Who of those that wait starts now: from the database to the rules of the queue, and back.

Jobs inside a booking of their owner stand in no queue: they start as soon as the booking is active and has room.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

from sqlalchemy import Connection

from mlmp_spawner.operations import planning
from mlmp_spawner.operations.jobs import inside, quotas, usage
from mlmp_spawner.operations.jobs.starting import Where
from mlmp_spawner.operations.site import Site
from mlmp_spawner.rules import job_queue
from mlmp_spawner.rules.job_queue import Outlook, Running, Waiting, Why
from mlmp_spawner.rules.jobs import Attempt, Job
from mlmp_spawner.rules.placement import Board, Taken
from mlmp_spawner.rules.reservations import Interval
from mlmp_spawner.rules.scans import throttle
from mlmp_spawner.store import jobs as store
from mlmp_spawner.store import reservations, scans
from mlmp_spawner.store.transaction import read
from mlmp_spawner.units import DAY, MINUTE

HORIZON = 14 * DAY
"""How far ahead the calendar is read beyond the longest job's time, for the estimates."""

FRESH = MINUTE
"""After so long it is decided anew in any case: limits may have changed, and the shares of what runs."""


@dataclass(frozen=True, slots=True)
class Decided:
    """Who starts now and where, in this order; the outlook of the others; whose booking is over; who belongs to
    nobody any more; whose scan was cancelled.

    ``seen``: what of the database it rests on; ``until``: the instant (ms UTC) at which time alone makes it stale.
    ``turns``: all that wait outside bookings, in the order of their turns; ``live``: what is under way; ``boards``: of
    each resource of these the nodes with all that is held; ``allowed``: the most units of an owner's jobs at once.
    """

    seen: tuple[object, ...]
    until: int
    starts: tuple[tuple[Job, Where], ...] = ()
    outlook: Mapping[str, Outlook] = field(default_factory=dict)
    too_late: tuple[Job, ...] = ()
    nobodys: tuple[Job, ...] = ()
    turns: tuple[Job, ...] = ()
    live: tuple[tuple[Job, Attempt], ...] = ()
    boards: Mapping[str, Sequence[Board]] = field(default_factory=dict)
    allowed: Mapping[str, int] = field(default_factory=dict)
    called_off: tuple[Job, ...] = ()


def decide(site: Site, half_life: int, now: int, *, last: Decided | None = None) -> Decided | None:
    """Reads what waits and what is taken, and decides. Nothing is written.

    :param last: what was decided last, if all of that was done; None is returned where it still holds.
    """
    with read(site.engine) as connection:
        known_scans = scans.of_open(connection)
        seen = (
            store.versions_of_open(connection),
            reservations.versions_of_all(connection),
            id(site.catalog),
            known_scans,
        )
        if last is not None and last.seen == seen and now < last.until:
            return None
        queued = [job for job in store.queued_briefly(connection) if job.cancel_asked_at is None]
        nobodys = tuple(job for job in queued if job.owner_id is None)
        queued = [job for job in queued if job.owner_id is not None]
        live = [(job, job.live) for job in store.live_jobs(connection) if job.live is not None]
        turn = throttle(queued, [job for job, _ in live], known_scans)
        within = inside.decide(connection, [job for job in turn.now if job.inside is not None], now)
        outside = [job for job in turn.now if job.inside is None]
        apart = inside.apart(connection, outside, now)
        late = {job.id for job in apart.over}
        outside = [job for job in outside if job.id not in late]
        shares = usage.shares(connection, live, now, half_life)
        allowed = quotas.units_allowed(connection, site, outside)
        boards = _boards(connection, outside, live, now)
    decision = job_queue.decide(
        _waiting(site, outside), boards, shares, now, running=_running(live), quotas=allowed
    )  # fmt: skip
    known = {job.id: job for job in outside}
    starts = [(known[one.job], Where(one.nodes, one.stop_at, one.kill_at)) for one in decision.starts]
    until = min([now + FRESH, *within.turns, *apart.turns, *_instants(boards, now)])
    later = {job: Outlook(None, Why("scan", quota=at_once)) for job, at_once in turn.later.items()}
    outlook = within.outlook | decision.outlook | later
    turns = tuple(known[one] for one in decision.turns)
    return Decided(
        seen,
        until,
        (*within.starts, *starts),
        outlook,
        (*within.over, *apart.over),
        nobodys,
        turns,
        tuple(live),
        boards,
        allowed,
        turn.called_off,
    )


def _instants(boards: Mapping[str, Sequence[Board]], now: int) -> Iterator[int]:
    """When something begins or ends on the nodes."""
    for board in chain.from_iterable(boards.values()):
        for interval in (*(taken.interval for taken in board.taken), *board.outages):
            yield from (instant for instant in (interval.start, interval.end) if instant > now)


def _waiting(site: Site, queued: Iterable[Job]) -> list[Waiting]:
    profiles = site.catalog.profiles
    nodes = {name: frozenset(planning.nodes_of(site, name)) for name in profiles}
    return [Waiting.of(job, nodes.get(job.profile, frozenset())) for job in queued]


def _running(live: Iterable[tuple[Job, Attempt]]) -> list[Running]:
    return [
        Running(job.owner, job.group, job.units * job.workers, attempt.kill_at)
        for job, attempt in live
        if job.inside is None
    ]


def _boards(
    connection: Connection, waiting: Iterable[Job], live: Sequence[tuple[Job, Attempt]], now: int
) -> dict[str, Sequence[Board]]:
    """Of each resource all nodes, with all that is held from now on."""
    jobs = [*waiting, *(job for job, _ in live)]
    overdue = _overdue(connection, live, now)
    boards: dict[str, Sequence[Board]] = {}
    for resource in sorted({job.resource for job in jobs}):
        longest = max(job.length + job.grace for job in jobs if job.resource == resource)
        nodes = reservations.capacities(connection, resource)
        found = planning.view(connection, resource, nodes, Interval(now, now + longest + HORIZON)).boards
        boards[resource] = [_with(board, overdue.get((resource, board.node), ())) for board in found]
    return boards


def _overdue(
    connection: Connection, live: Iterable[tuple[Job, Attempt]], now: int
) -> dict[tuple[str, str], list[Taken]]:
    """Of each resource and node what jobs still hold that nobody saw end, though their time is over: a pod may hang.

    Nobody knows for how long: what there is then is decided once :data:`FRESH` is over.
    """
    found: dict[tuple[str, str], list[Taken]] = {}
    still = Interval(now, now + FRESH)
    for job, attempt in live:
        if attempt.kill_at <= now and job.inside is None:
            for node, workers in Counter(place["node"] for place in store.places_of(connection, attempt)).items():
                held = Taken(attempt.reservation, job.units * workers, still)
                found.setdefault((job.resource, node), []).append(held)
    return found


def _with(board: Board, more: Sequence[Taken]) -> Board:
    return replace(board, taken=(*board.taken, *more)) if more else board
