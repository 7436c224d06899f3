"""Which of the jobs that wait stand in the queue of the back-end, and what that queue may do with each of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field

from mlmp_spawner.kube.job_queues import local_queue_name
from mlmp_spawner.kube.workloads import Workload
from mlmp_spawner.operations import planning
from mlmp_spawner.operations.jobs import quotas
from mlmp_spawner.operations.jobs.deciding import Decided
from mlmp_spawner.operations.site import Site
from mlmp_spawner.rules.job_admission import Asking, Going
from mlmp_spawner.rules.job_guarantees import Tenant, of_resource, tenant_of
from mlmp_spawner.rules.job_queue import Waiting
from mlmp_spawner.rules.jobs import Attempt, Job
from mlmp_spawner.store import jobs as store
from mlmp_spawner.store.transaction import read

WINDOW = 50
"""How many jobs of one group for one resource stand in the queue; the others wait in the database and move up."""

_NEVER = frozenset({"gone", "too_large", "over_quota"})
"""Why a job can't start, however long it waits."""


@dataclass(frozen=True, slots=True)
class Standing:
    """The jobs that stand in the queue by the attempt that each waits for, in the order of their turns."""

    jobs: Mapping[str, Job] = field(default_factory=dict)

    def of(self, resource: str) -> dict[str, Job]:
        """Those that want units of ``resource``."""
        return {attempt: job for attempt, job in self.jobs.items() if job.resource == resource}


def standing(site: Site, decided: Decided) -> Standing:
    """The first of each group, by their turns, that may start some day. Those that wait for others of their owner only
    have what room is left."""
    why = {job: expected.why.code for job, expected in decided.outlook.items()}
    able = [job for job in decided.turns if why.get(job.id) not in _NEVER]
    taken: Counter[tuple[str, str]] = Counter()
    stand = set()
    for job in sorted(able, key=lambda job: why.get(job.id) == "quota"):
        place = job.group, job.resource
        if taken[place] < WINDOW:
            taken[place] += 1
            stand.add(job.id)
    found = [job for job in able if job.id in stand]
    with read(site.engine) as connection:
        numbers = store.next_numbers(connection, [job.id for job in found])
    return Standing({f"{job.id}-{numbers[job.id]}": job for job in found})


@dataclass(slots=True)
class Tenancy:
    """Who has a right to what of one resource. ``own``: units that guaranteed groups use of their own."""

    resource: str
    guaranteed: Mapping[str, int]
    own: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, site: Site, resource: str) -> Tenancy:
        """As the site guarantees it."""
        return cls(resource, of_resource(site.job_guarantees, resource))

    def tenant(self, job: Job) -> Tenant:
        """In whose queue a job stands."""
        return tenant_of(job.group, job.preemptible, self.guaranteed)

    def queue(self, job: Job) -> str:
        """The name of its group's queue there."""
        return local_queue_name(self.resource, job.group, self.tenant(job))

    def first(self, job: Job) -> bool:
        """Whether a job has a right to its units beside those of its group that were asked about before."""
        if self.tenant(job).kind != "own":
            return False
        units = job.units * job.workers
        if self.own[job.group] + units > self.guaranteed[job.group]:
            return False
        self.own[job.group] += units
        return True


def going(
    live: Iterable[tuple[Job, Attempt]],
    known: Mapping[str, Workload],
    flavors: Mapping[str, str],
    tenancy: Tenancy,
    ceded: Set[str] = frozenset(),
) -> list[Going]:
    """The attempts for one resource that are under way outside bookings. What its group uses of its own is counted.

    :param known: of each attempt what Kueue has of it. :param flavors: of each flavor its node.
    :param ceded: the attempts that Kueue has sent away for others.
    """
    found = []
    for job, attempt in live:
        if job.resource != tenancy.resource or job.inside is not None:
            continue
        one = known.get(attempt.id)
        nodes = one.nodes(flavors) if one is not None else None
        # What stands in a queue that is none of these any more is counted nowhere.
        counted = one is not None and one.counted and nodes is not None and one.queue == tenancy.queue(job)
        found.append(
            Going(
                attempt.id, nodes if counted and nodes else attempt.nodes, job.units, attempt.stop_at, counted,
                attempt.reservation, yields=job.preemptible, ceded=attempt.id in ceded,
            )
        )  # fmt: skip
        if counted and tenancy.tenant(job).kind == "own":
            tenancy.own[job.group] += job.units * job.workers
    return found


def asking(
    site: Site, jobs: Mapping[str, Job], known: Mapping[str, Workload], flavors: Mapping[str, str], tenancy: Tenancy
) -> list[Asking]:
    """The jobs for one resource that stand in the queue, in the order of their turns: who has a right to units first.

    :param jobs: by the attempt that each waits for. :param known: of each attempt what Kueue has of it.
    :param flavors: of each flavor its node.
    """
    fits = {name: frozenset(planning.nodes_of(site, name)) for name in site.catalog.profiles}
    found = []
    for place, (attempt, job) in enumerate(jobs.items()):
        one = known.get(attempt)
        nodes = None
        if one is not None and one.asks:
            nodes = one.nodes(flavors) or ("",) * job.workers  # on a node that nobody knows any more
        first = tenancy.first(job)
        found.append(
            Asking(
                attempt,
                Waiting.of(job, fits.get(job.profile, frozenset())).shape,
                nodes,
                held=one is None or one.held,
                order=(place - len(jobs) if first else place, attempt),
                owner=job.owner,
                first=first,
            )
        )
    return found


def units_left(decided: Decided) -> dict[str, int]:
    """How many units more the jobs of each owner may take; without a limit left out."""
    taken = quotas.units_taken(job for job, _ in decided.live)
    return {owner: allowed - taken.get(owner, 0) for owner, allowed in decided.allowed.items()}
