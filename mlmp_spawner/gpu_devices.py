"""Which device files a server may not open: those of the GPUs, and MIG slices, that are not booked."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from mlmp_spawner.machine import mig_handles

DEV = Path("/dev")
CAPABILITIES = Path("/proc/driver/nvidia/capabilities")

Number = tuple[int, int]
"""Major and minor of a character device."""


def not_booked(unit_ids: Collection[str], *, dev: Path = DEV, capabilities: Path = CAPABILITIES) -> list[Number]:
    """The devices of all GPUs and MIG slices but those of ``unit_ids``. What the driver does not know is refused."""
    gpus = {number: path for path in dev.glob("nvidia[0-9]*") if (number := _number(path)) is not None}
    slices = dict(_slices(dev, capabilities))
    if not gpus:
        return []
    minors, own = _booked(set(unit_ids))
    denied = [number for number, path in gpus.items() if int(path.name.removeprefix("nvidia")) not in minors]
    denied += [number for where, number in slices.items() if not any(_belongs(where, slice_) for slice_ in own)]
    return sorted(denied)


Slice = tuple[int, int, int | None]
"""A MIG slice by minor number of its GPU, GPU instance and compute instance (None: the GPU instance itself)."""


def _belongs(where: Slice, booked: Slice) -> bool:
    return where[:2] == booked[:2] and where[2] in (None, booked[2])


def _booked(unit_ids: set[str]) -> tuple[set[int], set[Slice]]:
    """Minor numbers of the GPUs that are needed, and the slices."""
    minors: set[int] = set()
    slices: set[Slice] = set()
    try:
        import pynvml as nvml

        nvml.nvmlInit()
    except Exception:  # noqa: BLE001 -- no driver answers: nothing is known, so nothing is let through
        return minors, slices
    try:
        for position in range(nvml.nvmlDeviceGetCount()):
            try:
                _add(nvml, nvml.nvmlDeviceGetHandleByIndex(position), unit_ids, minors, slices)
            except nvml.NVMLError:  # a GPU that is lost is nobody's
                continue
    finally:
        nvml.nvmlShutdown()
    return minors, slices


def _add(nvml: Any, gpu: Any, unit_ids: set[str], minors: set[int], slices: set[Slice]) -> None:
    minor = int(nvml.nvmlDeviceGetMinorNumber(gpu))
    if nvml.nvmlDeviceGetUUID(gpu) in unit_ids:
        minors.add(minor)
    for handle in mig_handles(nvml, gpu) or ():
        if nvml.nvmlDeviceGetUUID(handle) in unit_ids:
            minors.add(minor)
            gpu_instance, compute_instance = (
                int(nvml.nvmlDeviceGetGpuInstanceId(handle)), int(nvml.nvmlDeviceGetComputeInstanceId(handle))
            )  # fmt: skip
            slices.add((minor, gpu_instance, compute_instance))


def _slices(dev: Path, capabilities: Path) -> Iterator[tuple[Slice, Number]]:
    """The device of each MIG slice: the driver names them by ``gpuN/mig/giN/ciN/access``."""
    for access in capabilities.glob("gpu*/mig/gi*/**/access"):
        found = re.fullmatch(r"gpu(\d+)/mig/gi(\d+)(?:/ci(\d+))?/access", str(access.relative_to(capabilities)))
        minor = re.search(r"DeviceFileMinor:\s*(\d+)", access.read_text())
        if found is None or minor is None:
            continue
        number = _number(dev / "nvidia-caps" / f"nvidia-cap{minor[1]}")
        if number is not None:
            yield (int(found[1]), int(found[2]), int(found[3]) if found[3] else None), number


def _number(path: Path) -> Number | None:
    try:
        status = path.stat()
    except OSError:
        return None
    if not stat.S_ISCHR(status.st_mode) or not re.search(r"\d$", path.name):
        return None
    return os.major(status.st_rdev), os.minor(status.st_rdev)
