"""The configurations that the how-tos show load as the hub loads them, and name settings that exist."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from jupyterhub.app import JupyterHub
from traitlets.config import Config, Configurable, PyFileConfigLoader
from traitlets.config.loader import LazyConfigValue

from mlmp_spawner.settings import MLMP, load_config, shared_file
from mlmp_spawner.spawners.cluster_hub import SECRETS as CLUSTER_SECRETS
from mlmp_spawner.spawners.cluster_hub import configure
from mlmp_spawner.spawners.hub import OneMachine
from mlmp_spawner.spawners.local import MLMPLocalSpawner
from tests.spawners.test_cluster_hub import VALUES

EXAMPLES = sorted((Path(__file__).parents[2] / "hub_config" / "examples").glob("*.py"))
CHART = sorted((Path(__file__).parents[2] / "helm" / "examples").glob("*.yaml"))
SECRETS = (
    "GITHUB_CLIENT_ID",
    "GITHUB_CLIENT_SECRET",
    "OIDC_CLIENT_ID",
    "OIDC_CLIENT_SECRET",
    "LDAP_PASSWORD",
    "OAUTH_CLIENT_ID",
    "OAUTH_CLIENT_SECRET",
)


def loaded(path: Path, monkeypatch: pytest.MonkeyPatch) -> JupyterHub:
    for name in SECRETS:
        monkeypatch.setenv(name, f"the {name}")
    monkeypatch.setenv("JUPYTERHUB_CRYPT_KEY", "0" * 64)
    return JupyterHub(config=PyFileConfigLoader(path.name, path=str(path.parent)).load_config())


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_setting_of_an_example_exists(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = loaded(path, monkeypatch)
    kinds = {MLMP, MLMPLocalSpawner, JupyterHub}
    kinds |= {kind for kind in hub.authenticator_class.__mro__ if issubclass(kind, Configurable)}
    known = {kind.__name__: kind.class_trait_names(config=True) for kind in kinds}
    for section, values in hub.config.items():
        if section[:1].isupper():
            assert set(values) <= set(known[section]), section


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_authenticator_of_an_example_is_made_with_its_values(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = loaded(path, monkeypatch)
    if "authenticator_class" not in hub.config.JupyterHub:
        pytest.skip("it does not say how people log in")
    authenticator = hub.authenticator_class(config=hub.config)
    for section in (type(authenticator).__name__, "Authenticator"):
        for name, value in hub.config[section].items():
            if not callable(value) and not isinstance(value, LazyConfigValue):
                assert getattr(authenticator, name) == value, name


async def test_teams_of_github_become_groups_that_limits_can_name(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = loaded(next(path for path in EXAMPLES if path.stem == "github"), monkeypatch)
    authenticator = hub.authenticator_class(config=hub.config)
    team = {"slug": "students", "organization": {"login": "our-lab"}}
    assert await authenticator.get_user_groups({"teams": [team]}) == {"our-lab:students"}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_members_of_a_group_run_courses_in_every_example(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    roles = loaded(path, monkeypatch).load_roles
    assert [role["scopes"] for role in roles if role["groups"]] == [["custom:mlmp:courses"]]


def one_machine(data: Path, own: str, monkeypatch: pytest.MonkeyPatch) -> JupyterHub:
    """The hub of ``mlmp up`` with an admin's own configuration."""
    monkeypatch.setenv("MLMP_UP", str(OneMachine(str(data), str(shared_file("profiles"))).save()))
    monkeypatch.setenv("JUPYTERHUB_CRYPT_KEY", "0" * 64)
    (data / "jupyterhub_config.py").write_text(own)
    return JupyterHub(config=load_config(shared_file("hub_config") / "jupyterhub_config.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_another_login_lets_in_and_makes_admins_only_as_it_says(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in SECRETS:
        monkeypatch.setenv(name, f"the {name}")
    hub = one_machine(tmp_path, path.read_text(encoding="utf-8"), monkeypatch)
    authenticator = hub.authenticator_class(config=hub.config)
    assert authenticator.allow_all is False
    assert "admin" not in authenticator.admin_users


@pytest.mark.parametrize(
    ("own", "everybody", "admins"),
    [
        ("", True, {"admin"}),
        ("c.Authenticator.allow_all = False\nc.Authenticator.admin_users = {'ada'}", False, {"ada"}),
        ("c.Authenticator.admin_users.add('ada')", True, {"admin", "ada"}),
        ("c.Authenticator.allowed_users = {'ada'}", False, {"admin"}),
        ("c.JupyterHub.authenticator_class = 'github'", False, set()),
        ("c.JupyterHub.authenticator_class = 'github'\nc.Authenticator.allow_all = True", True, set()),
    ],
)
def test_who_is_let_in_is_what_the_admin_says(
    own: str, everybody: bool, admins: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = one_machine(tmp_path, own, monkeypatch)
    authenticator = hub.authenticator_class(config=hub.config)
    assert (authenticator.allow_all, authenticator.admin_users) == (everybody, admins)


@pytest.mark.parametrize("path", CHART, ids=lambda path: path.stem)
def test_an_example_for_the_chart_says_what_the_one_for_one_machine_says(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of its settings exists, and hub and secrets are as there."""
    here = loaded(next(one for one in EXAMPLES if path.stem == f"login-{one.stem}"), monkeypatch)
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    (tmp_path / "values.yaml").write_text(yaml.safe_dump(VALUES | {"config": values["hub"]["config"]}))
    c = Config()
    configure(c, dict.fromkeys(CLUSTER_SECRETS, "x") | {"MLMP_VALUES": str(tmp_path / "values.yaml")})
    hub = JupyterHub(config=c)
    assert hub.authenticator_class is here.authenticator_class
    authenticator, same = hub.authenticator_class(config=hub.config), here.authenticator_class(config=here.config)
    section = here.authenticator_class.__name__
    for name in {*c[section], *here.config[section]} - {"client_id", "client_secret"}:
        assert getattr(authenticator, name) == getattr(same, name), name
    assert authenticator.allow_all is False
