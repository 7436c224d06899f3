"""The pages of scans: the list, and one with its rows as a table and as parallel coordinates."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

from mlmp_spawner.errors import MLMPError, TooManyRequests
from mlmp_spawner.operations.jobs import scans
from mlmp_spawner.operations.jobs.scans import Standing
from mlmp_spawner.rules.scan_parameters import said as as_written
from mlmp_spawner.rules.scans import Scan
from mlmp_spawner.units import SECOND
from mlmp_spawner.web import scan_views
from mlmp_spawner.web.api.jobs import jobs_of, tell
from mlmp_spawner.web.api.scans import values_of
from mlmp_spawner.web.auth import Right
from mlmp_spawner.web.pages.jobs import JobPage
from mlmp_spawner.web.scan_results import Values
from mlmp_spawner.web.scan_views import MOST_SHOWN, ShownRow

DID = {"cancelled": "Cancelled. What runs may still write its checkpoint.", "retried": "Submitted again.",
       "none": "No row is failed any more: nothing was submitted."}  # fmt: skip
OPEN = ("queued", "starting", "running", "stopping")
LOOK_AGAIN = 5 * SECOND


class Scans(JobPage):
    """One's own, the newest first."""

    @property
    def address(self) -> str:
        """Apart from that of all jobs, whose entry of the navigation is marked."""
        return "scans"

    async def get(self) -> None:
        """Shows it."""
        found = await self.context.run(scans.mine, self.site, self.me.name)
        live = await self.live()
        self.render_page("scans.html", found=[(one.scan, one.counts) for one in found], **live)


class OneScan(JobPage):
    """``?sort=COLUMN&down=1&metric=NAME&low=0|1``: how it is sorted, and which metric says what is best."""

    @property
    def address(self) -> str:
        """With its id, also before the page knows whether it may be seen."""
        return f"scans/{self.path_args[0]}"

    async def get(self, wanted: str) -> None:
        """Shows it."""
        await self.show()

    async def show(self, *, problem: MLMPError | None = None) -> None:
        """The best first, then all rows."""
        found = await self.context.run(
            scans.get, self.site, self.path_args[0], actor=self.me.actor(), limit=MOST_SHOWN
        )
        try:
            measured, crowded = await values_of(self.context, self.me.name, found), False
        except TooManyRequests:  # the page of this person in many tabs
            measured, crowded = {}, True
        metrics = sorted({name for one in measured.values() for name in one})
        asked = self.query()
        metric = asked.get("metric", "")
        metric = metric if metric in metrics else next(iter(metrics), "")
        low = asked["low"] == "1" if asked.get("low") in ("0", "1") else scan_views.lowest_is_best(metric)
        columns = [*found.scan.names, *metrics]
        rows = _rows(found, measured, metrics)
        if metric:
            rows = _best(rows, columns.index(metric, len(found.scan.names)), low=low)
        sort, down = asked.get("sort", ""), asked.get("down") == "1"
        column = int(sort) if sort.isdecimal() and len(sort) < 4 and int(sort) < len(columns) else None
        number = found.counts
        live = await self.live()
        again = self.now + LOOK_AGAIN if any(number.get(state) for state in OPEN) else None
        self.render_page(
            "scan.html",
            scan=found.scan,
            counts=number,
            open=sum(number.get(state, 0) for state in OPEN),
            columns=columns,
            order=_order(columns, metric, len(found.scan.names)),
            metrics=metrics,
            metric=metric,
            low=low,
            sort=column,
            down=down,
            rows=scan_views.sorted_rows(rows, column, down=down),
            best=next((one for one in rows if one.best), None),
            plot=scan_views.plot(columns, rows),
            link=self._link,
            kept=urlencode(self._kept()),
            crowded=crowded,
            pscan=scan_views.pscan_query(found.scan.out, found.scan.names) if self._own(found.scan) else "",
            redirect=f"{self.context.hub_prefix}user-redirect/",
            results=f"{self.context.api_prefix}scans/{found.scan.id}/results",
            rest=found.scan.size - len(found.last),
            own=self._own(found.scan),
            done=DID.get(asked.get("did", ""), ""),
            problem=problem.problem() if problem else None,
            **live | {"next": min((at for at in (again, live["next"]) if at is not None), default=None)},
        )

    def _own(self, scan: Scan) -> bool:
        return scan.owner == self.me.name and scan.owner_id is not None

    def _link(self, **changed: object) -> str:
        """This page, sorted or judged in another way."""
        return f"{self.context.prefix}{self.address}?{urlencode(self._kept() | changed)}"

    def _kept(self) -> dict[str, Any]:
        asked = self.query()
        return {name: asked[name] for name in ("sort", "down", "metric", "low") if asked.get(name)}


class ScanAction(OneScan):
    """A button of a scan."""

    right: Right = "book"

    async def get(self, wanted: str, action: str) -> None:  # type: ignore[override]
        """There is nothing to see here: a reload after a refusal leads to the scan."""
        self.go(f"scans/{wanted}")

    async def post(self, wanted: str, action: str) -> None:
        """Does it, and shows the scan."""
        actor = self.me.actor()
        try:
            if action == "cancel":
                await self.context.run(scans.cancel, self.site, wanted, actor=actor, now=self.now)
                did = "cancelled"
            else:
                files = jobs_of(self.context).files
                _, count = await self.context.run(
                    scans.retry, self.site, wanted, files=files, actor=actor, now=self.now
                )
                did = "retried" if count else "none"
        except MLMPError as error:
            await self.refuse(error)
            return
        tell(self.context)
        self.go(f"scans/{wanted}", **self._kept(), did=did)


def _rows(found: Standing, measured: Values, metrics: list[str]) -> list[ShownRow]:
    rows = []
    for number, job in enumerate(found.last):
        values = measured.get(job.id, {}) if job else {}
        cells = (*found.scan.rows[number].values(), *(values.get(name) for name in metrics))
        state = "gone" if job is None else job.outcome or job.state()
        values_said = [as_written(one) for one in found.scan.rows[number].values()]
        measured_said = [scan_views.text(values.get(name)) for name in metrics]
        rows.append(ShownRow(number, job, state, cells, (*values_said, *measured_said)))
    return rows


def _order(columns: list[str], metric: str, names: int) -> list[int]:
    """In which order the columns are shown: first that by which one judges."""
    first = [columns.index(metric, names)] if metric else []
    return first + [number for number in range(len(columns)) if number not in first]


def _best(rows: list[ShownRow], column: int, *, low: bool) -> list[ShownRow]:
    """Marks the best of those that succeeded."""
    having = [one for one in rows if one.state == "succeeded" and one.cells[column] is not None]
    if not having:
        return rows
    best = (min if low else max)(having, key=lambda one: float(one.cells[column] or 0))
    return [replace(one, best=one is best) for one in rows]
