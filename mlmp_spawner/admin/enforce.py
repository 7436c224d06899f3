"""``mlmp enforce``: see :mod:`mlmp_spawner.spawners.enforce`."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import click

from mlmp_spawner.kube.pods import Pods
from mlmp_spawner.spawners.enforce import Enforcer
from mlmp_spawner.spawners.enforce import enforce as run


@click.command(hidden=True)
@click.option("--namespace", required=True, help="The namespace of the users' pods.")
@click.option(
    "--every", type=click.FloatRange(min=0.2), default=3.0, show_default=True, help="Seconds between two looks."
)
@click.option(
    "--alive",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A file that is touched after each look that the cluster answered, for a probe.",
)
def enforce(namespace: str, every: float, alive: Path | None) -> None:
    """End the servers and jobs on a cluster that are past their end, though hub and service be away (internal)."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("mlmp.enforce").info("looking at the servers and jobs in %s every %g s", namespace, every)
    asyncio.run(_enforce(namespace, every, alive))


async def _enforce(namespace: str, every: float, alive: Path | None) -> None:
    await run(Enforcer(Pods(namespace, jobs=True), every=every, alive=alive))
