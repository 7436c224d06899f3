"""What goes on on this machine: how busy its GPUs are and by whose processes, what the users' servers take.

A GPU's utilisation is that of the moment of the look; CPU time is counted, so that nothing between two looks is lost.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlmp_spawner import cgroups, processes
from mlmp_spawner.machine import mig_handles

log = logging.getLogger(__name__)

_ALL_PROCESSES = 0xEFFFFFFC
"""Inode of the pid namespace of the machine itself. In another one the driver's pids are not those that we see."""

_TICK = 1000 // os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class UnitUse:
    """A GPU, or a slice of one. ``utilisation`` in per cent, ``memory`` in bytes, ``pids`` of the processes on it.

    Each is None where the driver does not tell: utilisation of MIG slices, processes from inside a container.
    """

    utilisation: float | None = None
    memory: int | None = None
    pids: frozenset[int] | None = None


class GpuWatch:
    """Looks at the GPUs through NVML. A seam: another kind of GPU, or a test, is a subclass with its ``read``.

    The driver stays open between two looks: opening it may take seconds and wakes the GPUs.
    """

    def __init__(self) -> None:
        self._nvml: Any = None

    def read(self) -> dict[str, UnitUse]:
        """What is on each unit, by UUID. Empty without a driver; never raises for what the machine lacks."""
        nvml = self._nvml = self._nvml or _open_nvml()
        if nvml is None:
            return {}
        found: dict[str, UnitUse] = {}
        lost = False
        try:
            for number in range(nvml.nvmlDeviceGetCount()):
                try:
                    found |= _units(nvml, nvml.nvmlDeviceGetHandleByIndex(number))
                except nvml.NVMLError:
                    lost = True
        except nvml.NVMLError:
            lost = True
        if lost:  # the next look asks a driver that was opened anew
            self.close()
        return found

    def close(self) -> None:
        """Lets go of the driver."""
        nvml, self._nvml = self._nvml, None
        if nvml is not None:
            try:
                nvml.nvmlShutdown()
            except nvml.NVMLError as error:
                log.debug("closing NVML: %s", error)


def _open_nvml() -> Any:
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    return pynvml


def _units(nvml: Any, gpu: Any) -> dict[str, UnitUse]:
    slices = mig_handles(nvml, gpu)
    handles = [gpu] if slices is None else slices
    return {nvml.nvmlDeviceGetUUID(handle): _unit(nvml, handle) for handle in handles}


def _unit(nvml: Any, handle: Any) -> UnitUse:
    def told(ask: Any) -> Any:
        try:
            return ask(handle)
        except nvml.NVMLError:
            return None

    rates, memory = told(nvml.nvmlDeviceGetUtilizationRates), told(nvml.nvmlDeviceGetMemoryInfo)
    computing = told(nvml.nvmlDeviceGetComputeRunningProcesses)
    drawing = told(nvml.nvmlDeviceGetGraphicsRunningProcesses)
    known = (computing is not None or drawing is not None) and sees_all_processes()
    pids = frozenset(each.pid for each in [*(computing or ()), *(drawing or ())] if each.pid)
    return UnitUse(
        None if rates is None else float(rates.gpu), None if memory is None else int(memory.used),
        pids if known else None,
    )  # fmt: skip


def sees_all_processes() -> bool:
    """Whether the pids that the driver tells name the same processes here."""
    try:
        return os.stat("/proc/self/ns/pid").st_ino == _ALL_PROCESSES
    except OSError:
        return False


@dataclass(frozen=True, slots=True)
class ServerUse:
    """A user's server with all that it started. ``cpu``: ms of CPU time since the former look; None at the first look.

    ``memory`` in bytes, at the most: what its processes share is counted for each of them.
    """

    cpu: int | None = None
    memory: int = 0
    pids: frozenset[int] = field(default=frozenset())


class ServerWatch:
    """Looks at the users' servers: their control groups, where there are any, else what runs below ``mlmp run``.

    :param records: the directory of the records of ``mlmp run``. :param group: around the servers' control groups.
    """

    def __init__(self, records: Path, *, group: str = cgroups.NAME) -> None:
        self.records = records
        self.group = group
        self._counted: dict[tuple[str, bool], int] | None = None

    def read(self) -> dict[str, ServerUse]:
        """What each server takes, by server id."""
        table = _processes()
        children: dict[int, list[int]] = {}
        for pid, one in table.items():
            children.setdefault(one.parent, []).append(pid)
        former, self._counted = self._counted, {}
        found: dict[str, ServerUse] = {}
        for record in processes.running(self.records):
            tree = [pid for pid in _tree(record.pid, children) if pid in table]
            group = cgroups.Group(record.id, base=self.group)
            counted = _group_cpu(group)
            total = sum(table[pid].cpu for pid in tree) if counted is None else counted
            key = (record.identity, counted is not None)
            self._counted[key] = total
            found[record.id] = ServerUse(
                cpu=None if former is None else max(0, total - former.get(key, 0)),
                memory=sum(table[pid].memory for pid in tree),
                pids=frozenset(tree) | group.pids(),
            )
        return found


@dataclass(frozen=True, slots=True)
class _Process:
    """``cpu``: ms, with those of its children that have ended, so that the sum over a tree only grows."""

    parent: int
    cpu: int
    memory: int


def _processes() -> dict[int, _Process]:
    """All processes; also those that ended and were not waited for, whose time is nobody else's yet."""
    found: dict[int, _Process] = {}
    for entry in os.scandir("/proc"):
        if not entry.name.isdecimal():
            continue
        try:
            with open(f"/proc/{entry.name}/stat", encoding="utf-8", errors="replace") as file:
                fields = file.read().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        ticks = sum(int(field) for field in fields[11:15])
        found[int(entry.name)] = _Process(int(fields[1]), ticks * _TICK, int(fields[21]) * _PAGE)
    return found


def _tree(pid: int, children: Mapping[int, list[int]]) -> Iterator[int]:
    level = [pid]
    while level:
        yield from level
        level = [child for parent in level for child in children.get(parent, ())]


def _group_cpu(group: cgroups.Group) -> int | None:
    """CPU time in ms as the control group of a server counts it; None where there is none."""
    try:
        if group.unified is not None and (file := group.unified / "cpu.stat").exists():
            return int(file.read_text().split()[1]) // 1000  # usage_usec
        folder = group.others.get("cpu")
        if folder is not None and (file := folder / "cpuacct.usage").exists():
            return int(file.read_text()) // 1_000_000
    except (OSError, ValueError, IndexError):
        pass
    return None
