"""The catalog against the cluster that it speaks of: what differs, in words."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from mlmp_spawner.rules.catalog import Accelerator, Catalog, Node, Profile, is_in_cluster
from mlmp_spawner.rules.discovery import MAKERS, keeps_off, room
from mlmp_spawner.rules.foreign_pods import ClusterPod
from mlmp_spawner.rules.nodes import CORDONED, GONE, ClusterNode, Taint, why_away
from mlmp_spawner.rules.values import choices, quoted
from mlmp_spawner.units import format_size

_REFERENCE = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]+)?/)?"
    r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*"
    r"(?P<tag>:[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?(?P<digest>@sha256:[0-9a-f]{64})?",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Difference:
    """Something in which catalog and cluster differ. ``node``: on which, "" where it is about none; ``wrong``: people
    are hindered by it, else it is a remark."""

    node: str
    message: str
    hint: str = ""
    wrong: bool = True


def compare(
    catalog: Catalog,
    nodes: Sequence[ClusterNode],
    pods: Collection[ClusterPod] = (),
    tolerations: Collection[Mapping[str, object]] = (),
) -> list[Difference]:
    """All differences, node by node.

    :param pods: what runs, as far as it may be seen: what each node's own pods take can't be booked.
    :param tolerations: those of users' pods, as Kubernetes writes them.
    """
    there = {node.name: node for node in nodes}
    found: list[Difference] = []
    for name, node in sorted(catalog.nodes.items()):
        found += _of_node(node, there.get(name), there, tolerations)
    rooms = {name: room(there[name], pods) for name in catalog.nodes if name in there}
    for profile in catalog.profiles.values():
        found += _of_profile(catalog, profile, rooms)
    for name in sorted(there.keys() - catalog.nodes.keys()):
        units = sorted(there[name].units.items())
        has = [f"{count} {resource}" for resource, count in units if count and resource.startswith(MAKERS)]
        if has:
            found.append(Difference(name, f"it has {', '.join(has)} and is not in the catalog", wrong=False))
    return found


def _of_node(
    listed: Node,
    node: ClusterNode | None,
    there: Collection[str],
    tolerations: Collection[Mapping[str, object]],
) -> Iterator[Difference]:
    if node is None:
        hint = f"it must have the cluster's own name; {choices(listed.name, there)}"
        yield Difference(listed.name, f"it is {GONE}", hint)
        return
    if away := why_away(node):
        said = f": {node.message}" if node.message else ""
        hint = f"kubectl uncordon {node.name}, when it may take pods again" if away == CORDONED else ""
        yield Difference(node.name, f"it is {away}{said}", hint, wrong=away != CORDONED)
    for taint in keeps_off(node):
        if not any(tolerates(one, taint) for one in tolerations):
            said = f"{taint.key}={taint.value}" if taint.value else taint.key
            hint = "give users' pods a toleration (users.tolerations of the chart), or take the taint away"
            yield Difference(node.name, f"its taint {said}:{taint.effect} keeps users' pods off", hint)
    for one in listed.accelerators:
        yield from _of_units(one, node)


def _of_units(listed: Accelerator, node: ClusterNode) -> Iterator[Difference]:
    if not is_in_cluster(listed.resource) or listed.simulated:
        return
    there = node.units.get(listed.resource)
    if there is None:
        hint = f"is its device plugin installed? {choices(listed.resource, node.units)}"
        yield Difference(node.name, f"the cluster knows no {listed.resource} on it", hint)
    elif there < listed.count:
        message = f"{listed.count} {listed.resource} in the catalog, {there} in the cluster"
        yield Difference(node.name, message, "the others can't be booked until the cluster has them")
    elif there > listed.count:
        message = f"{listed.count} {listed.resource} in the catalog, {there} in the cluster"
        yield Difference(node.name, message, "only those of the catalog are booked", wrong=False)


def _of_profile(catalog: Catalog, profile: Profile, rooms: Mapping[str, tuple[float, int]]) -> Iterator[Difference]:
    """Where a profile asks for more CPU or memory than is left beside each node's own pods."""
    nodes = [node for node in catalog.nodes_for(profile) if node.name in rooms]
    tight = {node.name: _too_much(catalog, profile, node.name, profile.units, rooms[node.name]) for node in nodes}
    if nodes and all(tight.values()):
        asked = "; ".join(f"on {name} {why}" for name, why in tight.items())
        hint = "lower its cpus and memory, or those of the nodes: what the node's own pods take can't be booked"
        yield Difference("", f"profile {quoted(profile.name)} fits no node: {asked}", hint)
        return
    for node in nodes:
        units = node.units(profile.resource)
        if why := _too_much(catalog, profile, node.name, units, rooms[node.name]):
            message = f"when all {units} units of {quoted(profile.name)} are booked, the last can't start: {why}"
            yield Difference(node.name, message, "lower the node's cpus and memory in the catalog", wrong=False)


def _too_much(catalog: Catalog, profile: Profile, node: str, units: int, there: tuple[float, int]) -> str:
    share = catalog.share(profile, node, units)
    if share.cpus is not None and share.cpus > there[0] + 0.05:
        return f"it asks for {share.cpus:g} cores of {there[0]:g}"
    if share.memory is not None and share.memory > there[1]:
        return f"it asks for {format_size(share.memory)} of {format_size(there[1])} memory"
    return ""


def tolerates(toleration: Mapping[str, object], taint: Taint) -> bool:
    """Whether a toleration, as Kubernetes writes it, lets a pod onto a node with this taint."""
    if toleration.get("effect") not in (None, "", taint.effect):
        return False
    exists = toleration.get("operator", "Equal") == "Exists"
    if not toleration.get("key"):
        return exists
    return toleration["key"] == taint.key and (exists or toleration.get("value", "") == taint.value)


def images(catalog: Catalog) -> Iterator[Difference]:
    """Whether there is an image for each profile, with a name that Kubernetes takes."""
    for image in catalog.images.values():
        shape = _REFERENCE.fullmatch(image.reference)
        if shape is None:
            message = f"image {quoted(image.name)}: {quoted(image.reference)} is no name of an image"
            yield Difference("", message, "write it as registry.example.org/group/name:tag")
        elif shape["digest"] is None and shape["tag"] in (None, ":latest"):
            message = f"image {quoted(image.name)} has no tag of its own: nodes may have different ones under one name"
            yield Difference("", message, "give it a dated tag, or a digest", wrong=False)
    for profile in catalog.profiles.values():
        if not profile.images and not catalog.images:
            yield Difference("", f"profile {quoted(profile.name)} has no image", "list one under 'images'")


def quotas(catalog: Catalog, hard: Mapping[str, Mapping[str, float]]) -> Iterator[Difference]:
    """Whether the quotas of the users' namespace let each profile start.

    :param hard: by the name of the quota what it allows, by Kubernetes' names: ``requests.nvidia.com/gpu``.
    """
    for name, allowed in sorted(hard.items()):
        for profile in catalog.profiles.values():
            if why := _over(catalog, profile, allowed):
                message = f"quota {quoted(name)} lets profile {quoted(profile.name)} never start: {why}"
                yield Difference("", message, "raise the quota, or lower the profile")
        for resource in sorted({key[1] for key in catalog.capacity() if is_in_cluster(key[1])}):
            units = sum(count for key, count in catalog.capacity().items() if key[1] == resource)
            limit = _smallest(allowed, resource)
            if limit is not None and limit < units:
                message = f"quota {quoted(name)} allows {limit:g} {resource}; the catalog lets people book {units}"
                yield Difference("", message, "what is booked beyond it can't start: raise the quota", wrong=False)


def _over(catalog: Catalog, profile: Profile, allowed: Mapping[str, float]) -> str:
    needed: list[tuple[str, float]] = []
    if is_in_cluster(profile.resource):
        needed.append((profile.resource, profile.units))
    shares = [catalog.share(profile, node.name, profile.units) for node in catalog.nodes_for(profile)]
    cpus = [share.cpus for share in shares if share.cpus is not None]
    memory = [share.memory for share in shares if share.memory is not None]
    if cpus:
        needed.append(("cpu", min(cpus)))
    if memory:
        needed.append(("memory", float(min(memory))))
    for resource, amount in needed:
        limit = _smallest(allowed, resource)
        if limit is not None and amount > limit:
            shown = [format_size(int(one)) if resource == "memory" else f"{one:g}" for one in (amount, limit)]
            return f"it needs {shown[0]} of {resource}, {shown[1]} are allowed"
    return ""


def _smallest(allowed: Mapping[str, float], resource: str) -> float | None:
    names: Iterable[str] = (resource, f"requests.{resource}", f"limits.{resource}")
    return min((allowed[name] for name in names if name in allowed), default=None)
