"""The hub's own pages, as people meet them: the spawn page, a refusal on it, a server that does not run."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.people import Human
from tests.live import Person, Site

API = "/services/mlmp/api/v1/reservations"


def give_back(person: Person) -> None:
    """All that the person has now."""
    for one in person.api.get(f"{API}?owner={person.name}&state=active").json()["items"]:
        person.api.delete(f"{API}/{one['id']}")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(Path(tmp_path_factory.mktemp("hub")))
    made.start()
    yield made
    made.close()


@pytest.fixture
def someone(site: Site) -> Iterator[Callable[[str], Person]]:
    """Makes people that use the API."""
    people: list[Person] = []

    def make(name: str) -> Person:
        people.append(site.person(name))
        return people[-1]

    yield make
    for person in people:
        person.browser.close()
        person.api.close()


@pytest.mark.parametrize("script", [True, False])
def test_the_spawn_page_offers_my_bookings_first_and_then_what_is_free(
    site: Site, someone: Callable[[str], Person], new_page: Callable[..., Page], script: bool
):
    name = "ada" if script else "ida"
    person = someone(name)
    person.book(600, units=1)
    human = Human(new_page(java_script_enabled=script), site.url, name, script=script)
    page = human.page
    page.goto(f"{site.url}hub/spawn")
    boxes = page.locator("#spawn_form h2").all_inner_texts()
    assert boxes == ["Your booking", "Start something now"]
    expect(page.locator("#spawn_form")).to_contain_text("simulated")
    page.get_by_role("button", name="Start", exact=True).click()
    page.wait_for_url(re.compile(rf"/user/{name}/"))
    assert person.servers()
    give_back(person)


def test_the_same_rows_are_on_home_and_on_the_spawn_page(site: Site, new_page: Callable[..., Page]):
    page = Human(new_page(), site.url, "eva").page
    home = page.locator(".mlmp-rows").inner_text()
    page.goto(f"{site.url}hub/spawn")
    assert page.locator(".mlmp-rows").inner_text() == home


def test_a_refusal_on_the_spawn_page_says_what_happened_and_leads_on(
    site: Site, someone: Callable[[str], Person], new_page: Callable[..., Page]
):
    page = Human(new_page(), site.url, "eva").page
    page.goto(f"{site.url}hub/spawn")
    others = someone("others")
    taken = others.book(900, units=4)
    page.get_by_role("button", name="Start GPU for 1 h").click()
    refusal = page.locator(".mlmp-refusal")
    detail = others.api.post(API, json={"profile": "gpu", "duration": "1h"}).json()["detail"]
    expect(refusal).to_contain_text(detail)
    expect(refusal).not_to_contain_text("<")
    link = refusal.get_by_role("link").first
    expect(link).to_contain_text("GPU")
    link.click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Book")
    expect(page.locator("#book")).to_contain_text("Book GPU for 1 h")
    others.api.delete(f"{API}/{taken['id']}")


def test_without_the_service_the_spawn_page_still_starts(
    site: Site, someone: Callable[[str], Person], new_page: Callable[..., Page]
):
    page = Human(new_page(), site.url, "uma").page
    page.route("**/services/mlmp/**", lambda route: route.abort())
    page.goto(f"{site.url}hub/spawn")
    page.get_by_role("button", name="Start GPU for 1 h").click()
    page.wait_for_url(re.compile(r"/user/uma/"))
    uma = someone("uma")
    assert uma.servers()
    give_back(uma)


def test_a_server_that_does_not_run_leads_back_to_the_bookings(site: Site, new_page: Callable[..., Page]):
    page = Human(new_page(), site.url, "ina").page
    page.goto(f"{site.url}user/ina/")
    expect(page.get_by_role("heading", level=1)).to_have_text("Your server is not running")
    page.get_by_role("link", name="Your bookings").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("ina")


def test_hub_and_service_have_one_navigation(site: Site, new_page: Callable[..., Page]):
    page = Human(new_page(), site.url, "admin").page
    entries = [page.locator(".navbar-nav .nav-link").all_inner_texts()]
    for path in ("hub/spawn", "hub/token", "hub/home", "hub/nothing"):
        page.goto(site.url + path)
        entries.append(page.locator(".navbar-nav .nav-link").all_inner_texts())
    assert (
        entries
        == [["Home", "Book", "Timeline", "My bookings", "Jobs", "Usage", "SSH", "Courses", "Admin", "Token"]] * 5
    )
