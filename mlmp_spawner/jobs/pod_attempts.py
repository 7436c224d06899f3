"""All that a cluster has of one attempt, and what that means. Pure.

What has to outlive the pods is written on a ConfigMap of the attempt, which is made first and goes last: its
:class:`Record`. Pods may vanish between two looks, as those that Kueue or somebody else has deleted do.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, get_args

from mlmp_spawner.deadlines import Deadline
from mlmp_spawner.jobs.base import Seen
from mlmp_spawner.jobs.pod_outcomes import Ended, how_ended, seen
from mlmp_spawner.kube.labels import ATTEMPT, deadline_of
from mlmp_spawner.rules.jobs import Reason
from mlmp_spawner.units import MINUTE, from_iso

Json = Mapping[str, Any]

WORKERS = "mlmp.dev/workers"
"""Annotation: of how many pods it consists."""
LOG_LIMIT = "mlmp.dev/log-limit"
"""Annotation: bytes of its log that are kept."""
TALKS_WITH = "mlmp.dev/talks-with"
"""Annotation: under which reservation the server was started that its pods talk with."""
WHOLE = "mlmp.dev/whole"
"""Annotation: all its objects were made, so what is not there any more was deleted, and is not made again."""
BEGAN = "mlmp.dev/began"
"""Annotation: it was let in, so it does not come back."""
OUTCOME = "mlmp.dev/outcome"
"""Annotation: how it ended, where its pods can't tell, or will be gone."""

PODS_WITHIN = 3 * MINUTE
"""How long the cluster may take to make the pod of a Job that was let in."""

_DEFAULT_LIMIT = 64 << 20
_REASONS = frozenset(get_args(Reason))
_NUMBERS = ("exit_status", "at", "started_at")


@dataclass(frozen=True, slots=True)
class Record:
    """What is written of it. ``deadline``: when it ends, as far as somebody has said.

    ``outcome``, ``started_at``: as was seen before its pods went. ``made_at``: of the record. All in ms UTC.
    ``talks``: with a server.
    """

    workers: int = 1
    log_limit: int = _DEFAULT_LIMIT
    whole: bool = False
    began: bool = False
    deadline: Deadline | None = None
    outcome: Ended | None = None
    started_at: int | None = None
    made_at: int = 0
    talks: bool = False


@dataclass(frozen=True, slots=True)
class Known:
    """What there is of an attempt. ``record`` is None where that is gone."""

    attempt: str
    record: Record | None = None
    job: Json | None = None
    pods: tuple[Json, ...] = ()

    @property
    def workers(self) -> int:
        """Of how many pods it consists."""
        return self.record.workers if self.record else max(1, len(self.pods))

    @property
    def started(self) -> bool:
        """Whether it was let in: something of it runs, ran, or is about to."""
        let_in = self.job is not None and not _suspended(self.job)
        return let_in or bool(self.record and self.record.began) or not all(map(gated, self.pods))

    @property
    def half_made(self) -> bool:
        """Whether not all of its objects were made yet: who makes them was killed, or does so now."""
        return self.record is not None and not self.record.whole and not self.started

    @property
    def deadline(self) -> Deadline | None:
        """When it ends: the earliest of what is written anywhere."""
        said = [deadline_of((pod.get("metadata") or {}).get("annotations")) for pod in self.pods]
        times = [one for one in (*said, self.record.deadline if self.record else None) if one is not None]
        return Deadline(min(one.stop_at for one in times), min(one.end for one in times)) if times else None


def record(metadata: Json) -> Record:
    """The record, of its object. What can't be read of it counts as not there."""
    said = metadata.get("annotations") or {}
    outcome, started_at = _outcome(said.get(OUTCOME))
    return Record(
        workers=_number(said.get(WORKERS), 1),
        log_limit=_number(said.get(LOG_LIMIT), _DEFAULT_LIMIT),
        whole=WHOLE in said,
        began=BEGAN in said,
        deadline=deadline_of(said),
        outcome=outcome,
        started_at=started_at,
        made_at=_instant(metadata.get("creationTimestamp")) or 0,
        talks=TALKS_WITH in said,
    )


def outcome_note(ended: Ended, started_at: int | None = None) -> dict[str, str]:
    """The annotation that keeps how it ended, and since when it had run."""
    return {OUTCOME: json.dumps(asdict(ended) | {"started_at": started_at})}


def all_known(made: Iterable[Json], jobs: Iterable[Json], pods: Iterable[Json]) -> dict[str, Known]:
    """What there is of each attempt. :param made: the metadata of their records."""
    records = {name: record(one) for one in made if (name := _of(one))}
    found = {name: one for one in jobs if (name := _of(one.get("metadata") or {}))}
    running: dict[str, list[Json]] = {}
    for pod in pods:
        if name := _of(pod.get("metadata") or {}):
            running.setdefault(name, []).append(pod)
    return {
        name: Known(name, records.get(name), found.get(name), tuple(running.get(name, ())))
        for name in sorted({*records, *found, *running})
    }


def look_at(known: Known, now: int) -> Seen | None:
    """What is seen of an attempt; None where nothing of it is left that counts, or not all of it is made."""
    if known.half_made or _forgotten(known):
        return None
    if (outcome := _outcome_of(known, now)) is not None:
        if all(how_ended(pod) is not None or gated(pod) for pod in known.pods):
            began = known.record.started_at if known.record else None
            if began is None and (now_seen := seen(known.attempt, known.pods, known.workers)) is not None:
                began = now_seen.started_at
            return Seen(
                known.attempt, "ended", began, outcome.at, outcome.reason, outcome.exit_status, outcome.message
            )  # fmt: skip
        return seen(known.attempt, known.pods, known.workers)
    if known.pods and not all(map(gated, known.pods)):
        return seen(known.attempt, known.pods, known.workers)
    if known.started:
        return Seen(known.attempt, "starting")
    return Seen(known.attempt, "queued") if known.record or known.job or known.pods else None


def _outcome_of(known: Known, now: int) -> Ended | None:
    if known.record is not None and known.record.outcome is not None:
        return known.record.outcome
    return unnoted(known, now)


def unnoted(known: Known, now: int) -> Ended | None:
    """How an attempt ended whose pods don't say so, and that is not written down yet.

    :param now: ms UTC, taken for the time of its end.
    """
    if known.pods or known.record is None or known.record.outcome is not None:
        return None
    job = known.job
    if job is None:
        return Ended("vanished", None, "Its pods are gone.", now) if known.record.whole else None
    if _over(job) or (_suspended(job) and known.record.began):
        return Ended("vanished", None, "Its pod is gone.", now)
    since = _since(job)
    if since is not None and now >= since + PODS_WITHIN:
        return Ended("platform", None, "The cluster did not make its pod.", now)
    return None


def about_to_go(known: Known) -> Ended | None:
    """How an attempt ended whose pods still say so, but were deleted: they are gone the next moment."""
    if known.record is None or known.record.outcome is not None:
        return None
    if not any(map(_deleted, known.pods)):
        return None
    found = seen(known.attempt, known.pods, known.workers)
    if found is None or found.reason is None:
        return None
    return Ended(found.reason, found.exit_status, found.message, found.ended_at)


def _forgotten(known: Known) -> bool:
    """Whether all was deleted, and what is left is but on its way out."""
    if known.record is not None or known.job is not None:
        return False
    return all(_deleted(pod) and (gated(pod) or how_ended(pod) is not None) for pod in known.pods)


def _deleted(pod: Json) -> bool:
    return bool((pod.get("metadata") or {}).get("deletionTimestamp"))


def gated(pod: Json) -> bool:
    """Whether a pod waits for its turn: nothing of it has run."""
    spec = pod.get("spec") or {}
    return bool(spec.get("schedulingGates")) and not spec.get("nodeName")


def rank_of(pod: Json) -> int:
    """Of a group's pod the number of its worker."""
    name = str((pod.get("metadata") or {}).get("name", ""))
    with suppress(ValueError):
        return int(name.rpartition("-w")[2])
    return 0


def _of(metadata: Json) -> str:
    return str((metadata.get("labels") or {}).get(ATTEMPT) or "")


def _suspended(job: Json) -> bool:
    return (job.get("spec") or {}).get("suspend") is True


def _over(job: Json) -> bool:
    conditions: Sequence[Json] = (job.get("status") or {}).get("conditions") or ()
    return any(one.get("type") in ("Complete", "Failed") and one.get("status") == "True" for one in conditions)


def _since(job: Json) -> int | None:
    """Since when the cluster may make the pod of a Job."""
    return None if _suspended(job) else _instant((job.get("status") or {}).get("startTime"))


def _instant(text: object) -> int | None:
    with suppress(ValueError):
        return from_iso(str(text or ""))
    return None


def _outcome(text: object) -> tuple[Ended | None, int | None]:
    try:
        said = json.loads(str(text or ""))
        reason = said["reason"]
        code, at, began = (said[key] if isinstance(said[key], int) else None for key in _NUMBERS)
    except (ValueError, KeyError, TypeError):
        return None, None
    if reason not in _REASONS:
        return None, None
    return Ended(reason, code, str(said.get("message") or ""), at), began


def _number(text: object, default: int) -> int:
    with suppress(ValueError):
        return max(0, int(str(text)))
    return default
