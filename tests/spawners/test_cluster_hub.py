"""Hub and service on a cluster are configured by the chart's values and by secrets in the environment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from traitlets.config import Config

from mlmp_spawner.errors import ConfigurationError
from mlmp_spawner.rules.storage import parse
from mlmp_spawner.settings import MLMP, load_config
from mlmp_spawner.spawners.cluster_hub import SECRETS, configure

SHIPPED = Path(__file__).parents[2] / "hub_config" / "kubernetes" / "jupyterhub_config.py"
VALUES: dict[str, Any] = {
    "hub_url": "http://mlmp-hub.mlmp:8081",
    "proxy_url": "http://mlmp-proxy.mlmp:80",
    "proxy_api_url": "http://mlmp-proxy-api.mlmp:8001",
    "service_url": "http://mlmp-service.mlmp:8090",
    "users": {"namespace": "students"},
}


def environment(folder: Path, **values: Any) -> dict[str, str]:
    """What the pods of hub and service have."""
    path = folder / "values.yaml"
    path.write_text(yaml.safe_dump(VALUES | values))
    return dict.fromkeys(SECRETS, "postgresql://mlmp@db/mlmp") | {"MLMP_VALUES": str(path)}


def configured(folder: Path, **values: Any) -> Config:
    c = Config()
    configure(c, environment(folder, **values))
    return c


def test_what_is_missing_is_named_all_at_once() -> None:
    with pytest.raises(ConfigurationError) as missing:
        configure(Config(), {})
    assert [problem.split()[0] for problem in missing.value.problems] == list(SECRETS)


def test_a_file_of_values_that_is_not_there_is_named(tmp_path: Path) -> None:
    given = environment(tmp_path) | {"MLMP_VALUES": str(tmp_path / "none.yaml")}
    with pytest.raises(ConfigurationError, match=r"none\.yaml"):
        configure(Config(), given)


def test_hub_and_service_get_the_same_settings_from_the_file_that_is_shipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment(tmp_path, config={"MLMP": {"stop_lead": 60.0}}, see_all_pods=True).items():
        monkeypatch.setenv(name, value)
    settings = MLMP(config=load_config(SHIPPED))
    assert (settings.backend, settings.namespace) == ("kubernetes", "students")
    assert (settings.stop_lead, settings.see_all_pods) == (60.0, True)


def test_a_restart_of_the_hub_ends_no_server_and_no_connection(tmp_path: Path) -> None:
    c = configured(tmp_path)
    assert c.JupyterHub.cleanup_servers is False
    assert c.ConfigurableHTTPProxy.should_start is False
    assert c.ConfigurableHTTPProxy.api_url == VALUES["proxy_api_url"]
    assert c.JupyterHub.hub_connect_url == VALUES["hub_url"]


def test_a_setting_in_the_values_wins_over_ours(tmp_path: Path) -> None:
    c = configured(tmp_path, config={"JupyterHub": {"named_server_limit_per_user": 3}, "KubeSpawner": {"uid": 500}})
    assert c.JupyterHub.named_server_limit_per_user == 3
    assert c.KubeSpawner.uid == 500


def test_python_in_the_values_comes_last_in_the_order_of_its_names(tmp_path: Path) -> None:
    code = {"20-b": "c.KubeSpawner.uid += 1", "10-a": "c.KubeSpawner.uid = 700"}
    assert configured(tmp_path, config={"KubeSpawner": {"uid": 500}}, extra_config=code).KubeSpawner.uid == 701


def test_a_mistake_in_python_is_told_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(SyntaxError) as mistake:
        configured(tmp_path, extra_config={"mine": "c.X ="})
    assert mistake.value.filename == "hub.extraConfig.mine"


def test_services_and_roles_in_the_values_stand_beside_ours(tmp_path: Path) -> None:
    c = configured(tmp_path, config={"JupyterHub": {
        "services": [{"name": "grader"}],
        "load_roles": [{"name": "grader"}],
        "custom_scopes": {"custom:grader:read": {"description": "Read"}},
    }})  # fmt: skip
    assert [each["name"] for each in c.JupyterHub.services] == ["mlmp", "grader"]
    assert [each["name"] for each in c.JupyterHub.load_roles] == ["mlmp", "grader"]
    assert {"custom:mlmp:book", "custom:grader:read"} <= c.JupyterHub.custom_scopes.keys()


def test_the_service_may_make_users_only_where_rosters_do(tmp_path: Path) -> None:
    for asked in (False, True):
        c = configured(
            tmp_path, config={"MLMP": {"roster_users": asked}, "JupyterHub": {"load_roles": [{"name": "x"}]}}
        )
        ours, other = c.JupyterHub.load_roles
        assert ("admin:users" in ours["scopes"]) == asked and other == {"name": "x"}


def test_with_the_login_for_trying_out_admin_is_the_admin_and_all_are_let_in(tmp_path: Path) -> None:
    c = configured(tmp_path)
    assert c.Authenticator.allow_all is True
    assert c.Authenticator.admin_users == {"admin"}


def test_with_another_login_nobody_is_let_in_or_admin_but_by_its_own_settings(tmp_path: Path) -> None:
    c = configured(tmp_path, config={"JupyterHub": {"authenticator_class": "github"}})
    assert "allow_all" not in c.Authenticator
    assert "admin_users" not in c.Authenticator


def test_a_claim_for_each_user_outlives_servers_and_users(tmp_path: Path) -> None:
    c = configured(tmp_path, users={"namespace": "students", "storage": "dynamic", "files": {"home": "/home/me"}})
    assert c.KubeSpawner.volumes[0]["persistentVolumeClaim"]["claimName"] == "{pvc_name}"
    assert c.KubeSpawner.volume_mounts == [{"name": "home", "mountPath": "/home/me"}]
    assert c.KubeSpawner.delete_pvc is False


def test_what_the_chart_says_of_files_is_what_the_spawner_reads(tmp_path: Path) -> None:
    files = {"claim": "homes", "shared": {"claim": "data", "path": "a"}, "scratch": {"size": "1Gi", "type": "node"}}
    users = {"namespace": "students", "storage": "nfs", "files": files, "uid_from": "oauth_user.uid"}
    c = configured(tmp_path, users=users)
    assert parse(c.MLMPKubeSpawner.storage).claims == ("homes", "data")
    assert c.MLMPKubeSpawner.uid_from == "oauth_user.uid"
    assert "volumes" not in c.KubeSpawner


def test_below_a_path_all_addresses_have_it(tmp_path: Path) -> None:
    c = configured(tmp_path, base_url="/gpus/", public_url="https://mlmp.example.org/gpus/")
    assert c.JupyterHub.base_url == "/gpus/"
    assert c.JupyterHub.default_url == "/gpus/services/mlmp/"
    assert c.MLMPKubeSpawner.mlmp_url == "http://mlmp-proxy.mlmp:80/gpus/"


def test_jobs_are_off_unless_the_chart_has_them(tmp_path: Path) -> None:
    c = configured(tmp_path)
    assert c.MLMP.jobs is False
    assert c.JupyterHub.template_vars["has_jobs"] is False, "no page leads to what is not there"


def test_with_jobs_the_service_has_a_place_for_their_files_and_the_hub_leads_to_them(tmp_path: Path) -> None:
    c = configured(tmp_path, jobs={"enabled": True, "image": "mlmp/hub:1", "pull_secrets": ["ours"]})
    settings = MLMP(config=c)
    assert (settings.jobs, settings.data) == (True, "/var/lib/mlmp")
    assert (settings.job_image, settings.job_pull_secrets) == ("mlmp/hub:1", ["ours"])
    assert c.JupyterHub.template_vars["has_jobs"] is True


def test_jobs_that_an_admin_switches_off_again_have_no_place_in_the_navigation(tmp_path: Path) -> None:
    c = configured(tmp_path, jobs={"enabled": True}, config={"MLMP": {"jobs": False}})
    assert c.JupyterHub.template_vars["has_jobs"] is False
    assert c.JupyterHub.template_vars["mlmp_images"] is True


def test_where_the_login_says_everybodys_account_there_are_guests_only_with_a_number_of_their_own(
    tmp_path: Path,
) -> None:
    users = {"namespace": "students"}
    assert configured(tmp_path, users=users).MLMP.guest_isolation == "pod"
    numbered = users | {"uid_from": "oauth_user.uid"}
    assert configured(tmp_path, users=numbered).MLMP.guest_isolation == "none"
    c = configured(tmp_path, users=numbered | {"guest_uid": 64999})
    assert (c.MLMP.guest_isolation, c.MLMPKubeSpawner.guest_uid) == ("pod", 64999)
    own = {"MLMPKubeSpawner": {"uid_from": "oauth_user.uid"}}
    assert configured(tmp_path, users=users, config=own).MLMP.guest_isolation == "none"


def test_nobody_is_let_look_into_servers_that_have_no_hosts_of_their_own(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="look_in"):
        configured(tmp_path, config={"MLMP": {"look_in": True}})
