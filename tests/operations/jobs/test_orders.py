"""What a back-end is told of an attempt: all that it needs, with the directories of this very job."""

from __future__ import annotations

from dataclasses import replace

from mlmp_spawner.kube.job_queues import local_queue_name
from mlmp_spawner.operations.jobs.orders import waiting_order
from mlmp_spawner.operations.site import Site
from mlmp_spawner.rules.catalog import Image
from mlmp_spawner.rules.job_guarantees import FIXED, Tenant
from mlmp_spawner.rules.jobs import GRACE
from mlmp_spawner.store.transaction import read
from mlmp_spawner.units import HOUR
from tests.operations.conftest import GPU
from tests.operations.jobs.queueing import Shop, submitted


async def test_the_directories_are_those_of_the_job(site: Site):
    shop = Shop(site)
    said = {"name": "fit", "command": ["true"], "outputs": "runs/{name}", "metrics": [{"tensorboard": "~/runs/{id}"}]}
    job = await shop.run(manifest=said)
    manifest = shop.order(job).manifest
    assert manifest["outputs"] == "runs/fit"
    assert manifest["metrics"] == [{"tensorboard": f"~/runs/{job.id}"}]


async def test_a_job_that_waits_is_described_by_what_it_wants(site: Site):
    job = submitted(site, units=2, group="physics", priority=1, manifest={"command": ["true"], "image": "torch"})
    catalog = site.catalog
    nodes = {name: node.model_copy(update={"cpus": 16.0, "memory": 64 << 30}) for name, node in catalog.nodes.items()}
    images = {"torch": Image(name="torch", reference="registry/torch:1")}
    site = replace(site, catalog=catalog.model_copy(update={"nodes": nodes, "images": images}))
    with read(site.engine) as connection:
        order = waiting_order(connection, site, job)
    assert (order.id, order.number, order.places, order.stop_at, order.kill_at) == (f"{job.id}-1", 1, (), 0, 0)
    assert (order.resource, order.units, order.workers, order.nodes) == (GPU, 2, 1, {"gpu-a", "gpu-b"})
    assert (order.cpus, order.memory) == (8.0, 32 << 30), "as much as two units have where they have least: on gpu-a"
    assert (order.length, order.grace, order.group, order.priority) == (4 * HOUR, GRACE, "physics", "high")
    assert (order.image, order.secrets) == ("registry/torch:1", {"TOKEN": "secret"})
    assert order.queue == local_queue_name(GPU, "physics")


async def test_a_job_stands_in_the_queue_of_those_whose_units_it_may_have(site: Site):
    site = replace(site, job_guarantees={"physics": {GPU: 2}})
    own, fixed, others = (
        submitted(site, group="physics"),
        submitted(site, group="physics", preemptible=False),
        submitted(site, group="biology"),
    )
    with read(site.engine) as connection:
        found = [waiting_order(connection, site, job).queue for job in (own, fixed, others)]
    assert found == [
        local_queue_name(GPU, "physics", Tenant("own", "physics")),
        local_queue_name(GPU, "physics", FIXED),
        local_queue_name(GPU, "biology"),
    ]


async def test_one_that_was_sent_away_goes_first_and_is_another_attempt(site: Site):
    shop = Shop(site)
    job = await shop.run()
    shop.backend.end(shop.attempt(job).id, "node_lost")
    shop.backend.queues = True  # or it would start at once
    await shop.tick()
    with read(site.engine) as connection:
        order = waiting_order(connection, site, shop.job(job))
    assert (order.id, order.priority) == (f"{job.id}-2", "front")
