"""What would keep a class from beginning in time is told before."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from sqlalchemy import select

from mlmp_spawner.operations.cluster_look import ClusterLook
from mlmp_spawner.operations.courses.watching import ClassWatch
from mlmp_spawner.operations.image_states import Look
from mlmp_spawner.operations.site import Site
from mlmp_spawner.operations.watch import Activity
from mlmp_spawner.rules import preload
from mlmp_spawner.rules.catalog import Image
from mlmp_spawner.rules.nodes import ClusterNode, Taint
from mlmp_spawner.rules.preload import NodeImages, PullPod
from mlmp_spawner.rules.wording import words
from mlmp_spawner.store import reservations
from mlmp_spawner.store.tables import notice, users
from mlmp_spawner.store.transaction import read
from mlmp_spawner.units import DAY, MINUTE
from tests.operations.conftest import NOW
from tests.operations.courses.term import BEGINS, a_class, course

FULL = (Taint("node.kubernetes.io/disk-pressure"),)


def told(site: Site) -> list[tuple[str, str]]:
    with read(site.engine) as connection:
        rows = connection.execute(
            select(users.c.name, notice.c.kind, notice.c.details)
            .join(users, users.c.id == notice.c.user_id)
            .where(notice.c.kind == "maintenance")
            .order_by(notice.c.id)
        ).all()
    said = [words(row.kind, row.details, titles={}, when=lambda ms: "10:00") for row in rows]
    return [(row.name, f"{one.headline}. {one.text}") for row, one in zip(rows, said, strict=True)]


def test_a_full_disk_of_a_booked_node_is_told_once_to_who_teaches_and_not_of_another(site: Site):
    course(site)
    row = a_class(site)
    nodes = [ClusterNode("gpu-a", taints=FULL), ClusterNode("gpu-b", taints=FULL)]
    seen = [ClusterLook(NOW, tuple(nodes))]
    watch = ClassWatch(lambda: site, activity=lambda: Activity(cluster=seen[0]), images=lambda: None, data="")
    assert watch.look(BEGINS - 2 * DAY) == {}, "it is looked at in the day before"
    assert watch.look(NOW) == {row.id: ["The disk of gpu-a is full."]}
    assert watch.look(NOW + MINUTE) == {row.id: ["The disk of gpu-a is full."]}
    assert told(site) == [("teacher", "Before class: Deep Learning, 10:00. The disk of gpu-a is full.")]
    seen[0] = ClusterLook(NOW, (ClusterNode("gpu-a"), ClusterNode("gpu-b")))
    assert watch.look(NOW + 2 * MINUTE) == {}


def test_another_problem_is_told_too_and_one_that_comes_again_is_not(site: Site):
    course(site)
    a_class(site)
    nodes = [ClusterNode("gpu-a", taints=FULL), ClusterNode("gpu-a", cordoned=True)]
    seen = [ClusterLook(NOW, (nodes[0], ClusterNode("gpu-b")))]
    watch = ClassWatch(lambda: site, activity=lambda: Activity(cluster=seen[0]), images=lambda: None, data="")
    watch.look(NOW)
    for minute, node in enumerate([nodes[1], nodes[1]], 1):
        seen[0] = ClusterLook(NOW, (node, ClusterNode("gpu-b")))
        watch.look(NOW + minute * MINUTE)
    said = [text for _, text in told(site)]
    assert len(said) == 2 and "is full" in said[0] and "gpu-a is " in said[1]


def test_this_machine_s_disk_is_looked_at(site: Site, tmp_path: Path):
    course(site)
    a_class(site)
    watch = ClassWatch(lambda: site, activity=Activity, images=lambda: None, data=str(tmp_path))
    assert watch.look(NOW) == {}


def with_image(site: Site) -> Site:
    image = Image(name="lab", reference="registry/lab:1", description="", preload=False)
    profile = site.catalog.profiles["gpu"].model_copy(update={"images": ("lab",)})
    changed = site.catalog.model_copy(update={"images": {"lab": image}, "profiles": {"gpu": profile}})
    return replace(site, catalog=changed, images=True)


def test_an_image_that_can_t_be_pulled_to_a_booked_node_is_told(site: Site):
    site = with_image(site)
    course(site)
    row = a_class(site)
    pods = (PullPod("p", "gpu-a", "registry/lab:1", "failing", NOW, problem="no such manifest"),)
    look = Look(NOW, {name: NodeImages(name) for name in ("gpu-a", "gpu-b")}, pods)
    watch = ClassWatch(lambda: site, activity=Activity, images=lambda: look, data="")
    assert watch.look(NOW) == {row.id: ["The image lab can't be pulled to gpu-a: no such manifest"]}


def test_the_image_is_pulled_to_exactly_the_booked_nodes_before_a_class(site: Site):
    site = with_image(site)
    course(site, seats=2)
    row = a_class(site)
    with read(site.engine) as connection:
        rows = [found for found in [reservations.find(connection, row.id)] if found]
    found = preload.wishes(BEGINS - 30 * MINUTE, rows, site.catalog, 30 * MINUTE)
    assert [(pull.node, pull.reference) for pull in found.soon] == [("gpu-b", "registry/lab:1")]
    assert preload.wishes(row.start - 31 * MINUTE, rows, site.catalog, 30 * MINUTE).soon == ()
