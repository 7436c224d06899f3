"""What `helm test` runs: hub, service and database answer at the names that the parts use for each other."""

import json
import os
import sys
import time
import urllib.request

from sqlalchemy import text

from mlmp_spawner.store.engine import make_engine

PATIENCE = 60
"""Seconds within which a service that was just started has seen the hub."""


def get(url):
    """The JSON at an address."""
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 -- our own Services
        return json.load(answer)


def hub():
    """The hub's API, directly."""
    return f"JupyterHub {get(os.environ['HUB'] + 'hub/api')['version']}"


def service():
    """The service, through the proxy, as people reach it; the hub and the database as it sees them."""
    limit = time.monotonic() + PATIENCE
    while (health := get(os.environ["PROXY"] + "services/mlmp/api/v1/health"))["status"] != "ok":
        if time.monotonic() > limit:
            raise RuntimeError(f"it says of itself: {health}")
        time.sleep(1)
    return f"MLMP {health['version']}, {health['status']}"


def database():
    """The database, by its URL."""
    engine = make_engine(os.environ["MLMP_DB_URL"])
    with engine.connect() as connection:
        resources = connection.execute(text("SELECT count(*) FROM mlmp_capacity")).scalar()
    return f"{resources} resources of nodes"


failed = 0
for check in (hub, database, service):
    try:
        print(f"{check.__name__}: {check()}")
    except Exception as error:  # noqa: BLE001 -- whatever it is, the other checks follow
        failed = 1
        print(f"{check.__name__}: FAILED: {type(error).__name__}: {error}")
sys.exit(failed)
