"""Nodes and the times at which they take no bookings: maintenance and drain."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from mlmp_spawner.errors import Invalid
from mlmp_spawner.operations import outages
from mlmp_spawner.operations.node_states import NodeState, node_states
from mlmp_spawner.rules.nodes import is_automatic
from mlmp_spawner.rules.reservations import Outage as Away
from mlmp_spawner.web import models
from mlmp_spawner.web.routes import Answer, Call, Route


class Outage(BaseModel):
    """A time at which a node takes no bookings. ``end``: null where it lasts until somebody ends it."""

    id: str
    start: models.Instant
    end: models.Instant | None
    reason: str
    automatic: bool = Field(False, description="the watch on the cluster's nodes opened it, and alone ends it")


class OutageIn(models.Request):
    """An outage as it should be. ``start`` left out: from now on; ``end`` null: until somebody ends it."""

    start: models.InstantIn | None = None
    end: models.InstantIn | None = None
    reason: models.Title = ""


class Outages(models.Request):
    """The outages that a node should have from now on; what is over stays as it was."""

    items: Annotated[list[OutageIn], Field(max_length=outages.MOST)]
    bookings: Literal["move", "keep"] = Field(
        "move", description="what has not begun: move it away (or let it wait), or keep it"
    )
    dry_run: Annotated[bool, Field(strict=True)] = Field(False, description="only say what would become of whom")


class Hit(BaseModel):
    """A booking that an outage hits, as it was, and what became of it (or would)."""

    reservation: str
    owner: str
    profile: str
    units: int
    start: models.Instant
    end: models.Instant
    outage: str
    outcome: Literal["kept", "moved", "waiting", "ended", "yielded"] = Field(
        description="kept: it goes on during the outage, and its owner is told"
    )


class NodeOutages(BaseModel):
    """The outages of a node that are not over, by start."""

    items: list[Outage]
    etag: str = Field(description="for If-Match and If-None-Match")


class OutagesSet(NodeOutages):
    """The same, with the bookings that they hit."""

    hits: list[Hit]


class NodeUnits(BaseModel):
    """Units of one resource: how many there are, and how many are booked just now."""

    resource: str
    model: str
    capacity: int
    taken: int
    listed: int = Field(description="how many the catalog has; a cluster may have fewer of them just now")
    why: str = Field("", description="why there are fewer than listed")


class NodeNow(BaseModel):
    """A node as it is now. ``outage``: the one under way; ``planned``: those to come."""

    name: str
    units: list[NodeUnits]
    outage: Outage | None
    planned: list[Outage]


class Nodes(BaseModel):
    """All nodes, by name."""

    items: list[NodeNow]


async def list_nodes(call: Call) -> Answer:
    """The state of every node."""
    found = await call.handler.context.run(node_states, call.handler.site, now=call.handler.now)
    return Answer(Nodes(items=[_node(one) for one in found]))


async def get_outages(call: Call) -> Answer:
    """The outages of a node."""
    found = await call.handler.context.run(outages.get, call.handler.site, call.path["name"], now=call.handler.now)
    tag = f'"{found.version}"'
    return Answer(NodeOutages(items=[_outage(one) for one in found.outages], etag=tag), etag=tag)


async def put_outages(call: Call) -> Answer:
    """Makes the outages of a node what is asked for, or says what would become of whom."""
    body: Outages = call.body
    context = call.handler.context
    report = await context.run(
        outages.set_outages,
        context.site,
        call.path["name"],
        [outages.Wanted(one.start, one.end, one.reason) for one in body.items],
        actor=call.handler.me.actor(),
        now=call.handler.now,
        bookings=body.bookings,
        dry_run=body.dry_run,
        if_match=_if_match(call),
    )
    if not body.dry_run:
        context.feed.wake()
        context.changed()
    hits = [
        Hit(
            reservation=hit.reservation.id,
            owner=hit.reservation.owner,
            profile=hit.reservation.profile,
            units=hit.reservation.units,
            start=hit.reservation.start,
            end=hit.reservation.end,
            outage=hit.outage.id,
            outcome=hit.outcome,
        )
        for hit in report.hits
    ]
    items, tag = [_outage(one) for one in report.outages], f'"{report.version}"'
    return Answer(OutagesSet(items=items, etag=tag, hits=hits), etag=tag)


def _if_match(call: Call) -> str | None:
    tag = call.handler.request.headers.get("If-Match")
    if tag is None or tag.strip() == "*":
        return None
    if "," in tag:
        raise Invalid.field("If-Match", "name one etag")
    return tag.strip().removeprefix("W/").strip('"')


def _outage(one: Away) -> Outage:
    end = None if one.end >= outages.NO_END else one.end
    return Outage(id=one.id, start=one.start, end=end, reason=one.reason, automatic=is_automatic(one))


def _node(one: NodeState) -> NodeNow:
    return NodeNow(
        name=one.name,
        units=[
            NodeUnits(
                resource=u.resource, model=u.model, capacity=u.capacity, taken=u.taken, listed=u.listed, why=u.why
            )
            for u in one.units
        ],
        outage=_outage(one.outage) if one.outage else None,
        planned=[_outage(o) for o in one.planned],
    )


_IF_NONE = {"If-None-Match": "the etag that you have; 304 if it is still that"}
_IF_MATCH = {"If-Match": "the etag of the outages as you saw them; 412 if they changed meanwhile"}

TABLE: tuple[Route, ...] = (
    Route(
        "GET", "nodes", "listNodes", "the state of every node", "access", list_nodes, answer=Nodes, headers=_IF_NONE,
        statuses={304: "not modified"},
    ),
    Route(
        "GET", "nodes/{name}/outages", "getOutages", "when a node takes no bookings", "access", get_outages,
        answer=NodeOutages, headers=_IF_NONE, statuses={304: "not modified"},
    ),
    Route(
        "PUT", "nodes/{name}/outages", "setOutages", "maintenance and drain of a node", "admin", put_outages,
        body=Outages, answer=OutagesSet, headers=_IF_MATCH, statuses={412: "they were changed meanwhile"},
    ),
)  # fmt: skip
