"""MLMP's service on this machine, beside a hub whose users' servers are pods of a real cluster."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from tests.cluster.hub_here import Hub, wait_for

API = "/services/mlmp/api/v1/"
TOKEN = "of-the-service-for-tests-only"

_SETTINGS = """
from mlmp_spawner.spawners.hub import configure_everywhere, configure_service, let_make_users
tests = c.JupyterHub.services[0]
configure_everywhere(c)
configure_service(c, "http://127.0.0.1:{port}", {token!r})
c.JupyterHub.services.append(tests)
c.JupyterHub.load_roles.append({{"name": "tests", "services": ["tests"], "scopes": ["admin:users", "admin:servers"]}})
c.MLMP.update(roster_users=True, requests_per_minute=6000)
let_make_users(c)
c.Authenticator.admin_users = {{"admin"}}
"""


def settings(port: int) -> str:
    """What a hub is told so that the service is found at ``port``; ``admin`` may do anything there."""
    return _SETTINGS.format(port=port, token=TOKEN)


@contextmanager
def service(hub: Hub, port: int) -> Iterator[None]:
    """Runs it; it answers when this begins."""
    environment = os.environ | {
        "KUBECONFIG": str(hub.kubeconfig),
        "JUPYTERHUB_SERVICE_NAME": "mlmp",
        "JUPYTERHUB_SERVICE_PREFIX": "/services/mlmp/",
        "JUPYTERHUB_SERVICE_URL": f"http://127.0.0.1:{port}",
        "JUPYTERHUB_API_URL": f"http://127.0.0.1:{hub.hub_port}/hub/api",
        "JUPYTERHUB_API_TOKEN": TOKEN,
        "JUPYTERHUB_CLIENT_ID": "service-mlmp",
        "JUPYTERHUB_BASE_URL": "/",
    }
    said = hub.root / "service.log"
    command = [sys.executable, "-m", "mlmp_spawner.service", "--config", str(hub.root / "jupyterhub_config.py")]
    with said.open("ab") as log:
        process = subprocess.Popen(command, cwd=hub.root, env=environment, stdout=log, stderr=log)

    def answers() -> bool:
        assert process.poll() is None, said.read_text()[-3000:]
        try:
            return hub.api.get(f"{API}health").status_code == 200
        except httpx.HTTPError:
            return False

    try:
        wait_for(answers, 120, "the service")
        yield
    finally:
        process.kill()
        process.wait()
