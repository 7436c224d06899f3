"""Sixteen people fight for eight units over HTTP, and the service is killed in the middle of it."""

from __future__ import annotations

import os
import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine, text

from mlmp_spawner.store.engine import make_engine
from mlmp_spawner.units import MINUTE, from_iso, now, to_iso
from tests.invariant import violations
from tests.web.machine import API, Machine

pytestmark = pytest.mark.faults

CLIENTS = 16
SECONDS = 30.0
LONGEST = 120.0
"""Seconds for which they fight at least, and at most where the machine has little time for them."""
KILLS = (8.0, 18.0)
ROUNDS = int(os.environ.get("FAULT_ROUNDS", "1"))

CATALOG = {
    "nodes.yaml": """
nodes:
  fought-for:
    accelerators:
      - {resource: nvidia.com/gpu, model: simulated, count: 8, simulated: true}
""",
    "profiles.yaml": """
profiles:
  gpu: {title: GPU, resource: nvidia.com/gpu, max_units: 8, min_duration: 1m, default_duration: 10m, max_duration: 2h}
""",
}
CONFIG = """
c.MLMP.requests_per_minute = 10_000_000
c.MLMP.tick = 1
"""


@dataclass
class Person:
    """One client. ``held``: its bookings as last acknowledged, by id; ``unsure``: changes whose answer was lost."""

    name: str
    client: httpx.Client
    seed: int
    held: dict[str, dict[str, Any]] = field(default_factory=dict)
    given_back: set[str] = field(default_factory=set)
    unsure: set[str] = field(default_factory=set)
    answers: Counter[int] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    lost: int = 0

    def fight(self, over: Callable[[], bool]) -> None:
        dice = random.Random(self.seed)
        actions = [self.book] * 5 + [self.extend, self.move, self.give_back, self.give_back, self.look]
        while not over():
            dice.choice(actions)(dice)

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response | None:
        """One request; None where no answer came."""
        try:
            answer = self.client.request(method, path, **options)
        except httpx.HTTPError:
            self.lost += 1
            time.sleep(0.1)
            return None
        self.answers[answer.status_code] += 1
        if answer.status_code >= 500:
            self.failures.append(f"{method} {path}: {answer.status_code} {answer.text}")
        return answer

    def book(self, dice: random.Random) -> None:
        start = now() + dice.randrange(0, 90) * MINUTE if dice.random() < 0.8 else None
        body = {"profile": "gpu", "units": dice.randint(1, 4), "duration": f"{dice.randint(1, 40)}m"}
        body |= {"start": to_iso(start)} if start else {}
        key = {"Idempotency-Key": uuid.uuid4().hex}
        answer = self.ask("POST", "reservations", json=body, headers=key)
        if answer is None:
            # Nobody knows whether it was booked; asked again under its key it is booked once.
            answer = self.ask("POST", "reservations", json=body, headers=key)
        if answer is not None and answer.status_code == 201:
            self.held[answer.json()["id"]] = answer.json()

    def change(self, dice: random.Random, method: str, call: str, body: dict[str, Any]) -> None:
        if not self.held:
            return
        id = dice.choice(sorted(self.held))
        answer = self.ask(method, f"reservations/{id}{call}", json=body)
        if answer is None:
            self.unsure.add(id)
        elif answer.status_code == 200:
            self.held[id] = answer.json()

    def extend(self, dice: random.Random) -> None:
        self.change(dice, "POST", "/extend", {"duration": f"{dice.randint(1, 10)}m"})

    def move(self, dice: random.Random) -> None:
        self.change(dice, "PATCH", "", {"start": to_iso(now() + dice.randrange(2, 90) * MINUTE)})

    def give_back(self, dice: random.Random) -> None:
        if not self.held:
            return
        id = dice.choice(sorted(self.held))
        answer = self.ask("DELETE", f"reservations/{id}")
        if answer is None:
            self.unsure.add(id)
        elif answer.status_code == 200:
            del self.held[id]
            self.given_back.add(id)

    def look(self, dice: random.Random) -> None:
        self.ask("GET", "availability?profile=gpu&units=2&duration=30m")


@pytest.mark.parametrize("round", range(ROUNDS))
def test_nothing_is_booked_twice_no_answer_fails_and_what_was_acknowledged_is_there(
    round: int, empty_db_url: str, tmp_path: Path
):
    catalog = tmp_path / "catalog"
    catalog.mkdir()
    for name, content in CATALOG.items():
        (catalog / name).write_text(content)
    data = tmp_path / "data"
    data.mkdir()
    with Machine(data, catalog, db_url=empty_db_url, config=CONFIG) as machine:
        people = [_person(machine, number, round) for number in range(CLIENTS)]
        engine = make_engine(machine.db_url)
        try:
            _fight(machine, people, engine)
            _all_is_there(engine, people)
        finally:
            engine.dispose()
            for person in people:
                person.client.close()


def _person(machine: Machine, number: int, round: int) -> Person:
    name = f"fighter{number}"
    # Not through the proxy: while the service is dead the proxy answers for it.
    client = httpx.Client(
        base_url=f"http://127.0.0.1:{machine.up.service_port}/{API}",
        headers={"Authorization": f"Bearer {machine.token(name)}"},
        timeout=30,
        trust_env=False,
    )
    return Person(name, client, seed=1000 * round + number)


def _answers(people: list[Person]) -> Counter[int]:
    return sum((Counter(person.answers) for person in people), Counter())


def _is_fight(people: list[Person]) -> bool:
    answers = _answers(people)
    return answers[201] > 100 and answers[409] > 100


def _fight(machine: Machine, people: list[Person], engine: Engine) -> None:
    began = time.monotonic()

    def over() -> bool:
        took = time.monotonic() - began
        return took > LONGEST or (took > SECONDS and _is_fight(people))

    threads = [threading.Thread(target=person.fight, args=(over,)) for person in people]
    for thread in threads:
        thread.start()
    for moment in KILLS:
        time.sleep(max(0.0, began + moment - time.monotonic()))
        machine.kill("service")
        machine.start("service")
    while any(thread.is_alive() for thread in threads):
        assert violations(engine) == []
        time.sleep(1)
    for thread in threads:
        thread.join()
    answers = _answers(people)
    lost = sum(person.lost for person in people)
    print(f"{engine.dialect.name}: {sum(answers.values())} answers {dict(sorted(answers.items()))}, {lost} lost")
    assert [failure for person in people for failure in person.failures] == []
    assert _is_fight(people), "it was no fight"
    assert lost > 0, "nobody was there when it was killed"


def _all_is_there(engine: Engine, people: list[Person]) -> None:
    assert violations(engine) == []
    with engine.connect() as connection:
        found = {
            row.id: row
            for row in connection.execute(
                text('SELECT id, owner, units, start, "end", cancelled_at, end_reason FROM mlmp_reservation')
            )
        }
        taken = {
            row.reservation: row.total
            for row in connection.execute(
                text(
                    'SELECT reservation, sum(units * ("end" - start)) total FROM mlmp_allocation GROUP BY reservation'
                )
            )
        }
    for person in people:
        for id, booked in person.held.items():
            row = found[id]
            assert row.owner == person.name
            if id in person.unsure:
                continue
            assert row.cancelled_at is None and row.end_reason is None, f"{id} was lost: {row}"
            assert (row.start, row.end) == (from_iso(booked["start"]), from_iso(booked["end"])), id
            assert taken[id] == row.units * (row.end - row.start), id
        for id in person.given_back:
            assert found[id].end_reason in ("cancelled", "released"), id
