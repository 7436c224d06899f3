"""A scan of trainings on a real cluster with a real Kueue: held to its number at once, retried, browsed in PScan."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path

from playwright.sync_api import Page

from mlmp_spawner.client.scans import OPEN, Scan
from mlmp_spawner.kube import labels
from tests.browser.conftest import browser, complaints, new_page  # noqa: F401 -- fixtures
from tests.browser.people import Human
from tests.cluster.test_jobs import client_of
from tests.cluster.training import UNITS, Training
from tests.jobs import trainings
from tests.jobs.trainings import BEST, FAIL, PICTURE, ROWS
from tests.live import wait_for

AT_ONCE = 3
"""Though the cluster has room for more."""
LONGEST = 900
"""Seconds for all of them, also on a machine that does much else."""


def test_a_scan_of_24_trainings_is_held_retried_browsed_and_its_best_is_found(
    training: Training,
    tmp_path: Path,
    new_page: Callable[..., Page],  # noqa: F811
) -> None:
    assert UNITS * len(training.cluster.nodes) > AT_ONCE
    offered = []
    with client_of(training, "sara") as client:
        scan = trainings.submitted(client, tmp_path / "code", at_once=AT_ONCE)
        most = trainings.run(scan, {"succeeded": ROWS - 2, "failed": 2}, seconds=LONGEST,
                             see=lambda: offered.append(with_pods(training, scan)))  # fmt: skip
        assert 1 < most <= AT_ONCE
        assert max(offered) <= AT_ONCE, "no more are even offered to Kueue"
        assert [row.parameters for row in scan.rows if row.state == "failed"] == FAIL
        assert scan.best("loss", lowest=True).parameters != BEST
        assert scan.retry() == 2
        trainings.run(scan, {"succeeded": ROWS}, seconds=LONGEST)
        assert scan.best("loss", lowest=True).parameters == BEST
    said = ["".join(training.submitter("sara").log(str(row.job))) for row in scan.rows]
    most, nodes = at_once(said), {found[1] for one in said if (found := re.search(r" on (\S+), ", one))}
    print(f"\n{ROWS} trainings, at most {most} at once, on {', '.join(sorted(nodes))}")
    assert most <= AT_ONCE
    assert nodes <= set(training.cluster.nodes)
    assert len(list(training.home("sara").glob(f"runs/lr=*/bs=*/{PICTURE}"))) == ROWS
    person = Human(new_page(), training.url, "sara", password=training.user_password)
    training.server("sara")
    trainings.the_table_tells_the_best(person.go(f"scans/{scan.id}?metric=loss&low=1"))
    trainings.pscan_shows_all(person.page)


def test_a_scan_that_is_cancelled_halfway_leaves_nothing(training: Training, tmp_path: Path) -> None:
    with client_of(training, "tim") as client:
        scan = trainings.submitted(client, tmp_path / "code", at_once=AT_ONCE)
        wait_for(lambda: scan.refresh().record.counts.get("running"), LONGEST, "the first of them")
        scan.cancel()
        wait_for(lambda: not scan.refresh().record.open, LONGEST, "the end of all")
    assert scan.record.cancelled
    assert set(scan.record.counts) <= {"cancelled", "succeeded"}
    assert scan.record.counts["cancelled"] > ROWS / 2
    wait_for(lambda: not any(training.pods(str(row.job)) for row in scan.rows), 60, "the end of its pods")


def with_pods(training: Training, scan: Scan) -> int:
    """How many rows have something in the cluster and are not over: a pod is there for a while after its program."""
    found = training.core.list_namespaced_pod(training.users, label_selector=f"{labels.KIND}={labels.JOB}").items
    jobs = {pod.metadata.labels.get(labels.ATTEMPT, "").rpartition("-")[0] for pod in found}
    return sum(row.job in jobs and row.state in OPEN for row in scan.refresh().rows)


def at_once(said: Iterable[str]) -> int:
    """How many of the programs ran at a time, by what they said of their begin and end."""
    spans = [
        (float(found[1]), float(found[2])) for one in said if (found := re.search(r", ([\d.]+) to ([\d.]+)", one))
    ]
    assert len(spans) == ROWS
    return max(sum(begin <= instant < end for begin, end in spans) for instant, _ in spans)
