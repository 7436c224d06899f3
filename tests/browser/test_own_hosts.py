"""With ``subdomain_host`` each user's server is another origin than the pages of the hub and of MLMP."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.browser.people import Human
from tests.live import Site
from tests.web.machine import free_ports

ASK = """async (url) => {
  try {
    const answer = await fetch(url, {credentials: "include"});
    return `${answer.status}`;
  } catch (error) {
    return "refused";
  }
}"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    [port] = free_ports(1)
    settings = f"c.JupyterHub.subdomain_host = 'http://hub.localhost:{port}'"
    made = Site(Path(tmp_path_factory.mktemp("site")), lab=True, settings=settings)
    made.start("--port", str(port))
    yield made
    made.close()


def test_a_server_has_a_host_of_its_own_and_reads_nothing_of_the_hubs_pages(
    site: Site, new_page: Callable[..., Page]
) -> None:
    url = f"http://hub.localhost:{urlsplit(site.url).port}/"
    ann = Human(new_page(), url, "ann")
    ann.work(duration="300s")
    assert ann.page.url.startswith(url.replace("hub.localhost", "ann.hub.localhost"))
    expect(ann.page.locator(".mlmp-countdown")).to_have_text(re.compile(r"^gpu · \d (min|s) left$|^gpu · \d+ s left$"))
    assert ann.run("print(6 * 7)") == "42"
    assert ann.page.evaluate(ASK, f"{url}services/mlmp/api/v1/me") == "refused"
    assert ann.page.evaluate(ASK, f"{url}hub/api/user") == "refused"
    ben = Human(new_page(), url, "ben")
    ben.page.goto(ann.page.url)
    assert "ann" not in ben.page.title() and ben.page.locator("#jp-main-dock-panel").count() == 0
    for host in (urlsplit(url).netloc, urlsplit(site.url).netloc):
        answer = httpx.get(f"{site.url}services/mlmp/api/v1/health", headers={"Host": host})
        assert answer.status_code == 200, host
