"""The machines: what is taken of each, when it is away, and the form for maintenance and drain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from mlmp_spawner.errors import Invalid, MLMPError
from mlmp_spawner.operations import outages, planning
from mlmp_spawner.operations.cluster_view import beside
from mlmp_spawner.operations.node_states import NodeState, node_states
from mlmp_spawner.operations.outages import NO_END, Report, Wanted
from mlmp_spawner.operations.site import Site
from mlmp_spawner.rules.nodes import is_automatic
from mlmp_spawner.rules.reservations import Interval, Outage, Reservation
from mlmp_spawner.store.transaction import read
from mlmp_spawner.units import DAY
from mlmp_spawner.web.pages.admin.base import AdminPage

AHEAD = 14 * DAY
"""How far ahead it is looked when what is free now will change."""

LONGEST_REASON = 200

FIELDS = ("start", "end", "reason", "bookings", "version", "ended")
"""Of the form; ``ended`` is the id of an outage that is to end."""


@dataclass(frozen=True, slots=True)
class Until:
    """How many units are free now, and until when that stays so (ms UTC); None: for two weeks at least."""

    free: int
    until: int | None


def free_until(site: Site, states: list[NodeState], *, now: int) -> dict[tuple[str, str], Until]:
    """For each node and resource, what is free of it now; what preemptible jobs use is."""
    found = {}
    window = Interval(now, now + AHEAD)
    names = [state.name for state in states]
    with read(site.engine) as connection:
        for resource in sorted({units.resource for state in states for units in state.units}):
            for board in planning.view(connection, resource, names, window).boards:
                steps = board.for_bookings().steps(window)
                end = next((step.end for step, after in pairwise(steps) if step.free != after.free), None)
                found[board.node, resource] = Until(steps[0].free, end)
    return found


class Machines(AdminPage):
    """All nodes; on a cluster also how the catalog differs from it, and pods that nobody booked for."""

    tab = "admin"

    async def get(self) -> None:
        """Shows them."""
        await self.show()

    async def show(self, *, problem: MLMPError | None = None) -> None:
        """What each has, and when it is away."""
        states = await self.context.run(node_states, self.site, now=self.now)
        free = await self.context.run(free_until, self.site, states, now=self.now)
        look = self.context.activity().cluster
        known = beside(self.site.catalog, look) if look else None
        differences = {one.name: one.differences for one in known.nodes} if known else {}
        await self.render_admin(
            "admin_machines.html", problem=problem, states=states, free=free, no_end=NO_END, look=look, known=known,
            differences=differences, is_automatic=is_automatic,
        )  # fmt: skip


class Machine(AdminPage):
    """One node: its outages, a form for another one, and what that would do before it is done."""

    @property
    def address(self) -> str:
        """With its name, also before the page knows whether it may be seen."""
        return f"admin/machines/{self.node}"

    @property
    def node(self) -> str:
        """The node's name, as the address has it."""
        return self.path_args[0]

    async def get(self, node: str) -> None:
        """Shows it; with a query, what the outage that it asks for would do."""
        report, problem = None, None
        if asked := self._asked():
            try:
                report = await self._set(asked, dry_run=True)
            except MLMPError as error:
                problem = error
                self.set_status(error.status)
        await self.show(problem=problem, report=report)

    async def post(self, node: str) -> None:
        """Makes an outage, or ends one."""
        try:
            await self._set({name: self.field(name) for name in FIELDS}, dry_run=False)
        except MLMPError as error:
            await self.refuse(error)
            return
        self.context.feed.wake()
        self.context.changed()
        self.go(f"admin/machines/{node}", done="away")

    def saved(self, done: str) -> str | None:
        """When it is away."""
        return f"This is when {self.node} is away." if done == "away" else None

    async def show(self, *, problem: MLMPError | None = None, report: Report | None = None) -> None:
        """The node, and where there is a ``report``, what would become of whom."""
        known = await self.context.run(outages.get, self.site, self.node, now=self.now)
        await self.render_admin(
            "admin_machine.html", problem=problem, node=self.node, known=known, report=report, no_end=NO_END,
            is_automatic=is_automatic, hits=await self._hits(report) if report else [], asked=self._asked(),
        )  # fmt: skip

    def _asked(self) -> dict[str, str]:
        """The outage that the query asks for; nothing where it asks for none."""
        said = self.query()
        return {name: said.get(name, "") for name in FIELDS} if "bookings" in said else {}

    async def _set(self, asked: Mapping[str, str], *, dry_run: bool) -> Report:
        """:raises MLMPError: what is asked for makes no sense, or not any more."""
        known = await self.context.run(outages.get, self.site, self.node, now=self.now)
        report: Report = await self.context.run(
            outages.set_outages, self.site, self.node, self._wanted(known, asked), actor=self.me.actor(),
            now=self.now, bookings="keep" if asked["bookings"] == "keep" else "move", dry_run=dry_run,
            if_match=asked["version"] or None,
        )  # fmt: skip
        return report

    async def _hits(self, report: Report) -> list[dict[str, Any]]:
        rows: list[Reservation] = [hit.reservation for hit in report.hits]
        shown = await self.shown(rows, extend=False)
        return [{"view": one, "outcome": hit.outcome} for one, hit in zip(shown, report.hits, strict=True)]

    def _wanted(self, known: Report, asked: Mapping[str, str]) -> list[Wanted]:
        """All outages as they should be.

        :raises Invalid: a time or a reason that makes no sense.
        """
        if asked["ended"]:
            return [_as_it_is(one) for one in known.outages if one.id != asked["ended"]]
        reason = asked["reason"].strip()
        if len(reason) > LONGEST_REASON or not reason.isprintable():
            raise Invalid.field("reason", f"at most {LONGEST_REASON} printable characters in one line")
        start, end = self.instant("start", asked["start"]), self.instant("end", asked["end"])
        return [*(_as_it_is(one) for one in known.outages), Wanted(start, end, reason)]


def _as_it_is(one: Outage) -> Wanted:
    return Wanted(one.start, None if one.end >= NO_END else one.end, one.reason)
