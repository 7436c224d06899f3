"""From inside a user's pod: what it may do as whom, and what it can't: the threat model, tried for real."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from kubernetes import client
from kubernetes.client.exceptions import ApiException
from kubernetes.client.models import V1Pod

from tests.cluster.inside import Inside
from tests.cluster.release import Release
from tests.live import wait_for

OWN = "/services/mlmp/api/v1"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJCVeoxUaEgXyxUDFCcDrDvHYMkDIiVqxvlzYZ8xuzzS nobody"


@dataclass
class Tenant:
    """Somebody with a server. ``inside``: its container."""

    name: str
    booking: dict[str, Any]
    pod: V1Pod
    inside: Inside


@pytest.fixture(scope="module")
def tenants(release: Release) -> Iterator[dict[str, Tenant]]:
    """Ann and Bob, each with a server on the same node."""
    node = release.cluster.nodes[0]
    made = {}
    for name in ("ann", "bob"):
        booking = release.book(name, 1200, profile="cpu", node=node)
        release.start(booking, wait=False)
        made[name] = booking
    found = {}
    for name, booking in made.items():
        release.wait_for_state(booking, "running", 180)
        pod = release.pod_of(booking)
        assert pod is not None
        found[name] = Tenant(name, booking, pod, Inside(release.cluster, release.users, pod.metadata.name))
    yield found
    for name, booking in made.items():
        release.api(name).api.delete(f"{OWN}/reservations/{booking['id']}")


@pytest.fixture(scope="module")
def ann(tenants: dict[str, Tenant]) -> Tenant:
    """Whose pod everything is tried from."""
    return tenants["ann"]


@pytest.fixture(scope="module")
def bob(tenants: dict[str, Tenant]) -> Tenant:
    """Whom everything is tried against."""
    return tenants["bob"]


@pytest.fixture(scope="module")
def hub_api(release: Release) -> str:
    """The hub's API as pods reach it."""
    return f"http://{release.name}-hub.{release.namespace}:8081/hub/api"


@pytest.fixture(scope="module")
def proxy(release: Release) -> str:
    """The address under which pods reach service and servers."""
    return f"http://{release.name}-proxy.{release.namespace}"


class TestThePod:
    def test_is_in_a_namespace_that_enforces_the_restricted_profile(self, release: Release, ann: Tenant) -> None:
        enforced = release.core.read_namespace(ann.pod.metadata.namespace).metadata.labels
        assert enforced["pod-security.kubernetes.io/enforce"] == "restricted"

    def test_has_no_right_and_can_get_none(self, ann: Tenant) -> None:
        said = dict(line.split(":", 1) for line in ann.inside.run("cat", "/proc/self/status").splitlines())
        for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            assert int(said[kind], 16) == 0, kind
        assert said["NoNewPrivs"].strip() == "1"
        assert said["Seccomp"].strip() == "2"
        assert said["Uid"].split() == ["1000"] * 4

    def test_has_no_program_that_makes_it_another_account(self, ann: Tenant) -> None:
        assert ann.inside.run("find", "/", "-xdev", "-type", "f", "-perm", "/6000", check=False) == ""

    def test_has_no_token_of_the_cluster(self, ann: Tenant) -> None:
        assert ann.pod.spec.automount_service_account_token is False
        said = ann.inside.python("say(os.path.exists('/var/run/secrets/kubernetes.io'))")
        assert said is False

    def test_sees_no_process_of_the_node_or_of_another_pod(self, ann: Tenant) -> None:
        first = ann.inside.run("cat", "/proc/1/cmdline").replace("\0", " ")
        assert "tini" in first
        assert not any((ann.pod.spec.host_pid, ann.pod.spec.host_network, ann.pod.spec.host_ipc))

    def test_is_not_told_of_the_clusters_services_or_of_secrets(self, ann: Tenant) -> None:
        names = ann.inside.python("say(sorted(os.environ))")
        secret = ("MLMP_DB_URL", "MLMP_SERVICE_TOKEN", "CONFIGPROXY_AUTH_TOKEN", "JUPYTERHUB_CRYPT_KEY")
        assert not [name for name in names if name in secret or "_PORT_8081_" in name or "POSTGRES" in name]


class TestAtTheHubItsToken:
    def test_is_that_of_its_owner_with_these_scopes_and_no_other(self, ann: Tenant, hub_api: str) -> None:
        model = ann.inside.ask("GET", f"{hub_api}/user")["json"]
        assert model["name"] == "ann"
        names = {scope.partition("!")[0] for scope in model["scopes"]}
        assert "custom:mlmp:book" in names
        assert not [name for name in names if name.startswith(("admin", "tokens", "servers", "proxy", "shutdown"))]
        assert not names & {"custom:mlmp:admin", "custom:mlmp:courses", "list:users", "list:services"}
        unfiltered = {scope for scope in model["scopes"] if "!" not in scope}
        assert unfiltered <= {"custom:mlmp:book", "read:users:name"}, unfiltered

    @pytest.mark.parametrize(
        ("method", "path", "body"),
        [
            ("GET", "/users", None),
            ("GET", "/users/bob", None),
            ("POST", "/users/bob/server", {}),
            ("DELETE", "/users/bob/server", None),
            ("POST", "/users/ann/server", {}),
            ("POST", "/users/ann/tokens", {}),
            ("GET", "/users/bob/tokens", None),
            ("POST", "/users/bob/tokens", {}),
            ("POST", "/users/bob/activity", {"last_activity": "2030-01-01T00:00:00Z"}),
            ("PATCH", "/users/ann", {"admin": True}),
            ("POST", "/groups/admins/users", {"users": ["ann"]}),
            ("GET", "/proxy", None),
            ("POST", "/proxy", {}),
            ("GET", "/services", None),
            ("POST", "/shutdown", {}),
        ],
    )
    def test_may_not(self, method: str, path: str, body: Any, ann: Tenant, hub_api: str) -> None:
        status = ann.inside.ask(method, hub_api + path, body)["status"]
        assert status in (403, 404), f"{method} {path}: {status}"


class TestAtTheServiceItsToken:
    def test_is_its_owner(self, ann: Tenant, proxy: str) -> None:
        assert ann.inside.ask("GET", f"{proxy}{OWN}/me")["json"]["name"] == "ann"

    def test_sees_and_changes_its_owners_bookings(self, ann: Tenant, proxy: str) -> None:
        path = f"{proxy}{OWN}/reservations/{ann.booking['id']}"
        assert ann.inside.ask("GET", path)["json"]["id"] == ann.booking["id"]
        assert ann.inside.ask("PATCH", path, {"title": "from inside"})["status"] == 200

    @pytest.mark.parametrize(
        ("method", "path", "body"),
        [
            ("PATCH", "reservations/BOB", {"title": "mine"}),
            ("POST", "reservations/BOB/stop", {}),
            ("POST", "reservations/BOB/extend", {"duration": "1h"}),
            ("DELETE", "reservations/BOB", None),
            ("POST", "reservations", {"profile": "cpu", "owner": "bob", "duration": "10m"}),
            ("GET", "audit", None),
            ("PUT", "nodes/NODE/outages", {"items": []}),
            ("PUT", "limits/user:ann", {"units_at_once": 100}),
            ("POST", "calendar-token", {}),
            ("GET", "ssh-keys?owner=bob", None),
            ("POST", "ssh-keys", {"key": KEY, "title": "would outlive the server"}),
        ],
    )
    def test_may_not(
        self, method: str, path: str, body: Any, ann: Tenant, bob: Tenant, proxy: str, release: Release
    ) -> None:
        said = path.replace("BOB", bob.booking["id"]).replace("NODE", release.cluster.nodes[0])
        assert ann.inside.ask(method, f"{proxy}{OWN}/{said}", body)["status"] == 403
        assert release.reservation(bob.booking)["state"] == "active"


class TestAtAnothersServer:
    @pytest.mark.parametrize("path", ["api/status", "lab", "ssh/", "api/contents/"])
    def test_its_token_opens_nothing(self, path: str, ann: Tenant, bob: Tenant, proxy: str) -> None:
        status = ann.inside.ask("GET", f"{proxy}/user/bob/{path}")["status"]
        assert status in (403, 404), status
        assert ann.inside.ask("GET", f"{proxy}/user/ann/api/status")["status"] == 200

    def test_nor_at_its_own_port_past_the_proxy(self, ann: Tenant, bob: Tenant) -> None:
        """Where no network policy is enforced, the server itself refuses."""
        url = f"http://{bob.pod.status.pod_ip}:8888/user/bob/api/contents/"
        said = ann.inside.python(f"say(ask('GET', {url!r}) if reaches({bob.pod.status.pod_ip!r}, 8888) else None)")
        assert said is None or said["status"] == 403


class TestOverTheNetwork:
    def test_every_flow_that_is_needed_is_there_and_no_other_where_the_network_enforces_policies(
        self, ann: Tenant, bob: Tenant, release: Release
    ) -> None:
        here = {
            "metadata": "169.254.169.254",
            "a kubelet": ann.pod.status.host_ip,
            "bob's server": bob.pod.status.pod_ip,
        }
        parts = {part: release.pods_of(part)[0].status.pod_ip for part in ("hub", "proxy", "service", "postgresql")}
        api_server = release.core.read_namespaced_service("kubernetes", "default").spec.cluster_ip
        flows = [
            (parts["hub"], 8081, True), (parts["proxy"], 8000, True),
            (parts["service"], 8090, False), (parts["postgresql"], 5432, False), (parts["proxy"], 8001, False),
            (api_server, 443, False), (here["a kubelet"], 10250, False), (here["metadata"], 80, False),
            (here["bob's server"], 8888, False),
        ]  # fmt: skip
        found = {(host, port): ann.inside.python(f"say(reaches({host!r}, {port}))") for host, port, _ in flows}
        assert all(found[host, port] for host, port, needed in flows if needed), found
        if found[parts["service"], 8090] and found[here["bob's server"], 8888]:
            if release.cluster.ours:
                return  # it is known to enforce no policies: tests/helm decides the flows from the chart
            pytest.skip("this cluster's network enforces no policies; tests/helm decides the flows from the chart")
        assert found == {(host, port): needed for host, port, needed in flows}


@pytest.fixture
def sandbox(release: Release) -> Iterator[str]:
    """A RuntimeClass; it runs what all run here, for the cluster has no other."""
    api, name = client.NodeV1Api(release.core.api_client), f"{release.namespace}-sandbox"
    api.create_runtime_class({"metadata": {"name": name}, "handler": "runc"})
    yield name
    api.delete_runtime_class(name)


def test_servers_run_under_the_runtime_class_of_the_values(release: Release, sandbox: str) -> None:
    before = dict(release.values)
    release.values["users"] = {**before.get("users", {}), "runtimeClass": sandbox}
    release.install()
    try:
        booking = release.book("cyd", 300, profile="cpu")
        release.start(booking, seconds=120)
        pod = release.pod_of(booking)
        assert pod is not None
        assert pod.spec.runtime_class_name == sandbox
        release.api("cyd").api.delete(f"{OWN}/reservations/{booking['id']}")
    finally:
        release.values = before
        release.install()


def test_a_pod_that_wants_more_is_refused_by_the_namespace(release: Release) -> None:
    """What the hub does not make: there the namespace is the line."""
    more = {"name": "it", "image": release.cluster.debian, "securityContext": {"privileged": True}}
    bad = {"metadata": {"name": "more"}, "spec": {"containers": [more]}}
    with pytest.raises(ApiException) as refused:
        release.core.create_namespaced_pod(release.users, bad)
    assert refused.value.status == 403
    assert "restricted" in str(refused.value.body)


def test_it_all_ends_with_the_booking(release: Release, ann: Tenant) -> None:
    """A token that was copied out of a server is worth nothing after it."""
    token = ann.inside.python("say(os.environ['MLMP_TOKEN'])")
    hub = f"{release.url}hub/api/user"
    headers = {"Authorization": f"token {token}"}
    api = release.api("ann").api
    assert api.get(hub, headers=headers).status_code == 200
    assert api.delete(f"{OWN}/reservations/{ann.booking['id']}").status_code == 200
    release.wait_gone(ann.booking, 60)
    wait_for(lambda: api.get(hub, headers=headers).status_code == 403, 30, "the end of the token")
