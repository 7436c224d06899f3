"""Several jobs side by side: one plot for each metric, and what was set differently."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlencode

from mlmp_spawner.errors import Invalid, MLMPError
from mlmp_spawner.operations.jobs import listing
from mlmp_spawner.rules.jobs import Job
from mlmp_spawner.web import job_charts, job_views
from mlmp_spawner.web.job_plots import DASHES, LOOKS, Chart
from mlmp_spawner.web.pages.job import MOST_CHARTS
from mlmp_spawner.web.pages.jobs import JobPage

MOST = 20
"""How many can be compared at once."""

_ID = re.compile(r"[a-z0-9]{1,30}")


class CompareJobs(JobPage):
    """``?job=ID&job=ID…&by=time``."""

    @property
    def address(self) -> str:
        """Below the list."""
        return "jobs/compare"

    async def get(self) -> None:
        """Shows it."""
        try:
            await self._show(await self._chosen())
        except MLMPError as error:
            if error.status >= 500:
                raise
            self.set_status(error.status)
            await self._show([], problem=error)

    async def _chosen(self) -> list[Job]:
        """Those that the query names, in its order; what is gone or somebody else's is left out.

        :raises Invalid: too many.
        """
        wanted = list(dict.fromkeys(one for one in self.get_query_arguments("job") if _ID.fullmatch(one)))
        if len(wanted) > MOST:
            raise Invalid.field("job", f"{len(wanted)} are too many to compare; choose {MOST} at most")
        found = await self.context.run(listing.by_ids, self.site, wanted)
        mine = [found[name] for name in wanted if name in found]
        return [job for job in mine if listing.is_own(job, self.me.name)]

    async def _show(self, jobs: list[Job], *, problem: MLMPError | None = None) -> None:
        rows = [self.shown_job(job) for job in jobs]
        by_time = self.get_query_argument("by", "") == "time"
        measured = [(job.name, await self.measured(job)) for job in jobs]
        charts = job_charts.compared(measured, by_time=by_time)[:MOST_CHARTS]
        differs, same = job_views.compared([job_views.settings_of(job.manifest) for job in jobs])
        live = await self.live()
        looks = [at for at in (job_views.next_look(rows, self.now), live["next"]) if at is not None]
        self.render_page(
            "job_compare.html",
            rows=rows,
            charts=charts,
            by_time=by_time,
            looks=LOOKS,
            dashes=DASHES,
            query=_query(jobs),
            without=[_query([other for other in jobs if other is not job]) for job in jobs],
            differs=differs,
            same=same,
            last=[(one, _cells(one, len(jobs))) for one in charts],
            problem=problem.problem() if problem else None,
            **live | {"next": min(looks, default=None)},
        )


def _query(jobs: list[Job]) -> str:
    return urlencode([("job", job.id) for job in jobs])


def _cells(one: Chart, count: int) -> list[Any]:
    last = {line.number: line.last for line in one.lines}
    return [last.get(number) for number in range(count)]
