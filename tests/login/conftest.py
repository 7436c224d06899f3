"""Chromium, for the logins that lead through a provider's pages."""

from tests.browser.conftest import browser, complaints, new_page

__all__ = ["browser", "complaints", "new_page"]
