"""A changed catalog is there without a restart; a wrong one changes nothing."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from mlmp_spawner.errors import ConfigurationError
from mlmp_spawner.machine import GPU, Gpu, GpuReader, Gpus
from mlmp_spawner.operations.catalog_files import CatalogFiles

RIGHT = "images: {lab: {reference: 'x:1'}}\nprofiles: {gpu: {title: GPU, resource: nvidia.com/gpu}}\n"
GIB = 1 << 30


class Plugged(GpuReader):
    """GPUs that come and go."""

    def __init__(self, *uuids: str) -> None:
        self.gpus = Gpus(tuple(Gpu(uuid, "A100", 40 * GIB) for uuid in uuids))

    def read(self) -> Gpus:
        return self.gpus


def write(directory: Path, text: str) -> None:
    """Writes the catalog, at a time that differs."""
    file = directory / "catalog.yaml"
    before = file.stat().st_mtime_ns if file.exists() else 0
    file.write_text(text)
    os.utime(file, ns=(before + 10**9, before + 10**9))


@pytest.fixture
def plugged() -> Plugged:
    return Plugged("GPU-a", "GPU-b")


@pytest.fixture
def files(tmp_path: Path, plugged: Plugged) -> CatalogFiles:
    write(tmp_path, RIGHT)
    return CatalogFiles.of_this_machine(tmp_path, simulate=False, reader=plugged)


def test_a_changed_file_is_read_and_an_unchanged_one_is_not(files: CatalogFiles) -> None:
    assert not files.read()
    write(files.directory, RIGHT.replace("title: GPU", "title: Big"))
    assert files.read()
    assert files.catalog.profiles["gpu"].title == "Big"
    assert not files.read()


def test_a_file_that_came_is_seen_too(files: CatalogFiles) -> None:
    (files.directory / "limits.yaml").write_text("limits: {everybody: {units_at_once: 1}}\n")
    assert files.read()
    assert files.catalog.limits.everybody.units_at_once == 1


def test_a_wrong_one_changes_nothing_is_told_once_and_forgotten_when_mended(
    files: CatalogFiles, caplog: pytest.LogCaptureFixture
) -> None:
    before = files.catalog
    write(files.directory, RIGHT.replace("resource", "resourse"))
    with caplog.at_level(logging.ERROR):
        assert not files.read()
        assert not files.read(always=True)
    assert files.catalog is before
    assert len(caplog.records) == 1
    assert "catalog.yaml:2" in files.wrong[0]
    write(files.directory, RIGHT)
    assert not files.read()  # as it was before
    assert files.wrong == ()


def test_a_gpu_that_fell_off_the_bus_is_seen_at_the_next_reading(files: CatalogFiles, plugged: Plugged) -> None:
    (node,) = files.catalog.nodes.values()
    assert node.units(GPU) == 2
    plugged.gpus = Gpus(plugged.gpus.found[1:], lost=("GPU 0 does not answer (GPU is lost)",))
    assert not files.read()  # no file changed
    assert files.read(always=True)
    (node,) = files.catalog.nodes.values()
    found = node.accelerator(GPU)
    assert found is not None
    assert found.unit_ids == ("GPU-b",)
    assert files.notes == ["GPU 0 does not answer (GPU is lost)"]


def test_when_no_gpu_answers_any_more_nobody_gets_simulated_ones(files: CatalogFiles, plugged: Plugged) -> None:
    plugged.gpus = Gpus(why_none="the NVIDIA driver knows no GPU", lost=("GPU 0 does not answer",))
    assert not files.read(always=True)
    assert files.wrong[0] == "this machine has NVIDIA GPUs, but none can be used: the NVIDIA driver knows no GPU"
    with pytest.raises(ConfigurationError, match="none can be used"):
        CatalogFiles.of_this_machine(files.directory, simulate=False, reader=plugged)


def test_a_wrong_one_from_the_beginning_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, "profiles: 1\n")
    with pytest.raises(ConfigurationError):
        CatalogFiles.of_this_machine(tmp_path, simulate=True)
