"""The catalog of one machine: what the files say, on what is found there."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlmp_spawner import machine
from mlmp_spawner.errors import ConfigurationError
from mlmp_spawner.machine import GPU, Gpu, GpuReader, Gpus
from mlmp_spawner.operations.one_machine import one_machine_catalog
from mlmp_spawner.rules.catalog import Catalog, LimitRules
from mlmp_spawner.units import MINUTE

SHIPPED = Path(__file__).parents[2] / "profiles"
GPU_PROFILE = (
    "profiles: {gpu: {resource: nvidia.com/gpu, min_duration: 30m}}\nlimits: {everybody: {units_at_once: 1}}\n"
)


class Found(GpuReader):
    """Finds GPUs of these UUIDs."""

    def __init__(self, *uuids: str) -> None:
        self.gpus = Gpus(tuple(Gpu(uuid, "T4", 16 << 30) for uuid in uuids), "" if uuids else "no driver")

    def read(self) -> Gpus:
        return self.gpus


def catalog(folder: Path, text: str, *uuids: str, simulate: bool = False) -> tuple[Catalog, list[str]]:
    (folder / "catalog.yaml").write_text(text)
    return one_machine_catalog(folder, simulate=simulate, reader=Found(*uuids))


def nodes(*accelerators: str) -> str:
    return GPU_PROFILE + f"nodes: {{box: {{accelerators: [{', '.join(accelerators)}]}}}}\n"


def test_the_shipped_catalog_works_on_this_machine_as_it_is() -> None:
    found, _ = one_machine_catalog(SHIPPED, simulate=False)
    (node,) = found.nodes.values()
    assert all(found.nodes_for(profile) == [node] for profile in found.profiles.values())
    assert set(found.profiles) == {"gpu", "cpu"}


def test_the_node_is_discovered_where_the_files_list_none(tmp_path: Path) -> None:
    found, notes = catalog(tmp_path, GPU_PROFILE, "GPU-a", "GPU-b")
    (node,) = found.nodes
    assert node == machine.node(Gpus())[0].name
    assert found.unit_ids(node, GPU) == ("GPU-a", "GPU-b")
    assert found.profiles["gpu"].max_units == 2
    assert notes == []


def test_without_a_gpu_the_units_are_simulated_under_the_rules_of_the_catalog(tmp_path: Path) -> None:
    found, notes = catalog(tmp_path, GPU_PROFILE)
    assert found.simulated(GPU)
    assert found.profiles["gpu"].min_duration == 30 * MINUTE
    assert found.limits_for("ann", []).units_at_once == 1
    assert "no driver" in notes[0]


def test_trying_out_forces_simulated_units_a_minute_and_no_limits(tmp_path: Path) -> None:
    text = nodes("{resource: nvidia.com/gpu, count: 1}")
    found, _ = catalog(tmp_path, text, "GPU-a", simulate=True)
    assert found.simulated(GPU)
    assert sum(units for (_, resource), units in found.capacity().items() if resource == GPU) == 4
    assert found.profiles["gpu"].min_duration == MINUTE
    assert found.limits == LimitRules()


def test_a_listed_node_gets_the_units_that_it_does_not_name(tmp_path: Path) -> None:
    found, _ = catalog(tmp_path, nodes("{resource: nvidia.com/gpu, count: 1}"), "GPU-a", "GPU-b")
    assert found.unit_ids("box", GPU) == ("GPU-a",)


def test_models_are_booked_apart_by_resource_names_of_their_own(tmp_path: Path) -> None:
    text = nodes(
        "{resource: nvidia.com/gpu, count: 2}", "{resource: mlmp.dev/t4, count: 1, unit_ids: [GPU-b]}",
        "{resource: mlmp.dev/slot, count: 8}",
    )  # fmt: skip
    found, _ = catalog(tmp_path, text, "GPU-a", "GPU-b", "GPU-c")
    assert found.unit_ids("box", GPU) == ("GPU-a", "GPU-c")
    assert found.unit_ids("box", "mlmp.dev/t4") == ("GPU-b",)
    assert found.unit_ids("box", "mlmp.dev/slot") == ()


@pytest.mark.parametrize(
    ("accelerator", "problem"),
    [
        ("{resource: nvidia.com/gpu, count: 3}", "nodes.box: 3 of nvidia.com/gpu are listed, 2 are here"),
        ("{resource: nvidia.com/gpu, count: 1, unit_ids: [GPU-x]}",
         "nodes.box: nvidia.com/gpu: no unit 'GPU-x' here; did you mean 'GPU-b'? valid: GPU-a, GPU-b"),
    ],
)  # fmt: skip
def test_units_that_are_not_here_are_refused(tmp_path: Path, accelerator: str, problem: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        catalog(tmp_path, nodes(accelerator), "GPU-a", "GPU-b")
    assert caught.value.problems == [f"{tmp_path}: {problem}"]


def test_a_listed_gpu_without_a_driver_is_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"0 are here \(no driver; 'simulated: true' makes them up\)"):
        catalog(tmp_path, nodes("{resource: nvidia.com/gpu, count: 1}"))


def test_a_node_may_be_listed_with_simulated_units(tmp_path: Path) -> None:
    found, notes = catalog(tmp_path, nodes("{resource: nvidia.com/gpu, count: 8, simulated: true}"))
    assert len(found.unit_ids("box", GPU)) == 8
    assert notes == ["8 simulated nvidia.com/gpu, as the catalog says"]


def test_one_machine_is_one_node() -> None:
    with pytest.raises(ConfigurationError, match="this is one machine, but 'nodes' lists 3: gpu-1, gpu-2, gpu-3"):
        one_machine_catalog(SHIPPED / "examples/cluster", simulate=False, reader=Found())
