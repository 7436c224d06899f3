"""What the chart writes for hub, service and catalog is what they read."""

from __future__ import annotations

import base64
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from mlmp_spawner.rules.catalog import Catalog
from mlmp_spawner.rules.catalog_yaml import load_catalog
from mlmp_spawner.rules.storage import Storage, parse
from mlmp_spawner.spawners.cluster_hub import DATA, Cluster, Users
from tests.helm.chart import VALUES, names, of, pods, render

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("helm")]


def catalog(values: Path | dict[str, Any], folder: Path) -> Catalog:
    """The catalog as hub and service get it."""
    for name, text in of(render(values), "ConfigMap", "mlmp-catalog")["data"].items():
        (folder / name).write_text(text)
    return load_catalog(folder)


@pytest.mark.parametrize("path", VALUES, ids=lambda path: path.stem)
def test_hub_and_service_know_every_value_that_the_chart_writes_for_them(path: Path) -> None:
    written = yaml.safe_load(of(render(path), "Secret", "mlmp-config")["stringData"]["values.yaml"])
    assert written["users"].keys() == {each.name for each in fields(Users)}
    assert written.keys() == {each.name for each in fields(Cluster)}


def test_profiles_are_offered_in_the_order_that_the_values_say(tmp_path: Path) -> None:
    found = catalog(next(path for path in VALUES if path.stem == "mig"), tmp_path)
    assert list(found.profiles) == ["whole", "half"]
    assert found.limits.groups["students"].units_at_once == 1


def test_no_limit_stays_no_limit(tmp_path: Path) -> None:
    """Helm takes null for "not set" where it can."""
    found = catalog(next(path for path in VALUES if path.stem == "mig"), tmp_path)
    assert found.limits.groups["students"].hours_per_week is None
    assert "hours_per_week" in found.limits.groups["students"].model_fields_set


def test_a_changed_setting_restarts_hub_and_service_and_a_changed_catalog_nothing() -> None:
    def made(values: dict[str, Any]) -> dict[str, Any]:
        return pods(render(values, "--set", "secrets.existingSecret=x"))

    before, other = made({}), made({"hub": {"config": {"MLMP": {"stop_lead": 60}}}})
    assert {name for name in before if before[name] != other[name]} == {"mlmp-hub", "mlmp-service"}
    catalogs = [made({"catalog": {"limits": {"everybody": {"units_at_once": number}}}}) for number in (1, 2)]
    assert catalogs[0] == catalogs[1]


@pytest.mark.parametrize(
    "database", [{"url": "postgresql+psycopg://u:p@other/n"}, {"existingSecret": {"name": "ours", "key": "url"}}]
)
def test_another_database_restarts_all_that_read_it(database: dict[str, Any]) -> None:
    def made(said: dict[str, Any]) -> dict[str, Any]:
        gateway = {"ssh": {"gateway": {"enabled": True, "address": "ssh.example.org:22"}}}
        return pods(render({"database": said, "test": {"enabled": False}, **gateway}))

    before, after = made({"url": "postgresql+psycopg://u:p@db.example.org/n"}), made(database)
    assert {name for name in before if before[name] != after[name]} == {"mlmp-hub", "mlmp-service", "mlmp-ssh"}


def test_the_service_starts_with_a_secret_that_has_no_ssh_ca_yet() -> None:
    volumes = pods(render(None, "--set", "secrets.existingSecret=x"))["mlmp-service"]["spec"]["volumes"]
    (authority,) = [each["secret"] for each in volumes if each["name"] == "authority"]
    assert authority["optional"] is True


def test_the_database_s_account_changes_nothing_else_of_its_pod() -> None:
    chosen = {"nodeSelector": {"example.org/rack": "r1000"}}
    spec = pods(render({"database": {"postgresql": chosen}}))["mlmp-postgresql"]["spec"]
    assert spec["nodeSelector"] == chosen["nodeSelector"]
    assert {spec["securityContext"][name] for name in ("runAsUser", "runAsGroup", "fsGroup")} == {999}


def test_a_database_of_ones_own_replaces_the_charts() -> None:
    manifests = render({"database": {"url": "postgresql+psycopg://u:p@db.example.org/mlmp"}})
    assert names(manifests, "StatefulSet") == set()
    kept = of(manifests, "Secret", "mlmp-secrets")["data"]["database-url"]
    assert base64.b64decode(kept) == b"postgresql+psycopg://u:p@db.example.org/mlmp"


def test_the_charts_database_and_its_url_have_the_same_password() -> None:
    kept = of(render(), "Secret", "mlmp-secrets")["data"]
    password = base64.b64decode(kept["database-password"]).decode()
    assert (
        base64.b64decode(kept["database-url"]).decode()
        == f"postgresql+psycopg://mlmp:{password}@mlmp-postgresql:5432/mlmp"
    )


def test_secrets_and_users_files_stay_after_an_uninstall() -> None:
    manifests = render({"users": {"namespace": "students", "createNamespace": True, "storage": {"type": "shared"}}})
    kept = {(each["kind"], each["metadata"]["name"]) for each in manifests
            if each["metadata"].get("annotations", {}).get("helm.sh/resource-policy") == "keep"}  # fmt: skip
    assert kept == {("Secret", "mlmp-secrets"), ("Namespace", "students"), ("PersistentVolumeClaim", "mlmp-homes")}


JOBS = next(path for path in VALUES if path.stem == "jobs")


def test_the_service_alone_has_the_files_of_jobs_and_one_service_at_a_time() -> None:
    manifests = render(JOBS)
    claim = of(manifests, "PersistentVolumeClaim", "mlmp-jobs")
    assert claim["metadata"].get("namespace", "mlmp") == "mlmp", "in no namespace in which users' pods are"
    assert claim["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    assert claim["spec"]["resources"]["requests"]["storage"] == "100Gi"
    mounting = {
        name for name, pod in pods(manifests).items()
        for volume in pod["spec"]["volumes"] if volume.get("persistentVolumeClaim", {}).get("claimName") == "mlmp-jobs"
    }  # fmt: skip
    assert mounting == {"mlmp-service"}
    assert of(manifests, "Deployment", "mlmp-service")["spec"]["strategy"]["type"] == "Recreate"
    (mount,) = [
        each for each in pods(manifests)["mlmp-service"]["spec"]["containers"][0]["volumeMounts"]
        if each["name"] == "jobs"
    ]  # fmt: skip
    assert mount["mountPath"] == DATA


def test_a_claim_of_ones_own_takes_the_files_of_jobs() -> None:
    own = {"storage": {"type": "shared", "existingClaim": "homes"}}
    manifests = render({"jobs": {"enabled": True, "files": {"existingClaim": "ours"}}, "users": own})
    assert names(manifests, "PersistentVolumeClaim") == set()
    volumes = pods(manifests)["mlmp-service"]["spec"]["volumes"]
    assert {"name": "jobs", "persistentVolumeClaim": {"claimName": "ours"}} in volumes


def test_without_jobs_nothing_is_kept_for_them() -> None:
    assert names(render(), "PersistentVolumeClaim") == set()
    assert "jobs" not in {each["name"] for each in pods(render())["mlmp-service"]["spec"]["volumes"]}


def test_what_runs_beside_a_job_is_the_releases_own_image() -> None:
    written = yaml.safe_load(of(render(JOBS), "Secret", "mlmp-config")["stringData"]["values.yaml"])
    assert written["jobs"] == {
        "enabled": True, "image": "registry.example.org/mlmp/hub:2026.11", "network_closed": True,
        "declare_units": True, "pull_secrets": ["images", "our-registry"],
    }  # fmt: skip


FILES: dict[str, Any] = {
    "claim": {"namespace": "students", "storage": {"type": "shared", "existingClaim": "ours"}},
    "fresh": {"namespace": "students", "storage": {"type": "shared"}},
    "two claims": {
        "namespace": "students",
        "storage": {"type": "shared", "existingClaim": "ours", "folders": {"by": "root", "systemClaim": "ours-too"}},
    },
    "one namespace": {"storage": {"type": "nfs", "nfs": {"server": "10.1.2.3", "path": "/x"}}},
    "nfs": {"namespace": "students", "storage": {"type": "nfs", "nfs": {"server": "10.1.2.3", "path": "/x"}}},
}
MADE = {
    "claim": ("user", "students", "ours", None),
    "fresh": ("user", "students", "mlmp-homes", 1000),
    "two claims": ("root", "mlmp", "ours-too", None),
    "one namespace": ("root", "mlmp", "mlmp-homes", None),
    "nfs": ("root", "mlmp", "mlmp-homes-system", None),
}


def files(users: dict[str, Any]) -> Storage:
    """What the spawner is told about users' files."""
    written = yaml.safe_load(of(render({"users": users}), "Secret", "mlmp-config")["stringData"]["values.yaml"])
    return parse(written["users"]["files"])


@pytest.mark.parametrize("case", FILES)
def test_users_folders_are_made_where_their_claim_can_be_mounted_and_users_have_no_part(case: str) -> None:
    folders = files(FILES[case]).folders
    assert folders is not None
    assert (folders.by, folders.namespace, folders.claim, folders.fs_group) == MADE[case]


def test_a_place_on_a_file_server_is_a_volume_for_one_claim_alone_that_stays() -> None:
    manifests = render(next(path for path in VALUES if path.stem == "nfs-homes"))
    for name, namespace in (("homes", "mlmp-users"), ("homes-system", "mlmp"), ("shared", "mlmp-users")):
        volume = of(manifests, "PersistentVolume", f"mlmp-mlmp-{name}")
        claim = of(manifests, "PersistentVolumeClaim", f"mlmp-{name}")
        assert claim["metadata"]["namespace"] == volume["spec"]["claimRef"]["namespace"] == namespace
        assert claim["metadata"]["name"] == volume["spec"]["claimRef"]["name"]
        assert claim["spec"]["volumeName"] == volume["metadata"]["name"]
        assert volume["spec"]["persistentVolumeReclaimPolicy"] == "Retain"
        assert {each["metadata"]["annotations"]["helm.sh/resource-policy"] for each in (volume, claim)} == {"keep"}


def test_how_large_homes_may_be_is_not_said_of_a_file_server() -> None:
    def made(size: str) -> list[Any]:
        manifests = render({"users": {**FILES["nfs"], "storage": {**FILES["nfs"]["storage"], "size": size}}})
        return [each for each in manifests if each["kind"].startswith("PersistentVolume")]

    assert made("2Ti") == made("1Gi")  # else a smaller one would be refused by the API server
    assert len(made("2Ti")) == 4


def test_shared_data_and_scratch_go_with_any_kind_of_home() -> None:
    for kind in ("none", "dynamic"):
        known = files({"storage": {
            "type": kind, "shared": {"existingClaim": "data"}, "scratch": {"size": "50Gi"},
        }})  # fmt: skip
        assert (known.claims, known.links.keys()) == (("data",), {"shared", "scratch"})
        assert known.folders is None
