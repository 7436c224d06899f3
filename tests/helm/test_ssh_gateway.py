"""The SSH gateway, which is open to the world: it has what it needs and nothing that the hub or the service has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mlmp_spawner.settings import MLMP, load_config
from mlmp_spawner.ssh.settings import MLMPSSHGateway
from tests.helm.chart import VALUES, Manifest, RefusedError, names, of, pods, render

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("helm")]

ADDRESS = {"ssh": {"gateway": {"enabled": True, "address": "ssh.example.org:22"}}}


@pytest.fixture(scope="module")
def chosen() -> list[Manifest]:
    """A chart with one."""
    return render(next(path for path in VALUES if path.stem == "ssh-gateway"))


def secrets_of(pod: dict[str, Any], container: str) -> set[str]:
    """The keys of MLMP's Secret that a container of a pod sees."""
    every = [*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]]
    (found,) = [each for each in every if each["name"] == container]
    mounted = {mount["name"] for mount in found["volumeMounts"]}
    seen = {
        item["key"]
        for volume in pod["spec"]["volumes"]
        if volume["name"] in mounted and "secret" in volume
        for item in volume["secret"].get("items", [{"key": volume["secret"]["secretName"]}])
    }
    for variable in found.get("env", ()):
        if reference := variable.get("valueFrom", {}).get("secretKeyRef"):
            seen.add(reference["key"])
    return seen


def test_there_is_none_unless_it_is_asked_for() -> None:
    manifests = render()
    assert "mlmp-ssh" not in names(manifests, "Deployment") | names(manifests, "Service")
    assert "ssh-host-key" not in str(pods(manifests))


def test_it_sees_the_database_and_its_key_and_has_no_token(chosen: list[Manifest]) -> None:
    pod = pods(chosen)["mlmp-ssh"]
    assert secrets_of(pod, "gateway") == {"database-url", "ssh-host-key"}
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert "envFrom" not in str(pod)


def test_the_private_key_of_the_ca_is_the_services_and_before_the_start_the_gateways(chosen: list[Manifest]) -> None:
    made = pods(chosen)
    assert secrets_of(made["mlmp-ssh"], "certificate") == {"ssh-host-key", "ssh-ca"}
    assert "ssh-ca" in secrets_of(made["mlmp-service"], "service")
    having = {name for name, pod in made.items() if "ssh-ca" in str(pod)}
    assert having == {"mlmp-ssh", "mlmp-service"}


def test_its_configuration_is_what_the_values_say(
    chosen: list[Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLMP_DB_URL", "postgresql+psycopg://u:p@h/n")
    path = tmp_path / "config.py"
    path.write_text(of(chosen, "ConfigMap", "mlmp-ssh")["data"]["config.py"])
    config = load_config(path)
    settings, gateway = MLMP(config=config), MLMPSSHGateway(config=config)
    assert (settings.db_url, settings.ssh_gateway) == ("postgresql+psycopg://u:p@h/n", "ssh.example.org:22")
    assert (gateway.failures_per_minute, gateway.login_timeout) == (3, 10)


def test_hub_and_service_learn_where_it_is(chosen: list[Manifest]) -> None:
    assert "ssh_gateway: ssh.example.org:22" in of(chosen, "Secret", "mlmp-config")["stringData"]["values.yaml"]


def test_people_reach_it_as_the_values_say(chosen: list[Manifest]) -> None:
    service = of(chosen, "Service", "mlmp-ssh")
    spec = service["spec"]
    assert spec["type"] == "LoadBalancer"
    assert spec["externalTrafficPolicy"] == "Local"
    assert spec["loadBalancerSourceRanges"] == ["192.0.2.0/24"]
    assert spec["ports"] == [{"name": "ssh", "port": 22, "targetPort": "ssh"}]
    assert service["metadata"]["annotations"] == {"example.org/pool": "public"}
    assert of(chosen, "Deployment", "mlmp-ssh")["spec"]["replicas"] == 2


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"ssh": {"gateway": {"enabled": True}}}, "ssh.gateway.address: how do people reach it?"),
        ({"ssh": {**ADDRESS["ssh"], "mode": "none"}}, "ssh.gateway.enabled: with ssh.mode none it would lead nowhere"),
        (
            {"ssh": {"gateway": {"address": "ssh.example.org"}}},
            "at '/ssh/gateway/address': 'ssh.example.org'",
        ),
    ],
)
def test_what_would_not_work_is_refused(values: dict[str, Any], told: str) -> None:
    with pytest.raises(RefusedError, match=told.replace("?", r"\?")):
        render(values)
