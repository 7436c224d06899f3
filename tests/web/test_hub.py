"""The whole way through a real hub and its proxy: login, tokens, XSRF, a proxy that forgot its routes."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from mlmp_spawner.settings import shared_file
from tests.web.machine import API, Machine


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    data = tmp_path_factory.mktemp("machine")
    with Machine(data, shared_file("profiles"), config="c.MLMP.simulate = True\n") as running:
        yield running


@pytest.fixture(scope="module")
def ann_token(machine: Machine) -> str:
    return machine.token("ann")


def test_a_token_of_a_user_books(machine: Machine, ann_token: str):
    with machine.api(ann_token) as ann:
        me = ann.get("me").json()
        assert me["name"] == "ann" and not me["admin"] and "custom:mlmp:book" in me["scopes"]
        made = ann.post("reservations", json={"profile": "gpu", "duration": "1h"})
        assert made.status_code == 201, made.text
        assert made.json()["allocations"][0]["units"] == 1
        assert ann.delete(f"reservations/{made.json()['id']}").status_code == 200


def test_rights_come_from_the_scopes_of_the_token_alone(machine: Machine):
    with closing(machine.browser("admin")) as admin:
        whole = machine.token_of(admin, "admin")
        narrow = machine.token_of(admin, "admin", "access:services!service=mlmp")
        stranger = machine.token_of(admin, "admin", "read:users!user=admin")
        assert admin.get(f"{API}me").json()["admin"] is True
    with machine.api(whole) as client:
        assert client.get("me").json()["admin"] is True
    with machine.api(narrow) as client:
        me = client.get("me")
        assert me.status_code == 200 and me.json()["admin"] is False
        assert client.post("reservations", json={"profile": "gpu"}).status_code == 403
    with machine.api(stranger) as client:
        assert client.get("me").status_code == 403
    with machine.api("no-token") as client:
        assert client.get("me").status_code == 401
    hub = httpx.get(f"{machine.url}hub/api/user", headers={"Authorization": f"Bearer {narrow}"})
    assert hub.json()["admin"] is True  # what must not be gone by


def test_a_browser_is_sent_through_the_hub_and_its_cookie_needs_the_xsrf_token(machine: Machine):
    with closing(machine.browser("ben")) as ben:
        ben.get("services/mlmp/", headers={"Accept": "text/html"})
        cookies = {c.name for c in ben.cookies.jar if c.path == "/services/mlmp/"}
        assert "service-mlmp" in cookies
        assert ben.get(f"{API}me").json()["name"] == "ben"
        body = {"profile": "gpu", "duration": "1h"}
        refused = ben.post(f"{API}reservations", json=body)
        assert refused.status_code == 403 and refused.json()["code"] == "xsrf"
        # As a script on another page of the same host would: it can't read the token of this path.
        fetched = ben.get(f"{API}me", headers={"Sec-Fetch-Mode": "cors", "Sec-Fetch-Site": "same-origin"})
        assert fetched.status_code == 403
        xsrf = next(str(c.value) for c in ben.cookies.jar if c.name == "_xsrf" and c.path == "/services/mlmp/")
        made = ben.post(f"{API}reservations", json=body, headers={"X-XSRFToken": xsrf})
        assert made.status_code == 201, made.text
        with ben.stream("GET", f"{API}stream", params={"_xsrf": xsrf}, headers={"Sec-Fetch-Mode": "cors"}) as stream:
            assert stream.status_code == 200
        ben.delete(f"{API}reservations/{made.json()['id']}", headers={"X-XSRFToken": xsrf})


def test_a_login_that_is_made_up_is_refused(machine: Machine):
    callback = "services/mlmp/oauth_callback"
    with httpx.Client(base_url=machine.url, trust_env=False) as nobody:
        for query in ("", "?code=x", "?code=x&state=y", "?state=%ff", "?error=%00", "?code=%ff&state=%ff"):
            assert nobody.get(callback + query).status_code in (400, 403), query
        visit = nobody.get("services/mlmp/")
        assert visit.status_code == 302 and "/hub/api/oauth2/authorize" in visit.headers["Location"]
        state = httpx.URL(visit.headers["Location"]).params["state"]
        forged = nobody.get(callback, params={"code": "made-up", "state": state})
        assert forged.status_code == 400, forged.text


def test_a_visitor_without_login_is_sent_to_the_hub_and_a_script_gets_a_401(machine: Machine):
    with httpx.Client(base_url=machine.url, trust_env=False) as nobody:
        script = nobody.get(f"{API}me")
        assert script.status_code == 401 and script.json()["code"] == "not_signed_in"


def test_a_refusal_of_the_hub_is_passed_on_in_its_own_words(machine: Machine, ann_token: str):
    with machine.api(ann_token) as ann:
        later = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 7200))
        made = ann.post("reservations", json={"profile": "gpu", "start": later, "duration": "1h"}).json()
        refused = ann.post(f"reservations/{made['id']}/start")
        assert refused.status_code == 409, refused.text
        assert "begins in" in refused.json()["detail"]
        ann.delete(f"reservations/{made['id']}")


def test_a_proxy_that_was_restarted_gets_its_routes_back(machine: Machine):
    machine.kill("proxy")
    machine.start("proxy")
    machine.wait(f"{API}health", within=30)
    assert "asking the hub for all routes" in machine.log("service")


def test_the_service_restarts_within_seconds_and_stops_in_order(machine: Machine):
    process = machine.processes["service"]
    process.terminate()
    assert process.wait(15) == 0
    began = time.monotonic()
    machine.start("service")
    machine.wait(f"{API}health", within=15)
    assert time.monotonic() - began < 10
    assert "Traceback" not in machine.log("service")


def test_a_wrong_configuration_is_told_at_once(machine: Machine, tmp_path: Path):
    wrong = tmp_path / "jupyterhub_config.py"
    wrong.write_text(f"c.MLMP.db_url = 'sqlite:///{tmp_path}/empty.sqlite'\n")
    command = [*machine.processes["service"].args[:3], "--config", str(wrong)]  # type: ignore[index,misc]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 2
    assert "mlmp db upgrade" in ended.stderr and "Traceback" not in ended.stderr
