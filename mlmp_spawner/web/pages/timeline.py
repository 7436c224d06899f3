"""The timeline: a list that is whole without a script; ``static/timeline`` draws the same as a grid."""

from __future__ import annotations

from datetime import timedelta, tzinfo
from functools import cached_property
from typing import Any
from urllib.parse import urlencode

from mlmp_spawner.errors import Invalid, MLMPError
from mlmp_spawner.operations import timeline as operation
from mlmp_spawner.rules import days
from mlmp_spawner.rules.catalog import Profile
from mlmp_spawner.web.agenda import agenda
from mlmp_spawner.web.api import timeline as api
from mlmp_spawner.web.pages.base import Page
from mlmp_spawner.web.times import find_zone, local

VIEWS = {"day": (1, "Day"), "3days": (3, "3 days"), "week": (7, "Week")}
"""Days and title of each view."""

UPCOMING = 8
"""How many of one's own next bookings stand before the list."""


class Timeline(Page):
    """A day or a week of all nodes. The address says which: ``?date=&view=&profile=&model=&zone=&show=``."""

    here = "timeline"

    @cached_property
    def zone(self) -> tzinfo:
        """The one that the address names, else the viewer's."""
        wanted = self.get_query_argument("zone", "")
        if not wanted:
            return super().zone
        if (found := find_zone(wanted)) is None:
            raise Invalid.field("zone", "write the IANA name of a zone, such as Europe/Zurich")
        return found

    async def get(self) -> None:
        """Shows it."""
        await self.show()

    async def show(self, *, problem: MLMPError | None = None) -> None:
        """The list, and the ways to other days."""
        said, site = self.query(), self.site
        view = said.get("view", "day")
        count = VIEWS.get(view, VIEWS["day"])[0]
        first = api.day_from(said.get("date") or None, self.zone, self.now)
        window = days.window(first, count, self.zone)
        open_to_me = self._profiles()
        wanted = [p for p in open_to_me if p.name == said.get("profile")] or open_to_me
        found = await self.context.run(
            operation.timeline, site, window, viewer=self.me.name, profiles=wanted, model=said.get("model") or None
        )
        live = await self.live()
        today = days.day_of(self.now, self.zone)
        steps = {"back": first - timedelta(days=count), "on": first + timedelta(days=count)}
        self.render_page(
            "timeline.html",
            found=found,
            agenda=agenda(found, site.catalog, wanted, window, zone=self.zone, now=self.now),
            summary=api.in_a_line(found, now=self.now, zone=self.zone),
            window=window,
            period=self._period(window.start, window.end - 1),
            profiles=open_to_me,
            models=operation.models(site, open_to_me),
            first=first,
            view=view if view in VIEWS else "day",
            views=[(name, title, self._link(view=name)) for name, (_, title) in VIEWS.items()],
            links={name: self._link(date=day.isoformat()) for name, day in steps.items()}
            | {"today": self._link(date=""), "grid": self._link(show=""), "list": self._link(show="list")},
            is_today=first == today,
            asked=said,
            upcoming=UPCOMING,
            zone_fixed=bool(said.get("zone")),
            show_owners=self.context.settings.show_owners or self.me.is_admin,
            site_zone=self.context.settings.zone,
            zone_links={"site": self._link(zone=self.context.settings.zone), "own": self._link(zone="")},
            problem=problem.problem() if problem else None,
            **live | {"did": await self.did()},
        )

    def _profiles(self) -> list[Profile]:
        catalog = self.site.catalog
        return list(catalog.profiles.values()) if self.me.is_admin else catalog.profiles_for(self.me.groups)

    def _link(self, **changed: str) -> str:
        """This page with something else chosen."""
        names = ("date", "view", "profile", "model", "zone", "show")
        chosen = {name: value for name, value in self.query().items() if name in names} | changed
        if chosen.get("view") == "day":
            chosen["view"] = ""
        query: dict[str, Any] = {name: chosen[name] for name in names if chosen.get(name)}
        return f"{self.context.prefix}timeline{'?' if query else ''}{urlencode(query)}"

    def _period(self, start: int, last: int) -> str:
        """The days that are shown, as a heading: "Tue 24 Nov 2026", "24 – 30 Nov 2026"."""
        begin, end = local(start, self.zone), local(last, self.zone)
        if begin.date() == end.date():
            return f"{begin:%A} {begin.day} {begin:%B %Y}"
        month = "" if begin.month == end.month else f" {begin:%B}"
        year = "" if begin.year == end.year else f" {begin:%Y}"
        return f"{begin.day}{month}{year} – {end.day} {end:%B %Y}"
