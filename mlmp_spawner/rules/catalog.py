"""The catalog: which nodes there are, and what people may book on them, for how long.

Everything is frozen. What an admin writes in YAML under a name is an *entry* (``NodeEntry``, ``ProfileEntry`` …); what
the program works with is the entry with its name and with all that was left out filled in (``Node``, ``Profile`` …).
Durations are ms, sizes bytes; in YAML they are written ``4h`` and ``64GiB``. Reading the files, with every mistake
named at once, is ``catalog_yaml``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, NamedTuple

from pydantic import Field, model_validator

from mlmp_spawner.rules.guests import GUESTS, may_use
from mlmp_spawner.rules.values import (
    Amount,
    Count,
    Duration,
    Model,
    Name,
    NodeName,
    ResourceName,
    Size,
    Text,
)
from mlmp_spawner.units import DAY, HOUR, MINUTE

DEFAULT_SHORTEST = 10 * MINUTE
DEFAULT_LENGTH = 4 * HOUR
DEFAULT_LONGEST = 7 * DAY

OWN_RESOURCES = "mlmp.dev/"
"""What MLMP counts by itself, such as CPU slots; no device plugin gives it out."""


def is_in_cluster(resource: str) -> bool:
    """Whether a pod on Kubernetes asks for ``resource`` by its name, as an extended resource: ``nvidia.com/gpu``.

    What is MLMP's own (``mlmp.dev/slot``), or has no domain, is only counted in bookings; the CPU and memory that go
    with it are what holds a pod to its share.
    """
    return "/" in resource and not is_own(resource)


def is_own(resource: str) -> bool:
    """Whether MLMP counts ``resource`` by itself. Jobs on Kubernetes ask for it by its name all the same: a node's
    capacity has to name it (:mod:`mlmp_spawner.kube.own_units`)."""
    return resource.startswith(OWN_RESOURCES)


class Accelerator(Model):
    """Units of one kind on a node: GPUs, MIG slices, or CPU slots."""

    resource: ResourceName
    """What is counted, as Kubernetes names it: nvidia.com/gpu, nvidia.com/mig-3g.40gb, mlmp.dev/slot."""
    count: Count
    """How many units the node has."""
    model: str = ""
    """What it is, for people and for profiles that ask for it: A100-80GB."""
    memory_gib: Amount | None = None
    """Memory of one unit in GiB."""
    unit_ids: tuple[Text, ...] = ()
    """The physical units, for a single machine: GPU UUIDs. Left out, they are found by themselves."""
    simulated: bool = False
    """Not really there: for trying out. It is labelled so wherever it appears."""

    @model_validator(mode="after")
    def _units(self) -> Accelerator:
        if self.simulated and not self.unit_ids:
            object.__setattr__(self, "unit_ids", tuple(f"simulated-{number}" for number in range(self.count)))
        if self.unit_ids and len(set(self.unit_ids)) != self.count:
            raise ValueError(f"{len(set(self.unit_ids))} different unit_ids for a count of {self.count}")
        return self


class NodeEntry(Model):
    """A machine, as written under its name."""

    labels: dict[str, str] = Field(default={})
    """Labels of the node; free text."""
    accelerators: tuple[Accelerator, ...] = Field(min_length=1)
    """What can be booked on it, each resource once."""
    cpus: Amount | None = None
    """CPU cores; left out where it is not known or does not matter."""
    memory: Size | None = None
    """Main memory: 512GiB."""

    @model_validator(mode="after")
    def _each_once(self) -> NodeEntry:
        resources = [accelerator.resource for accelerator in self.accelerators]
        twice = sorted({resource for resource in resources if resources.count(resource) > 1})
        if twice:
            raise ValueError(f"each resource once, but {', '.join(twice)} is there twice; units of another model need "
                             "a resource name of their own")  # fmt: skip
        return self


class Node(NodeEntry):
    """A machine."""

    name: NodeName

    def accelerator(self, resource: str) -> Accelerator | None:
        """What it has of ``resource``."""
        return next((one for one in self.accelerators if one.resource == resource), None)

    def units(self, resource: str) -> int:
        """How many units of ``resource`` it has; 0 if none."""
        accelerator = self.accelerator(resource)
        return accelerator.count if accelerator else 0


class ImageEntry(Model):
    """A container image, as written under its name."""

    reference: Text
    """Where it is pulled from: ghcr.io/org/image:2026.11 (a tag or digest, best not 'latest')."""
    description: str = ""
    """What is in it."""
    preload: bool = False
    """Pull it to every node ahead of bookings."""


class Image(ImageEntry):
    """A container image."""

    name: Name


class ProfileEntry(Model):
    """Something that can be booked, as written under its name."""

    title: Text | None = None
    """What people see: 'A100 · 80 GB'. Left out: its name."""
    description: str = ""
    """One sentence more."""
    images: tuple[Name, ...] | None = None
    """Names of images to choose from, the first is the default. Left out: all."""
    resource: ResourceName
    """Units of what: nvidia.com/gpu, mlmp.dev/slot."""
    model: str | None = None
    """Only this model of it. Left out: any."""
    units: Count = 1
    """How many units of it, unless the user asks for another number."""
    max_units: Count | None = None
    """The most units that may be asked for. Left out: what the largest node has."""
    cpus: Amount | None = None
    """CPU cores that go with 'units'; more units bring more. Left out: its share of the node."""
    memory: Size | None = None
    """Main memory that goes with 'units'; more units bring more. Left out: its share of the node."""
    ssh: bool = True
    """Whether one may log in by SSH."""
    groups: tuple[Text, ...] = ()
    """Only members of one of these hub groups may use it. Left out: everybody."""
    counted: bool = True
    """Whether its units and hours count against limits."""
    min_duration: Duration | None = None
    """The shortest booking. Left out: 10m."""
    default_duration: Duration | None = None
    """What is offered first. Left out: 4h, or the longest if that is shorter."""
    max_duration: Duration | None = None
    """The longest booking. Left out: 7d."""


class Profile(ProfileEntry):
    """Something that can be booked: so many units of a resource, with all that goes with them."""

    name: Name
    title: Text
    images: tuple[Name, ...] = ()
    max_units: Count
    min_duration: Duration
    default_duration: Duration
    max_duration: Duration

    @model_validator(mode="before")
    @classmethod
    def _filled(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        known = {key: value for key, value in data.items() if value is not None}
        defaults: dict[str, Any] = {"title": known.get("name"), "max_units": known.get("units", 1)}
        said = [known[key] for key in ("min_duration", "default_duration", "max_duration") if key in known]
        if all(isinstance(value, int) for value in said):
            longest = known.get("max_duration", max([DEFAULT_LONGEST, *said]))
            shortest = known.get("min_duration", min([DEFAULT_SHORTEST, *said]))
            default = max(shortest, min(DEFAULT_LENGTH, longest))
            defaults |= {"max_duration": longest, "min_duration": shortest, "default_duration": default}
        return defaults | known

    def open_to(self, groups: Iterable[str]) -> bool:
        """Whether a member of ``groups`` may use it; what is for everybody is not for guests."""
        theirs = set(groups)
        if GUESTS in theirs:
            return may_use(self.name) in theirs or not set(self.groups).isdisjoint(theirs)
        return not self.groups or not set(self.groups).isdisjoint(theirs)


class Limits(Model):
    """The rules of sharing that hold for somebody; None is no limit. What is not said is as for everybody."""

    units_at_once: Annotated[int, Field(strict=True, ge=0)] | None = None
    """The most units taken at any moment by bookings of one person."""
    hours_per_week: Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)] | None = None
    """The most unit-hours in any seven days on end: 2 units for 4 hours are 8."""
    min_duration: Duration | None = None
    """The shortest booking."""
    max_duration: Duration | None = None
    """The longest booking."""
    ahead: Duration | None = None
    """How far ahead a booking may start."""
    open_bookings: Annotated[int, Field(strict=True, ge=0)] | None = None
    """The most bookings that have not ended."""
    no_show_grace: Duration | None = None
    """A booking whose server is not started for so long after its begin is given back. None: it is kept."""
    extension: Duration | None = None
    """The longest that one extension may add; 0s forbids extending."""
    job_units: Annotated[int, Field(strict=True, ge=0)] | None = None
    """The most units taken at any moment by training jobs of one person; 0 forbids jobs but inside a booking."""
    open_jobs: Annotated[int, Field(strict=True, ge=0)] | None = None
    """The most training jobs that have not ended; each of a scan is one."""
    job_logs: Size | None = None
    """How much is kept of the logs and the code of one person's training jobs; the oldest go first."""


_SMALLER_IS_GENEROUS = frozenset({"min_duration"})


class LimitRules(Model):
    """Limits for everybody, for groups and for single people."""

    everybody: Limits = Limits()
    """For all who are in no group that says otherwise."""
    groups: dict[str, Limits] = Field(default={})
    """By hub group. Who is in several has the most generous of each; it may be stricter than for everybody."""
    users: dict[str, Limits] = Field(default={})
    """By user name. What is said here wins over all groups."""

    def of(self, user: str, groups: Iterable[str]) -> Limits:
        """The limits that hold for ``user``, a member of ``groups``."""
        own = self.users.get(user, Limits())
        theirs = [self.groups[group] for group in sorted(set(groups)) if group in self.groups]
        values: dict[str, Any] = {}
        for field in Limits.model_fields:
            said = [getattr(limits, field) for limits in theirs if field in limits.model_fields_set]
            if field in own.model_fields_set:
                values[field] = getattr(own, field)
            elif not said:
                values[field] = getattr(self.everybody, field)
            elif None in said:
                values[field] = None
            else:
                values[field] = min(said) if field in _SMALLER_IS_GENEROUS else max(said)
        return Limits(**values)


class CatalogFile(Model):
    """One file of the catalog: any of the four sections; each section is in one file only."""

    nodes: dict[NodeName, NodeEntry] = Field(default={})
    """Machines by name. One machine may leave this out: it is discovered."""
    images: dict[Name, ImageEntry] = Field(default={})
    """Container images by name."""
    profiles: dict[Name, ProfileEntry] = Field(default={})
    """What can be booked, by name, in the order in which it is offered."""
    limits: LimitRules = LimitRules()
    """The rules of sharing."""


class Share(NamedTuple):
    """CPU cores and bytes of memory that go with units; None where it is not known."""

    cpus: float | None
    memory: int | None


class Catalog(Model):
    """All that can be booked, and where. Names were checked against each other when it was read."""

    nodes: dict[str, Node]
    images: dict[str, Image] = Field(default={})
    profiles: dict[str, Profile] = Field(default={})
    limits: LimitRules = LimitRules()

    def capacity(self) -> dict[tuple[str, str], int]:
        """Units by ``(node, resource)``."""
        return {
            (node.name, accelerator.resource): accelerator.count
            for node in self.nodes.values()
            for accelerator in node.accelerators
        }

    def nodes_for(self, profile: Profile) -> list[Node]:
        """The nodes on which ``profile`` fits with its own number of units, when they are empty."""
        return [node for node in self.nodes.values() if fits(profile, node)]

    def profiles_for(self, groups: Iterable[str]) -> list[Profile]:
        """The profiles that a member of ``groups`` may use, in the order of the file."""
        groups = set(groups)
        return [profile for profile in self.profiles.values() if profile.open_to(groups)]

    def uncounted(self) -> frozenset[str]:
        """Names of the profiles whose units and hours do not count against limits."""
        return frozenset(profile.name for profile in self.profiles.values() if not profile.counted)

    def limits_for(self, user: str, groups: Iterable[str]) -> Limits:
        """The limits that hold for ``user``, a member of ``groups``."""
        return self.limits.of(user, groups)

    def image_of(self, profile: str, name: str | None) -> Image | None:
        """What a server of ``profile`` runs where the image ``name`` was chosen: that one as long as there is such an
        image, else the profile's first; None where the profile has none, or is gone."""
        chosen = self.images.get(name or "")
        if chosen is not None:
            return chosen
        known = self.profiles.get(profile)
        return self.images.get(known.images[0]) if known and known.images else None

    def simulated(self, resource: str) -> bool:
        """Whether units of ``resource`` are not really there."""
        return any(
            accelerator.simulated
            for node in self.nodes.values()
            for accelerator in node.accelerators
            if accelerator.resource == resource
        )

    def unit_ids(self, node: str, resource: str) -> tuple[str, ...]:
        """The physical units on ``node``; empty where units are not told apart."""
        accelerator = self.nodes[node].accelerator(resource) if node in self.nodes else None
        return accelerator.unit_ids if accelerator else ()

    def share(self, profile: Profile, node: str, units: int) -> Share:
        """CPU cores and memory that go with ``units`` of ``profile`` on ``node``."""
        machine = self.nodes.get(node)
        part = units / machine.units(profile.resource) if machine and machine.units(profile.resource) else None
        cpus = profile.cpus * units / profile.units if profile.cpus is not None else None
        memory = profile.memory * units // profile.units if profile.memory is not None else None
        if cpus is None and machine and machine.cpus is not None and part is not None:
            cpus = machine.cpus * part
        if memory is None and machine and machine.memory is not None and part is not None:
            memory = int(machine.memory * part)
        return Share(cpus, memory)


def fits(profile: ProfileEntry, node: Node) -> bool:
    """Whether the empty ``node`` has what ``profile`` needs, with the profile's own number of units."""
    accelerator = node.accelerator(profile.resource)
    return (
        accelerator is not None
        and accelerator.count >= profile.units
        and profile.model in (None, accelerator.model)
        and (profile.cpus is None or node.cpus is None or profile.cpus <= node.cpus)
        and (profile.memory is None or node.memory is None or profile.memory <= node.memory)
    )
