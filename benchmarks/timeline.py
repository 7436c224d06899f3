"""The timeline: our own grid beside the calendar library that we would use otherwise.

64 rows and 2,000 bookings in one week, in the same Chromium with the same style sheet: from the call that creates it
to the last paint, how much is sent, and the longest task of the main thread while one scrolls and drags.
"""

from __future__ import annotations

import gzip
import json
import random
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jupyterhub._data import DATA_FILES_PATH
from playwright.sync_api import Browser, Page, sync_playwright
from sqlalchemy import insert
from tornado.web import StaticFileHandler

from benchmarks.common import Report, in_turns, median, note
from mlmp_spawner.operations import catalog_sync
from mlmp_spawner.operations.site import Site
from mlmp_spawner.rules.catalog import Accelerator, Catalog, Node, Profile
from mlmp_spawner.store import tables
from mlmp_spawner.store.engine import make_engine
from mlmp_spawner.store.transaction import transaction
from mlmp_spawner.units import DAY, HOUR, MINUTE
from mlmp_spawner.web.templating import STATIC
from tests.browser.conftest import CHROMIUM, ZONE
from tests.databases import sqlite_template
from tests.web.harness import PREFIX, RunningApp

ROOT = Path(__file__).resolve().parent.parent
GPU = "nvidia.com/gpu"
NODES, GPUS, BOOKINGS = 8, 8, 2_000
NOW = 1_800_000_000_000
MIDNIGHT = NOW - 9 * HOUR
WINDOW = {"width": 1280, "height": 800}

BARE = """<!DOCTYPE html><html lang="en" data-bs-theme="light"><head><meta charset="utf-8">
<link rel="stylesheet" href="/hub/static/css/style.min.css"><link rel="stylesheet" href="{css}">
<style>body {{ margin: 0 }} #timeline {{ display: block !important }}</style></head>
<body><main id="mlmp"><div id="timeline"></div></main><script type="module" src="{script}"></script></body></html>"""

PAINTED = """
const frame = () => new Promise((done) => requestAnimationFrame(() => {
  const channel = new MessageChannel();
  channel.port1.onmessage = done;
  channel.port2.postMessage(0);
}));
window.painted = async (create) => {
  let changed = true, last = 0, quiet = 0;
  const all = {subtree: true, childList: true, attributes: true};
  new MutationObserver(() => { changed = true; }).observe(document.body, all);
  const began = performance.now();
  create();
  while (quiet < 5) {
    await frame();
    if (changed) { changed = false; quiet = 0; last = performance.now(); } else quiet += 1;
  }
  return last - began;
};
"""

OURS = (
    PAINTED
    + """
import { Grid } from "/services/mlmp/static/timeline/grid.js";
const data = await (await fetch("data.json")).json();
const instants = (one) => {
  for (const name of ["start", "end", "at", "now"]) if (name in one) one[name] = Date.parse(one[name]);
  for (const name of ["ticks", "groups", "bars", "waiting", "outages"]) (one[name] ?? []).forEach(instants);
  return one;
};
const host = document.getElementById("timeline");
window.create = () => painted(() => new Grid(host).show(instants(structuredClone(data))));
window.ready = true;
"""
)

THEIRS = (
    PAINTED
    + """
import { createCalendar, Interaction, ResourceTimeline } from "@event-calendar/core";
import "@event-calendar/core/index.css";
const data = await (await fetch("data.json")).json();
// It knows no zones: instants are given to it as the clock on the wall shows them.
const wall = new Intl.DateTimeFormat("sv-SE", {dateStyle: "short", timeStyle: "short", timeZone: data.zone});
const local = (text) => wall.format(Date.parse(text)).replace(" ", "T");
window.create = () => painted(() => {
  const resources = data.groups.map((group) => ({id: group.node, title: group.node, expanded: true,
    children: Array.from({length: group.rows}, (_, row) => ({id: `${group.node}/${row}`, title: `${group.node}`}))}));
  const events = data.bars.map((bar) => ({id: bar.id, resourceIds: [`${bar.node}/${bar.rows[0]}`],
    start: local(bar.start), end: local(bar.end), title: bar.owner}));
  createCalendar(document.getElementById("timeline"), [ResourceTimeline, Interaction], {
    view: "resourceTimelineWeek", date: data.date, firstDay: new Date(data.date).getUTCDay(), resources, events,
    height: "800px", editable: true, selectable: true, nowIndicator: true, slotDuration: "06:00",
  });
});
window.ready = true;
"""
)

OWN_IN_VIEW = """() => [...document.querySelectorAll(".tl-body .tl-move-all")].map((bar) => {
  const box = bar.getBoundingClientRect();
  return [bar, box.left + box.width / 2, box.top + 8];
}).find(([bar, x, y]) => x < 700 && bar.contains(document.elementFromPoint(x, y))).slice(1)"""


def run(report: Report, *, quick: bool) -> None:
    """First paint, sizes, longest tasks."""
    count, rounds = (200, 1) if quick else (BOOKINGS, 7)
    path = shutil.which("chromium")
    if path is None or not (ROOT / "node_modules" / ".bin" / "esbuild").exists():
        note("no chromium or no node_modules here: the timeline is not measured")
        return
    with tempfile.TemporaryDirectory(prefix="mlmp-bench-") as folder, _service(Path(folder), count) as app:
        with app.client() as client:
            window = {"date": "2027-01-15", "days": "7", "zone": ZONE}
            took = in_turns({"api": lambda _: client.get("timeline", params=window).raise_for_status()}, rounds * 3)
            report.add(f"timeline: GET timeline, 64 rows, {count} bookings", median(took["api"]), "ms")
            data = client.get("timeline", params=window).text
        pages = _pages(app, Path(folder) / "pages", data)
        _sizes(report, Path(folder) / "pages")
        with sync_playwright() as playwright:
            chromium = playwright.chromium.launch(executable_path=path, args=list(CHROMIUM))
            _first_paint(report, chromium, pages, rounds)
            _longest_tasks(report, chromium, app, pages)
            chromium.close()


@contextmanager
def _service(folder: Path, count: int) -> Iterator[RunningApp]:
    """The application with a full week on a site of 64 units."""
    gpus = (Accelerator(resource=GPU, model="A100", count=GPUS),)
    names = [f"node{n}" for n in range(NODES)]
    gpu = Profile(name="gpu", title="A100", resource=GPU, units=1, max_units=GPUS, min_duration=10 * MINUTE,
                  max_duration=7 * DAY)  # fmt: skip
    engine = make_engine(f"sqlite:///{sqlite_template(folder / 'bench.sqlite')}")
    site = Site(engine, Catalog(nodes={n: Node(name=n, accelerators=gpus) for n in names}, profiles={"gpu": gpu}))
    people = ("ann", "ben", "eve", "root")
    with transaction(engine) as connection:
        connection.execute(insert(tables.users), [{"id": n, "name": name} for n, name in enumerate(people, 1)])
    catalog_sync.sync(site, now=NOW)
    bookings = _bookings(names, count)
    with transaction(engine) as connection:
        connection.execute(insert(tables.reservation), [row for row, _ in bookings])
        connection.execute(insert(tables.allocation), [place for _, place in bookings])
    with RunningApp(site, NOW) as app:
        app.app.add_handlers(
            ".*", [(r"/hub/static/(.*)", StaticFileHandler, {"path": str(Path(DATA_FILES_PATH) / "static")})]
        )
        yield app
    engine.dispose()


def _bookings(nodes: list[str], count: int) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """One after the other in each of 64 lanes, all through the week."""
    chance = random.Random(4)
    lanes = [(node, lane) for node in nodes for lane in range(GPUS)]
    per_lane = -(-count // len(lanes))
    made = []
    for node, _ in lanes:
        at = MIDNIGHT
        for _ in range(per_lane):
            length = 7 * DAY // per_lane
            start = at + chance.randrange(4) * 15 * MINUTE
            end = max(at + length - chance.randrange(5) * 15 * MINUTE, start + 15 * MINUTE)
            at += length // (15 * MINUTE) * 15 * MINUTE
            who = chance.choice([(2, "ben"), (3, "eve"), (2, "ben"), (3, "eve"), (1, "ann")])
            row = {"id": f"b{len(made):011}", "owner": who[1], "owner_id": who[0], "profile": "gpu", "resource": GPU,
                   "units": 1, "start": start, "end": end, "pinned": False, "preemptible": False,
                   "created_at": NOW - DAY, "title": ""}  # fmt: skip
            place = {"reservation": row["id"], "node": node, "resource": GPU, "units": 1, "start": start, "end": end}
            made.append((row, place))
    return made[:count]


def _pages(app: RunningApp, folder: Path, data: str) -> dict[str, str]:
    """The two bare pages, and where they are."""
    folder.mkdir()
    (folder / "data.json").write_text(data)
    (folder / "ours.js").write_text(OURS)
    (folder / "theirs.src.js").write_text(THEIRS)
    command = [str(ROOT / "node_modules/.bin/esbuild"), "theirs.src.js", "--bundle", "--minify", "--format=esm",
               "--outfile=theirs.js", "--log-level=warning"]  # fmt: skip
    (folder / "node_modules").symlink_to(ROOT / "node_modules")
    subprocess.run(command, cwd=folder, check=True)
    css = {"ours": f"{PREFIX}static/timeline.css", "theirs": "theirs.css"}
    for name, style in css.items():
        (folder / f"{name}.html").write_text(BARE.format(css=style, script=f"{name}.js"))
    app.app.add_handlers(".*", [(r"/bench/(.*)", StaticFileHandler, {"path": str(folder)})])
    return {name: f"{app.url}/bench/{name}.html" for name in css}


def _sizes(report: Report, folder: Path) -> None:
    """What is sent, compressed: ours file by file as it is, theirs bundled and minified."""

    def size(*paths: Path) -> float:
        return sum(len(gzip.compress(path.read_bytes(), 9)) for path in paths) / 1024

    ours = [*sorted((STATIC / "timeline").glob("*.js")), STATIC / "times.js"]
    theirs = folder / "theirs.js"
    report.add("timeline: script, gzip (ours with form, keyboard, undo)", size(*ours), "KiB", versus=size(theirs))
    styles = size(STATIC / "timeline.css"), size(folder / "theirs.css")
    report.add("timeline: style, gzip", styles[0], "KiB", versus=styles[1])


def _first_paint(report: Report, browser: Browser, pages: dict[str, str], rounds: int) -> None:
    taken: dict[str, list[float]] = {name: [] for name in pages}
    drawn: dict[str, int] = {}
    for number in range(rounds + 1):
        for name, url in pages.items():
            with _page(browser) as page:
                page.goto(url)
                page.wait_for_function("window.ready")
                took = page.evaluate("window.create()")
                if number:  # the first fills the caches
                    taken[name].append(took)
                    drawn[name] = page.locator("[data-key], .ec-event").count()
    note(f"bars in the page: {drawn}")
    ours, theirs = median(taken["ours"]), median(taken["theirs"])
    report.add("timeline: create to last paint, a week", ours, "ms", versus=theirs, goal="ratio <= 1.5")


def _longest_tasks(report: Report, browser: Browser, app: RunningApp, pages: dict[str, str]) -> None:
    with _page(browser, extra_http_headers={"Authorization": "Bearer ann-token"}) as page:
        page.goto(f"{app.url}{PREFIX}timeline?view=week")
        page.wait_for_selector(".tl-bar")
        page.wait_for_timeout(4000)  # all of the page is there and at rest
        scrolling = _longest(browser, page, lambda: _scroll(page, ".tl-scroll"))
        x, y = page.evaluate(OWN_IN_VIEW)
        dragging = _longest(browser, page, lambda: _drag(page, x, y))
    with _page(browser) as page:
        page.goto(pages["theirs"])
        page.wait_for_function("window.ready")
        page.evaluate("window.create()")
        theirs = _longest(browser, page, lambda: _scroll(page, ".ec-main"))
    goal = "< 100 ms"
    report.add("timeline: longest task while scrolling", scrolling, "ms", versus=theirs, goal=goal)
    report.add("timeline: longest task while dragging", dragging, "ms", goal=goal)


def _scroll(page: Page, selector: str) -> None:
    box = page.locator(selector).first.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    for x, y in ((0, 120), (160, 0), (0, -120), (-160, 0)):
        for _ in range(12):
            page.mouse.wheel(x, y)
            page.wait_for_timeout(16)


def _drag(page: Page, x: float, y: float) -> None:
    page.mouse.move(x, y)
    page.mouse.down()
    for step in range(60):
        page.mouse.move(x + 6 * step, y + 4 * step)
        page.wait_for_timeout(10)
    assert page.locator(".tl-ghost").count() == 1, "nothing is being dragged"
    page.keyboard.press("Escape")
    page.mouse.up()


def _longest(browser: Browser, page: Page, act: Callable[[], None]) -> float:
    """Milliseconds of the longest task of the page's main thread meanwhile, from Chromium's own trace."""
    browser.start_tracing(page=page, categories=["toplevel", "disabled-by-default-devtools.timeline", "__metadata"])
    act()
    events = json.loads(browser.stop_tracing())["traceEvents"]
    mains = {(e["pid"], e["tid"]) for e in events
             if e.get("name") == "thread_name" and e["args"]["name"] == "CrRendererMain"}  # fmt: skip
    tasks = [e["dur"] / 1000 for e in events
             if "RunTask" in e.get("name", "") and "dur" in e and (e["pid"], e["tid"]) in mains]  # fmt: skip
    assert tasks, "the trace has no tasks"
    note(f"{len(tasks)} tasks, the longest {sorted(tasks)[-3:]} ms")
    return max(tasks)


@contextmanager
def _page(browser: Browser, **options: Any) -> Iterator[Page]:
    context = browser.new_context(viewport=WINDOW, timezone_id=ZONE, **options)  # type: ignore[arg-type]
    try:
        yield context.new_page()
    finally:
        context.close()
