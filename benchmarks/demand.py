"""The demand that ``benchmarks.admission`` replays: a week of a lab's requests, made once from a seed and kept.

``python -m benchmarks.demand`` writes ``data/demand.json`` anew; the same seed gives the same file, so that figures of
different days are about the same people asking for the same things.

The requests are in random order: the first of them that ask for as much as the load says are the demand at that load.
"""

from __future__ import annotations

import json
import random
from dataclasses import asdict, dataclass
from pathlib import Path

FILE = Path(__file__).with_name("data") / "demand.json"
SEED = 20_260_105
NODES = {"node0": 8, "node1": 8, "node2": 8, "node3": 4, "node4": 4}
"""Units of each node."""
DAYS = 7
PERIOD = DAYS * 24 * 60
HIGHEST = 1.3
STEP = 15
"""Minutes: people book on the quarter of an hour."""


@dataclass(frozen=True)
class Request:
    """Somebody asks at ``asked`` for ``units`` from ``start`` on; minutes from the begin of the week."""

    asked: int
    start: int
    length: int
    units: int
    node: str | None = None

    @property
    def end(self) -> int:
        """Where it ends."""
        return self.start + self.length

    @property
    def unit_hours(self) -> float:
        """What it takes."""
        return self.units * self.length / 60


def make(seed: int = SEED) -> list[Request]:
    """Enough requests for the highest load, in random order."""
    chance = random.Random(seed)
    made: list[Request] = []
    asked_for = 0.0
    while asked_for < HIGHEST * capacity():
        request = _request(chance)
        if request.end <= PERIOD:
            made.append(request)
            asked_for += request.unit_hours
    return made


def _request(chance: random.Random) -> Request:
    """Mostly one or two units for some hours of a day, asked for some hours or days before; some ask for days on
    end, a few for a whole node, and a few for one particular node."""
    day = chance.randrange(DAYS)
    # Work begins in the morning; what is to run unattended begins whenever somebody thinks of it.
    minute = int(chance.triangular(7, 22, 10) * 60) if chance.random() < 0.7 else chance.randrange(24 * 60)
    start = (day * 24 * 60 + minute) // STEP * STEP
    units = chance.choices((1, 2, 4, 8), weights=(50, 28, 17, 5))[0]
    if units <= 4 and chance.random() < 0.1:
        length = chance.choice((24, 36, 48)) * 60
    else:
        length = max(STEP, round(chance.lognormvariate(1.4, 0.7) * 60 / STEP) * STEP)
    lead = 0 if chance.random() < 0.25 else int(chance.expovariate(1 / (36 * 60)))
    fitting = [node for node, count in NODES.items() if count >= units]
    pinned = chance.random() < 0.12
    return Request(start - lead, start, length, units, chance.choice(fitting) if pinned else None)


def capacity() -> float:
    """Unit-hours of all nodes in the week."""
    return sum(NODES.values()) * PERIOD / 60


def at_load(requests: list[Request], load: float) -> list[Request]:
    """The demand at a load (1: as much as there is), in the order in which it is asked for."""
    chosen: list[Request] = []
    asked_for = 0.0
    for request in requests:
        if asked_for >= load * capacity():
            break
        chosen.append(request)
        asked_for += request.unit_hours
    return sorted(chosen, key=lambda request: request.asked)


def load() -> list[Request]:
    """The demand that is kept."""
    return [Request(*row) for row in json.loads(FILE.read_text(encoding="utf-8"))["requests"]]


def text(requests: list[Request]) -> str:
    """The file: one request on a line."""
    head = json.dumps({"seed": SEED, "nodes": NODES, "columns": list(asdict(requests[0]))})[1:-1]
    rows = ",\n".join(json.dumps(list(asdict(request).values())) for request in requests)
    return f'{{{head}, "requests": [\n{rows}\n]}}\n'


if __name__ == "__main__":
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(text(make()), encoding="utf-8")
