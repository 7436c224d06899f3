"""What a back-end is told of an attempt: all that it needs, with the directories of this very job."""

from __future__ import annotations

from mlmp_spawner.operations.site import Site
from tests.operations.jobs.queueing import Shop


async def test_the_directories_are_those_of_the_job(site: Site):
    shop = Shop(site)
    said = {"name": "fit", "command": ["true"], "outputs": "runs/{name}", "metrics": [{"tensorboard": "~/runs/{id}"}]}
    job = await shop.run(manifest=said)
    manifest = shop.order(job).manifest
    assert manifest["outputs"] == "runs/fit"
    assert manifest["metrics"] == [{"tensorboard": f"~/runs/{job.id}"}]
