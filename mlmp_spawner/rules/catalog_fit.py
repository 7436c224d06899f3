"""Whether the parts of a catalog fit together: what a profile names, and whether any node can hold it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from mlmp_spawner.rules.catalog import Node, ProfileEntry, fits
from mlmp_spawner.rules.mistakes import Mistake
from mlmp_spawner.rules.values import choices, quoted
from mlmp_spawner.units import format_duration, format_size

Number = TypeVar("Number", int, float)


def misfits(
    name: str, profile: ProfileEntry, nodes: Sequence[Node] | None, images: Sequence[str] | None
) -> Iterator[Mistake]:
    """All that is wrong with ``profile`` beside ``nodes`` and ``images``; None where these are not known."""
    path = ("profiles", name)
    if images is not None:
        for number, image in enumerate(profile.images or ()):
            if image not in images:
                yield Mistake(
                    (*path, "images", number), f"there is no image {quoted(image)}; {choices(image, images)}"
                )
    if profile.max_units is not None and profile.max_units < profile.units:
        yield Mistake((*path, "max_units"), f"{profile.max_units} is less than units ({profile.units})")
    yield from _wrong_durations(path, profile)
    if nodes is not None:
        yield from _fits_no_node(path, profile, nodes)


def _wrong_durations(path: tuple[str, str], profile: ProfileEntry) -> Iterator[Mistake]:
    shortest, default, longest = profile.min_duration, profile.default_duration, profile.max_duration
    if longest == 0:
        yield Mistake((*path, "max_duration"), "must be longer than nothing")
    if shortest == 0:
        yield Mistake((*path, "min_duration"), "must be longer than nothing")
    if shortest is not None and longest is not None and shortest > longest:
        yield Mistake((*path, "min_duration"), _beyond(shortest, "longer", "max_duration", longest))
    if default is not None and longest is not None and default > longest:
        yield Mistake((*path, "default_duration"), _beyond(default, "longer", "max_duration", longest))
    if default is not None and shortest is not None and default < shortest:
        yield Mistake((*path, "default_duration"), _beyond(default, "shorter", "min_duration", shortest))


def _beyond(value: int, how: str, other: str, bound: int) -> str:
    return f"{format_duration(value)} is {how} than {other} ({format_duration(bound)})"


def _fits_no_node(path: tuple[str, str], profile: ProfileEntry, nodes: Sequence[Node]) -> Iterator[Mistake]:
    """Why no node can hold it: the first of resource, model, units that nothing has; then cores and memory."""
    resources = {one.resource for node in nodes for one in node.accelerators}
    if profile.resource not in resources:
        message = f"no node has {quoted(profile.resource)}; {choices(profile.resource, resources)}"
        yield Mistake((*path, "resource"), message)
        return
    offers = [(node, one) for node in nodes if (one := node.accelerator(profile.resource))]
    models = {one.model for _, one in offers}
    if profile.model is not None and profile.model not in models:
        message = f"no node has {profile.resource} of model {quoted(profile.model)}; {choices(profile.model, models)}"
        yield Mistake((*path, "model"), message)
        return
    candidates = [node for node, one in offers if profile.model in (None, one.model)]
    largest = max(node.units(profile.resource) for node in candidates)
    for key, units in (("units", profile.units), ("max_units", profile.max_units)):
        if units is not None and units > largest:
            yield Mistake((*path, key), f"{units} fits no node; the largest has {largest} of {profile.resource}")
    if profile.units > largest:
        return
    candidates = [node for node in candidates if node.units(profile.resource) >= profile.units]
    too_much = [
        *_too_much((*path, "cpus"), profile.cpus, [node.cpus for node in candidates], "{:g}".format),
        *_too_much((*path, "memory"), profile.memory, [node.memory for node in candidates], format_size),
    ]
    yield from too_much
    if not too_much and not any(fits(profile, node) for node in candidates):
        names = ", ".join(node.name for node in candidates)
        yield Mistake(path, f"its units, cpus and memory together fit no node ({names})")


def _too_much(
    path: tuple[str, ...], asked: Number | None, there: Sequence[Number | None], shown: Callable[[Number], str]
) -> Iterator[Mistake]:
    known = [amount for amount in there if amount is not None]
    if asked is not None and len(known) == len(there) and asked > max(known):
        yield Mistake(path, f"{shown(asked)} fits no node; the largest that has its units has {shown(max(known))}")
