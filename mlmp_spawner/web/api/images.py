"""Which image is on which node, and having one there ahead of time."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from mlmp_spawner.errors import NotFound
from mlmp_spawner.operations import image_states
from mlmp_spawner.operations.image_states import ImageThere, Look, Preloading
from mlmp_spawner.rules.preload import There
from mlmp_spawner.web import models
from mlmp_spawner.web.context import Context
from mlmp_spawner.web.routes import Answer, Call, Route

Names = Annotated[list[models.Name], Field(max_length=1000)]


class Preload(models.Request):
    """On which nodes an image is wanted."""

    nodes: Names | None = Field(None, description="null: all on which a profile offers it")


class NodeQuery(models.Request):
    """Which node is meant; all, if left out."""

    node: models.Name | None = None


class ImageOnNode(BaseModel):
    """How an image is on a node."""

    node: str
    state: Literal["present", "queued", "pulling", "failed", "absent", "unknown"] = Field(
        description="unknown: a node tells of its 50 largest images only, or there is no such node"
    )
    since: models.Instant | None = Field(description="of the pull that is under way, or failed")
    problem: str = Field(description="why it failed")
    retries: bool = Field(description="whether a pull that failed is tried again by itself")
    asked_by: str = Field(description="who wanted it by hand")


class ImageNow(BaseModel):
    """An image of the catalog, and how it is on each of its nodes."""

    name: str
    reference: str
    description: str
    preload: bool = Field(description="pulled to every node that may need it, as the catalog says")
    offered: list[str] = Field(description="the nodes with a profile that offers it")
    nodes: list[ImageOnNode]


class ImageNode(BaseModel):
    """A node. ``away``: why nothing is pulled there now; null where it is."""

    name: str
    away: str | None


class Images(BaseModel):
    """All images on all nodes."""

    items: list[ImageNow]
    nodes: list[ImageNode]
    seen_at: models.Instant | None = Field(description="when the cluster was looked at last")
    problem: str | None = Field(description="why the latest look failed; then the rest is from before")


def preloading(context: Context) -> Preloading:
    """What has images on their nodes.

    :raises NotFound: servers here run in no image.
    """
    if context.images is None:
        raise NotFound("Servers are processes of this machine here: there are no images to pull.")
    return context.images


async def list_images(call: Call) -> Answer:
    """All images on all nodes, as they were seen last."""
    return _answer(call, preloading(call.handler.context).last)


async def preload(call: Call) -> Answer:
    """Wants an image on nodes ahead of time."""
    body: Preload = call.body
    ask = preloading(call.handler.context).ask
    look = await ask(call.path["name"], body.nodes, asked_by=call.handler.me.name)
    return _answer(call, look, status=202)


async def cancel(call: Call) -> Answer:
    """Ends the pulls of an image."""
    query: NodeQuery = call.query
    nodes = None if query.node is None else [query.node]
    call_off = preloading(call.handler.context).cancel
    return _answer(call, await call_off(call.path["name"], nodes, asked_by=call.handler.me.name))


def _answer(call: Call, look: Look, *, status: int = 200) -> Answer:
    site = call.handler.site
    return Answer(
        Images(
            items=[_image(one) for one in image_states.states(site, look)],
            nodes=[
                ImageNode(name=name, away=image_states.away(look, name) or None) for name in sorted(site.catalog.nodes)
            ],
            seen_at=look.at,
            problem=look.problem or None,
        ),
        status=status,
    )


def _image(one: ImageThere) -> ImageNow:
    image = one.image
    return ImageNow(
        name=image.name,
        reference=image.reference,
        description=image.description,
        preload=image.preload,
        offered=list(one.offered),
        nodes=[_there(there) for there in one.nodes],
    )


def _there(one: There) -> ImageOnNode:
    return ImageOnNode(
        node=one.node, state=one.state, since=one.since, problem=one.problem, retries=one.retries,
        asked_by=one.asked_by,
    )  # fmt: skip


_NONE = {404: "servers here are processes of one machine, which run in no image"}

TABLE: tuple[Route, ...] = (
    Route(
        "GET", "images", "listImages", "which image is on which node of the cluster", "courses", list_images,
        answer=Images, statuses=_NONE,
    ),
    Route(
        "POST", "images/{name}/preload", "preloadImage", "have an image on nodes ahead of time", "courses", preload,
        body=Preload, answer=Images, status=202,
    ),
    Route(
        "DELETE", "images/{name}/preload", "cancelPreload", "end the pulls of an image", "courses", cancel,
        query=NodeQuery, answer=Images, description="What a booking needs soon is pulled all the same.",
    ),
)  # fmt: skip
