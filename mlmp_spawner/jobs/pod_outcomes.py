"""From what the cluster says of an attempt's pods to what a back-end of jobs tells. Pure.

The user's failures are kept apart from the platform's: only the latter are tried again for free. Nothing has ended as
long as one of its pods may still run, which of a node that does not answer nobody knows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from mlmp_spawner.jobs.base import Seen
from mlmp_spawner.kube import pulls
from mlmp_spawner.kube.job_pods import MAIN
from mlmp_spawner.kube.outcomes import sentence
from mlmp_spawner.rules.jobs import PLATFORM, Reason
from mlmp_spawner.units import SECOND, from_iso

Json = Mapping[str, Any]

_SIGNALLED = range(129, 160)
"""Exit statuses by which the kubelet says that a signal ended it: 128 and its number."""
_LOST = {"DeletionByTaintManager", "DeletionByPodGC"}
"""Reasons of a pod's end: its node went away."""
_UNKNOWN = {"ContainerStatusUnknown", "Unknown"}
"""Reasons by which kubelet and runtime say that they lost track of a container, with an exit status of their own."""
_NOT_STARTED = {"StartError", "ContainerCannotRun"}
_CANT_START = {"CreateContainerConfigError", "CreateContainerError", "RunContainerError"}


@dataclass(frozen=True, slots=True)
class Ended:
    """How one worker ended. ``at``: ms UTC, None where the cluster does not say."""

    reason: Reason
    exit_status: int | None = None
    message: str = ""
    at: int | None = None


def seen(attempt: str, pods: Sequence[Json], workers: int) -> Seen | None:
    """What is seen of an attempt by all its pods; None where there are none.

    It runs once all its workers do, and has ended once the last one has: as the first that failed did.
    """
    if not pods:
        return None
    started = [at for pod in pods if (at := program_started(pod)) is not None]
    since = max(started) if len(started) >= workers else None
    ended = [one for pod in pods if (one := how_ended(pod)) is not None]
    if len(ended) < len(pods):
        return Seen(attempt, "starting" if since is None else "running", started_at=since)
    first = _first(ended)
    if len(pods) < workers and first.reason == "succeeded":
        first = Ended("vanished", None, "The pod of one of its workers is gone.")
    at = max((one.at for one in ended if one.at is not None), default=None)
    return Seen(attempt, "ended", since, at, first.reason, first.exit_status, first.message)


def to_be_ended(pods: Sequence[Json]) -> Ended | None:
    """Why what is left of an attempt has to be ended: one worker failed, or can't ever start. The others would wait
    for it for ever."""
    ended = [one for pod in pods if (one := how_ended(pod)) is not None]
    failed = [one for one in ended if one.reason != "succeeded"]
    if failed:
        return _first(failed) if len(ended) < len(pods) else None
    return next((one for pod in pods if (one := _cant_start(pod)) is not None), None)


def how_ended(pod: Json) -> Ended | None:
    """How a pod ended; None while something of it runs, or may.

    No user can delete one: what ended since its pod was deleted did so for the platform's sake, whatever it said.
    """
    ended, deleted_at = _how_ended(pod), _deleted_at(pod)
    if ended is None or deleted_at is None or (ended.at is not None and ended.at + SECOND <= deleted_at):
        return ended
    # The cluster tells whole seconds, rounded down; that it came after what ended it has to be seen.
    at = None if ended.at is None else ended.at + SECOND - 1
    if ended.reason in PLATFORM:
        return replace(ended, at=at)
    return Ended("preempted" if _sent_away(pod) else "platform", ended.exit_status, "Its pod was deleted.", at)


def _how_ended(pod: Json) -> Ended | None:
    status = pod.get("status") or {}
    main = _terminated(status, "containerStatuses", MAIN)
    if status.get("phase") == "Failed" or (main is not None and main.get("exitCode")):
        disrupted = _disrupted(status, main)
        if disrupted is not None:
            return disrupted
    if main is not None:
        return _of_program(main)
    if status.get("phase") == "Failed":
        prepare = _terminated(status, "initContainerStatuses", "prepare")
        if prepare is not None and prepare.get("exitCode"):
            said = _last_line(prepare.get("message"))
            return Ended("start", None, said or "Its files could not be prepared.", _at(prepare))
        return Ended("platform", None, sentence(status.get("message") or status.get("reason") or "The pod failed"))
    return Ended("succeeded", 0) if status.get("phase") == "Succeeded" else None


def _deleted_at(pod: Json) -> int | None:
    """When somebody asked for its end."""
    metadata = pod.get("metadata") or {}
    until, grace = _instant(metadata.get("deletionTimestamp")), metadata.get("deletionGracePeriodSeconds")
    return None if until is None else until - (grace if isinstance(grace, int) else 0) * SECOND


def _sent_away(pod: Json) -> bool:
    """Whether Kueue did, as it writes on the pods of a group."""
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(one.get("type") == "TerminationTarget" for one in conditions)


def _disrupted(status: Json, main: Json | None) -> Ended | None:
    """That the platform ended it, or its own limits did, where the pod says so."""
    at = _at(main or {})
    reason, message = str(status.get("reason") or ""), sentence(status.get("message") or "")
    if reason == "DeadlineExceeded":
        return Ended("time_limit", None, message, at)
    if reason in ("NodeLost", "NodeShutdown", "Terminated"):
        return Ended("node_lost", None, message, at)
    conditions = status.get("conditions") or ()
    condition: Json = next((one for one in conditions if one.get("type") == "DisruptionTarget"), {})
    if condition.get("status") != "True":
        # More disk than its limit: no condition tells of that one, since no other pod is the cause.
        return Ended("exit_status", None, message, at) if reason == "Evicted" else None
    why, words = str(condition.get("reason") or ""), sentence(condition.get("message") or "")
    return Ended("node_lost" if why in _LOST else "platform", None, words or message, at)


def _of_program(ended: Json) -> Ended:
    code, at, said = ended.get("exitCode"), _at(ended), _last_line(ended.get("message"))
    if ended.get("reason") == "OOMKilled":
        return Ended("out_of_memory", None, "It took more memory than goes with its units.", at)
    if ended.get("reason") in _NOT_STARTED:
        why = sentence(str(ended.get("message") or "").rpartition("unable to start container process: ")[2])
        return Ended("start", None, f"It could not be started: {why}.", at)
    if not isinstance(code, int):
        return Ended("vanished", None, said, at)
    if ended.get("reason") in _UNKNOWN:
        return Ended("vanished", None, "Its node was restarted, or else does not know how it ended.", at)
    if code in _SIGNALLED:
        return Ended("signal", None, f"It was ended by signal {code - 128}.", at)
    return Ended("exit_status" if code else "succeeded", code, said if code else "", at)


def _cant_start(pod: Json) -> Ended | None:
    """Why a pod waits for what never comes. What becomes of the containers beside a program that runs ends no job."""
    if program_started(pod) is not None:
        return None
    status = pod.get("status") or {}
    for one in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
        waiting = (one.get("state") or {}).get("waiting") or {}
        reason, message = str(waiting.get("reason") or ""), str(waiting.get("message") or "")
        if reason in pulls.REASONS:
            fails = pulls.failing(str(one.get("image") or ""), reason, message, ())
            if fails is not None and not fails.patience:
                return Ended("image", None, fails.detail)
        if reason in _CANT_START:
            return Ended("start", None, f"It could not be started: {sentence(message)}.")
    return None


def _first(ended: Iterable[Ended]) -> Ended:
    """As the attempt counts: the first that failed, where one did."""
    return min(ended, key=lambda one: (one.reason == "succeeded", one.at is None, one.at or 0))


def program_started(pod: Json) -> int | None:
    """Since when (ms UTC) the program of a pod runs, or ran; None: not yet."""
    for one in (pod.get("status") or {}).get("containerStatuses") or ():
        state = one.get("state") or {}
        if one.get("name") == MAIN:
            return _instant((state.get("running") or state.get("terminated") or {}).get("startedAt"))
    return None


def _terminated(status: Json, kind: str, name: str) -> Json | None:
    found: Json = next((one for one in status.get(kind) or () if one.get("name") == name), {})
    ended: Json | None = (found.get("state") or {}).get("terminated")
    return ended


def _last_line(text: object) -> str:
    lines = [line for line in str(text or "").splitlines() if line.strip()]
    return sentence(lines[-1]) if lines else ""


def _at(ended: Json) -> int | None:
    return _instant(ended.get("finishedAt"))


def _instant(text: object) -> int | None:
    with suppress(ValueError):
        return from_iso(str(text)) or None
    return None
