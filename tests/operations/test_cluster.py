"""The service's side of a cluster: what there is of jobs follows from the settings that the chart makes."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlmp_spawner.hub import HubClient
from mlmp_spawner.jobs.kube import KubeJobs
from mlmp_spawner.operations.cluster import Cluster
from mlmp_spawner.operations.jobs.service import JobService
from mlmp_spawner.operations.site import Site
from mlmp_spawner.settings import MLMP

API = "http://mlmp-service.mlmp:8090/services/mlmp/api/v1/"


def site() -> Site:
    raise AssertionError("nobody looks yet")


@pytest.mark.parametrize(
    ("settings", "made", "off"),
    [
        ({"jobs": True, "job_api_url": API}, True, None),
        ({"jobs": False, "job_api_url": API}, True, "c.MLMP.jobs = True"),
        ({"jobs": False}, False, "jobs.enabled: true"),
        ({"jobs": True}, False, "jobs.enabled: true"),
    ],
)
async def test_jobs_that_run_come_to_their_end_where_an_admin_has_switched_them_off(
    settings: dict[str, object], made: bool, off: str | None, tmp_path: Path
):
    known = MLMP(backend="kubernetes", data=str(tmp_path), **settings)
    cluster = Cluster(site, known, HubClient("http://hub/hub/api", "token"), secret=b"secret")
    service = JobService(site, cluster.jobs, known, cluster.job_starts)
    assert isinstance(cluster.jobs, KubeJobs) is made
    assert (service.queue.starts is not None) is (off is None), "what is switched off starts nothing"
    assert (service.off is None) is (off is None)
    if service.off is not None and off is not None:
        assert off in service.off().hint
    await cluster.close()
