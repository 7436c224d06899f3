"""What was found is kept, and looked for anew when that is asked for."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from mlmp_spawner.errors import Invalid
from mlmp_spawner.lab.pscan import export, index
from mlmp_spawner.lab.pscan.browse import KEPT, Asked, Browser
from mlmp_spawner.lab.pscan.index import Listing
from tests.lab.pscan.served import GREEN


@pytest.fixture
def browser(tmp_path: Path) -> Browser:
    for n in range(KEPT + 1):
        (tmp_path / f"runs{n}").mkdir()
        (tmp_path / f"runs{n}" / "x=1.png").write_bytes(GREEN)
        (tmp_path / f"runs{n}" / "x=2.png").write_bytes(GREEN)
    return Browser(tmp_path)


def add(browser: Browser, name: str) -> None:
    (browser.home / name).write_bytes(GREEN)


async def test_a_second_look_finds_what_the_first_one_found(browser: Browser):
    assert (await browser.look(Asked("runs0"))).table.matched == 2
    add(browser, "runs0/x=3.png")
    assert (await browser.look(Asked("runs0"))).table.matched == 2


async def test_who_wants_it_new_gets_it_new(browser: Browser):
    await browser.look(Asked("runs0"))
    add(browser, "runs0/x=3.png")
    assert (await browser.look(Asked("runs0", fresh=True))).table.matched == 3
    assert (await browser.look(Asked("runs0"))).table.matched == 3


async def test_the_folder_that_was_not_looked_at_for_longest_is_forgotten(browser: Browser):
    for n in range(KEPT):
        await browser.look(Asked(f"runs{n}"))
    await browser.look(Asked("runs0"))
    await browser.look(Asked(f"runs{KEPT}"))
    add(browser, "runs0/x=3.png")
    add(browser, "runs1/x=3.png")
    assert (await browser.look(Asked("runs0"))).table.matched == 2
    assert (await browser.look(Asked("runs1"))).table.matched == 3


async def test_a_proposal_is_the_pattern_that_is_told(browser: Browser):
    seen = await browser.look(Asked("runs0"))
    assert seen.pattern == "x={x}.png"
    assert (await browser.look(Asked("runs0", pattern=seen.pattern))).table is seen.table


async def test_what_is_no_pattern_is_refused(browser: Browser):
    with pytest.raises(Invalid):
        await browser.look(Asked("runs0", "no parameter"))


async def test_an_empty_folder_has_nothing_to_see(browser: Browser):
    (browser.home / "empty").mkdir()
    seen = await browser.look(Asked("empty"))
    assert (seen.pattern, seen.table.matched, seen.table.missing) == ("{file}", 0, 0)
    assert "<table" in export.exported(seen)


async def test_an_export_says_what_is_shown_and_has_it(browser: Browser):
    (browser.home / "runs0" / "x=1,y=<b>.txt").write_text("<i>")
    seen = await browser.look(Asked("runs0", "x={x},y={y}.txt", rows=["x"], columns=[]))
    said = export.exported(seen)
    assert "y = &lt;b&gt;" in said and "<pre>&lt;i&gt;</pre>" in said


async def test_what_vanished_meanwhile_is_said_to_be_gone(browser: Browser):
    seen = await browser.look(Asked("runs0"))
    (browser.home / "runs0" / "x=1.png").unlink()
    said = export.exported(seen)
    assert said.count("<p>gone</p>") == 1 and said.count("<img") == 1


async def test_an_export_does_not_grow_beyond_its_limit(browser: Browser, monkeypatch: pytest.MonkeyPatch):
    for n in (1, 2):
        (browser.home / "runs0" / f"x={n}.png").write_bytes(b"x" * 60)
    monkeypatch.setattr(export, "LARGEST", 240)
    said = export.exported(await browser.look(Asked("runs0")))
    assert said.count("<img") == 1 and said.count("left out: 60 bytes") == 1


async def test_an_export_does_not_grow_beyond_its_limit_by_texts_either(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
):
    for n in range(10):
        (browser.home / "runs0" / f"y={n}.txt").write_text("&" * 100)
    monkeypatch.setattr(export, "LARGEST", 1200)
    said = export.exported(await browser.look(Asked("runs0", "y={y}.txt")))
    assert said.count("<pre>") == 2 and said.count("left out") == 8


class Walks:
    """Takes the place of the walk, and holds it until it may go on."""

    def __init__(self, held: Path) -> None:
        self.walk, self.held = index.walk, held
        self.begun: list[Path] = []
        self.go_on = threading.Event()

    def __call__(self, root: Path) -> Listing:
        """Walks; a folder that is held later."""
        self.begun.append(root)
        assert root != self.held or self.go_on.wait(60)
        return self.walk(root)


async def test_a_folder_that_takes_long_is_walked_once_and_keeps_no_other_waiting(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
):
    walks = Walks(browser.home / "runs0")
    monkeypatch.setattr(index, "walk", walks)
    impatient = [asyncio.create_task(browser.look(Asked("runs0", fresh=True))) for _ in range(20)]
    assert (await browser.look(Asked("runs1"))).table.matched == 2
    assert not any(one.done() for one in impatient)
    walks.go_on.set()
    assert [one.table.matched for one in await asyncio.gather(*impatient)] == [2] * 20
    assert walks.begun.count(browser.home / "runs0") == 1


async def test_a_folder_that_can_not_be_walked_is_walked_at_the_next_look(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
):
    def fails(root: Path) -> Listing:
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(index, "walk", fails)
        with pytest.raises(MemoryError):
            await browser.look(Asked("runs0"))
    assert (await browser.look(Asked("runs0"))).table.matched == 2
