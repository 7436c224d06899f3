"""Whoever is killed, whenever: nobody overruns, nobody is stopped early, nothing is lost or started twice.

Each round books for several people at once, starts their servers (each with a detached child that ignores SIGTERM),
extends some, and sends SIGKILL to hub, service, ``mlmp up`` or all of them at a random moment around a start, an
extension or a stop. ``FAULT_ROUNDS`` says how many rounds, ``FAULT_SEED`` repeats the same ones.
"""

from __future__ import annotations

import json
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

from mlmp_spawner import processes, units
from tests.live import Person, Site, wait_for

pytestmark = pytest.mark.faults

ROUNDS = int(os.environ.get("FAULT_ROUNDS", "20"))
SEED = os.environ.get("FAULT_SEED") or str(time.time_ns())
PEOPLE = 4
LENGTH, EXTENSION = 14, 4
LATE = 15_000
"""What may be left of a server so many ms after its end: nothing."""
ORPHANED = 30.0
"""Seconds after the next ``mlmp up`` at which the hub must list all that runs."""
MOMENTS = {"a start": (0.0, 1.5), "an extension": (3.5, 5.5), "a stop": (12.0, 18.0)}
VICTIMS: dict[str, tuple[str, ...]] = {
    "hub": ("hub",), "service": ("service",), "mlmp up": ("up",), "all": ("hub", "service", "proxy", "up"),
}  # fmt: skip
SETTINGS = "c.MLMP.stop_lead = 2\nc.MLMP.tick = 0.5\nc.MLMP.hub_silent_after = 2"


@dataclass
class Started:
    """A server that was started, as it says itself, and what was seen of it."""

    reservation: str
    pid: int
    left: int
    at: int
    identities: tuple[str, ...] = ()
    last_seen: int = 0

    def look(self) -> None:
        if any(processes.alive(identity) for identity in self.identities):
            self.last_seen = units.now()


class Watch:
    """Looks all the time at the processes that the servers say they are."""

    def __init__(self, homes: Path) -> None:
        self.homes = homes
        self.started: dict[int, Started] = {}
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._end.wait(0.1):
            for note in notes(self.homes, "starts.jsonl"):
                if note["pid"] not in self.started:
                    seen = Started(note["reservation"], note["pid"], note["left"], note["at"], last_seen=note["at"])
                    seen.identities = tuple(i for p in (seen.pid, seen.left) if (i := processes.identity(p)))
                    self.started[seen.pid] = seen
            for seen in self.started.values():
                seen.look()


def notes(homes: Path, name: str) -> list[dict[str, Any]]:
    """What the servers wrote down."""
    found = []
    for path in homes.glob(f"*/{name}"):
        found += [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
    return found


@dataclass
class Story:
    """One person's booking: what was promised, and until when it could at most have been."""

    person: Person
    extends: bool
    booking: dict[str, Any] = field(default_factory=dict)
    latest: int = 0
    extended: bool = False

    @property
    def stop_at(self) -> int:
        return units.from_iso(self.booking["stops_at"])

    @property
    def end(self) -> int:
        return units.from_iso(self.booking["end"])

    def book(self) -> None:
        self.booking = self.person.book(LENGTH)
        self.latest = self.end

    def live(self) -> None:
        """Starts the server, again and again until it runs, and extends where this person does."""
        begun = time.monotonic()
        while units.now() < self.stop_at - 1500:
            answer = attempt(lambda: self.person.start(self.booking["server"], reservation=self.booking["id"]))
            if answer is not None and answer.status_code in (201, 202, 400):
                break
            time.sleep(0.3)
        if self.extends:
            time.sleep(max(0.0, begun + 4.5 - time.monotonic()))
            answer = attempt(lambda: self.person.extend(self.booking["id"], EXTENSION))
            if answer is not None and answer.status_code == 200:
                self.booking = answer.json()
                self.latest, self.extended = self.end, True
            elif answer is None or answer.status_code >= 500:
                self.latest = self.end + EXTENSION * 1000  # it may have been done, although nobody heard of it


def attempt(ask: Callable[[], httpx.Response]) -> httpx.Response | None:
    """The answer; None where there was none."""
    try:
        return ask()
    except (httpx.HTTPError, OSError):
        return None


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(tmp_path_factory.mktemp("kills"), settings=SETTINGS)
    made.stays.touch()
    try:
        yield made.start()
    finally:
        made.close()


@pytest.fixture(scope="module")
def people(site: Site) -> list[Person]:
    return [site.person(f"person-{number}") for number in range(PEOPLE)]


@pytest.fixture(scope="module")
def admin(site: Site) -> Person:
    return site.person("admin")


@pytest.fixture(scope="module")
def long_one(site: Site) -> Story:
    """Somebody whose server runs through all rounds."""
    story = Story(site.person("marathon"), extends=False)
    story.booking = story.person.book(3 * 3600, profile="cpu")
    assert story.person.start(reservation=story.booking["id"]).status_code == 201
    return story


@pytest.mark.parametrize("number", range(ROUNDS))
def test_a_kill_at_any_moment(site: Site, people: list[Person], admin: Person, long_one: Story, number: int) -> None:
    chance = random.Random(f"{SEED}-{number}")
    moment = chance.choice(list(MOMENTS))
    who = list(VICTIMS)[number % len(VICTIMS)]
    print(f"FAULT_SEED={SEED} round {number}: SIGKILL to {who} around {moment}")
    homes = site.data / "homes"
    stories = [Story(person, extends=index % 2 == 0) for index, person in enumerate(people)]
    wait_for(lambda: ready(admin), 60, "the return of all")
    with Watch(homes) as watch:
        for story in stories:
            story.book()
        threads = [threading.Thread(target=story.live, daemon=True) for story in stories]
        for thread in threads:
            thread.start()
        time.sleep(chance.uniform(*MOMENTS[moment]))
        site.kill(*VICTIMS[who])
        if "up" in VICTIMS[who]:
            time.sleep(chance.uniform(0, 3))
            site.start()
        again = time.monotonic()
        for thread in threads:
            thread.join(120)
        left = max(0.0, again + ORPHANED - time.monotonic())
        wait_for(lambda: orphans(site, admin) == set(), left, "the hub's listing of all that runs")
        wait_for(lambda: units.now() > max(story.latest for story in stories) + 1000)
        wait_for(lambda: not running(site, stories), LATE / 1000, "the end of all servers")
    judge(watch, stories, homes, long_one)
    ids = {story.booking["id"] for story in stories}
    starts = sum(seen.reservation in ids for seen in watch.started.values())
    extended = sum(story.extended for story in stories)
    overran = max((seen.last_seen - story.end for story in stories for seen in watch.started.values()
                   if seen.reservation == story.booking["id"]), default=0)  # fmt: skip
    print(f"  {starts} servers started, {extended} extended; the last process seen {overran} ms after the end")


def ready(person: Person) -> bool:
    """Whether hub and service answer, through the proxy."""
    answers = [attempt(lambda path=path: person.api.get(path)) for path in ("/hub/api/", "/services/mlmp/api/v1/me")]
    return all(answer is not None and answer.status_code == 200 for answer in answers)


def running(site: Site, stories: list[Story]) -> bool:
    names = {story.person.name for story in stories}
    return any(record.owner in names for record in site.servers())


def orphans(site: Site, admin: Person) -> set[tuple[str, str]] | None:
    """The servers that run and that the hub does not list; None if it does not say."""
    answer = attempt(lambda: admin.api.get("/hub/api/users", params={"state": "active"}))
    if answer is None or answer.status_code != 200:
        return None
    listed = {(user["name"], server) for user in answer.json() for server in user["servers"]}
    return {(record.owner, record.server) for record in site.servers()} - listed


def judge(watch: Watch, stories: list[Story], homes: Path, long_one: Story) -> None:
    stops = {note["pid"]: note["at"] for note in notes(homes, "stops.jsonl")}
    for story in stories:
        mine = sorted((s for s in watch.started.values() if s.reservation == story.booking["id"]), key=lambda s: s.at)
        for first, second in pairwise(mine):
            assert first.last_seen <= second.at, f"{story.person.name}'s server ran twice at once"
        for started in mine:
            assert started.last_seen <= story.latest + LATE, f"{story.person.name}'s server overran"
            if started.pid in stops:
                early = story.stop_at - stops[started.pid]
                assert early <= 0, f"{story.person.name}'s server was told to stop {early} ms early"
        if mine:  # what runs, runs until its stop is due, to an extended one too
            gone_early = story.stop_at - mine[-1].last_seen
            assert gone_early <= 500, f"{story.person.name}'s server was gone {gone_early} ms early"
    marathon = [s for s in watch.started.values() if s.reservation == long_one.booking["id"]]
    assert len(marathon) == 1, "the server that runs through all rounds was started again"
    assert processes.alive(marathon[0].identities[0]), "the server that runs through all rounds is gone"


def test_with_hub_service_and_all_dead_for_good_nothing_outlives_its_end(tmp_path: Path) -> None:
    site = Site(tmp_path, settings=SETTINGS).start()
    try:
        stories = [Story(site.person(name), extends=False) for name in ("alone", "also")]
        with Watch(site.data / "homes") as watch:
            for story in stories:
                story.book()
                assert story.person.start(reservation=story.booking["id"]).status_code in (201, 202)
            wait_for(lambda: len(watch.started) == 2, 10, "the start of both")
            site.kill(*VICTIMS["all"])
            wait_for(lambda: units.now() > max(story.end for story in stories), 30, "the end")
            time.sleep(0.5)  # so that whatever is left would be seen after the end
        for story in stories:
            (started,) = (s for s in watch.started.values() if s.reservation == story.booking["id"])
            assert started.last_seen <= story.end, "a process of the server was there after the end"
            assert started.last_seen >= story.stop_at, "the server ended before its stop was due"
    finally:
        site.close()
