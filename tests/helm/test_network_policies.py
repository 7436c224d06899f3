"""The flows of the threat model, one a row: what MLMP needs is let through, and nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.helm.chart import Manifest, render
from tests.helm.flows import USERS, Place, allowed

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("helm", "cyclonus")]

# As a cluster that people work on: a namespace of users' own, homes on a file server, and the SSH gateway.
FULL: dict[str, Any] = {
    "users": {"namespace": USERS},
    "ssh": {"gateway": {"enabled": True, "address": "ssh.example.org:22"}},
    "networkPolicies": {"users": {"fileServers": ["198.51.100.0/24"]}},
}

NEEDED = [
    ("ingress", "proxy", 8000),
    ("the internet", "proxy", 8000),
    ("proxy", "hub", 8081),
    ("proxy", "service", 8090),
    ("proxy", "ann's server", 8888),
    ("proxy", "names", 53),
    ("hub", "proxy", 8001),
    ("hub", "ann's server", 8888),  # it looks whether the server is up
    ("hub", "service", 8090),
    ("hub", "database", 5432),
    ("hub", "API server", 443),
    ("hub", "the internet", 443),  # a login elsewhere
    ("service", "hub", 8081),
    ("service", "database", 5432),
    ("service", "API server", 443),
    ("service", "the internet", 443),  # mail and webhooks
    ("enforcer", "API server", 443),
    ("helm test", "hub", 8081),
    ("helm test", "proxy", 8000),
    ("helm test", "database", 5432),
    ("ann's server", "hub", 8081),
    ("ann's server", "proxy", 8000),  # the service's API, as people reach it
    ("ann's server", "names", 53),
    ("ann's server", "the internet", 443),
    ("the internet", "SSH gateway", 2222),
    ("SSH gateway", "proxy", 8000),  # people's servers, by the same way as a browser
    ("SSH gateway", "database", 5432),  # keys, and which servers run
    ("SSH gateway", "names", 53),
]
REFUSED = [
    ("ann's server", "bob's server", 8888),
    ("ann's server", "bob's server", 22),
    ("ann's server", "database", 5432),
    ("ann's server", "API server", 443),
    ("ann's server", "a kubelet", 10250),
    ("ann's server", "metadata", 80),
    ("ann's server", "file server", 2049),
    ("ann's server", "proxy", 8001),
    ("ann's server", "service", 8090),  # only through the proxy
    ("ann's server", "somebody's pod", 80),
    ("ann's server", "names", 8080),
    ("ann's server", "enforcer", 80),
    ("somebody's pod", "ann's server", 8888),
    ("somebody's pod", "hub", 8081),
    ("somebody's pod", "service", 8090),
    ("somebody's pod", "database", 5432),
    ("somebody's pod", "proxy", 8001),
    ("ingress", "hub", 8081),
    ("ingress", "ann's server", 8888),
    ("the internet", "ann's server", 8888),
    ("service", "ann's server", 8888),
    ("service", "proxy", 8001),
    ("enforcer", "database", 5432),
    ("proxy", "database", 5432),
    ("proxy", "API server", 443),
    ("proxy", "the internet", 443),
    ("proxy", "ann's server", 22),
    ("database", "the internet", 443),
    ("database", "API server", 443),
    ("preload", "the internet", 443),
    ("preload", "API server", 443),
    ("preload", "hub", 8081),
    ("hub", "preload", 80),
    ("ann's server", "a file server with a public address", 2049),
    ("ann's server", "a file server with a public address", 111),
    ("ann's server", "a kubelet", 22),
    ("ann's server", "helm test", 80),
    ("ann's server", "SSH gateway", 2222),
    ("ann's server", "a job that makes homes", 80),
    ("ann's server", "preload", 80),
    ("SSH gateway", "ann's server", 8888),  # only through the proxy, which asks the hub whose it is
    ("SSH gateway", "ann's server", 22),
    ("SSH gateway", "hub", 8081),
    ("SSH gateway", "service", 8090),
    ("SSH gateway", "proxy", 8001),
    ("SSH gateway", "API server", 443),
    ("SSH gateway", "a kubelet", 10250),
    ("SSH gateway", "metadata", 80),
    ("SSH gateway", "file server", 2049),
    ("SSH gateway", "the internet", 443),
    ("the internet", "SSH gateway", 22),
    ("somebody's pod", "SSH gateway", 80),
    ("a job that makes homes", "database", 5432),
    ("a job that makes homes", "API server", 443),
    ("a job that makes homes", "file server", 2049),  # the kubelet mounts it
    ("a job that makes homes", "the internet", 443),
    ("a job that makes homes", "ann's server", 8888),
]
ONLY_THE_INGRESS: dict[str, Any] = {
    "proxy": {"from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress-nginx"}}}]}
}


@pytest.fixture(scope="module")
def cyclonus() -> None:
    """The program that decides."""
    if shutil.which("cyclonus") is None:
        pytest.skip("no cyclonus here: `make test-cluster` builds one")


def rows(manifests: list[Manifest], folder: Path, **places: Place) -> dict[tuple[str, str, int], bool]:
    """Each flow of both tables, as decided."""
    flows = NEEDED + REFUSED
    return dict(zip(flows, allowed(manifests, flows, folder, **places), strict=True))


def as_the_tables_say() -> dict[tuple[str, str, int], bool]:
    return dict.fromkeys(NEEDED, True) | dict.fromkeys(REFUSED, False)


def test_every_flow_is_as_the_threat_model_says(tmp_path: Path) -> None:
    assert rows(render(FULL), tmp_path) == as_the_tables_say()


def test_it_is_the_same_where_users_pods_are_in_the_releases_own_namespace(tmp_path: Path) -> None:
    servers = {
        f"{name}'s server": Place(f"10.244.1.{number}", {"mlmp.dev/kind": "server", "owner": name})
        for number, name in enumerate(("ann", "bob"), 1)
    }
    preload = {"preload": Place("10.244.1.3", {"mlmp.dev/kind": "preload"})}
    assert rows(render(FULL | {"users": {}}), tmp_path, **servers, **preload) == as_the_tables_say()


@pytest.mark.parametrize(
    ("values", "flow", "expected"),
    [
        ({"users": {"internet": False}}, ("ann's server", "the internet", 443), False),
        ({"users": {"egress": [{"to": [{"ipBlock": {"cidr": "10.1.2.3/32"}}]}]}},
         ("ann's server", "file server", 2049), True),
        ({"users": {"exceptions": ["93.184.216.0/24"]}}, ("ann's server", "the internet", 443), False),
        (ONLY_THE_INGRESS,
         ("somebody's pod", "proxy", 8000), False),
        (ONLY_THE_INGRESS,
         ("ann's server", "proxy", 8000), True),
        (ONLY_THE_INGRESS,
         ("SSH gateway", "proxy", 8000), True),
        ({"dns": {"addresses": ["169.254.20.10/32"]}}, ("ann's server", "a name server on the node", 53), True),
        ({"dns": {"addresses": ["169.254.20.10/32"]}}, ("SSH gateway", "a name server on the node", 53), True),
        ({"dns": {"addresses": ["169.254.20.10/32"]}}, ("proxy", "a name server on the node", 53), True),
        ({"dns": {"addresses": ["169.254.20.10/32"]}}, ("ann's server", "metadata", 53), False),
        ({"enabled": False}, ("ann's server", "database", 5432), True),
        ({"gateway": {"from": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]}}, ("the internet", "SSH gateway", 2222), False),
    ],
)  # fmt: skip
def test_the_values_say_who_else(
    values: dict[str, Any], flow: tuple[str, str, int], expected: bool, tmp_path: Path
) -> None:
    assert allowed(render(FULL | {"networkPolicies": values}), [flow], tmp_path) == [expected]


def test_the_file_server_of_homes_is_kept_from_servers_without_a_word(tmp_path: Path) -> None:
    nfs = {"users": {"namespace": USERS, "storage": {"type": "nfs", "nfs": {"server": "198.51.100.7", "path": "/"}}}}
    flow = ("ann's server", "a file server with a public address", 2049)
    assert allowed(render(nfs), [flow], tmp_path) == [False]


def test_in_a_namespace_made_for_users_a_pod_of_whomever_reaches_nobody(tmp_path: Path) -> None:
    stray = {"stray": Place("10.244.1.9", {"app": "anything"}, USERS)}
    flows = [("stray", "the internet", 443), ("stray", "hub", 8081), ("proxy", "stray", 8888)]
    made = render({"users": {"namespace": USERS, "createNamespace": True}})
    assert allowed(made, flows, tmp_path, **stray) == [False] * 3


def test_a_database_elsewhere_is_reached_by_the_gateway_too(tmp_path: Path) -> None:
    values = FULL | {"database": {"url": "postgresql+psycopg://u:p@db.example.org/mlmp"}}
    flows = [("SSH gateway", "the internet", 5432), ("SSH gateway", "metadata", 80)]
    assert allowed(render(values), flows, tmp_path) == [True, False]
