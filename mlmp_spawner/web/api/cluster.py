"""The Kubernetes cluster beside the catalog, for admins."""

from __future__ import annotations

from pydantic import BaseModel, Field

from mlmp_spawner.operations.cluster_look import ClusterLook
from mlmp_spawner.operations.cluster_view import NodeBeside, beside
from mlmp_spawner.rules.cluster_compare import Difference as Found
from mlmp_spawner.web import models
from mlmp_spawner.web.routes import Answer, Call, Route


class Difference(BaseModel):
    """Something in which catalog and cluster differ. ``wrong``: people are hindered by it; else it is a remark."""

    message: str
    hint: str
    wrong: bool


class ClusterUnits(BaseModel):
    """Units of one resource: how many the catalog lists, and how many the cluster can give out; null: none known."""

    resource: str
    catalog: int | None
    cluster: int | None


class NodeBesideCatalog(BaseModel):
    """A node of the catalog, of the cluster, or of both. ``ready`` and ``cordoned`` are null where it is not in the
    cluster."""

    name: str
    in_catalog: bool
    in_cluster: bool
    ready: bool | None
    cordoned: bool | None
    units: list[ClusterUnits]
    differences: list[Difference]


class ForeignPod(BaseModel):
    """A pod that takes units of the catalog and is not MLMP's. ``short``: how many units are missing just now for
    those who booked on its node."""

    namespace: str
    name: str
    node: str
    resource: str
    units: int
    since: models.Instant
    short: int


class Cluster(BaseModel):
    """What the last look at the cluster saw; ``at`` is null where there was none, as on one machine."""

    kubernetes: bool = Field(description="whether servers run on a cluster at all")
    at: models.Instant | None
    problem: str = Field(description="why the latest look failed; empty where it did not")
    nodes: list[NodeBesideCatalog]
    differences: list[Difference] = Field(description="those that are about no node alone")
    foreign_pods: list[ForeignPod] | None = Field(description="null where they are not looked at")


async def get_cluster(call: Call) -> Answer:
    """What the last look saw, beside the catalog."""
    context = call.handler.context
    look = context.activity().cluster
    known = beside(context.site.catalog, look or ClusterLook())
    foreign = look.foreign if look else None
    return Answer(
        Cluster(
            kubernetes=look is not None,
            at=look.at if look else None,
            problem=look.problem if look else "",
            nodes=[_node(one) for one in known.nodes],
            differences=[_difference(one) for one in known.differences],
            foreign_pods=None
            if foreign is None
            else [
                ForeignPod(
                    namespace=one.namespace, name=one.name, node=one.node, resource=one.resource, units=one.units,
                    since=one.since, short=one.short,
                )
                for one in foreign
            ],
        )
    )  # fmt: skip


def _difference(one: Found) -> Difference:
    return Difference(message=one.message, hint=one.hint, wrong=one.wrong)


def _node(one: NodeBeside) -> NodeBesideCatalog:
    return NodeBesideCatalog(
        name=one.name,
        in_catalog=one.listed,
        in_cluster=one.node is not None,
        ready=one.node.ready if one.node else None,
        cordoned=one.node.cordoned if one.node else None,
        units=[ClusterUnits(resource=u.resource, catalog=u.listed, cluster=u.there) for u in one.units],
        differences=[_difference(each) for each in one.differences],
    )


TABLE: tuple[Route, ...] = (
    Route(
        "GET", "cluster", "cluster", "the nodes of the Kubernetes cluster beside the catalog", "admin", get_cluster,
        answer=Cluster,
    ),
)  # fmt: skip
