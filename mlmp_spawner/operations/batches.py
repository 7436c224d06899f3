"""Of jobs that were submitted together their owner is told by one mail, not by hundreds.

What is to be sent of each waits until all of them are over, and goes out together. On pages each has a notice of its
own, at once.
"""

from __future__ import annotations

from sqlalchemy import ColumnElement, Connection, and_, func, or_, select

from mlmp_spawner.operations.notices import Notice
from mlmp_spawner.store.tables import delivery, job, notice
from mlmp_spawner.units import DAY, MINUTE, SECOND

LOOK = MINUTE
"""How long (ms) until it is looked again whether all are over."""

SETTLE = 30 * SECOND
"""How long (ms) after the last end more may come: many are submitted one after the other."""

LONGEST = DAY
"""How long (ms) anything waits at most: then is told what there is, though some still run."""


def batch_of(one: Notice) -> str | None:
    """The id under which the job of a notice was submitted with others."""
    batch = one.details.get("batch")
    return batch if isinstance(batch, str) else None


def waits_until(connection: Connection, one: Notice, now: int) -> int | None:
    """Until when (ms UTC) what is said of a job of a batch waits for the others; None: it is time."""
    if now >= one.at + LONGEST:
        return None
    # People choose the ids of their batches: somebody else's may have the same.
    mine = (job.c.batch == batch_of(one), job.c.owner_id == one.user_id)
    still_open = func.count().filter(job.c.ended_at.is_(None))
    left, last = connection.execute(select(still_open, func.max(job.c.ended_at)).where(*mine)).one()
    if left:
        return now + LOOK
    settled = (last or 0) + SETTLE
    return settled if now < settled else None


def free(one: Notice, channel: str, address: str, now: int) -> ColumnElement[bool]:
    """The deliveries to this address of all jobs of the batch that are still to be sent, and nobody sends just now."""
    c = delivery.c
    same = (notice.c.user_id == one.user_id, notice.c.details["batch"].as_string() == batch_of(one))
    unsent = and_(c.sent_at.is_(None), c.given_up_at.is_(None), or_(c.claimed_until.is_(None), c.claimed_until <= now))
    return and_(c.notice.in_(select(notice.c.id).where(*same)), c.channel == channel, c.address == address, unsent)
