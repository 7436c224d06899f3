"""Which images are pulled to which nodes ahead of time, and what of that is cleared away.

A pull is a short pod that is pinned to its node. What is under way is known from these pods alone; nothing of it is
kept anywhere else. A pod that was asked for by hand is *queued*: it may not start before this module says so.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from mlmp_spawner.rules.catalog import Catalog
from mlmp_spawner.rules.reservations import Reservation
from mlmp_spawner.units import DAY, HOUR, MINUTE

AT_ONCE = 2
"""How many images are pulled to one node at the same time, so that the bookings of a course don't stampede."""

LISTS = 50
"""How many images a kubelet tells of, the largest (its ``nodeStatusMaxImages``): what a longer list lacks may be
there."""

REMEMBERED = 30 * MINUTE
"""For how long a pod that has pulled is believed where the node does not tell."""

RETRY = 10 * MINUTE
"""How long after a pull was given up the next one begins; before that the kubelet tried again and again itself."""

SHOWN = HOUR
"""For how long one that somebody asked for, and that was given up, is kept to be seen."""

Key = tuple[str, str]
"""Node, and the normal form of a reference."""

State = Literal["queued", "pulling", "failing", "pulled", "failed"]


@dataclass(frozen=True, slots=True)
class NodeImages:
    """What a node has. ``away``: why nothing is pulled there now, "" where it is. ``images`` in their normal form;
    ``all_told``: whether there are no others."""

    name: str
    away: str = ""
    images: frozenset[str] = frozenset()
    all_told: bool = True


@dataclass(frozen=True, slots=True)
class PullPod:
    """A pod that pulls, pulled, or could not. ``reference`` as the catalog has it; times in ms UTC.

    *failing*: the kubelet tries again by itself; *failed*: it has given up. ``since``: it was made, or let start.
    ``asked_by``: who wanted it by hand, "" for nobody. ``over_at``: when it pulled or was given up. ``leaves``: it is
    being deleted. ``noted``: the problem that is written on it.
    """

    name: str
    node: str
    reference: str
    state: State
    since: int
    asked_by: str = ""
    problem: str = ""
    over_at: int | None = None
    leaves: bool = False
    noted: str = ""
    uid: str = ""

    @property
    def key(self) -> Key:
        """What it is about."""
        return self.node, normal(self.reference)


@dataclass(frozen=True, slots=True)
class Pull:
    """An image to pull to a node."""

    node: str
    reference: str

    @property
    def key(self) -> Key:
        """What it is about."""
        return self.node, normal(self.reference)


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do: pods to create, queued ones to let start, and those to clear away."""

    create: tuple[Pull, ...] = ()
    start: tuple[PullPod, ...] = ()
    delete: tuple[PullPod, ...] = ()


@dataclass(frozen=True, slots=True)
class Wishes:
    """What should be on which node: first for bookings, by their start, then what the catalog preloads."""

    soon: tuple[Pull, ...] = ()
    always: tuple[Pull, ...] = ()
    keys: frozenset[Key] = field(default=frozenset())


def normal(reference: str) -> str:
    """A reference as nodes tell it: with the registry, and a tag or, where there is one, the digest alone."""
    name, _, digest = reference.partition("@")
    tagged = re.fullmatch(r"(.+):([\w.-]+)", name)
    name, tag = (tagged[1], tagged[2]) if tagged else (name, "latest")
    first, slash, _ = name.partition("/")
    if not slash:
        name = f"docker.io/library/{name}"
    elif not ("." in first or ":" in first or first == "localhost"):
        name = f"docker.io/{name}"
    return f"{name}@{digest}" if digest else f"{name}:{tag}"


def wishes(now: int, bookings: Iterable[Reservation], catalog: Catalog, before: int | None) -> Wishes:
    """What should be where: the image of each booking that begins within ``before`` ms or has begun without a server,
    on the nodes it lies on; and the catalog's ``preload`` images on every node with a profile that offers them.

    :param before: None: nothing is pulled for bookings.
    """
    soon: dict[Key, Pull] = {}
    for row in sorted(bookings, key=lambda one: (one.start, one.id)):
        image = catalog.image_of(row.profile, row.image)
        if image is None or before is None or not _comes(row, now, before):
            continue
        for node in row.nodes:
            pull = Pull(node, image.reference)
            soon.setdefault(pull.key, pull)
    always: dict[Key, Pull] = {}
    for profile in catalog.profiles.values():
        chosen = [catalog.images[name] for name in profile.images if name in catalog.images]
        for image in (image for image in chosen if image.preload):
            for machine in catalog.nodes_for(profile):
                pull = Pull(machine.name, image.reference)
                always.setdefault(pull.key, pull)
    rest = tuple(pull for key, pull in always.items() if key not in soon)
    return Wishes(tuple(soon.values()), rest, frozenset(soon.keys() | always.keys()))


def _comes(row: Reservation, now: int, before: int) -> bool:
    """Whether a server of the booking will start before long; one that runs has its image."""
    return row.state(now) in ("booked", "active") and row.start - before <= now and row.server_state() == "none"


def plan(
    now: int,
    wished: Wishes,
    catalog: Catalog,
    nodes: Mapping[str, NodeImages],
    pods: Sequence[PullPod],
    *,
    timeout: int,
    refused: Collection[Key] = (),
) -> Plan:
    """What to pull where, and what to clear away.

    Never where the image is, never a second pod for the same image and node, at most :data:`AT_ONCE` on a node. A node
    that is away keeps what it has and gets nothing new.

    :param timeout: how long one pull may take (ms). :param refused: what the cluster refused a moment ago.
    """
    known = {normal(image.reference) for image in catalog.images.values()}
    gone = [pod for pod in pods if not pod.leaves and _is_over(pod, now, wished, nodes, known, timeout)]
    cleared = {pod.name for pod in gone}
    busy = dict.fromkeys(nodes, 0)
    for pod in pods:
        if pod.state == "pulling" and not pod.leaves and pod.name not in cleared:
            busy[pod.node] = busy.get(pod.node, 0) + 1
    taken = {pod.key for pod in pods} | set(refused)
    by_hand = [pod for pod in pods if pod.state == "queued" and not pod.leaves and pod.name not in cleared]
    create: list[Pull] = []
    start: list[PullPod] = []
    by_hand.sort(key=lambda pod: (pod.since, pod.name))
    in_turn: list[Pull | PullPod] = [*wished.soon, *by_hand, *wished.always]
    for one in in_turn:
        node = nodes.get(one.node)
        if node is None or node.away or one.key[1] in node.images or busy[one.node] >= AT_ONCE:
            continue
        if isinstance(one, PullPod):
            start.append(one)
        elif one.key in taken:
            continue
        else:
            create.append(one)
        busy[one.node] += 1
    return Plan(tuple(create), tuple(start), tuple(gone))


def _is_over(
    pod: PullPod,
    now: int,
    wished: Wishes,
    nodes: Mapping[str, NodeImages],
    known: Collection[str],
    timeout: int,
) -> bool:
    """Whether a pod has no more to do or to tell."""
    node = nodes.get(pod.node)
    if node is None or pod.key[1] not in known:
        return True
    if pod.key[1] in node.images and pod.state != "pulling":
        return True
    over_at = pod.since if pod.over_at is None else pod.over_at
    if pod.state == "pulled":
        return now >= over_at + REMEMBERED
    if pod.state == "failed":
        return now >= over_at + (SHOWN if pod.asked_by else RETRY)
    if pod.key not in wished.keys and not pod.asked_by:
        return True
    # The kubelet ends what it has begun; what never got to it is ended here.
    return now >= pod.since + (DAY if pod.state == "queued" else timeout + MINUTE)


StateThere = Literal["present", "queued", "pulling", "failed", "absent", "unknown"]

_SHOWN_AS: dict[State, StateThere] = {
    "queued": "queued", "pulling": "pulling", "failing": "failed", "failed": "failed", "pulled": "present",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class There:
    """How an image is on a node. ``since``: of the pull (ms UTC); ``problem``: why it failed; ``retries``: whether it
    is tried again."""

    node: str
    state: StateThere
    since: int | None = None
    problem: str = ""
    asked_by: str = ""
    retries: bool = False


def there(
    name: str, reference: str, node: NodeImages | None, pods: Iterable[PullPod], refused: Mapping[Key, str]
) -> There:
    """How the image ``reference`` is on the node ``name``; ``node`` is None where the cluster has no such node."""
    key = (name, normal(reference))
    if node is not None and key[1] in node.images:
        return There(name, "present")
    pod = next((one for one in pods if one.key == key and not one.leaves), None)
    if pod is None and key in refused:
        return There(name, "failed", problem=refused[key], retries=True)
    if pod is None:
        return There(name, "absent" if node is not None and node.all_told else "unknown")
    state = _SHOWN_AS[pod.state]
    again = state == "failed" and (pod.state == "failing" or not pod.asked_by)
    return There(name, state, pod.since, pod.problem, pod.asked_by, retries=again)
