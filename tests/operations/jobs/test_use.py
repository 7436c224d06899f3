"""What jobs use is written beside their logs, as numbers to plot."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlmp_spawner.activity import GpuWatch, ServerUse, ServerWatch, UnitUse
from mlmp_spawner.jobs.files import JobFiles
from mlmp_spawner.jobs.metrics import used
from mlmp_spawner.operations.jobs import sampling
from mlmp_spawner.operations.jobs.sampling import UseSampling
from mlmp_spawner.operations.site import Site
from mlmp_spawner.units import SECOND
from tests.operations.conftest import NOW
from tests.operations.jobs.running import run_job


class Told(ServerWatch):
    """What it is told is running."""

    def __init__(self, records: Path) -> None:
        super().__init__(records)
        self.seen: dict[str, ServerUse] = {}

    def read(self) -> dict[str, ServerUse]:
        return self.seen


class Busy(GpuWatch):
    """Units by their number: the first is busy to 10 %, the second to 20 % …"""

    def read(self) -> dict[str, UnitUse]:
        return {f"GPU-gpu-a-{number}": UnitUse(10.0 * (number + 1), 1 << 30) for number in range(4)}


@pytest.fixture
def files(tmp_path: Path) -> JobFiles:
    made = JobFiles(tmp_path / "jobs")
    made.prepare()
    return made


def test_cores_memory_and_units_are_those_of_the_attempt(site: Site, files: JobFiles) -> None:
    attempt = run_job(site, "gpu-a", now=NOW, units=2)
    files.log(attempt.id).parent.mkdir()
    jobs = Told(files.running)
    looks = UseSampling(lambda: site, files, gpus=Busy(), jobs=jobs)
    jobs.seen = {attempt.id: ServerUse(None, 500)}
    looks.look(NOW)
    jobs.seen = {attempt.id: ServerUse(15_000, 700)}
    looks.look(NOW + 10 * SECOND)
    found = used(files, [attempt.id])
    assert list(found["memory"].values) == [500, 700]
    assert (list(found["cpu"].values), list(found["cpu"].at)) == ([1.5], [NOW + 10 * SECOND])
    assert list(found["gpu"].values) == [15.0, 15.0]
    assert list(found["gpu_memory"].values) == [2 << 30, 2 << 30]


def test_what_is_written_has_an_end(site: Site, files: JobFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "USAGE_LIMIT", 500)
    attempt = run_job(site, "gpu-a", now=NOW)
    files.log(attempt.id).parent.mkdir()
    jobs = Told(files.running)
    jobs.seen = {attempt.id: ServerUse(1, 1), "gone-1": ServerUse(1, 1)}  # the logs of that one were removed
    looks = UseSampling(lambda: site, files, gpus=Busy(), jobs=jobs)
    for second in range(100):
        looks.look(NOW + second * SECOND)
    assert 500 <= files.usage(attempt.id).stat().st_size < 800
