"""Log in by a browser at a real OpenID provider, with the example that people copy; what a change there changes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.live import Site, wait_for
from tests.login.provider import Provider, free_port

EXAMPLE = Path(__file__).parents[2] / "hub_config" / "examples" / "oidc.py"
CHECK_EVERY, GRACE = 1, 5
"""Seconds, of c.MLMPLogin."""
STOP = 10
"""Seconds that a stop may take on a busy machine."""
API = "/services/mlmp/api/v1"
CATALOG = """\
nodes: {here: {accelerators: [{resource: mlmp.dev/slot, count: 8}]}}
images: {lab: {reference: example.org/lab:1}}
profiles: {cpu: {title: CPU, resource: mlmp.dev/slot}}
limits: {everybody: {units_at_once: 4}, groups: {students: {units_at_once: 1}, staff: {units_at_once: 3}}}
"""


class Here:
    """MLMP and the provider that its people log in at."""

    def __init__(self, site: Site, provider: Provider) -> None:
        self.site = site
        self.provider = provider

    def log_in(self, page: Page, name: str) -> None:
        """As somebody does it: our page, the provider's two, and back."""
        page.goto(f"{self.site.url}hub/login")
        page.get_by_role("button", name="Sign in with the university").click()
        page.wait_for_load_state()
        if page.locator("[name=login]").count():
            page.locator("[name=login]").fill(name)
            page.locator("[name=password]").fill("any")
            page.get_by_role("button", name="Sign-in").click()
        page.get_by_role("button", name="Continue").click()
        page.wait_for_load_state()

    def arrives(self, page: Page, name: str) -> None:
        """Logs in, and is let in."""
        self.log_in(page, name)
        expect(page).to_have_url(f"{self.site.url}services/mlmp/")

    def owners(self) -> list[str]:
        """Whose servers run."""
        return [record.owner for record in self.site.servers()]

    def token(self, page: Page, name: str) -> httpx.Client:
        """A token of somebody who is logged in, as `mlmp login` makes one."""
        page.goto(f"{self.site.url}hub/token")
        made = page.evaluate(
            """async (name) => {
                const xsrf = document.cookie.split("; ").find((one) => one.startsWith("_xsrf="))?.slice(6);
                const headers = {"Content-Type": "application/json"};
                const path = `/hub/api/users/${name}/tokens?_xsrf=${xsrf}`;
                const answer = await fetch(path, {method: "POST", body: "{}", headers});
                return await answer.json();
            }""",
            name,
        )
        headers = {"Authorization": f"token {made['token']}"}
        return httpx.Client(base_url=self.site.url, headers=headers, timeout=30)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Here]:
    root = tmp_path_factory.mktemp("oidc")
    port = free_port()
    callback = f"http://127.0.0.1:{port}/hub/oauth_callback"
    provider = Provider(callback, root / "provider.out")
    settings = EXAMPLE.read_text(encoding="utf-8")
    for example, real in (
        ("https://login.example.org/realms/uni/protocol/openid-connect", provider.url),
        ("https://mlmp.example.org/hub/oauth_callback", callback),
    ):
        assert example in settings
        settings = settings.replace(example, real)
    settings += f"\nc.MLMPLogin.check_every = {CHECK_EVERY}\nc.MLMPLogin.grace = {GRACE}\n"
    settings += "c.Authenticator.auth_refresh_age = 1\n"
    os.environ.update(OIDC_CLIENT_ID="mlmp", OIDC_CLIENT_SECRET="the secret of the client")
    site = Site(root, settings=settings, simulate=False)
    (site.catalog / "catalog.yaml").write_text(CATALOG)
    try:
        site.start("--port", str(port))
        yield Here(site, provider)
    finally:
        site.close()
        provider.close()
        for name in ("OIDC_CLIENT_ID", "OIDC_CLIENT_SECRET"):
            del os.environ[name]


def me(client: httpx.Client) -> dict:
    """What the service knows of the token's owner."""
    answer = client.get(f"{API}/me")
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_somebody_logs_in_and_their_groups_say_what_they_may_have(here: Here, new_page: Callable[..., Page]) -> None:
    here.provider.put("ann", "gpu-users", "students")
    page = new_page()
    here.arrives(page, "ann")
    found = me(here.token(page, "ann"))
    assert (found["name"], found["groups"]) == ("ann", ["gpu-users", "students"])
    assert found["limits"]["units_at_once"] == 1


def test_who_is_in_no_group_that_is_let_in_stays_outside(here: Here, new_page: Callable[..., Page]) -> None:
    here.provider.put("eve", "students")
    page = new_page()
    here.log_in(page, "eve")
    expect(page.get_by_role("heading", name="not currently authorized")).to_be_visible()


def test_a_changed_claim_changes_limits_and_rights_at_the_next_login(
    here: Here, new_page: Callable[..., Page]
) -> None:
    here.provider.put("bob", "gpu-users", "students")
    page = new_page()
    here.arrives(page, "bob")
    before = me(here.token(page, "bob"))
    assert before["limits"]["units_at_once"] == 1
    assert "custom:mlmp:courses" not in before["scopes"]
    here.provider.put("bob", "gpu-users", "staff", "gpu-instructors")
    again = new_page()
    here.arrives(again, "bob")
    after = me(here.token(again, "bob"))
    assert after["limits"]["units_at_once"] == 3
    assert "custom:mlmp:courses" in after["scopes"]


def test_a_changed_claim_changes_the_groups_of_the_hub_without_a_login_too(
    here: Here, new_page: Callable[..., Page]
) -> None:
    here.provider.put("cat", "gpu-users", "students")
    page = new_page()
    here.arrives(page, "cat")
    client = here.token(page, "cat")
    here.provider.put("cat", "gpu-users", "staff")
    wait_for(lambda: "staff" in client.get("/hub/api/user").json()["groups"], CHECK_EVERY + STOP, "the new group")


@pytest.mark.parametrize(
    ("name", "lose"),
    [
        ("dan", lambda here: here.provider.remove("dan")),
        pytest.param("fay", lambda here: here.provider.put("fay", "students"), marks=pytest.mark.faults),
    ],
    ids=["removed", "in no group that is let in any more"],
)
def test_whoever_is_not_known_any_more_loses_servers_and_tokens_by_the_stated_time(
    name: str, lose: Callable[[Here], None], here: Here, new_page: Callable[..., Page]
) -> None:
    here.provider.put(name, "gpu-users")
    page = new_page()
    here.arrives(page, name)
    client = here.token(page, name)
    options = {"user_options": {"profile": "cpu", "duration": "20m"}}
    started = client.post(f"/hub/api/users/{name}/server", json=options)
    assert started.status_code == 201, started.text
    assert name in here.owners()
    lose(here)
    wait_for(lambda: client.get("/hub/api/user").status_code == 403, CHECK_EVERY + GRACE + STOP, "the token's end")
    wait_for(lambda: name not in here.owners(), STOP, "the server's end")
    page.goto(f"{here.site.url}hub/home")
    expect(page.get_by_role("button", name="Sign in with the university")).to_be_visible()


@pytest.mark.faults
@pytest.mark.parametrize(("name", "path"), [("gus", "/"), ("ivy", "/token")], ids=["at all", "when asked for a token"])
def test_nothing_is_lost_while_the_provider_does_not_answer(
    name: str, path: str, here: Here, new_page: Callable[..., Page]
) -> None:
    here.provider.put(name, "gpu-users")
    page = new_page()
    here.arrives(page, name)
    client = here.token(page, name)
    here.provider.silence(path)
    try:
        log = here.site.data / "logs" / "hub.log"
        wait_for(lambda: log.read_text().count(f"no answer about '{name}'") > 3, 60, "several looks")
        assert client.get("/hub/api/user").status_code == 200
        page.goto(f"{here.site.url}services/mlmp/")
        expect(page).to_have_url(f"{here.site.url}services/mlmp/")
    finally:
        here.provider.silence()
    assert f"'{name}' is not known" not in log.read_text()


@pytest.mark.faults
def test_whoever_is_known_again_within_the_grace_loses_nothing(here: Here, new_page: Callable[..., Page]) -> None:
    """Taken back at the provider by mistake."""
    here.provider.put("hal", "gpu-users")
    page = new_page()
    here.arrives(page, "hal")
    client = here.token(page, "hal")
    log = here.site.data / "logs" / "hub.log"
    here.provider.put("hal", "students")
    wait_for(lambda: "'hal' is not known any more" in log.read_text(), CHECK_EVERY + STOP, "the first no")
    refused = client.post("/hub/api/users/hal/server", json={"user_options": {"profile": "cpu", "duration": "20m"}})
    assert refused.status_code == 403 and "not known any more" in refused.json()["message"]
    here.provider.put("hal", "gpu-users")
    wait_for(lambda: "'hal' is known again" in log.read_text(), CHECK_EVERY + STOP, "the yes")
    assert client.get("/hub/api/user").status_code == 200


def test_what_is_remembered_of_a_login_is_encrypted_with_a_key_of_ones_own(here: Here) -> None:
    key = here.site.data / "crypt_key"
    assert key.stat().st_mode & 0o777 == 0o600
    assert len(bytes.fromhex(key.read_text())) == 32
