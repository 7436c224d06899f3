"""What an admin's ``subdomain_host`` changes of the configuration of one machine."""

from __future__ import annotations

from typing import Any

import pytest
from traitlets.config import Config

from mlmp_spawner.errors import ConfigurationError
from mlmp_spawner.spawners.hub import OneMachine, configure_service, let_in

SERVICE = "http://127.0.0.1:9001"


def configured(subdomain_host: str = "", extra_routes: dict[str, str] | None = None, **up: Any) -> Config:
    c = Config()
    configure_service(c, SERVICE, "token")
    if subdomain_host:
        c.JupyterHub.subdomain_host = subdomain_host
    if extra_routes:
        c.Proxy.extra_routes = extra_routes
    let_in(c, OneMachine(data="/none", catalog="/none", service_port=9001, auth="dummy", **up))
    return c


def test_without_it_nothing_is_other_than_it_was() -> None:
    c = configured()
    assert "extra_routes" not in c.Proxy
    assert "oauth_redirect_uri" not in c.JupyterHub.services[0]


@pytest.mark.parametrize("said", ["https://lab.example.org", "lab.example.org", "http://lab.example.org:8000"])
def test_the_service_stays_beside_the_hub_and_at_the_machines_own_address(said: str) -> None:
    c = configured(said, {"docs.example.org/": "http://127.0.0.1:1"})
    assert c.Proxy.extra_routes == {
        "docs.example.org/": "http://127.0.0.1:1",
        "lab.example.org/services/mlmp/": SERVICE,
        "127.0.0.1/services/mlmp/": SERVICE,
    }
    assert c.JupyterHub.services[0]["oauth_redirect_uri"] == "/services/mlmp/oauth_callback"


def test_an_ssh_gateway_is_refused_for_it_would_find_no_server() -> None:
    with pytest.raises(ConfigurationError, match="leave out --ssh-port or subdomain_host"):
        configured("https://lab.example.org", ssh_port=2222)
