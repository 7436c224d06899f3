"""The course of the documentation can be applied, and the page names each key that it has by now."""

from __future__ import annotations

import re
from pathlib import Path

from mlmp_spawner.rules import course_yaml

DOCS = Path(__file__).parents[2] / "docs"


def test_the_example_is_a_course() -> None:
    found = course_yaml.parse((DOCS / "examples" / "course.yaml").read_text(encoding="utf-8"))
    assert (found.name, found.seats, found.instructors) == ("ml-26", 20, ("ada",))


def test_the_page_names_only_keys_that_there_are() -> None:
    page = (DOCS / "how-to" / "courses.md").read_text(encoding="utf-8")
    keys = re.findall(r"^\| `(\w+)` \|", page.partition("## Keys")[2].partition("## The roster")[0], re.MULTILINE)
    assert set(keys) <= set(course_yaml.CourseFile.model_fields) and len(keys) > 10
