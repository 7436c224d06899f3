"""A scan of trainings with all that ``mlmp up`` runs: two fail on purpose, are retried, and the best is found."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.jobs.people import Submitter
from tests.live import Site, wait_for

SCANS = "/services/mlmp/api/v1/scans"
TRAIN = """\
import json, os, pathlib, sys
lr, bs = float(sys.argv[2]), int(sys.argv[4])
again = pathlib.Path.home() / f"failed-{lr}-{bs}"
if lr == 0.1 and bs in (1, 2) and not again.exists():
    again.touch()
    sys.exit("diverged")
with open("metrics.jsonl", "a") as file:
    for step in range(3):
        file.write(json.dumps({"step": step, "loss": abs(lr - 0.01) * 10 + bs / 10 + 2 - step}) + "\\n")
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(tmp_path_factory.mktemp("scans"))
    try:
        yield made.start()
    finally:
        made.close()


@pytest.mark.faults
def test_a_scan_of_trainings_two_of_which_fail_is_retried_and_the_best_is_found(site: Site) -> None:
    eve = Submitter(site.person("eve"))
    manifest = {"profile": "gpu", "hours": 0.1, "script": "train.py", "metrics": [{"json_lines": "metrics.jsonl"}]}
    parameters = {"lr": [0.1, 0.01, 0.001], "bs": [1, 2, 4, 8]}
    asked = {"manifest": manifest, "parameters": parameters, "out": "runs/lr={lr}/bs={bs}", "at_once": 3}
    answer = eve.api.post(SCANS, json={**asked, "code": eve.code(train_py=TRAIN)})
    assert answer.status_code == 201, answer.text
    where = f"{SCANS}/{answer.json()['id']}"
    most = 0

    def over(wanted: dict[str, int]) -> bool:
        nonlocal most
        counts = eve.api.get(where).json()["counts"]
        most = max(most, sum(counts.get(state, 0) for state in ("starting", "running", "stopping")))
        return counts == wanted

    wait_for(lambda: over({"succeeded": 10, "failed": 2}), 300, "the scan")
    assert 1 <= most <= 3
    assert eve.api.post(f"{where}/retry").json()["retried"] == 2
    wait_for(lambda: over({"succeeded": 12}), 120, "those that were retried")
    rows = eve.api.get(where).json()["rows"]
    assert min(rows, key=lambda row: row["metrics"]["loss"])["parameters"] == {"lr": 0.01, "bs": 1}
    assert (site.data / "homes" / "eve" / "runs" / "lr=0.01" / "bs=1").is_dir()
