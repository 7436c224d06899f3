"""What a pod that starts is up to, by what the cluster says of it: it goes on, it waits, or it fails, and why.

Pure: pod and events are the plain JSON of the API, as the hub sees them. The hub has rights in its namespace only, so
what is wrong with a node is read in ``scheduling.py`` from the scheduler's words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mlmp_spawner.kube import pulls, scheduling, ssh_sidecar
from mlmp_spawner.kube.labels import KIND, OWNER, SERVER, deadline_of
from mlmp_spawner.kube.outcomes import ASK, OTHER_IMAGE, Fails, Going, Waiting, sentence
from mlmp_spawner.kube.scheduling import SETTLES, STORAGE, Place

Json = Mapping[str, Any]
Verdict = Going | Waiting | Fails

RESTARTS = 2
"""How often a container beside the server may end before it counts as broken: some wait for others that way."""

STOPPED = Fails("stopped", "Your server was stopped while it started.", hint="Start it again.")


def judge(pod: Json | None, events: Sequence[Json], place: Place) -> Verdict:
    """What the pod is up to.

    :param events: all that are seen in the namespace; those of this very pod are picked out.
    """
    if pod is None:
        return Going(45, f"Asking for a pod on {place.node}")
    if pod["metadata"].get("deletionTimestamp"):
        return STOPPED
    status = pod.get("status") or {}
    if status.get("phase") in ("Failed", "Succeeded") and not status.get("containerStatuses"):
        return _ended(status)
    mine = of_pod(events, pod)
    return (
        _containers(pod, mine)
        or scheduling.judge(status, place)
        or _preparing(mine)
        or _steps(pod, mine, events, place)
    )  # fmt: skip


def of_pod(events: Sequence[Json], pod: Json) -> list[Json]:
    """The events of this pod, not of a former one with its name, the oldest first."""
    uid = pod["metadata"].get("uid")
    return sorted((one for one in events if (one.get("involvedObject") or {}).get("uid") == uid), key=_when)


def former_owners(pods: Sequence[Json], *, node: str, resource: str, apart_from: str, now: int) -> tuple[str, ...]:
    """Whose servers are still on units of the node though they are being stopped or past their end.

    :param resource: the units; "" for what only takes cores and memory.
    :param apart_from: name of the pod that starts. :param now: ms UTC.
    """
    found = set()
    for pod in pods:
        metadata, spec = pod["metadata"], pod.get("spec") or {}
        ours = (metadata.get("labels") or {}).get(KIND) == SERVER and spec.get("nodeName") == node
        if not ours or metadata["name"] == apart_from or not _uses(spec, resource):
            continue
        annotations = metadata.get("annotations") or {}
        deadline = deadline_of(annotations)
        if metadata.get("deletionTimestamp") or (deadline is not None and deadline.stop_at <= now):
            found.add(str(annotations.get(OWNER, "the former user")))
    return tuple(sorted(found))


def _uses(spec: Json, resource: str) -> bool:
    return not resource or any(
        resource in ((container.get("resources") or {}).get("limits") or {})
        for container in spec.get("containers", ())
    )


def _when(event: Json) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or event.get("firstTimestamp") or "")


# -- what has ended ------------------------------------------------------------------------------------------------


def _ended(status: Json) -> Fails:
    reason, message = str(status.get("reason") or "Failed"), sentence(status.get("message") or "")
    if reason == "DeadlineExceeded":
        return Fails("stopped", "Its time was over before it had started.", hint="Book anew, or extend the booking.")
    return Fails("pod_failed", f"The node could not run your server ({reason}){': ' + message if message else ''}.")


def _containers(pod: Json, events: Sequence[Json]) -> Fails | None:
    status = pod.get("status") or {}
    for kind in ("initContainerStatuses", "containerStatuses"):
        for container in status.get(kind) or ():
            found = _container(container, events, server=container.get("name") == "notebook")
            if found is not None:
                return found
    started = any((one.get("state") or {}).get("running") for one in status.get("containerStatuses") or ())
    # Events come before the status does.
    return None if started else pulls.failing(pulls.image_of(pod), "", "", events)


def _container(container: Json, events: Sequence[Json], *, server: bool) -> Fails | None:
    state = container.get("state") or {}
    waiting = state.get("waiting") or {}
    reason, message = str(waiting.get("reason") or ""), str(waiting.get("message") or "")
    if reason in pulls.REASONS:
        return pulls.failing(str(container.get("image") or ""), reason, message, events)
    ended = state.get("terminated") or (container.get("lastState") or {}).get("terminated")
    if server and ended:
        return _crashed(ended)
    name = "your server" if server else f"the container {container.get('name')!r}"
    if reason in ("CreateContainerConfigError", "CreateContainerError", "RunContainerError"):
        why = sentence(message.partition(' (pod: "')[0])
        return Fails("not_runnable", f"The node can't run {name}: {why}.", patience=SETTLES)
    if container.get("name") == ssh_sidecar.NAME:
        return None  # it is started again by itself, and nobody's server waits for it
    if ended and ended.get("exitCode") and container.get("restartCount", 0) >= RESTARTS:
        what = f"Beside your server {name} ends again and again (exit status {ended['exitCode']})."
        return Fails("crashed", what + said(str(ended.get("message") or "")))
    return None


def _crashed(ended: Json) -> Fails:
    reason, message = str(ended.get("reason") or ""), str(ended.get("message") or "")
    if reason == "OOMKilled":
        what = "Your server was ended while it started: it took more memory than goes with its booking."
        return Fails("out_of_memory", what, hint="Book more units, or choose another image.")
    if reason in ("StartError", "ContainerCannotRun"):
        why = sentence(message.rpartition("unable to start container process: ")[2].removesuffix(": unknown"))
        return Fails("not_runnable", f"The image can't run the command of your server: {why}.", hint=OTHER_IMAGE)
    what = f"Your server ended while it started (exit status {ended.get('exitCode')})."
    return Fails(
        "crashed", what + said(message), hint=f"Did you change something in your home? Else: {ASK[0].lower()}{ASK[1:]}"
    )


def said(output: str) -> str:
    """The last line of what a container wrote, as a sentence of its own; nothing if it wrote nothing."""
    lines = [line for line in output.splitlines() if line.strip()]
    return f" It said: {sentence(lines[-1])}." if lines else ""


# -- what goes on --------------------------------------------------------------------------------------------------


def _preparing(events: Sequence[Json]) -> Fails | None:
    """What still keeps the pod's volumes or network from being there."""
    last = events[-1] if events else {}
    if last.get("reason") in ("FailedMount", "FailedAttachVolume"):
        code, what, step = "storage", "Your files can't be mounted", "Waiting for your storage"
    elif last.get("reason") == "FailedCreatePodSandBox":
        code, what, step = "not_runnable", "The node can't set up your server", "Waiting for the node"
    else:
        return None
    return Fails(code, f"{what}: {sentence(last.get('message'))}.", patience=STORAGE, step=step)


def _steps(pod: Json, mine: Sequence[Json], everything: Sequence[Json], place: Place) -> Going:
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    running = [one.get("name") for one in statuses if (one.get("state") or {}).get("running")]
    started = [one["involvedObject"].get("fieldPath") for one in mine if one.get("reason") == "Started"]
    if "notebook" in running or "spec.containers{notebook}" in started:
        return Going(80, f"Started on {place.node}")
    pull = pulls.step(mine, everything)
    if pull is not None:
        return pull
    if (pod.get("spec") or {}).get("nodeName"):
        return Going(55, f"{place.node} prepares it")
    return Going(50, f"Waiting for {place.node}")
