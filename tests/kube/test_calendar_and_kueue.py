"""The calendar and Kueue together, over an afternoon: bookings come, jobs make way, and no unit is given twice.

What is decided is done here as a controller does it, against a Kueue that does whatever its quotas let it do.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlmp_spawner.deadlines import Deadline
from mlmp_spawner.kube.files import Account
from mlmp_spawner.kube.job_pods import Surroundings, Work, name_of, objects
from mlmp_spawner.kube.job_queues import HOSTNAME, NodeQuota, cluster_queue, flavor_name, local_queue, local_queue_name
from mlmp_spawner.kube.workloads import Workload, active, ready, workload
from mlmp_spawner.rules.job_admission import Asking, Going, decide
from mlmp_spawner.rules.job_room import Shape
from mlmp_spawner.rules.placement import Board, Taken, Wanted, place
from mlmp_spawner.rules.reservations import Interval
from mlmp_spawner.rules.storage import Storage
from mlmp_spawner.units import MINUTE
from tests.kube.played_kueue import Choose, PlayedKueue

GPU = "nvidia.com/gpu"
CAPACITY = {"a": 2, "b": 3}
FLAVORS = {flavor_name(node): node for node in CAPACITY}
LABELS = {flavor: {HOSTNAME: node} for flavor, node in FLAVORS.items()}
NOW = 1_000_000 * MINUTE
STEP = 5 * MINUTE
AROUND = Surroundings("users", "http://hub/", "", "lab", Storage(claim="homes"), "ann", Account(1000))


@dataclass
class Run:
    """An attempt under way: it holds its units until ``kill_at``, and ends between the two times."""

    job: str
    nodes: tuple[str, ...]
    stop_at: int
    kill_at: int
    began: int


@dataclass
class Afternoon:
    """Everything there is. ``done``: when each job was through; ``woken``: how often each was let ask."""

    choose: Choose
    shapes: dict[str, Shape]
    now: int = NOW
    bookings: list[tuple[str, Taken]] = field(default_factory=list)
    runs: dict[str, Run] = field(default_factory=dict)
    tries: Counter[str] = field(default_factory=Counter)
    done: dict[str, int] = field(default_factory=dict)
    ready: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.kueue = PlayedKueue(self.choose)
        self.kueue.apply_local(local_queue(GPU, "", "users"))
        for job in self.shapes:
            self.submit(job)

    def submit(self, job: str) -> None:
        """The next attempt of a job."""
        self.tries[job] += 1
        shape = self.shapes[job]
        manifest = {"command": ["true"], "checkpoint": "c", "outputs": "o"}
        made = Work(
            f"{job}-{self.tries[job]}", job, self.tries[job], "ann", manifest, "torch", GPU, shape.units,
            shape.workers, frozenset(CAPACITY), shape.length, shape.grace, queue=local_queue_name(GPU, ""),
        )  # fmt: skip
        self.kueue.submit(objects(made, AROUND, {}, ""), GPU)

    # -- the calendar ---------------------------------------------------------------------------------------------

    def boards(self) -> list[Board]:
        boards = []
        for node, capacity in CAPACITY.items():
            taken = [one for where, one in self.bookings if where == node]
            for attempt, run in self.runs.items():
                shape = self.shapes[run.job]
                if node in run.nodes:
                    units = shape.units * run.nodes.count(node)
                    taken.append(Taken(attempt, units, Interval(run.began, run.kill_at), yields=shape.preemptible))
            boards.append(Board(node, capacity, tuple(taken)))
        return boards

    def book(self, units: int, begins_in: int, length: int) -> None:
        """Somebody books, further ahead than any job's grace, and jobs yield to it; refused where nothing fits."""
        start = self.now + STEP + begins_in
        plan = place(self.boards(), Wanted(units, Interval(start, start + length)), repack=False)
        if plan is None:
            return
        self.bookings.append((plan.nodes[0], Taken(f"k{len(self.bookings)}", units, Interval(start, start + length))))
        for one in plan.yields:
            run = self.runs[one.reservation]
            assert one.at >= self.now + STEP
            run.kill_at = one.at
            run.stop_at = min(run.stop_at, one.at - self.shapes[run.job].grace)

    # -- the controller -------------------------------------------------------------------------------------------

    def look(self) -> None:
        """One look, with all that follows from it."""
        known = {one.attempt: one for item in self.kueue.items.values() if (one := workload(item)) is not None}
        going = [
            Going(attempt, run.nodes, self.shapes[run.job].units, run.stop_at, known[attempt].counted)
            for attempt, run in self.runs.items()
        ]
        asking = [self._asking(one) for one in known.values() if one.attempt not in self.runs]
        found = decide(asking, going, self.boards(), self.now)
        quotas = [NodeQuota(node, node, found.quotas[node], 64.0, 1 << 40) for node in CAPACITY]
        self.kueue.apply_queue(cluster_queue(GPU, quotas, "users"))
        for attempt in (*found.recall, *found.hold):
            self.kueue.patch(active(known[attempt], False))
        for start in found.start:
            # As written down before the answer is sent.
            self.runs[start.job] = Run(
                start.job.rpartition("-")[0], start.nodes, start.stop_at, start.kill_at, self.now
            )
            answer = ready(known[start.job], Deadline(start.stop_at, start.kill_at), LABELS, now=self.now)
            self.kueue.patch(answer)
            self.ready[start.job] += 1
        for attempt in found.wake:
            self._wake(known[attempt])

    def _asking(self, one: Workload) -> Asking:
        shape = self.shapes[one.attempt.rpartition("-")[0]]
        nodes = one.nodes(FLAVORS) if one.asks else None
        return Asking(one.attempt, shape, nodes, one.held, (0, one.attempt))

    def _wake(self, one: Workload) -> None:
        if one.gated:
            self.kueue.ungate(name_of(one.attempt))
        else:
            self.kueue.patch(active(one, True))

    # -- time -----------------------------------------------------------------------------------------------------

    def pass_time(self) -> None:
        """What has ended by now is written down, and what is not through is submitted once more."""
        self.now += MINUTE
        names = {one.attempt: n for n, item in self.kueue.items.items() if (one := workload(item)) is not None}
        for attempt, run in list(self.runs.items()):
            over = self.now >= run.began + self.shapes[run.job].length
            told = not self.kueue.items[names[attempt]]["spec"]["active"]
            assert told or self.now < run.kill_at, "nobody has told it to end"
            if self.now >= run.kill_at or ((over or told) and self.choose([True, False])):
                del self.runs[attempt]
                self.kueue.delete(names[attempt])
                if over:
                    self.done[run.job] = self.now
                else:
                    self.submit(run.job)

    def check(self) -> None:
        """No unit is used twice, and Kueue has not given away more than there is."""
        for board in self.boards():
            used = sum(one.units for one in board.taken if one.interval.start <= self.now < one.interval.end)
            assert used <= board.capacity, (board, self.now)
        for one in filter(None, map(workload, self.kueue.items.values())):
            assert one.admitted == (one.attempt in self.runs) or not one.active


shapes = st.builds(
    Shape,
    st.just(GPU),
    st.just(frozenset(CAPACITY)),
    units=st.integers(1, 2),
    workers=st.sampled_from([1, 1, 1, 2]),
    length=st.integers(2, 30).map(lambda n: n * MINUTE),
    grace=st.integers(1, 3).map(lambda n: n * MINUTE),
    preemptible=st.booleans(),
)
bookings = st.tuples(st.integers(1, 3), st.integers(0, 20), st.integers(5, 30))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(
    st.lists(shapes, min_size=1, max_size=5),
    st.dictionaries(st.integers(0, 40), bookings, max_size=4),
    st.randoms(use_true_random=False),
)
def test_no_unit_is_used_twice_and_every_job_comes_to_its_end(asked, booked, random):  # type: ignore[no-untyped-def]
    day = Afternoon(random.choice, {f"j{n}": shape for n, shape in enumerate(asked)})
    for minute in range(60):
        if minute in booked:
            units, begins_in, length = booked[minute]
            day.book(units, begins_in * MINUTE, length * MINUTE)
        for _ in range(3):
            day.look()
            day.check()
            day.kueue.reserve()
        day.look()
        day.check()
        day.pass_time()
        day.check()
    day.kueue.choose = lambda ways: ways[-1]  # from now on it does what it can, and nobody books any more
    day.choose = lambda ways: True
    for _ in range(60 + sum(one.length + one.grace for one in asked) // MINUTE * 2):
        for _ in range(2):
            day.look()
            day.kueue.reserve()
        day.look()
        day.check()
        day.pass_time()
    assert set(day.done) == set(day.shapes)
    assert set(day.ready.values()) == {1}, "an answer is given once"
