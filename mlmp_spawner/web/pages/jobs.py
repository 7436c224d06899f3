"""The queue, and what all pages of jobs share."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, cast
from urllib.parse import urlencode

from mlmp_spawner.errors import MLMPError
from mlmp_spawner.jobs import metrics
from mlmp_spawner.operations.jobs import listing
from mlmp_spawner.operations.jobs.listing import Wanted
from mlmp_spawner.operations.planning import nodes_of
from mlmp_spawner.rules import job_queue
from mlmp_spawner.rules.job_queue import Outlook, Waiting
from mlmp_spawner.rules.jobs import Job
from mlmp_spawner.web import job_plots, job_views
from mlmp_spawner.web.api.job_logs import numbers
from mlmp_spawner.web.job_charts import Measured
from mlmp_spawner.web.job_views import ShownJob
from mlmp_spawner.web.pages.base import Page
from mlmp_spawner.web.times import said

OWNERS = {"mine": "Mine", "everybody": "Everybody's"}
STATES = {"open": "Open", "running": "Running", "queued": "Waiting", "ended": "Over", "all": "All"}
"""What the list can be narrowed to."""

LIVE: tuple[Wanted, ...] = ("running", "starting", "stopping")

AT_ONCE = 50

ENDED_LAST = 3
"""So many of those that are over are shown where none runs or waits."""

MOST_LIVE = 200
"""Of those that run, in each state, so many are shown at once."""


class JobPage(Page):
    """What the pages of jobs share."""

    here = "jobs"

    @property
    def template_namespace(self) -> dict[str, Any]:
        """What their templates need besides."""
        return super().template_namespace | {
            "job_time": job_views.in_words,
            "ran": job_views.ran,
            "how_it_ended": job_views.how_it_ended,
            "plot_height": job_plots.HEIGHT,
            "plot_width": job_plots.WIDTH,
            "done_job": None,
            "done": "",
        }

    def shown_job(self, job: Job) -> ShownJob:
        """A job as this viewer may see it."""
        catalog, jobs = self.site.catalog, self.context.jobs
        profile = catalog.profiles.get(job.profile)
        title = profile.title if profile else job.profile
        own = listing.is_own(job, self.me.name)
        outlook = jobs.outlook(job.id) if jobs is not None and job.state() == "queued" else None
        return ShownJob(
            job=job,
            now=self.now,
            title=title,
            own=own,
            mine=own or self.me.is_admin,
            owner=job.owner if own or self.me.is_admin or self.context.shows_owners(self.me) else "",
            simulated=catalog.simulated(job.resource),
            start=outlook.start if outlook else None,
            why=self._why(job, outlook, title),
        )

    def _why(self, job: Job, outlook: Outlook | None, title: str) -> str:
        """Why a job waits, on the viewer's clock."""
        if job.inside is not None:
            return "It starts as soon as the booking in which it is to run has begun and has room."
        if outlook is None:
            return ""
        nodes = nodes_of(self.site, job.profile) if job.profile in self.site.catalog.profiles else []
        clock = partial(said, show="clock", now=self.now, zone=self.zone)
        return job_queue.sentence(outlook, Waiting.of(job, nodes).shape, title, clock)

    async def own_job(self, wanted: str) -> Job:
        """A job of the caller's; an admin's are all.

        :raises NotFound, NotAllowed: there is none, or it is somebody else's.
        """
        return await self.context.run(listing.get_own, self.site, wanted, self.me.actor())

    async def measured(self, job: Job) -> Measured:
        """What a job measured, over all its attempts; nothing where that is not the caller's to see."""
        jobs = self.context.kept_jobs
        if jobs is None or not listing.is_own(job, self.me.name):
            return {}
        ids = [one.id for one in job.attempts]
        return await numbers(self.context, jobs, self.me.name, metrics.measured, jobs.files, ids, job.manifest)

    async def done_of(self) -> ShownJob | None:
        """The job that was cancelled just now, by the redirect's query."""
        wanted = self.get_query_argument("id", "")
        if self.get_query_argument("did", "") != "job_cancelled" or not wanted.isalnum():
            return None
        try:
            return self.shown_job(await self.own_job(wanted))
        except MLMPError:
            return None


class Jobs(JobPage):
    """``?show=mine|everybody&state=&batch=&cursor=``."""

    async def get(self) -> None:
        """Shows it."""
        await self.show()

    async def show(self, *, problem: MLMPError | None = None) -> None:
        """The list, newest first; open ones in the order in which they run and will start."""
        asked = self.query()
        whose = "everybody" if asked.get("show") == "everybody" and not self.me.is_guest else "mine"
        state = asked.get("state", "open")
        state = state if state in STATES else "open"
        mine = self.me.name if whose == "mine" else None
        found, cursor = await self._found(asked, state, mine)
        counts = await self.context.run(listing.counts, self.site, mine)
        rows = [self.shown_job(job) for job in found]
        if state in ("open", "running"):
            rows.sort(key=_soonest)
        none_open = state == "open" and not rows and "cursor" not in asked
        last = await self._ended_last(mine) if mine and none_open else []
        live = await self.live()
        self.render_page(
            "jobs.html",
            rows=rows,
            last=last,
            over=self._link(asked, state="ended"),
            whose=whose,
            state=state,
            summary=job_views.summary(counts, mine=mine is not None),
            owners=[
                (name, word, self._link(asked, show=name)) for name, word in OWNERS.items() if not self.me.is_guest
            ],
            states=[(name, word, self._link(asked, state=name)) for name, word in STATES.items()],
            comparable=any(one.own and one.job.attempts for one in rows),
            later="cursor" in asked,
            newest=self._link(asked),
            more=self._link(asked, cursor=cursor) if cursor else "",
            example=self._example(),
            problem=problem.problem() if problem else None,
            **live | {"done_job": await self.done_of(), "next": self._next(rows, live["next"])},
        )

    async def _found(self, asked: dict[str, str], state: str, owner: str | None) -> tuple[list[Job], str | None]:
        """One page, and the cursor of the next. Those that run, begin or end are all on the first one."""
        states: list[Wanted | None] = [None if state == "all" else cast(Wanted, state)]
        if state in ("open", "running"):
            waiting: list[Wanted] = ["queued"] if state == "open" else []
            states = [*([] if asked.get("cursor") else LIVE), *waiting]
        found: list[Job] = []
        cursor = None
        for one in states:
            page, cursor = await self.context.run(
                listing.page, self.site, owner=owner, state=one, batch=asked.get("batch"), cursor=asked.get("cursor"),
                limit=MOST_LIVE if one in LIVE else AT_ONCE,
            )  # fmt: skip
            found += page
        return found, None if state == "running" else cursor

    async def _ended_last(self, owner: str) -> list[ShownJob]:
        """Who comes to look after a job may come after its end."""
        found, _ = await self.context.run(listing.page, self.site, owner=owner, state="ended", limit=ENDED_LAST)
        return [self.shown_job(job) for job in found]

    def _link(self, asked: dict[str, str], **changed: str) -> str:
        kept = {name: asked[name] for name in ("show", "state", "batch") if asked.get(name)}
        query = urlencode(kept | changed)
        return f"{self.context.prefix}jobs{'?' if query else ''}{query}"

    def _next(self, rows: Sequence[ShownJob], bookings: int | None) -> int | None:
        jobs = job_views.next_look(rows, self.now)
        return min((at for at in (jobs, bookings) if at is not None), default=None)

    def _example(self) -> str:
        """A profile that the viewer may use, for the command that is shown."""
        catalog = self.site.catalog
        usable = [name for name, one in catalog.profiles.items() if one.open_to(self.me.groups)]
        return usable[0] if usable else "PROFILE"


def _soonest(one: ShownJob) -> tuple[int, int]:
    """What runs, by its end; then what waits, by its estimated start, and last what has none."""
    if one.state != "queued":
        return 0, one.stop_at or 0
    return (1, one.start) if one.start is not None else (2, one.job.queued_at)
