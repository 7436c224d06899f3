"""Spark in a notebook of a real hub's server, for the picture of the documentation."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import nbformat
from playwright.sync_api import Browser

from tests.browser.people import Human
from tests.live import Site

IMAGES = Path(__file__).parent / "images"
BEGIN = """\
from mlmp_spawner.client import spark_session

spark = spark_session(executors=2, profile="cpu", memory="512m")"""
COMPUTE = """\
from pyspark.sql import functions as f

points = spark.range(0, 200_000_000, 1, 16).select(f.rand(1).alias("x"), f.rand(2).alias("y"))
inside = points.where("x * x + y * y <= 1").count()
print("pi is about", 4 * inside / 200_000_000)"""


def photograph_spark(browser: Browser) -> None:
    """At a desk, in light colours."""
    with tempfile.TemporaryDirectory() as folder:
        site = Site(Path(folder), lab=True)
        try:
            site.start()
            context = browser.new_context(viewport={"width": 1280, "height": 640}, locale="en-GB")
            ann = Human(context.new_page(), site.url, "ann")
            ann.work(duration="300s")
            kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
            cells = [nbformat.v4.new_code_cell(source) for source in (BEGIN, COMPUTE)]
            nbformat.write(nbformat.v4.new_notebook(metadata=kernel, cells=cells), site.data / "homes/ann/pi.ipynb")
            sheet = ann.page
            sheet.goto(sheet.url.partition("/lab")[0] + "/lab/tree/pi.ipynb?reset")
            sheet.locator("#jp-main-statusbar", has_text="Idle").wait_for()
            sheet.locator(".jp-Notebook .jp-CodeCell").first.click()
            for _ in cells:
                sheet.keyboard.press("Shift+Enter")
            sheet.locator(".jp-OutputArea-output", has_text=re.compile(r" [6-9]/16 ")).first.wait_for(timeout=180_000)
            if sheet.get_by_role("button", name="No", exact=True).is_visible():
                sheet.get_by_role("button", name="No", exact=True).click()
            sheet.wait_for_timeout(1500)
            sheet.screenshot(path=IMAGES / "spark-desktop-light.png")
            context.close()
        finally:
            site.close()
