"""Control groups: what a user's server may take of this machine, and how all of it is ended in one step.

Version 2 and version 1, also side by side; every limit is set where this machine has it. The groups are made below
one of our own at the top (``/sys/fs/cgroup/mlmp``), not below a unit of systemd: users' servers outlive a restart of
``mlmp up``, and a unit whose group has groups below it could not be started again. Only root can make them. This
module imports next to nothing, since ``mlmp run`` starts with every server.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

NAME = "mlmp"
"""Our own group; each server has one below it."""
MOUNTS = Path("/proc/self/mountinfo")
MEMORY, CPU, PROCESSES, DEVICES = "memory", "cpu", "processes", "devices"
KINDS = (MEMORY, CPU, PROCESSES, DEVICES)
"""What can be limited."""

_CONTROLLER = {MEMORY: "memory", CPU: "cpu", PROCESSES: "pids", DEVICES: "devices"}
_PERIOD = 100_000
_SHORTEST_QUOTA = 1_000
"""Microseconds, as the kernel counts them for ``cpu.max``."""
_BPF = {"x86_64": 321, "aarch64": 280, "ppc64le": 361, "riscv64": 280}
_LOAD, _ATTACH, _OF_DEVICES, _ALSO_OTHERS = 5, 8, 6, 2
_CGROUP_DEVICE = 15


@dataclass(frozen=True, slots=True)
class Limits:
    """``memory`` in bytes, ``cpus`` in cores, ``processes`` with their threads; ``denied``: character devices."""

    memory: int | None = None
    cpus: float | None = None
    processes: int | None = None
    denied: tuple[tuple[int, int], ...] = ()


class Group:
    """The control group of one server, in each hierarchy that this machine has.

    :param name: of the server; :param base: of the group around all of them.
    """

    def __init__(self, name: str, *, base: str = NAME, mounts: Path = MOUNTS) -> None:
        unified, others = _hierarchies(mounts)
        self.name = name
        self.unified = unified / base / name if unified else None
        self.others = {controller: root / base / name for controller, root in others.items()}
        self._unified_root = unified

    def make(self, limits: Limits) -> dict[str, str]:
        """Makes it with its limits; returns what could not be limited, each with the reason. It may be repeated."""
        missing: dict[str, str] = {}
        settings: Mapping[str, Callable[[], None] | None] = {
            MEMORY: None if limits.memory is None else lambda: self._limit_memory(limits.memory or 0),
            CPU: None if limits.cpus is None else lambda: self._limit_cpus(limits.cpus or 0),
            PROCESSES: None if limits.processes is None else lambda: self._limit_processes(limits.processes or 0),
            DEVICES: (lambda: self._deny(limits.denied)) if limits.denied else None,
        }
        for folder in self._folders():
            with suppress(OSError):  # what needs it says so
                folder.mkdir(parents=True, exist_ok=True)
        for kind, limit in settings.items():
            if limit is not None:
                try:
                    limit()
                except OSError as error:
                    missing[kind] = _why(error)
        return missing

    def enter(self) -> None:
        """Puts the process that calls it into the group, with all that it starts from now on."""
        for folder in self._folders():
            if folder.is_dir():
                with suppress(OSError):
                    (folder / "cgroup.procs").write_text("0")

    def kill(self) -> None:
        """Kills all that is in it: in one step where the kernel can."""
        if self.unified is not None and (self.unified / "cgroup.kill").exists():
            with suppress(OSError):
                (self.unified / "cgroup.kill").write_text("1")
                return
        for pid in self.pids():
            with suppress(ProcessLookupError):
                os.kill(pid, 9)

    def pids(self) -> set[int]:
        """The processes in it."""
        found: set[int] = set()
        for folder in self._folders():
            with suppress(OSError):
                found |= {int(line) for line in (folder / "cgroup.procs").read_text().split() if line != "0"}
        return found

    def out_of_memory(self) -> bool:
        """Whether the kernel ended something in it since its memory was used up."""
        places = [self.others["memory"] / "memory.oom_control"] if "memory" in self.others else []
        places += [self.unified / "memory.events"] if self.unified is not None else []
        for place in places:
            with suppress(OSError, ValueError):
                counted = dict(line.split() for line in place.read_text().splitlines())
                if int(counted.get("oom_kill", 0)):
                    return True
        return False

    def end(self, patience: float = 2.0) -> bool:
        """Kills what is left in it and removes it; False if something would not go."""
        limit = time.monotonic() + patience
        while True:
            left = [folder for folder in self._folders() if not _removed(folder)]
            if not left:
                return True
            if time.monotonic() > limit:
                return False
            self.kill()
            time.sleep(0.02)

    def _folders(self) -> list[Path]:
        wanted = [self.others[name] for name in _CONTROLLER.values() if name in self.others]
        return [*([self.unified] if self.unified else []), *dict.fromkeys(wanted)]

    def _limit_memory(self, size: int) -> None:
        """Swap is none of it, where the kernel counts swap: it would be slow for everybody."""
        if (folder := self.others.get("memory")) is not None:
            both = folder / "memory.memsw.limit_in_bytes"  # memory and swap together: never less than memory alone
            if both.exists():
                both.write_text("-1")
            (folder / "memory.limit_in_bytes").write_text(str(size))
            if both.exists():
                both.write_text(str(size))
        else:
            folder = self._controlled("memory")
            (folder / "memory.max").write_text(str(size))
            if (folder / "memory.swap.max").exists():
                (folder / "memory.swap.max").write_text("0")

    def _limit_cpus(self, cpus: float) -> None:
        quota = max(_SHORTEST_QUOTA, round(cpus * _PERIOD))
        if (folder := self.others.get("cpu")) is not None:
            (folder / "cpu.cfs_period_us").write_text(str(_PERIOD))
            (folder / "cpu.cfs_quota_us").write_text(str(quota))
        else:
            (self._controlled("cpu") / "cpu.max").write_text(f"{quota} {_PERIOD}")

    def _limit_processes(self, count: int) -> None:
        folder = self.others.get("pids") or self._controlled("pids")
        (folder / "pids.max").write_text(str(count))

    def _deny(self, devices: tuple[tuple[int, int], ...]) -> None:
        if (folder := self.others.get("devices")) is not None:
            for major, minor in devices:
                (folder / "devices.deny").write_text(f"c {major}:{minor} rwm")
        elif self.unified is not None:
            _filter_devices(self.unified, devices)
        else:
            raise FileNotFoundError

    def _controlled(self, controller: str) -> Path:
        """The folder of version 2, with ``controller`` switched on from the top down to it."""
        if self.unified is None or self._unified_root is None:
            raise FileNotFoundError
        for folder in (self._unified_root, self.unified.parent):
            if controller not in (folder / "cgroup.subtree_control").read_text().split():
                (folder / "cgroup.subtree_control").write_text(f"+{controller}")
        return self.unified


def not_enforced(*, base: str = NAME, mounts: Path = MOUNTS) -> dict[str, str]:
    """What can't be limited on this machine, each with the reason: found by trying."""
    group = Group(f"try-{os.getpid()}", base=base, mounts=mounts)
    try:
        return group.make(Limits(memory=1 << 30, cpus=1, processes=1000, denied=((1, 7),)))
    finally:
        group.end()


def _hierarchies(mounts: Path) -> tuple[Path | None, dict[str, Path]]:
    """Where version 2 is mounted, and where each controller of version 1 is."""
    unified: Path | None = None
    others: dict[str, Path] = {}
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None, {}
    for line in lines:
        before, _, after = line.partition(" - ")
        kind, _, options = after.partition(" ")
        place = Path((before.split() + [""] * 5)[4])
        if kind == "cgroup2":
            unified = unified or place
        elif kind == "cgroup":
            others |= {name: place for name in options.split()[-1].split(",") if name in _CONTROLLER.values()}
    return unified, others


def _removed(folder: Path) -> bool:
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _why(error: OSError) -> str:
    if error.errno in (errno.ENOENT, None):
        return "this machine has no control group for it"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "its control groups can't be changed from here"
    return f"its control groups can't be used: {os.strerror(error.errno or 0)}"


def _filter_devices(folder: Path, devices: tuple[tuple[int, int], ...]) -> None:
    """Lets nothing in the group open these character devices: version 2 wants a program for that.

    :raises OSError: the kernel takes none.
    """
    number = _BPF.get(os.uname().machine)
    if number is None:
        raise OSError(errno.ENOSYS, "bpf")
    code = _program(devices)
    held = ctypes.create_string_buffer(code, len(code))
    license_name = ctypes.create_string_buffer(b"GPL")
    addresses = (ctypes.addressof(held), ctypes.addressof(license_name))
    program = _bpf(number, _LOAD, struct.pack("=IIQQIIQII", _CGROUP_DEVICE, len(code) // 8, *addresses, 0, 0, 0, 0, 0))
    group = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _bpf(number, _ATTACH, struct.pack("=IIII", group, program, _OF_DEVICES, _ALSO_OTHERS))
    finally:
        os.close(group)
        os.close(program)


def _program(devices: tuple[tuple[int, int], ...]) -> bytes:
    """``return 0`` for each of the devices (major, minor), else 1, in the kernel's byte code."""

    def instruction(code: int, register: int = 0, source: int = 0, jump: int = 0, value: int = 0) -> bytes:
        return struct.pack("=BBhi", code, register | source << 4, jump, value)

    load, unequal, put, leave = 0x61, 0x55, 0xB7, 0x95
    code = instruction(load, 2, 1, 4) + instruction(load, 3, 1, 8)
    for major, minor in devices:
        code += instruction(unequal, 2, 0, 3, major) + instruction(unequal, 3, 0, 2, minor)
        code += instruction(put, 0, 0, 0, 0) + instruction(leave)
    return code + instruction(put, 0, 0, 0, 1) + instruction(leave)


def _bpf(number: int, command: int, attributes: bytes) -> int:
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    libc = ctypes.CDLL(None, use_errno=True)
    result = int(libc.syscall(number, command, buffer, len(attributes)))
    if result < 0:
        raise OSError(ctypes.get_errno(), "bpf")
    return result
