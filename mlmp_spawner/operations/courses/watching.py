"""What would keep the classes of the next day from beginning in time is seen before, and told to who teaches them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

import psutil
from sqlalchemy import select

from mlmp_spawner import units
from mlmp_spawner.operations import history
from mlmp_spawner.operations.courses import placing
from mlmp_spawner.operations.image_states import Look
from mlmp_spawner.operations.site import CLOCK, Site
from mlmp_spawner.operations.watch import Activity
from mlmp_spawner.rules import class_problems as rules
from mlmp_spawner.rules.preload import there
from mlmp_spawner.store import classes as store
from mlmp_spawner.store import reservations
from mlmp_spawner.store.classes import Booked
from mlmp_spawner.store.tables import history as history_table
from mlmp_spawner.store.transaction import read, transaction
from mlmp_spawner.units import DAY, SECOND

log = logging.getLogger(__name__)

EVERY = 30 * SECOND
AHEAD = DAY
"""How long before a class begins it is looked at."""

PROBLEM = "class_problem"
"""The action in the history."""


class ClassWatch:
    """Looks at what classes will need. ``last``: what is wrong, by class.

    :param activity: gives the last look at machine or cluster. :param images: that at images on nodes, None where
        servers run in none. :param data: the directory with everybody's files, "" where it is not on this machine.
    """

    def __init__(
        self,
        site: Callable[[], Site],
        *,
        activity: Callable[[], Activity],
        images: Callable[[], Look | None],
        data: str,
    ) -> None:
        self.site, self.activity, self.images, self.data = site, activity, images, data
        self.last: dict[str, list[str]] = {}

    async def run(self) -> None:
        """Looks again and again; no failure ends it."""
        while True:
            try:
                await asyncio.to_thread(self.look, units.now())
            except Exception:
                log.exception("looking at what classes need failed; tried again")
            await asyncio.sleep(EVERY / 1000)

    def look(self, now: int) -> dict[str, list[str]]:
        """One look; what is new is told to the instructors."""
        site = self.site()
        with read(site.engine) as connection:
            to_come = store.to_come(connection, now, now + AHEAD)
        found = {row.id: self.problems(site, (one, row), now) for one, row in to_come}
        for class_id, said in found.items():
            if said:
                _tell(site, class_id, said, now)
        self.last = {class_id: said for class_id, said in found.items() if said}
        return self.last

    def problems(self, site: Site, booked: Booked, now: int) -> list[str]:
        """What is wrong for one class."""
        one, row = booked
        on = [node for node, seats in placing.there(row, now).items() if seats]
        found = rules.missing(one.seats, sum(placing.there(row, now).values()))
        cluster, images = self.activity().cluster, self.images()
        if cluster is not None and cluster.at is not None:
            found += rules.of_nodes(on, {node.name: node for node in cluster.nodes})
        image = site.catalog.image_of(row.profile, row.image)
        if image is not None and images is not None and images.at is not None:
            seen = [there(node, image.reference, images.nodes.get(node), images.pods, images.refused) for node in on]
            found += rules.of_image(image.name, seen)
        if self.data and Path(self.data).exists():
            found += rules.of_disk(", ".join(sorted(on)) or "this machine", psutil.disk_usage(self.data).free)
        return found


def _tell(site: Site, class_id: str, said: list[str], now: int) -> None:
    """Writes it into the history, from which the instructors are told, where it is more than was told last."""
    c = history_table.c
    former = select(c.details).where(c.reservation == class_id, c.action == PROBLEM).order_by(c.id.desc()).limit(1)
    with transaction(site.engine) as connection:
        last = connection.execute(former).scalar()
        row = reservations.find(connection, class_id)
        if row is None or row.state(now) == "ended" or not rules.is_new(said, last["problems"] if last else ()):
            return
        log.warning("class %s of %s: %s", class_id, row.owner, " ".join(said))
        history.record(connection, PROBLEM, actor=CLOCK.name, at=now, reservation=row, problems=said)
