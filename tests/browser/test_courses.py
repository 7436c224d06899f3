"""Courses in the browser: a list is pasted, looked at, put on the roster; with the keyboard alone, on a phone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from mlmp_spawner.operations.courses import courses, roster
from mlmp_spawner.rules import course_yaml
from tests.browser.played import AXE, serious
from tests.operations.conftest import admin, ben
from tests.web.harness import RunningApp
from tests.web.visitor import HOSTILE

COURSE = {"name": "ml", "title": "Deep Learning, autumn 2026", "profile": "gpu", "seats": 20, "instructors": ["ben"],
          "students": ["ann", *(f"student-{number}" for number in range(12))]}  # fmt: skip


def people(app: RunningApp) -> set[str]:
    return {member.name for member in roster.look(app.site, "ml", actor=admin)[1]}


@pytest.fixture
def course(app: RunningApp) -> None:
    courses.apply(app.site, course_yaml.parse(COURSE), actor=admin, now=app.now)


def test_a_course_is_made_and_its_roster_comes_from_a_list(app: RunningApp, person: Callable[..., Page]) -> None:
    page = person("teacher-token", path="courses")
    page.get_by_role("link", name="New course").click()
    page.get_by_label("Name, for addresses and commands").fill("ml")
    page.get_by_label("Title").fill("Deep Learning")
    page.get_by_label("gpu-a").check()
    page.get_by_role("button", name="Make the course").click()
    expect(page.locator("#done")).to_contain_text("The course is made")
    page.get_by_label("Logins or mail addresses").fill("ann\nCy Young <cy@uni.org>\nZoë Li")
    page.get_by_label("Mail domains").fill("uni.org")
    page.get_by_role("button", name="Show what would change").click()
    expect(page.locator("#preview")).to_contain_text("Put on the roster: 2")
    expect(page.locator("#preview")).to_contain_text("Zoë Li")
    assert people(app) == {"ben"}
    page.locator("#do-it").click()
    expect(page.locator("#done")).to_contain_text("The roster is changed")
    assert people(app) == {"ann", "ben", "cy"}
    page.get_by_role("button", name="Take off cy").click()
    expect(page.locator("#roster")).not_to_contain_text("cy")


def test_a_file_is_chosen_and_looked_at(
    app: RunningApp, course: None, person: Callable[..., Page], tmp_path: Path
) -> None:
    export = tmp_path / "grades.csv"
    export.write_text('Student,ID,SIS User ID,SIS Login ID,Section\n"Smith, Eve",1,2,eve,A\n')
    page = person("teacher-token", path="courses/ml")
    page.locator("summary", has_text="Put people on it").click()
    page.locator("#file").set_input_files(export)
    page.get_by_label("Take off students").check()
    page.get_by_role("button", name="Show what would change").click()
    expect(page.locator("#preview")).to_contain_text("Taken off: 13")
    page.locator("#do-it").click()
    expect(page.locator("#done")).to_contain_text("The roster is changed")
    assert people(app) == {"ben", "eve"}


def test_all_of_it_goes_by_keyboard(app: RunningApp, course: None, person: Callable[..., Page]) -> None:
    page = person("teacher-token", path="courses/ml")
    fold = page.locator("summary", has_text="Put people on it")
    fold.focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.type("eve")
    for _ in range(5):  # file, domains, role, whole, the button
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#preview")).to_contain_text("Put on the roster: 1")
    page.locator("#do-it").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#done")).to_contain_text("The roster is changed")
    assert "eve" in people(app)


@pytest.mark.parametrize(("theme", "width"), [("light", 1280), ("dark", 390)])
def test_the_pages_are_for_everybody(
    app: RunningApp, course: None, person: Callable[..., Page], theme: str, width: int
) -> None:
    if not AXE.exists():
        pytest.skip("axe-core is not installed: tools/npm.sh ci")
    hostile = course_yaml.parse({**COURSE, "name": "evil", "title": HOSTILE})
    courses.apply(app.site, hostile, actor=ben, now=app.now)
    page = person("teacher-token", color_scheme=theme, viewport={"width": width, "height": 844}, bypass_csp=True)
    page.on("dialog", lambda dialog: pytest.fail("a script of a user ran"))
    for path in ("courses", "courses/ml", "courses/evil", "courses/evil/new-class", "new-course", "preview"):
        if path == "preview":
            page.goto(page.url.replace("new-course", "courses/ml"))
            page.locator("summary", has_text="Put people on it").click()
            page.get_by_label("Logins or mail addresses").fill(f"eve, {'x' * 200}\n{HOSTILE} y")
            page.get_by_label("Take off students").check()
            page.get_by_role("button", name="Show what would change").click()
            expect(page.locator("#preview")).to_contain_text("Not understood: 1")
        else:
            page.goto(page.url.partition("/services/mlmp/")[0] + f"/services/mlmp/{path}")
        for fold in page.locator("#mlmp details").all():
            fold.evaluate("fold => { fold.open = true; }")
        assert serious(page) == [], path
        over = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert over <= 0, f"{path} scrolls sideways at {width}"
