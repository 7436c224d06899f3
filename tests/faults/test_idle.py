"""An idle server on a real MLMP: seen, named, warned, given back; and what it used is written down."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live import Site, wait_for

API = "/services/mlmp/api/v1/"
SETTINGS = """
c.MLMP.sample_every = 1
c.MLMP.idle_after = 4
c.MLMP.idle_release = 4
c.MLMP.tick = 1
"""

pytestmark = pytest.mark.faults


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path, settings=SETTINGS)
    try:
        yield made.start()
    finally:
        made.close()


def test_what_does_nothing_is_warned_and_then_given_back(site: Site) -> None:
    admin = site.person("admin")
    booked = admin.book(600)
    address = f"{API}reservations/{booked['id']}"
    assert admin.api.post(f"{address}/start").status_code == 202

    def now() -> dict[str, object]:
        found = admin.api.get(f"{API}activity").json()["bookings"]
        return found[0] if found else {}

    seen = wait_for(lambda: now().get("idle_since") and now(), what="the look that finds it idle")
    assert (seen["reservation"], seen["owner"], seen["by_gpu"]) == (booked["id"], "admin", False)
    ended = wait_for(lambda: (one := admin.api.get(address).json())["state"] == "ended" and one, what="its release")
    assert ended["end_reason"] == "idle"
    actions = [line["action"] for line in admin.api.get(f"{address}/history").json()["items"]]
    assert actions.index("idle_warned") < actions.index("idle")
    wait_for(lambda: not site.servers(), what="the end of the server")
    total = admin.api.get(f"{API}usage").json()["total"]
    assert total["idle"] > 0 and total["booked"] < 0.1
