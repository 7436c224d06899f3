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
from mlmp_spawner.spawners.cluster_hub import Cluster, Users
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
