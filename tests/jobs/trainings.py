"""A scan of small trainings: a line is fitted by SGD, too large steps diverge, and two fail until tried again."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, expect

from mlmp_spawner.client import jobs
from mlmp_spawner.client.api import Client
from mlmp_spawner.client.scans import Scan
from tests.live import wait_for

PARAMETERS = {"lr": [0.01, 0.03, 0.1, 0.3, 1.0, 3.0], "bs": [1, 4, 16, 64]}
ROWS = 24
OUT = "runs/lr={lr}/bs={bs}"
FAIL: list[dict[str, Any]] = [{"lr": 0.1, "bs": 16}, {"lr": 0.3, "bs": 1}]
"""Those that fail on purpose at their first try."""
BEST: dict[str, Any] = FAIL[1]
"""Has the lowest loss: the others do not know before it is retried."""
STEPS = 40
PICTURE = "loss.svg"

TRAIN = f"""\
import argparse, json, os, pathlib, random, sys, time

begun = time.time()
said = argparse.ArgumentParser()
said.add_argument("--lr", type=float)
said.add_argument("--bs", type=int)
row = vars(said.parse_args())
lr, bs = row["lr"], row["bs"]
tried = pathlib.Path.home() / f"tried-{{lr}}-{{bs}}"
if row in {FAIL!r} and not tried.exists():
    tried.touch()
    sys.exit("no memory left")
chance = random.Random(1)
points = [(n / 64, 3 * n / 64 + 1 + chance.gauss(0, 0.1)) for n in range(64)]
slope = offset = 0.0
losses = []
with open("metrics.jsonl", "a") as metrics:
    for step in range({STEPS}):
        batch = chance.sample(points, bs)
        wrong = [slope * x + offset - y for x, y in batch]
        slope -= lr * 2 * sum(d * x for d, (x, _) in zip(wrong, batch)) / bs
        offset -= lr * 2 * sum(wrong) / bs
        losses.append(sum((slope * x + offset - y) ** 2 for x, y in points) / 64)
        metrics.write(json.dumps({{"step": step, "loss": losses[-1]}}) + "\\n")
        time.sleep(0.05)
places = " ".join(f"{{5 * step}},{{100 - 25 * min(loss, 4):.1f}}" for step, loss in enumerate(losses))
out = pathlib.Path(os.environ["MLMP_OUTPUT_DIR"])
out.joinpath("loss.csv").write_text("step,loss\\n" + "".join(f"{{n}},{{one}}\\n" for n, one in enumerate(losses)))
out.joinpath("{PICTURE}").write_text(
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 200 100" width="200" height="100">'
    f'<polyline fill="none" stroke="teal" stroke-width="2" points="{{places}}"/></svg>')
print(f"loss {{losses[-1]:.4g}} with {{row}} on {{os.environ['MLMP_NODE']}}, {{begun:.3f}} to {{time.time():.3f}}")
"""


def submitted(client: Client, folder: Path, *, at_once: int, **manifest: Any) -> Scan:
    """All of them, from a folder that is made for it."""
    folder.mkdir()
    (folder / "train.py").write_text(TRAIN)
    return jobs.scan(
        folder / "train.py", PARAMETERS, profile="gpu", hours=0.1, out=OUT, at_once=at_once, code=folder,
        metrics=[{"json_lines": "metrics.jsonl"}], client=client, **manifest,
    )  # fmt: skip


def run(scan: Scan, wanted: dict[str, int], *, seconds: float = 400, see: Callable[[], object] = lambda: None) -> int:
    """Waits until it is over in this way; how many rows were seen under way at once. ``see``: is called meanwhile."""
    most = 0

    def over() -> bool:
        nonlocal most
        counts = scan.refresh().record.counts
        most = max(most, sum(counts.get(state, 0) for state in ("starting", "running", "stopping")))
        see()
        return not scan.record.open

    wait_for(over, seconds, "the end of the scan")
    assert scan.record.counts == wanted
    return most


def the_table_tells_the_best(page: Page) -> None:
    """On the scan's page, which is open."""
    best = page.locator("#scan-table tr", has_text="best")
    expect(best).to_have_count(1)
    rows = [dict(zip(PARAMETERS, values, strict=True)) for values in product(*PARAMETERS.values())]
    expect(best).to_have_attribute("data-row", str(rows.index(BEST)))
    page.locator("#scan-table thead").get_by_role("link", name="loss").click()
    expect(page.locator("#scan-table tbody tr").first).to_contain_text("best")


def pscan_shows_all(page: Page) -> None:
    """By the link of the scan's page, which is open, in the server that runs: a picture of each row in its place."""
    page.locator("#pscan").click()
    expect(page.locator("#counts")).to_contain_text(f"{2 * ROWS} of {2 * ROWS} files match · no combination missing")
    expect(page.locator("#axis-output-file")).to_have_text(PICTURE)
    expect(page.locator("tbody th")).to_have_text([f"lr {lr}" for lr in PARAMETERS["lr"]])
    expect(page.locator("thead th")).to_have_text([f"bs {bs}" for bs in PARAMETERS["bs"]])
    pictures = page.locator("td[data-row] > img")
    expect(pictures).to_have_count(ROWS)
    loaded = "all => all.every((one) => one.naturalWidth === 200)"
    wait_for(lambda: pictures.evaluate_all(loaded), 30, "all pictures")
    where = "lr={lr}/bs={bs}/".format(**BEST) + PICTURE
    page.locator(f"td[data-row] > img[alt='{where}']").click()
    expect(page.locator("#zoom-path")).to_have_text(where)
