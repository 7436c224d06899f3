"""Whoever is away, every server is stopped on time, and none before its end as it is now."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from mlmp_spawner import units
from tests.cluster.release import Release
from tests.live import wait_for

BOOKED = 40
EXTENDED = 25
MOST = {(): 15, ("hub",): 15, ("service",): 15, ("hub", "service"): 60}
"""Who is away, and at most how many seconds after the end the pod is gone."""


@pytest.fixture
def back(release: Release) -> Iterator[Release]:
    """All of it runs again afterwards."""
    yield release
    for part in ("hub", "service"):
        release.scale(part, 1, wait=False)
    for part in ("hub", "service"):
        release.wait_ready(part)


@pytest.mark.parametrize("away", MOST, ids=lambda away: " and ".join(away) + " away" if away else "all well")
def test_a_server_ends_on_time_and_an_extended_one_at_its_new_end(back: Release, away: tuple[str, ...]) -> None:
    release, node = back, back.cluster.nodes[1]
    room = release.units(node)
    ann = release.book("ann", BOOKED, node=node, units=room - 1)
    ben = release.book("ben", BOOKED, node=node, units=1)
    eve = release.book("eve", 600, node=node, units=room - 1, start=ann["end"], end=_later(ann["end"], 600))
    release.start(ann)
    release.start(ben)
    longer = release.api("ben").extend(ben["id"], EXTENDED)
    assert longer.status_code == 200, longer.text
    for part in away:
        release.scale(part, 0, wait=False)

    end, new_end = _seconds(ann["end"]), _seconds(longer.json()["end"])
    gone = release.wait_gone(ann, end - time.time() + MOST[away])
    print(f"{' and '.join(away) or 'nobody'} away: gone {gone - end:+.1f} s from the end")
    assert release.pod_of(ben) is not None, "the extended one was stopped early"
    assert release.pod_of(ben).metadata.deletion_timestamp is None
    gone = release.wait_gone(ben, new_end - time.time() + MOST[away])
    print(f"{' and '.join(away) or 'nobody'} away: the extended one gone {gone - new_end:+.1f} s from its end")
    assert gone > new_end - 10

    for part in away:
        release.scale(part, 1, wait=False)
    for part in away:
        release.wait_ready(part)
    release.start(eve)  # on the units that Ann had
    pod = release.pod_of(eve)
    assert pod is not None
    assert pod.spec.node_name == node
    release.api("eve").api.delete(f"/services/mlmp/api/v1/reservations/{eve['id']}")
    wait_for(lambda: release.pod_of(eve) is None, 60, "the end of a released booking's pod")


def _seconds(instant: str) -> float:
    return units.from_iso(instant) / 1000


def _later(instant: str, seconds: int) -> str:
    return units.to_iso(units.from_iso(instant) + seconds * 1000)
