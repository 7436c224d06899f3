"""The audit log, and how the clock and the machines are."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from mlmp_spawner.errors import MLMPError
from mlmp_spawner.operations import check, history, limit_settings, listing
from mlmp_spawner.operations.check import Finding
from mlmp_spawner.operations.history import Entry
from mlmp_spawner.operations.site import CLOCK
from mlmp_spawner.units import to_iso
from mlmp_spawner.web import csv_text
from mlmp_spawner.web.api.audit import MOST_AS_CSV, AuditQuery, as_csv, filter_of
from mlmp_spawner.web.pages.admin.base import AdminPage
from mlmp_spawner.web.problems import as_error

ACTIONS = (
    "booked", "waitlisted", "promoted", "changed", "moved", "cancelled", "released", "no_show", "idle", "preempted",
    "capacity_lost", "maintenance", "starting", "started", "stopping", "stopped", "continued", "announced", "warned",
    "offered", "idle_warned", "outage", "limits", "capacity", "intruder", "intruder_stopped",
    "image_asked", "image_called_off", "job_submitted", "job_started", "job_running", "job_stopping", "job_requeued",
    "job_cancelled", "job_ended", "job_failed", "course_made", "course_changed", "course_removed", "roster",
    "class_servers", "class_message", "class_extended",
    "guest_codes", "guest_invited", "guest_ended", "guest_left", "guest_erased",
)  # fmt: skip
"""What the history knows of."""

FILTERS = ("person", "action", "reservation", "start", "end")


class AuditLog(AdminPage):
    """The whole history, newest first."""

    tab = "admin/audit"

    async def get(self) -> None:
        """Shows a page of it."""
        await self.show()

    async def show(self, *, problem: MLMPError | None = None) -> None:
        """A page of it; what can't be read in the query is said and left out."""
        said = self.query()
        try:
            query = self.wanted(said)
        except (MLMPError, ValidationError) as error:
            problem = problem or as_error(error)
            self.set_status(problem.status)
            query, said = AuditQuery.model_validate({}), {}
        entries, cursor = await self.found(query)
        chosen = {name: said[name] for name in FILTERS if said.get(name)}
        await self.render_admin(
            "admin_audit.html", problem=problem, entries=entries, cursor=cursor, chosen=chosen, actions=ACTIONS,
            later=bool(query.cursor),
        )  # fmt: skip

    def wanted(self, said: dict[str, str]) -> AuditQuery:
        """What the query asks for.

        :raises Invalid: a time that is none. :raises ValidationError: see the API's model.
        """
        given: dict[str, Any] = {name: said[name] for name in (*FILTERS, "cursor") if said.get(name)}
        for name in ("start", "end"):
            if name in given:
                given[name] = to_iso(self.instant(name, given[name]) or 0)
        return AuditQuery.model_validate(given)

    async def found(self, query: AuditQuery) -> tuple[list[Entry], str | None]:
        """The lines, and the cursor of the next page."""
        found: tuple[list[Entry], str | None] = await self.context.run(
            history.audit, self.site.engine, filter_of(query), limit=query.limit, cursor=query.cursor
        )
        return found


class AuditCsv(AuditLog):
    """The same lines as a file."""

    async def get(self) -> None:
        """Sends them, the newest ten thousand at most."""
        try:
            query = self.wanted(self.query())
        except ValidationError as error:
            raise as_error(error) from error
        entries, _ = await self.found(query.model_copy(update={"limit": MOST_AS_CSV}))
        self.set_header("Content-Type", f"{csv_text.MEDIA_TYPE}; charset=utf-8")
        self.set_header("Content-Disposition", 'attachment; filename="audit.csv"')
        self.finish(as_csv(entries))


class Health(AdminPage):
    """Whether all is well: hub and clock, what is wrong, what the clock did last."""

    tab = "admin/health"

    async def get(self) -> None:
        """Shows it."""
        await self.show()

    async def show(self, *, problem: MLMPError | None = None) -> None:
        """How it is now."""
        entries, _ = await self.context.run(
            history.audit, self.site.engine, history.Filter(actor=CLOCK.name), limit=30
        )
        findings = await self.context.run(self._findings)
        await self.render_admin(
            "admin_health.html",
            problem=problem,
            entries=entries,
            findings=findings,
            state=self.context.state(),
            seen=self.context.activity(),
        )

    def _findings(self) -> list[Finding]:
        site = self.site
        found = [
            Finding("catalog", problem, "the one from before holds until it is mended")
            for problem in self.context.state().catalog
        ]
        found += check.overbooked(site.catalog)
        found += [
            Finding("limits", f"what was set for {one.subject} can't be read; the catalog's holds", "set it again")
            for one in limit_settings.look(site)[1]
            if one.unreadable
        ]
        waiting, _ = listing.listing(site, now=self.now, state="waiting", limit=listing.LONGEST_PAGE)
        found += [
            Finding("bookings", f"booking {row.id} of {row.owner} lost its place and waits for another", wrong=False)
            for row in waiting
            if row.waiting_reason == "capacity_lost"
        ]
        return sorted(found, key=lambda one: not one.wrong)
