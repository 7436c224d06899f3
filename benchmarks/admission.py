"""Admitted unit-hours: how much of a week's demand finds a place, beside simpler booking and beside the optimum.

The demand (``benchmarks.demand``) is replayed in the order in which it was asked for, at 0.7, 1.0 and 1.3 of what the
nodes have. *Ours* is ``operations.booking.book`` on a real database, which knows no more than what came before. Beside
it, each as OR-Tools' CP-SAT finds it where it takes a solver:

- the same without moving anybody ("first come, first served");
- whoever knows no more than we do and refuses nobody for whom there is a place, but moves as many bookings as it
  takes: the most that could be won by better placement alone;
- the optimum: somebody who knew all requests beforehand and may refuse whom he likes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ortools.sat.python import cp_model
from sqlalchemy import insert

from benchmarks.common import Report, note
from benchmarks.demand import NODES, Request, at_load, capacity, load
from mlmp_spawner.errors import NoCapacity
from mlmp_spawner.operations import booking, catalog_sync
from mlmp_spawner.operations.requests import BookingRequest
from mlmp_spawner.operations.site import Actor, Site
from mlmp_spawner.rules.catalog import Accelerator, Catalog, Node, Profile
from mlmp_spawner.rules.placement import Board, Taken, Wanted, place
from mlmp_spawner.rules.reservations import Interval
from mlmp_spawner.store import tables
from mlmp_spawner.store.engine import make_engine
from mlmp_spawner.store.transaction import transaction
from mlmp_spawner.units import DAY, MINUTE
from tests.databases import prepare
from tests.invariant import violations

LOADS = (0.7, 1.0, 1.3)
GPU = "nvidia.com/gpu"
BEGIN = 1_800_000_000_000
USERS = 40
SECONDS = 60.0
"""What the solver may take at each load; it also says how much more there could be at most."""


def run(report: Report, *, quick: bool) -> None:
    """The figures at each load. ``quick``: the lowest load, and a second for the solver."""
    requests = load()
    for share in LOADS[:1] if quick else LOADS:
        demand = at_load(requests, share)
        asked = sum(request.unit_hours for request in demand)
        found = optimum(demand, seconds=1 if quick else SECONDS)
        ours = sum_of(booked(demand))
        note(
            f"load {share}: {len(demand)} requests ask for {asked:.0f} of {capacity():.0f} unit-hours; the optimum "
            f"admits {found.admitted:.0f}, proven to be at most {found.bound:.0f} ({found.gap:.2%} apart)"
        )
        what = f"admitted at load {share}, beside"
        report.add(f"{what} the optimum", ours, "unit-h", versus=found.admitted, goal="ratio >= 0.9")
        report.add(f"{what} what is proven to be the most", ours, "unit-h", versus=found.bound)
        report.add(f"{what} moving at will", ours, "unit-h", versus=sum_of(moved_at_will(demand)))
        report.add(f"{what} first come without moving", ours, "unit-h", versus=sum_of(first_come(demand)))


def sum_of(admitted: Sequence[Request]) -> float:
    """Unit-hours of all of them."""
    return sum(request.unit_hours for request in admitted)


def booked(demand: Sequence[Request]) -> list[Request]:
    """Those that our booking admits, one after the other, at the time at which each was asked for."""
    with tempfile.TemporaryDirectory(prefix="mlmp-bench-") as directory:
        site = _site(f"sqlite:///{Path(directory) / 'admission.sqlite'}")
        admitted = []
        try:
            for number, request in enumerate(demand):
                if _book(site, request, f"user{number % USERS}"):
                    admitted.append(request)
            assert not violations(site.engine)
        finally:
            site.engine.dispose()
        return admitted


def _book(site: Site, request: Request, owner: str) -> bool:
    asked = BookingRequest(profile="gpu", start=_at(request.start), end=_at(request.end), units=request.units,
                           node=request.node)  # fmt: skip
    try:
        booking.book(site, asked, actor=Actor(owner), now=_at(request.asked))
    except NoCapacity:
        return False
    return True


def first_come(demand: Sequence[Request]) -> list[Request]:
    """Those that find a place where nobody is ever moved: the same best fit, nothing else."""
    boards = {name: Board(name, count) for name, count in NODES.items()}
    admitted = []
    for number, request in enumerate(demand):
        interval = Interval(_at(request.start), _at(request.end))
        nodes = None if request.node is None else frozenset({request.node})
        plan = place(list(boards.values()), Wanted(request.units, interval, nodes=nodes), repack=False)
        if plan is not None:
            admitted.append(request)
            node = plan.nodes[0]
            boards[node] = boards[node].adding(Taken(str(number), request.units, interval))
    return admitted


@dataclass(frozen=True)
class Optimum:
    """The most that the solver found, and what it proved that nobody can exceed; in unit-hours."""

    admitted: float
    bound: float

    @property
    def gap(self) -> float:
        """How much more there could be, as a share."""
        return (self.bound - self.admitted) / self.bound


def optimum(demand: Sequence[Request], *, seconds: float) -> Optimum:
    """The best choice of requests and nodes, all of them known beforehand. Nobody is ever moved between nodes."""
    model = cp_model.CpModel()
    chosen = _choices(model, demand, range(len(demand)))
    for number in range(len(demand)):
        model.add_at_most_one(chosen[number, node] for node in NODES if (number, node) in chosen)
    _never_above_capacity(model, demand, chosen)
    model.maximize(sum(taken * demand[number].units * demand[number].length for (number, _), taken in chosen.items()))
    solver = cp_model.CpSolver()
    solver.parameters.max_time_in_seconds = seconds
    solver.parameters.num_workers = 2
    solver.parameters.random_seed = 1
    status = solver.solve(model)
    assert status in (cp_model.OPTIMAL, cp_model.FEASIBLE), solver.status_name(status)
    return Optimum(solver.objective_value / 60, solver.best_objective_bound / 60)


def moved_at_will(demand: Sequence[Request]) -> list[Request]:
    """Those that find a place where everybody who has not begun may be moved for it, however many that are."""
    place_of: dict[int, str] = {}
    for number, request in enumerate(demand):
        running = {n: node for n, node in place_of.items() if demand[n].start <= request.asked}
        model = cp_model.CpModel()
        chosen = _choices(model, demand, [*place_of, number])
        for other in (*place_of, number):
            model.add_exactly_one(chosen[other, node] for node in NODES if (other, node) in chosen)
        for other, node in place_of.items():
            if other in running:
                model.add(chosen[other, node] == 1)
            model.add_hint(chosen[other, node], 1)
        _never_above_capacity(model, demand, chosen)
        solver = cp_model.CpSolver()
        solver.parameters.num_workers = 1
        solver.parameters.max_time_in_seconds = 10
        if solver.solve(model) in (cp_model.OPTIMAL, cp_model.FEASIBLE):
            place_of = {n: node for (n, node), taken in chosen.items() if solver.value(taken)}
    return [demand[number] for number in sorted(place_of)]


Choices = dict[tuple[int, str], cp_model.IntVar]
"""Whether a request, by its number, goes to a node."""


def _choices(model: cp_model.CpModel, demand: Sequence[Request], numbers: Iterable[int]) -> Choices:
    return {
        (number, node): model.new_bool_var(f"{number}@{node}")
        for number in numbers
        for node, count in NODES.items()
        if count >= demand[number].units and demand[number].node in (None, node)
    }


def _never_above_capacity(model: cp_model.CpModel, demand: Sequence[Request], chosen: Choices) -> None:
    # What is taken rises at starts only, so it is enough to look there.
    instants = sorted({demand[number].start for number, _ in chosen})
    for node, count in NODES.items():
        here = [(demand[number], taken) for (number, at), taken in chosen.items() if at == node]
        for instant in instants:
            model.add(sum(taken * r.units for r, taken in here if r.start <= instant < r.end) <= count)


def _at(minutes: int) -> int:
    return BEGIN + minutes * MINUTE


def _site(url: str) -> Site:
    """The nodes of the demand, without limits."""
    prepare(url)
    nodes = {
        name: Node(name=name, accelerators=(Accelerator(resource=GPU, model="A100", count=count),))
        for name, count in NODES.items()
    }
    gpu = Profile(name="gpu", title="A100", resource=GPU, units=1, max_units=max(NODES.values()),
                  min_duration=MINUTE, max_duration=30 * DAY)  # fmt: skip
    site = Site(make_engine(url), Catalog(nodes=nodes, profiles={"gpu": gpu}))
    with transaction(site.engine) as connection:
        connection.execute(insert(tables.users), [{"id": n, "name": f"user{n}"} for n in range(USERS)])
    catalog_sync.sync(site, now=BEGIN - 365 * DAY)
    return site
