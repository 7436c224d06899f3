"""What is charged for the fair share: as much whether a job runs on or has ended, and less the longer it is ago."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mlmp_spawner.operations.jobs import usage
from mlmp_spawner.operations.site import Site
from mlmp_spawner.rules.jobs import Attempt, Job
from mlmp_spawner.store.transaction import read, transaction
from mlmp_spawner.units import DAY, HOUR, MINUTE
from tests.operations.conftest import GPU, NOW

HALF_LIFE = 7 * DAY
JOB = Job("job", "ann", "train", "gpu", GPU, 2, 3, 8 * HOUR, {}, group="physics")
ATTEMPT = Attempt("job", 1, "r", ("gpu-a",), NOW + 8 * HOUR, NOW + 8 * HOUR + MINUTE, NOW)


def shares(site: Site, now: int, *running: tuple[Job, Attempt]) -> tuple[dict[str, float], dict[str, float]]:
    with read(site.engine) as connection:
        found = usage.shares(connection, running, now, HALF_LIFE)
    return found.groups, found.users


def charge(site: Site, job: Job, ended_at: int) -> None:
    with transaction(site.engine) as connection:
        usage.charge(connection, job, ATTEMPT, ended_at, HALF_LIFE)


def test_what_runs_counts_as_it_will_once_it_has_ended(site: Site):
    running = shares(site, NOW + 4 * HOUR, (JOB, ATTEMPT))
    charge(site, JOB, NOW + 4 * HOUR)
    ended = shares(site, NOW + 4 * HOUR)
    assert ended[0] == pytest.approx(running[0]) and ended[1] == pytest.approx(running[1])
    assert ended[0]["physics"] == ended[1]["ann"] == pytest.approx(6 * 4 * HOUR, rel=0.02)


def test_after_a_half_life_it_counts_half(site: Site):
    charge(site, JOB, NOW + HOUR)
    before = shares(site, NOW + HOUR)[1]["ann"]
    assert shares(site, NOW + HOUR + HALF_LIFE)[1]["ann"] == pytest.approx(before / 2)


def test_it_adds_up_in_whatever_order_ends_are_written(site: Site):
    charge(site, JOB, NOW + 2 * HOUR)
    charge(site, replace(JOB, owner="ben"), NOW + HOUR)
    groups, users = shares(site, NOW + 2 * HOUR)
    assert groups["physics"] == pytest.approx(users["ann"] + users["ben"])
    assert users["ann"] == pytest.approx(2 * users["ben"], rel=0.02)


def test_what_runs_inside_a_booking_is_charged_to_nobody(site: Site):
    within = replace(JOB, inside="booking")
    charge(site, within, NOW + HOUR)
    assert shares(site, NOW + HOUR, (within, ATTEMPT)) == ({}, {})
