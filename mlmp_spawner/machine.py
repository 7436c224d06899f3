"""This machine: its GPUs, cores and memory. GPUs are named by UUID, since CUDA and NVML number them differently."""

from __future__ import annotations

import math
import os
import re
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from mlmp_spawner.errors import ConfigurationError
from mlmp_spawner.rules.catalog import Accelerator, Node

GIB = 1 << 30
GPU = "nvidia.com/gpu"
SLOT = "mlmp.dev/slot"
"""CPU cores as something to book."""
SIMULATED_UNITS = 4

_MIG_PROFILE = re.compile(r"MIG ((?:[0-9]+c\.)?[0-9]+g\.[0-9]+gb\S*)")
_PCI = Path("/sys/bus/pci/devices")
_NVIDIA, _DISPLAY = "0x10de", "0x03"


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU, or a MIG slice of one. ``memory`` is in bytes, None where it has none of its own."""

    uuid: str
    model: str
    memory: int | None
    resource: str = GPU


@dataclass(frozen=True, slots=True)
class Gpus:
    """What there is, and if it is nothing, why. ``lost``: one sentence for each that is there but does not answer."""

    found: tuple[Gpu, ...] = ()
    why_none: str = ""
    lost: tuple[str, ...] = ()


class GpuReader:
    """Looks for NVIDIA GPUs through NVML. A seam: another kind of GPU, or a test, is a subclass with its ``read``."""

    def read(self) -> Gpus:
        """The GPUs in NVML's order. Never raises for what the machine lacks; ``why_none`` says it."""
        try:
            import pynvml
        except ImportError:
            return Gpus(why_none="the package nvidia-ml-py is not installed")
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            return Gpus(why_none=f"no NVIDIA driver answers ({error})")
        found: list[Gpu] = []
        lost: list[str] = []
        try:
            for number in range(pynvml.nvmlDeviceGetCount()):
                try:
                    found += _nvml_units(pynvml, number)
                except pynvml.NVMLError as error:  # one that fell off the bus takes the others not with it
                    lost.append(f"GPU {number} does not answer ({error}) and is not offered")
            return Gpus(tuple(found), "" if found else "the NVIDIA driver knows no GPU", tuple(lost))
        except pynvml.NVMLError as error:
            return Gpus(why_none=f"the NVIDIA driver does not tell its GPUs ({error})")
        finally:
            pynvml.nvmlShutdown()


def _nvml_units(nvml: Any, number: int) -> list[Gpu]:
    """GPU ``number`` as it can be used: whole, or as its MIG slices where it is cut into them."""
    handle = nvml.nvmlDeviceGetHandleByIndex(number)
    slices = mig_handles(nvml, handle)
    if slices is None:
        return [_nvml_unit(nvml, handle, GPU)]
    return [_nvml_unit(nvml, each, f"nvidia.com/mig-{_mig_profile(nvml, handle, each)}") for each in slices]


def mig_handles(nvml: Any, gpu: Any) -> list[Any] | None:
    """The MIG slices of a GPU; None where it is not cut into any. What is only pending counts after a reset."""
    try:
        if nvml.nvmlDeviceGetMigMode(gpu)[0] != nvml.NVML_DEVICE_MIG_ENABLE:
            return None
    except (nvml.NVMLError_NotSupported, nvml.NVMLError_FunctionNotFound):  # a GPU, or a driver, without MIG
        return None
    found = []
    for position in range(nvml.nvmlDeviceGetMaxMigDeviceCount(gpu)):
        try:
            found.append(nvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu, position))
        except (nvml.NVMLError_NotFound, nvml.NVMLError_InvalidArgument):  # a position that holds no slice
            continue
    return found


def _mig_profile(nvml: Any, gpu: Any, handle: Any) -> str:
    """``1g.10gb``, ``1c.3g.40gb``: by the name where the driver says it, else made as NVIDIA's own tools make it."""
    named = _MIG_PROFILE.search(nvml.nvmlDeviceGetName(handle))
    if named:
        return named[1].replace("+", ".")  # as the names of resources allow it; Kubernetes has the same
    size = nvml.nvmlDeviceGetAttributes(handle)
    total = int(nvml.nvmlDeviceGetMemoryInfo(gpu).total)
    eighths = math.ceil(8 * size.memorySizeMB * (1 << 20) / total)
    memory = round(eighths / 8 * math.ceil(total / GIB))
    part = f"{size.gpuInstanceSliceCount}g.{memory}gb"
    whole = size.computeInstanceSliceCount == size.gpuInstanceSliceCount
    return part if whole else f"{size.computeInstanceSliceCount}c.{part}"


def _nvml_unit(nvml: Any, handle: Any, resource: str) -> Gpu:
    name = nvml.nvmlDeviceGetName(handle)
    try:
        memory = int(nvml.nvmlDeviceGetMemoryInfo(handle).total)
    except nvml.NVMLError_NotSupported:  # it shares the machine's memory
        memory = None
    return Gpu(nvml.nvmlDeviceGetUUID(handle), name.removeprefix("NVIDIA "), memory, resource)


def has_gpu(pci: Path = _PCI) -> bool:
    """Whether an NVIDIA GPU is plugged in, whatever its driver says."""
    for device in pci.glob("*"):
        try:
            if (device / "vendor").read_text().strip() == _NVIDIA and (device / "class").read_text()[:4] == _DISPLAY:
                return True
        except OSError:
            continue
    return False


def node(gpus: Gpus, *, simulate: bool = False) -> tuple[Node, list[str]]:
    """This machine as a node of the catalog, and what people should know about it, one sentence each.

    Without a GPU, or with ``simulate``, it has four simulated ones.

    :raises ConfigurationError: it has GPUs, but none that answers: nobody shall work on simulated ones by mistake.
    """
    notes: list[str] = [] if simulate else list(gpus.lost)
    if not simulate and not gpus.found and (gpus.lost or has_gpu()):
        problem = f"this machine has NVIDIA GPUs, but none can be used: {gpus.why_none}"
        raise ConfigurationError([problem, *gpus.lost])
    if simulate or not gpus.found:
        why = "asked for with --simulate" if simulate else gpus.why_none
        notes.append(f"{SIMULATED_UNITS} simulated GPUs, labelled so wherever they appear: {why}")
        accelerators = [Accelerator(resource=GPU, model="simulated", count=SIMULATED_UNITS, simulated=True)]
    else:
        accelerators = _accelerators(gpus, notes)
    cores = available_cpus()
    accelerators.append(Accelerator(resource=SLOT, model="CPU core", count=max(1, int(cores))))
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", socket.gethostname()).strip("-._")[:253] or "localhost"
    return Node(name=name, accelerators=tuple(accelerators), cpus=cores, memory=available_memory()), notes


def _accelerators(gpus: Gpus, notes: list[str]) -> list[Accelerator]:
    """The GPUs by resource. GPUs of several models are one resource, the model then names them all."""
    accelerators = []
    for resource in dict.fromkeys(gpu.resource for gpu in gpus.found):
        units = [gpu for gpu in gpus.found if gpu.resource == resource]
        models = list(dict.fromkeys(gpu.model for gpu in units))
        memories = [gpu.memory for gpu in units if gpu.memory]
        if len(models) > 1:
            notes.append(
                f"the GPUs differ ({', '.join(models)}) and are booked as if alike; to book them apart, list them in "
                "nodes.yaml ('mlmp catalog discover' writes it) with a resource name for each model"
            )
        accelerators.append(
            Accelerator(
                resource=resource,
                model=" or ".join(models),
                count=len(units),
                memory_gib=round(min(memories) / GIB, 1) if len(memories) == len(units) else None,
                unit_ids=tuple(gpu.uuid for gpu in units),
            )
        )
    return accelerators


def available_cpus(*, proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> float:
    """CPU cores that this process may use: what its affinity and its control groups leave."""
    cores = float(len(os.sched_getaffinity(0)))
    for folder in _cgroup_folders("cpu", proc, cgroups):
        quota, period = _numbers(folder / "cpu.max", 2) or (
            *(_numbers(folder / "cpu.cfs_quota_us", 1) or (-1,)),
            *(_numbers(folder / "cpu.cfs_period_us", 1) or (-1,)),
        )
        if quota > 0 and period > 0:
            cores = min(cores, quota / period)
    return round(cores, 2)


def available_memory(*, proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> int:
    """Main memory in bytes that this process may use: what there is, or what its control groups leave of it."""
    memory = int(psutil.virtual_memory().total)
    for folder in _cgroup_folders("memory", proc, cgroups):
        for name in ("memory.max", "memory.limit_in_bytes"):
            limit = _numbers(folder / name, 1)
            if limit and 0 < limit[0] < memory:
                memory = limit[0]
    return memory


def _cgroup_folders(controller: str, proc: Path, cgroups: Path) -> list[Path]:
    """The control group of this process and those around it, of version 2 and of version 1."""
    try:
        lines = (proc / "self/cgroup").read_text().splitlines()
    except OSError:
        return []
    folders: list[Path] = []
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and controller not in controllers.split(","):
            continue
        root = cgroups / controller if controllers else cgroups
        inner = root / path.lstrip("/")
        folders += [inner, *(parent for parent in inner.parents if parent.is_relative_to(root))]
    return folders


def _numbers(file: Path, count: int) -> tuple[int, ...] | None:
    """The numbers in ``file``; -1 for the word 'max'; None if it can't be read."""
    try:
        numbers = tuple(-1 if word == "max" else int(word) for word in file.read_text().split())
    except (OSError, ValueError):
        return None
    return numbers if len(numbers) == count else None
