"""A small site to book on: two GPU nodes, one with four units and one with two, and three people."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Engine, insert

from mlmp_spawner.operations import catalog_sync
from mlmp_spawner.operations.site import SSH, Actor, Site
from mlmp_spawner.rules.catalog import Accelerator, Catalog, Node, Profile
from mlmp_spawner.store.tables import users
from mlmp_spawner.store.transaction import transaction
from mlmp_spawner.units import DAY, MINUTE

NOW = 1_800_000_000_000
GPU = "nvidia.com/gpu"


def node(name: str, count: int, *, units: tuple[str, ...] = ()) -> Node:
    ids = units or tuple(f"GPU-{name}-{number}" for number in range(count))
    return Node(name=name, accelerators=(Accelerator(resource=GPU, count=count, model="A100", unit_ids=ids),))


def catalog(**counts: int) -> Catalog:
    nodes = {name.replace("_", "-"): node(name.replace("_", "-"), count) for name, count in counts.items()}
    gpu = Profile(
        name="gpu", title="A100", resource=GPU, units=1, max_units=4, min_duration=MINUTE, max_duration=40 * DAY
    )
    return Catalog(nodes=nodes, profiles={"gpu": gpu})


@pytest.fixture
def site(engine: Engine, tmp_path: Path) -> Site:
    return small_site(engine, tmp_path)


def small_site(engine: Engine, folder: Path) -> Site:
    """Two nodes and three people, with nothing booked."""
    with transaction(engine) as connection:
        connection.execute(insert(users), [{"id": n, "name": name} for n, name in enumerate(("ann", "ben", "eve"), 1)])
    made = Site(engine, catalog(gpu_a=4, gpu_b=2), ssh=SSH(ca_file=str(folder / "ssh_ca")))
    catalog_sync.sync(made, now=NOW)
    return made


ann, ben, eve = Actor("ann"), Actor("ben"), Actor("eve")
admin = Actor("root", admin=True)
