"""People in front of the timeline."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect


@pytest.fixture
def person(person: Callable[..., Page]) -> Callable[..., Page]:
    """Somebody's timeline."""

    def make(token: str = "ann-token", query: str = "", **options: object) -> Page:
        page = person(token, f"timeline{query}", **options)
        if page.evaluate("matchMedia('(min-width: 40.01rem)').matches && !location.search.includes('show=list')"):
            expect(page.locator(".tl-lane").first).to_be_visible()
        return page

    return make
