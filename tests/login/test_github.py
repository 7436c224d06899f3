"""Log in with GitHub, with the example that people copy.

There is no GitHub to run here, so one answers as its documents say: authorisation, token, user, teams, members.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from tests.live import Site, wait_for

pytestmark = pytest.mark.faults  # the fast suite has the same with OpenID Connect

EXAMPLE = Path(__file__).parents[2] / "hub_config" / "examples" / "github.py"
CHECK_EVERY, GRACE, STOP = 1, 1, 10


class GitHub(ThreadingHTTPServer):
    """People and the teams of ``our-lab`` that they are in; ``limited``: it was asked too often."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.people: dict[str, list[str]] = {}
        self.who = ""
        self.limited = False
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Answers(BaseHTTPRequestHandler):
    """Answers as documented. A token is the name of its owner."""

    server: GitHub

    def log_message(self, *_: object) -> None:
        """Says nothing."""

    def _say(self, status: int, body: object = None, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        text = b"" if body is None else json.dumps(body).encode()
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def do_POST(self) -> None:
        """POST /login/oauth/access_token: the code is the name."""
        asked = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self._say(200, {"access_token": asked["code"][0], "token_type": "bearer", "scope": "read:org"})

    def do_GET(self) -> None:
        """The browser's visit, and the API."""
        url = urlsplit(self.path)
        if url.path == "/login/oauth/authorize":
            asked = {name: values[0] for name, values in parse_qs(url.query).items()}
            back = f"{asked['redirect_uri']}?code={self.server.who}&state={asked['state']}"
            return self._say(302, Location=back)
        name = self.headers.get("Authorization", "").split(" ")[-1]
        if self.server.limited:
            return self._say(403, {"message": "API rate limit exceeded"}, X_RateLimit_Remaining="0")
        if name not in self.server.people:
            return self._say(401, {"message": "Bad credentials"})
        if url.path == "/user":
            return self._say(200, {"login": name, "email": f"{name}@example.org"})
        if url.path == "/user/teams":
            teams = self.server.people[name]
            return self._say(200, [{"slug": team, "organization": {"login": "our-lab"}} for team in teams])
        member = url.path == f"/orgs/our-lab/members/{name}" and self.server.people[name]
        return self._say(204 if member else 404)


class Here:
    """MLMP and the GitHub that its people log in at."""

    def __init__(self, site: Site, github: GitHub) -> None:
        self.site = site
        self.github = github

    def log_in(self, name: str) -> tuple[httpx.Response, httpx.Client]:
        """As a browser does it; a token of the person, who may be nobody."""
        self.github.who = name
        browser = httpx.Client(base_url=self.site.url, follow_redirects=True, timeout=30)
        browser.get("/hub/login")
        landed = browser.get("/hub/oauth_login?next=/hub/token")
        if landed.status_code != 200:
            return landed, browser
        headers = {"X-XSRFToken": browser.cookies.get("_xsrf", path="/hub/") or "", "Referer": self.site.url}
        made = browser.post(f"/hub/api/users/{name}/tokens", json={}, headers=headers)
        assert made.status_code == 201, made.text
        token = {"Authorization": f"token {made.json()['token']}"}
        return landed, httpx.Client(base_url=self.site.url, headers=token, timeout=30)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Here]:
    github = GitHub()
    lines = EXAMPLE.read_text(encoding="utf-8").splitlines()
    settings = "\n".join(line for line in lines if "oauth_callback_url" not in line)
    settings += f"""
c.GitHubLogin.github_url = {github.url!r}
c.GitHubLogin.github_api = {github.url!r}
c.MLMPLogin.check_every = {CHECK_EVERY}
c.MLMPLogin.grace = {GRACE}
c.Authenticator.auth_refresh_age = 1
"""
    os.environ.update(GITHUB_CLIENT_ID="mlmp", GITHUB_CLIENT_SECRET="the secret of the client")
    site = Site(tmp_path_factory.mktemp("github"), settings=settings)
    try:
        yield Here(site.start(), github)
    finally:
        site.close()
        github.shutdown()
        github.server_close()
        for name in ("GITHUB_CLIENT_ID", "GITHUB_CLIENT_SECRET"):
            del os.environ[name]


def test_a_member_of_the_organisation_logs_in_with_the_teams_as_groups(here: Here) -> None:
    here.github.people["ann"] = ["students", "teachers"]
    _, client = here.log_in("ann")
    assert set(client.get("/hub/api/user").json()["groups"]) == {"our-lab:students", "our-lab:teachers"}


def test_who_is_not_in_the_organisation_stays_outside(here: Here) -> None:
    here.github.people["eve"] = []
    landed, _ = here.log_in("eve")
    assert landed.status_code == 403


def test_being_asked_too_often_is_no_answer_and_leaving_is(here: Here) -> None:
    here.github.people["ben"] = ["students"]
    _, client = here.log_in("ben")
    log = here.site.data / "logs" / "hub.log"
    here.github.limited = True
    wait_for(lambda: log.read_text().count("no answer about 'ben'") > CHECK_EVERY + GRACE, 60, "several looks")
    here.github.limited = False
    assert client.get("/hub/api/user").status_code == 200
    here.github.people["ben"] = []
    wait_for(lambda: client.get("/hub/api/user").status_code == 403, CHECK_EVERY + GRACE + STOP, "the token's end")
