"""The worked notebooks of docs/examples/spark, executed with all that ``mlmp up`` runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.jobs.people import API
from tests.live import Person, Site, wait_for

pytestmark = pytest.mark.faults

NOTEBOOKS = Path(__file__).parents[2] / "docs" / "examples" / "spark"
DEBIAN = Path("/usr/lib/python3/dist-packages")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(tmp_path_factory.mktemp("notebooks"))
    try:
        yield made.start()
    finally:
        made.close()


@pytest.fixture(scope="module")
def eve(site: Site) -> Person:
    return site.person("eve")


def executed(name: str, site: Site, eve: Person, more: dict[str, Any] | None = None, **environ: str) -> str:
    """What the notebook printed, with two executors; they are gone afterwards."""
    home = site.data / "homes" / "eve"
    home.mkdir(exist_ok=True)
    here = {key: value for key, value in os.environ.items() if not key.startswith(("MLMP_", "SPARK_"))}
    here |= {
        "HOME": str(home), "MLMP_URL": site.url, "MLMP_TOKEN": eve.token, "MLMP_RESERVATION_ID": "none",
        "VIRTUAL_ENV": sys.prefix, "PATH": f"{sys.prefix}/bin:{os.environ['PATH']}", **environ,
    }  # fmt: skip
    written = home / f"{name}.ipynb"
    parameters = {"executors": 2, "profile": "gpu", "more": {"memory": "512m", **(more or {})}}
    command = [sys.executable, "-m", "papermill", str(NOTEBOOKS / f"{name}.ipynb"), str(written), "-k", "python3"]
    ran = subprocess.run(
        [*command, "-y", json.dumps(parameters)], env=here, cwd=home, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr[-4000:]
    wait_for(lambda: not eve.api.get(API, params={"state": "open"}).json()["items"], 60, "the end of the executors")
    cells = json.loads(written.read_text())["cells"]
    outputs = [one for cell in cells for one in cell.get("outputs", ()) if one.get("name") == "stdout"]
    return "".join("".join(one["text"]) for one in outputs)


def test_pi(site: Site, eve: Person) -> None:
    assert "pi is about 3.14" in executed("pi", site, eve)


def test_a_pipeline_of_spark_ml_trains_on_two_executors(site: Site, eve: Person) -> None:
    assert "area under the curve: 0.9" in executed("pipeline", site, eve)


def test_a_model_of_scikit_learn_is_tried_over_a_grid(site: Site, eve: Person) -> None:
    assert "best of 9: 0.9" in executed("grid", site, eve)


def test_pytorch_trains_on_two_executors_as_one(site: Site, eve: Person, tmp_path: Path) -> None:
    # Debian's PyTorch in this Python, without the older packages that lie beside it.
    (tmp_path / "torch").symlink_to(DEBIAN / "torch")
    environ = {"PYTHONPATH": str(tmp_path)}
    if subprocess.run(
        [sys.executable, "-c", "import torch.distributed"], env=os.environ | environ, check=False
    ).returncode:
        pytest.skip("no PyTorch for this Python; on Debian and Ubuntu: apt-get install python3-torch")
    # torchrun of PyTorch 1.13 fails on Python 3.11 where it is to redirect nothing.
    more = {"environment": {**environ, "PET_REDIRECTS": "1:0", "PET_TEE": "1:0", "OMP_NUM_THREADS": "1"}}
    assert "2 processes: y = 3.00 x + 1.00" in executed("torch", site, eve, more, **environ)
