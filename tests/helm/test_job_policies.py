"""Who may talk to jobs, and they to whom: the chart's policies, and the one of each attempt with several workers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlmp_spawner.kube import job_pods
from mlmp_spawner.kube.files import Account
from mlmp_spawner.kube.job_pods import Surroundings, Work
from mlmp_spawner.rules import job_manifest
from mlmp_spawner.rules.storage import Storage
from mlmp_spawner.units import HOUR, MINUTE
from tests.helm.chart import NAMESPACE, Manifest, render
from tests.helm.flows import PLACES, USERS, Place, allowed
from tests.helm.test_network_policies import FULL, NEEDED, REFUSED, cyclonus

__all__ = ["cyclonus"]
pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("helm", "cyclonus")]

WITH_JOBS: dict[str, Any] = FULL | {
    "jobs": {"enabled": True},
    "users": {"namespace": USERS, "storage": {"type": "shared", "existingClaim": "homes"}},
}
ALLOWED = [
    ("ann's job", "service", 8090),  # its code, and what it measures
    ("ann's job", "proxy", 8000),
    ("ann's job", "names", 53),
    ("ann's job", "the internet", 443),
    ("ann's job", "a worker of it", 29500),
    ("a worker of it", "ann's job", 41234),
]
CLOSED = [
    ("ann's job", "bob's job", 29500),
    ("bob's job", "ann's job", 29500),
    ("ann's job", "ann's server", 8888),
    ("ann's job", "bob's server", 8888),
    ("ann's server", "ann's job", 29500),
    ("bob's server", "ann's job", 29500),
    ("proxy", "ann's job", 8888),
    ("hub", "ann's job", 8888),
    ("service", "ann's job", 80),
    ("somebody's pod", "ann's job", 29500),
    ("the internet", "ann's job", 29500),
    ("preload", "ann's job", 29500),
    ("ann's job", "hub", 8081),
    ("ann's job", "database", 5432),
    ("ann's job", "proxy", 8001),
    ("ann's job", "SSH gateway", 2222),
    ("ann's job", "API server", 443),
    ("ann's job", "a kubelet", 10250),
    ("ann's job", "metadata", 80),
    ("ann's job", "file server", 2049),
    ("ann's job", "a file server with a public address", 2049),
    ("ann's job", "somebody's pod", 80),
]


TALKING = [
    ("ann's job", "ann's server", 40123),  # an executor, to the driver and to the session's master
    ("ann's server", "ann's job", 40124),
    ("a worker of it", "ann's server", 40123),
    ("ann's server", "a worker of it", 40124),
]
APART = [
    ("ann's job", "another server of ann's", 40123),
    ("another server of ann's", "ann's job", 40124),
    ("bob's server", "ann's job", 40124),
    ("bob's job", "ann's server", 40123),
    ("ann's server", "bob's job", 40124),
    ("bob's server", "ann's server", 40123),
    ("ann's job", "bob's server", 8888),
    ("somebody's pod", "ann's server", 40123),
]


def attempt(name: str, namespace: str, *, workers: int = 2, server: str = "") -> list[Manifest]:
    """The policies of an attempt."""
    said = {"profile": "gpu", "script": "train.py", "workers": workers}
    manifest = job_manifest.for_job(job_manifest.parse(said).normal(), "j")
    work = Work(
        name,
        "j",
        1,
        "ann",
        manifest,
        "lab:1",
        "nvidia.com/gpu",
        1,
        workers,
        frozenset({"a"}),
        length=HOUR,
        grace=MINUTE,
        server=server,
    )
    around = Surroundings(
        namespace, "http://hub/", "http://mlmp/api/v1/", "mlmp/hub:1", Storage(claim="homes"), "ann",
        Account(1000, 100), closed=True,
    )  # fmt: skip
    return [one for one in job_pods.objects(work, around, {}, "") if one["kind"] == "NetworkPolicy"]


def decided(values: dict[str, Any], folder: Path, namespace: str = USERS, **places: Place) -> dict[Any, bool]:
    """Each flow that there is, while two attempts run."""
    manifests = [*render(values), *attempt("j1-1", namespace), *attempt("j2-1", namespace)]
    flows = [*ALLOWED, *CLOSED, *NEEDED, *REFUSED]
    return dict(zip(flows, allowed(manifests, flows, folder, **places), strict=True))


EXPECTED = dict.fromkeys([*ALLOWED, *NEEDED], True) | dict.fromkeys([*CLOSED, *REFUSED], False)


def test_workers_of_one_attempt_reach_each_other_and_nobody_else_reaches_a_job(tmp_path: Path) -> None:
    assert decided(WITH_JOBS, tmp_path) == EXPECTED


def test_it_is_the_same_for_jobs_in_the_releases_own_namespace(tmp_path: Path) -> None:
    here = {name: replace(place, namespace=NAMESPACE) for name, place in PLACES.items() if place.namespace == USERS}
    storage = {"users": {"storage": {"type": "shared", "existingClaim": "homes"}}}
    assert decided(WITH_JOBS | storage, tmp_path, NAMESPACE, **here) == EXPECTED


@pytest.mark.parametrize("workers", [1, 2])
def test_a_job_and_the_server_that_it_names_reach_each_other_and_all_else_stays_as_it_was(
    tmp_path: Path, workers: int
) -> None:
    labels = PLACES["ann's server"].labels or {}
    places = {
        "ann's server": replace(PLACES["ann's server"], labels={**labels, "mlmp.dev/reservation": "b1"}),
        "another server of ann's": Place("10.244.1.9", {**labels, "mlmp.dev/reservation": "b2"}, USERS),
    }
    theirs = attempt("j1-1", USERS, workers=workers, server="b1")
    manifests = [*render(WITH_JOBS), *theirs, *attempt("j2-1", USERS)]
    talking = TALKING if workers == 2 else TALKING[:2]
    beside = ("ann's job", "ann's server", 8888)  # what is open to it now
    before = [flow for flow in CLOSED if flow != beside and flow != ("ann's server", "ann's job", 29500)]
    flows = [*talking, *NEEDED, *APART, *before, *REFUSED]
    expected = [True] * len([*talking, *NEEDED]) + [False] * len([*APART, *before, *REFUSED])
    assert dict(zip(flows, allowed(manifests, flows, tmp_path, **places), strict=True)) == dict(
        zip(flows, expected, strict=True)
    )


def test_jobs_reach_service_and_proxy_where_the_proxy_is_for_an_ingress_alone(tmp_path: Path) -> None:
    ingress = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress-nginx"}}}]
    values = WITH_JOBS | {"networkPolicies": {"proxy": {"from": ingress}, "users": {"internet": False}}}
    flows = [("ann's job", "proxy", 8000), ("ann's job", "service", 8090), ("ann's job", "the internet", 443)]
    assert allowed(render(values), flows, tmp_path) == [True, True, False]


def test_where_no_jobs_run_what_passes_for_one_reaches_nobody(tmp_path: Path) -> None:
    flows = [*ALLOWED, *CLOSED]
    assert not any(allowed(render(FULL), flows, tmp_path))
