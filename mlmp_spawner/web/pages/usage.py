"""What was booked, and what of it was used."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any, get_args
from urllib.parse import urlencode

from mlmp_spawner import units
from mlmp_spawner.errors import Invalid, MLMPError
from mlmp_spawner.operations.usage import By
from mlmp_spawner.rules import days
from mlmp_spawner.rules.reservations import Interval
from mlmp_spawner.units import HOUR
from mlmp_spawner.web import plots
from mlmp_spawner.web.api import usage as api
from mlmp_spawner.web.api.timeline import day_from
from mlmp_spawner.web.pages.base import Page

PERIODS = {"week": "This week", "last-week": "Last week", "month": "This month", "last-month": "Last month"}


class Usage(Page):
    """``?period=`` or ``?from=&to=`` (days, both counted), ``&by=&resource=``."""

    here = "usage"

    async def get(self) -> None:
        """Shows it."""
        try:
            await self._show(self.query())
        except MLMPError as error:
            if error.status >= 500:
                raise
            self.set_status(error.status)
            await self._show({}, problem=error)

    async def _show(self, said: dict[str, str], *, problem: MLMPError | None = None) -> None:
        by = self._by(said.get("by"))
        first, last = self._days(said)
        window = days.window(first, (last - first).days + 1, self.zone)
        resource = said.get("resource") or None
        found = await api.spent(self.context, self.me, window, by=by, zone=self.zone, now=self.now, resource=resource)
        shows_house = self.me.is_admin or self.context.settings.show_owners
        most = max((spent.taken for _, spent in found.rows), default=0)
        self.render_page(
            "usage.html",
            found=found,
            rows=[(name, spent, plots.across(spent, most)) for name, spent in found.rows],
            plot=plots.plot(found.days, self.zone),
            height=plots.HEIGHT,
            first=first,
            last=last,
            period=said.get("period", "" if said.get("from") else "week"),
            periods=[(name, title, self._link(said, period=name)) for name, title in PERIODS.items()],
            by=by,
            ways=[(name, self._link(said, by=name)) for name in self._ways()],
            resource=resource,
            resources=self._resources(),
            asked={name: said[name] for name in ("by", "resource") if said.get(name)},
            capacity=found.capacity if shows_house else None,
            hours=hours,
            csv=self._csv(window, by, resource),
            problem=problem.problem() if problem else None,
            **await self.live(),
        )

    def _ways(self) -> list[By]:
        """Who sees only their own use has no rows by user."""
        return [way for way in get_args(By) if way != "user" or self.me.is_admin]

    def _by(self, said: str | None) -> By:
        return next((way for way in self._ways() if way == said), self._ways()[0] if self.me.is_admin else "profile")

    def _resources(self) -> list[str]:
        """What to choose from; empty where there is nothing to choose."""
        found = {a.resource for node in self.site.catalog.nodes.values() for a in node.accelerators}
        return sorted(found) if len(found) > 1 else []

    def _days(self, said: dict[str, str]) -> tuple[date, date]:
        """The first and the last day.

        :raises Invalid: they make no sense.
        """
        if said.get("from") or said.get("to"):
            last = day_from(said.get("to") or None, self.zone, self.now)
            first = day_from(said["from"], self.zone, self.now) if said.get("from") else last - timedelta(days=6)
            if last < first:
                raise Invalid.field("to", "the last day is before the first")
            return first, last
        today = days.day_of(self.now, self.zone)
        period = said.get("period", "week")
        if period.endswith("week"):
            first = today - timedelta(days=today.weekday() + (7 if period == "last-week" else 0))
            return first, first + timedelta(days=6)
        first = today.replace(day=1)
        if period == "last-month":
            last = first - timedelta(days=1)
            return last.replace(day=1), last
        return first, (first + timedelta(days=31)).replace(day=1) - timedelta(days=1)

    def _link(self, said: dict[str, str], **changed: str) -> str:
        kept = {} if "period" in changed else {n: said[n] for n in ("period", "from", "to") if said.get(n)}
        kept |= {name: said[name] for name in ("by", "resource") if said.get(name)}
        return f"{self.context.prefix}usage?{urlencode(kept | changed)}"

    def _csv(self, window: Interval, by: By, resource: str | None) -> str:
        query: dict[str, Any] = {"from": units.to_iso(window.start), "to": units.to_iso(window.end), "by": by,
                                 "zone": str(self.zone), "format": "csv"}  # fmt: skip
        return f"{self.context.api_prefix}usage?{urlencode(query | ({'resource': resource} if resource else {}))}"


def hours(ms: int) -> str:
    """Unit-hours for people: "24 min", "4.5 h", "12 h", "1,204 h"."""
    amount = ms / HOUR
    if 0 < amount < 1:
        return f"{min(59, max(1, round(amount * 60)))} min"
    return f"{amount:,.1f} h" if 0 < amount < 10 and round(amount, 1) != round(amount) else f"{round(amount):,} h"
