"""GPUs and MIG slices as nvidia-ml-py tells them, and the device files that go with them.

There is no GPU in CI: the real package runs on a small library that is compiled here.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SOURCE = Path(__file__).parent / "fake_nvml.c"
COMPILER = shutil.which("cc") or shutil.which("gcc")

pytestmark = pytest.mark.skipif(
    COMPILER is None, reason="no C compiler here; on Debian: apt-get install gcc libc6-dev"
)

READ = """
import dataclasses, json
from mlmp_spawner import machine
gpus = machine.GpuReader().read()
try:
    node, notes = machine.node(gpus)
    found = [[one.resource, one.count, one.model, one.memory_gib, one.unit_ids] for one in node.accelerators]
except machine.ConfigurationError as error:
    found, notes = None, error.problems
print(json.dumps({"gpus": dataclasses.asdict(gpus), "node": found, "notes": notes}))
"""
DENIED = """
import json, sys
from pathlib import Path
from mlmp_spawner import gpu_devices
root = Path(sys.argv[1])
print(json.dumps(gpu_devices.not_booked(sys.argv[2:], dev=root / "dev", capabilities=root / "capabilities")))
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the library."""
    folder = tmp_path_factory.mktemp("nvml")
    assert COMPILER is not None
    subprocess.run(
        [COMPILER, "-shared", "-fPIC", "-Wl,-soname,libnvidia-ml.so.1", "-o", folder / "libnvidia-ml.so.1", SOURCE],
        check=True,
    )
    return folder


def ask(library: Path, program: str, *arguments: str, **environment: str) -> Any:
    """What a program with that library says."""
    surroundings = os.environ | {"LD_LIBRARY_PATH": str(library)} | environment
    said = subprocess.run(
        [sys.executable, "-c", program, *arguments], env=surroundings, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    return json.loads(said.stdout)


def test_whole_gpus_and_slices_are_units_of_their_own_resources(library: Path) -> None:
    said = ask(library, READ)
    assert {one["uuid"]: one["resource"] for one in said["gpus"]["found"]} == {
        "GPU-0": "nvidia.com/gpu",
        "MIG-11111111-aaaa": "nvidia.com/mig-3g.40gb",
        "MIG-22222222-bbbb": "nvidia.com/mig-1g.10gb.me",
        "MIG-GPU-1/2/1": "nvidia.com/mig-1c.3g.40gb",  # its name does not say so: made from its size
        "GPU-3": "nvidia.com/gpu",
    }
    memory = {one["uuid"]: one["memory"] for one in said["gpus"]["found"]}
    assert (memory["GPU-0"], memory["MIG-22222222-bbbb"], memory["GPU-3"]) == (81920 << 20, 9728 << 20, None)
    assert [row[:2] for row in said["node"]][:4] == [
        ["nvidia.com/gpu", 2], ["nvidia.com/mig-3g.40gb", 1], ["nvidia.com/mig-1g.10gb.me", 1],
        ["nvidia.com/mig-1c.3g.40gb", 1],
    ]  # fmt: skip


def test_a_gpu_that_fell_off_the_bus_takes_no_other_with_it(library: Path) -> None:
    said = ask(library, READ)
    assert said["gpus"]["lost"] == ["GPU 2 does not answer (GPU is lost) and is not offered"]
    assert said["gpus"]["lost"][0] in said["notes"]


def test_a_driver_that_is_not_loaded_is_said(library: Path) -> None:
    said = ask(library, READ, FAKE_NVML="nodriver")
    assert said["gpus"]["why_none"] == "no NVIDIA driver answers (Driver Not Loaded)"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Device files and capabilities, as the driver makes them: GPU n has minor 3 - n."""
    root = tmp_path_factory.mktemp("files")
    (root / "dev/nvidia-caps").mkdir(parents=True)
    try:
        for minor in range(4):
            os.mknod(root / f"dev/nvidia{minor}", 0o020600, os.makedev(195, minor))
        os.mknod(root / "dev/nvidiactl", 0o020600, os.makedev(195, 255))
        for number, place in enumerate(("gi1", "gi1/ci0", "gi5", "gi5/ci0", "gi2", "gi2/ci0", "gi2/ci1"), start=20):
            folder = root / "capabilities/gpu2/mig" / place
            folder.mkdir(parents=True)
            (folder / "access").write_text(f"DeviceFileMinor: {number}\nDeviceFileMode: 292\nDeviceFileModify: 1\n")
            os.mknod(root / f"dev/nvidia-caps/nvidia-cap{number}", 0o020444, os.makedev(236, number))
    except PermissionError:
        pytest.skip("needs root: it makes device files")
    return root


GPUS = [[195, minor] for minor in range(4)]
CAPS = [[236, number] for number in range(20, 27)]


@pytest.mark.parametrize(
    ("booked", "open_"),
    [
        ([], []),
        (["simulated-0"], []),
        (["GPU-0"], [[195, 3]]),
        (["GPU-0", "GPU-3"], [[195, 3], [195, 0]]),
        (["MIG-11111111-aaaa"], [[195, 2], [236, 20], [236, 21]]),
        (["MIG-GPU-1/2/1"], [[195, 2], [236, 24], [236, 26]]),  # not the other compute instance beside it
    ],
    ids=["none", "simulated", "a GPU", "two GPUs", "a slice", "a part of a slice"],
)
def test_what_is_not_booked_is_refused(library: Path, files: Path, booked: list[str], open_: list[list[int]]) -> None:
    denied = ask(library, DENIED, str(files), *booked)
    assert [number for number in [*GPUS, *CAPS] if number not in denied] == sorted(open_)
    assert [195, 255] not in denied  # all need the control device


def test_when_the_driver_does_not_answer_no_gpu_is_let_through(library: Path, files: Path) -> None:
    assert ask(library, DENIED, str(files), "GPU-0", FAKE_NVML="nodriver") == sorted([*GPUS, *CAPS])


WATCH = """
import dataclasses, json
from mlmp_spawner import activity
watch = activity.GpuWatch()
looks = [watch.read(), watch.read()]
watch.close()
looks.append(watch.read())
as_json = [{unit: [use.utilisation, use.memory, sorted(use.pids or ()) if use.pids is not None else None]
            for unit, use in look.items()} for look in looks]
print(json.dumps({"looks": as_json, "known": activity.sees_all_processes()}))
"""


def test_utilisation_and_processes_are_told_by_unit_and_what_is_not_known_is_none(library: Path) -> None:
    said = ask(library, WATCH, FAKE_PID="4321")
    first = said["looks"][0]
    assert said["looks"] == [first] * 3, "GPU 2, which is lost, takes the others not with it"
    pids = [4321] if said["known"] else None
    none = [] if said["known"] else None
    assert first["GPU-0"] == [87, 0, pids]
    assert first["MIG-11111111-aaaa"] == [None, 0, pids]
    assert first["MIG-22222222-bbbb"] == [None, 0, none]
    assert first["GPU-3"] == [0, None, none]
    assert "GPU-1" not in first and "GPU-2" not in first


def test_without_a_driver_there_is_nothing_to_watch(library: Path) -> None:
    assert ask(library, WATCH, FAKE_NVML="nodriver")["looks"] == [{}, {}, {}]
