"""The catalog of one machine: what the files say, on the node that is found here."""

from __future__ import annotations

from pathlib import Path

from mlmp_spawner import machine
from mlmp_spawner.errors import ConfigurationError
from mlmp_spawner.machine import GpuReader, Gpus
from mlmp_spawner.rules.catalog import Accelerator, Catalog, LimitRules, Node, Profile
from mlmp_spawner.rules.catalog_yaml import load_catalog
from mlmp_spawner.rules.values import choices, quoted
from mlmp_spawner.units import MINUTE

SIMULATED_SHORTEST = MINUTE


def one_machine_catalog(
    directory: Path, *, simulate: bool, reader: GpuReader | None = None
) -> tuple[Catalog, list[str]]:
    """The catalog in ``directory`` with this machine as its node, and what people should know about it.

    The node is discovered unless the files list one. ``simulate`` forces four simulated units, bookings from one
    minute long, and no limits.

    :raises ConfigurationError: with every problem.
    """
    gpus = (reader or GpuReader()).read()
    node, notes = machine.node(gpus, simulate=simulate)
    catalog = load_catalog(directory, discovered=[node], always=simulate)
    if simulate:
        return _unlimited(catalog), notes
    if catalog.nodes != {node.name: node}:
        node, notes = _listed_node(catalog, gpus, directory)
        catalog = catalog.model_copy(update={"nodes": {node.name: node}})
    return catalog, notes


def _unlimited(catalog: Catalog) -> Catalog:
    """``catalog`` for trying out: the shortest booking is a minute, and nothing is limited."""
    profiles: dict[str, Profile] = {
        name: profile.model_copy(update={"min_duration": min(profile.min_duration, SIMULATED_SHORTEST)})
        for name, profile in catalog.profiles.items()
    }
    return catalog.model_copy(update={"profiles": profiles, "limits": LimitRules()})


def _listed_node(catalog: Catalog, gpus: Gpus, directory: Path) -> tuple[Node, list[str]]:
    """The node that the files list, with the physical units that they leave out.

    :raises ConfigurationError: if they list several, or units that this machine does not have.
    """
    if len(catalog.nodes) != 1:
        names = ", ".join(catalog.nodes)
        raise ConfigurationError(
            [f"{directory}: this is one machine, but 'nodes' lists {len(catalog.nodes)}: {names}"]
        )
    (node,) = catalog.nodes.values()
    problems: list[str] = []
    taken = {unit for one in node.accelerators for unit in one.unit_ids}
    accelerators: list[Accelerator] = []
    for accelerator in node.accelerators:
        accelerators.append(_with_units(accelerator, gpus, taken, problems))
        taken |= set(accelerators[-1].unit_ids)
    if problems:
        raise ConfigurationError([f"{directory}: nodes.{node.name}: {problem}" for problem in problems])
    notes = [f"{one.count} simulated {one.resource}, as the catalog says" for one in accelerators if one.simulated]
    return node.model_copy(update={"accelerators": tuple(accelerators)}), notes


def _with_units(accelerator: Accelerator, gpus: Gpus, taken: set[str], problems: list[str]) -> Accelerator:
    if accelerator.simulated:
        return accelerator
    known = [gpu.uuid for gpu in gpus.found]
    if accelerator.unit_ids:
        for unit in accelerator.unit_ids:
            if unit not in known:
                problems.append(f"{accelerator.resource}: no unit {quoted(unit)} here; {choices(unit, known)}")
        return accelerator
    free = [gpu.uuid for gpu in gpus.found if gpu.resource == accelerator.resource and gpu.uuid not in taken]
    if not free and accelerator.resource != machine.GPU:
        return accelerator  # counted only, as CPU slots are
    if len(free) < accelerator.count:
        why = f" ({gpus.why_none}; 'simulated: true' makes them up)" if gpus.why_none else ""
        problems.append(f"{accelerator.count} of {accelerator.resource} are listed, {len(free)} are here{why}")
        return accelerator
    return accelerator.model_copy(update={"unit_ids": tuple(free[: accelerator.count])})
