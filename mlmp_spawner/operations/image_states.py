"""Which image is on which node, and the wish that it be there: as pages and API know it.

Only a cluster has this; what does it is :mod:`mlmp_spawner.operations.preload`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from mlmp_spawner.errors import Invalid, NotFound
from mlmp_spawner.operations.site import Site
from mlmp_spawner.rules.catalog import Catalog, Image
from mlmp_spawner.rules.nodes import GONE
from mlmp_spawner.rules.preload import Key, NodeImages, PullPod, There, there


@dataclass(frozen=True, slots=True)
class Look:
    """What the last look at nodes and pulls saw, at ``at`` (ms UTC; None: nothing yet).

    ``refused``: pods that the cluster did not want, and why. ``problem``: why the latest look failed, where it did;
    then the rest is from before.
    """

    at: int | None = None
    nodes: dict[str, NodeImages] = field(default_factory=dict)
    pods: tuple[PullPod, ...] = ()
    refused: dict[Key, str] = field(default_factory=dict)
    problem: str = ""


class Preloading(Protocol):
    """What pages and API ask of it."""

    @property
    def last(self) -> Look:
        """What the last look saw."""

    async def ask(self, image: str, nodes: Sequence[str] | None, *, asked_by: str) -> Look:
        """Wants an image on these nodes (None: on all that may need it) ahead of time.

        :raises NotFound, Invalid, Unavailable: nothing was asked for.
        """

    async def cancel(self, image: str, nodes: Sequence[str] | None, *, asked_by: str) -> Look:
        """Ends the pulls of an image on these nodes (None: on all).

        :raises NotFound, Invalid, Unavailable: nothing was ended.
        """


@dataclass(frozen=True, slots=True)
class ImageThere:
    """An image of the catalog, and how it is on each node of it. ``offered``: the nodes with a profile that has it."""

    image: Image
    nodes: tuple[There, ...]
    offered: tuple[str, ...]

    @property
    def missing(self) -> tuple[str, ...]:
        """The nodes that may need it and do not have it, as far as is known, nor get it."""
        return tuple(one.node for one in self.nodes if one.node in self.offered and one.state in LACKING)


LACKING = ("absent", "unknown", "failed")


def states(site: Site, look: Look) -> list[ImageThere]:
    """Every image of the catalog, in its order, on every node, by name."""
    nodes = sorted(site.catalog.nodes)
    return [
        ImageThere(
            image,
            tuple(there(node, image.reference, look.nodes.get(node), look.pods, look.refused) for node in nodes),
            offered(site.catalog, image.name),
        )
        for image in site.catalog.images.values()
    ]


def away(look: Look, node: str) -> str:
    """Why nothing is pulled to a node of the catalog now; "" where it is, and before the first look."""
    if look.at is None:
        return ""
    seen = look.nodes.get(node)
    return GONE if seen is None else seen.away


def offered(catalog: Catalog, image: str) -> tuple[str, ...]:
    """The nodes on which a server may run an image: those of the profiles that offer it, by name."""
    profiles = [profile for profile in catalog.profiles.values() if image in profile.images]
    return tuple(sorted({node.name for profile in profiles for node in catalog.nodes_for(profile)}))


def image_named(catalog: Catalog, name: str) -> Image:
    """The image of that name.

    :raises NotFound: there is none; the valid ones are named.
    """
    if name not in catalog.images:
        raise NotFound(f"There is no image {name[:60]!r}.", hint=f"There is: {', '.join(catalog.images) or 'none'}.")
    return catalog.images[name]


def nodes_named(catalog: Catalog, names: Sequence[str] | None, otherwise: Sequence[str]) -> list[str]:
    """The nodes that are meant, each once; ``otherwise`` where none is named.

    :raises Invalid: the catalog has no such node.
    """
    for name in names or ():
        if name not in catalog.nodes:
            valid = ", ".join(sorted(catalog.nodes)) or "none"
            raise Invalid.field("nodes", f"there is no {name[:60]!r}; valid: {valid}")
    return sorted(set(otherwise if names is None else names))
