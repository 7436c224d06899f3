"""The look at jobs as a process of its own, to be killed: ``python -m tests.operations.jobs.looker DB_URL FOLDER``."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from mlmp_spawner import units
from mlmp_spawner.errors import MLMPError
from mlmp_spawner.operations.jobs.look import Queue
from mlmp_spawner.operations.site import Site
from mlmp_spawner.store.engine import make_engine
from tests.jobs.small_backend import SmallBackend
from tests.operations.conftest import catalog


async def look(db_url: str, folder: Path) -> None:
    """Looks again and again until it is killed."""
    site = Site(make_engine(db_url, pool_size=5), catalog(gpu_a=4, gpu_b=2))
    queue = Queue(lambda: site, SmallBackend(folder))
    print("ready", flush=True)
    while True:
        try:
            await queue.tick(units.now())
        except MLMPError as error:
            print(error, file=sys.stderr)
        await asyncio.sleep(0.02)


if __name__ == "__main__":
    asyncio.run(look(sys.argv[1], Path(sys.argv[2])))
