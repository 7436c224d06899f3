"""Spark in a notebook of one's own server: how far it is, and its own pages one click away."""

from __future__ import annotations

from collections.abc import Callable

import nbformat
import pytest
from playwright.sync_api import Page, expect

from tests.browser.people import Human
from tests.live import Site

BEGIN = """\
from mlmp_spawner.client import spark_session
spark = spark_session(executors=1, profile="gpu", memory="512m")"""
COMPUTE = """\
import time
numbers = spark.sparkContext.parallelize(range(8), 8).map(lambda x: time.sleep(0.7) or x * x)
print("sum:", numbers.sum())"""


@pytest.mark.faults
def test_a_session_shows_how_far_it_is_and_its_pages_are_one_click_away(lab_site: Site, new_page: Callable[..., Page]):
    ann = Human(new_page(), lab_site.url, "ann")
    ann.work(duration="300s")
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    cells = [nbformat.v4.new_code_cell(source) for source in (BEGIN, COMPUTE)]
    nbformat.write(nbformat.v4.new_notebook(metadata=kernel, cells=cells), lab_site.data / "homes/ann/squares.ipynb")
    ann.page.goto(ann.page.url.partition("/lab")[0] + "/lab/tree/squares.ipynb?reset")
    expect(ann.page.locator("#jp-main-statusbar")).to_contain_text("Idle", timeout=60_000)
    ann.page.locator(".jp-Notebook .jp-CodeCell").first.click()
    for _ in cells:
        ann.page.keyboard.press("Shift+Enter")
    output = ann.page.locator(".jp-OutputArea-output")
    expect(output.filter(has_text="8/8")).to_contain_text("tasks", timeout=180_000)
    expect(output.filter(has_text="sum: 140")).to_be_visible()
    assert " WARN " not in ann.page.locator(".jp-Notebook").inner_text(), "nothing is wrong"
    with ann.page.expect_popup() as opened:
        output.get_by_role("link", name="Spark’s own pages").click()
    pages = opened.value
    expect(pages.get_by_role("heading", name="Spark Jobs")).to_be_visible(timeout=60_000)
    assert "/user/ann/" in pages.url
    pages.get_by_role("link", name="Executors").click()
    expect(pages.get_by_role("cell", name="driver", exact=True)).to_be_visible(timeout=60_000)
