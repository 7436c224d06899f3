"""What is found on a machine, and what is made of it."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from mlmp_spawner import machine
from mlmp_spawner.machine import GPU, SLOT, Gpu, GpuReader, Gpus

GIB = 1 << 30
A100 = [Gpu(f"GPU-{n}", "A100-SXM4-80GB", 80 * GIB) for n in range(2)]


def test_reading_the_gpus_never_fails_and_says_why_there_is_none() -> None:
    gpus = GpuReader().read()
    assert bool(gpus.found) is not bool(gpus.why_none)
    assert len({gpu.uuid for gpu in gpus.found}) == len(gpus.found)


def test_gpus_are_units_by_uuid_in_their_order() -> None:
    node, notes = machine.node(Gpus(tuple(reversed(A100))))
    found = node.accelerator(GPU)
    assert found is not None
    assert (found.count, found.unit_ids, found.model, found.memory_gib) == (
        2,
        ("GPU-1", "GPU-0"),
        "A100-SXM4-80GB",
        80,
    )
    assert not found.simulated
    assert notes == []


def test_without_a_gpu_four_are_simulated_and_it_is_said_why() -> None:
    node, notes = machine.node(Gpus(why_none="no NVIDIA driver answers"))
    found = node.accelerator(GPU)
    assert found is not None
    assert found.simulated
    assert found.model == "simulated"
    assert found.unit_ids == ("simulated-0", "simulated-1", "simulated-2", "simulated-3")
    assert "no NVIDIA driver answers" in notes[0]


def test_simulation_can_be_forced_beside_real_gpus() -> None:
    node, notes = machine.node(Gpus(tuple(A100)), simulate=True)
    assert node.units(GPU) == 4
    assert "--simulate" in notes[0]


def test_gpus_of_several_models_are_booked_as_one_and_that_is_said() -> None:
    node, notes = machine.node(Gpus((*A100, Gpu("GPU-9", "T4", 16 * GIB))))
    found = node.accelerator(GPU)
    assert found is not None
    assert (found.count, found.model, found.memory_gib) == (3, "A100-SXM4-80GB or T4", 16)
    assert "nodes.yaml" in notes[0]


def test_slices_are_a_resource_of_their_own() -> None:
    slices = [Gpu(f"MIG-{n}", "A100 MIG 3g.40gb", 40 * GIB, "nvidia.com/mig-3g.40gb") for n in range(2)]
    node, _ = machine.node(Gpus((A100[0], *slices)))
    assert (node.units(GPU), node.units("nvidia.com/mig-3g.40gb")) == (1, 2)


def test_memory_that_a_gpu_shares_with_the_machine_is_not_claimed() -> None:
    node, _ = machine.node(Gpus((Gpu("GPU-0", "GB10", None),)))
    found = node.accelerator(GPU)
    assert found is not None
    assert found.memory_gib is None


def test_cores_are_slots_and_the_node_is_named_after_the_host() -> None:
    node, _ = machine.node(Gpus())
    assert node.units(SLOT) == max(1, int(machine.available_cpus()))
    assert node.name
    assert (node.cpus, node.memory) == (machine.available_cpus(), machine.available_memory())


class TestControlGroups:
    """Folders that stand for /proc and /sys/fs/cgroup."""

    @staticmethod
    def folders(tmp_path: Path, line: str, files: dict[str, str]) -> dict[str, Path]:
        (tmp_path / "proc/self").mkdir(parents=True)
        (tmp_path / "proc/self/cgroup").write_text(line + "\n")
        for name, text in files.items():
            file = tmp_path / "cgroup" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text + "\n")
        return {"proc": tmp_path / "proc", "cgroups": tmp_path / "cgroup"}

    def test_version_2_the_tightest_of_all_around_counts(self, tmp_path: Path) -> None:
        files = {
            "a/cpu.max": "50000 100000",
            "a/b/cpu.max": "max 100000",
            "a/b/memory.max": "max",
            "a/memory.max": "4096",
        }
        where = self.folders(tmp_path, "0::/a/b", files)
        assert machine.available_cpus(**where) == 0.5
        assert machine.available_memory(**where) == 4096

    def test_version_1_quota_and_period_are_files_of_their_own(self, tmp_path: Path) -> None:
        files = {"cpu/x/cpu.cfs_quota_us": "25000", "cpu/x/cpu.cfs_period_us": "100000",
                 "memory/memory.limit_in_bytes": "8192"}  # fmt: skip
        where = self.folders(tmp_path, "3:cpu:/x\n2:memory:/y", files)
        assert machine.available_cpus(**where) == 0.25
        assert machine.available_memory(**where) == 8192

    @pytest.mark.parametrize("text", ["max 100000", "-1 100000", "nonsense", "", "1 2 3"])
    def test_without_a_limit_it_is_what_the_machine_has(self, tmp_path: Path, text: str) -> None:
        where = self.folders(tmp_path, "0::/a", {"a/cpu.max": text, "a/memory.max": "max"})
        assert machine.available_cpus(**where) == len(os.sched_getaffinity(0))
        assert machine.available_memory(**where) == psutil.virtual_memory().total

    def test_without_control_groups_it_is_what_the_machine_has(self, tmp_path: Path) -> None:
        assert machine.available_cpus(proc=tmp_path, cgroups=tmp_path) == len(os.sched_getaffinity(0))
