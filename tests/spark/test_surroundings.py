"""What Spark finds where it is to run: Java, GPUs, pyspark, and what it is told of them."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from mlmp_spawner.client import spark_conf, spark_folder, spark_java
from mlmp_spawner.client.spark_progress import Tasks
from mlmp_spawner.client.spark_workers import Workers, check_memory, of_server
from mlmp_spawner.errors import Invalid, NotFound
from mlmp_spawner.lab.spark_worker import _resources
from mlmp_spawner.units import HOUR


def program(folder: Path, name: str, script: str) -> dict[str, str]:
    """An environment in which that is the only program but the shell's own."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / name
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)
    return {"PATH": str(folder)}


@pytest.mark.parametrize("version", ["17.0.15", "21", "25-ea"])
def test_java_17_and_newer_will_do(tmp_path: Path, version: str) -> None:
    spark_java.check(program(tmp_path, "java", f"echo 'openjdk version \"{version}\"' >&2"))
    home = tmp_path / "home"
    program(home / "bin", "java", f"echo 'openjdk version \"{version}\"' >&2")
    spark_java.check({"JAVA_HOME": str(home), "PATH": ""})


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo 'openjdk version \"11.0.2\"' >&2", "is 11; Spark 4 needs 17 or newer"),
        ("echo 'java version \"1.8.0_292\"' >&2", "is 8; Spark 4 needs 17 or newer"),
        ("echo hello >&2", "is of an unknown version"),
        ("exit 3", "does not run"),
    ],
)
def test_another_java_is_refused_with_where_it_is(tmp_path: Path, script: str, said: str) -> None:
    with pytest.raises(Invalid, match=said) as refused:
        spark_java.check(program(tmp_path, "java", script))
    assert str(tmp_path / "java") in str(refused.value)
    assert "lab-spark" in (refused.value.hint or "")


def test_without_java_it_is_said_which_to_install(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="There is no Java here") as refused:
        spark_java.check({"PATH": str(tmp_path)})
    assert "openjdk-17-jre-headless" in (refused.value.hint or "")


def test_a_kernel_without_pyspark_says_how_to_get_it() -> None:
    code = "import sys; sys.modules['pyspark'] = None; from mlmp_spawner.client import spark_session; spark_session(0)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "There is no pyspark in this Python." in ran.stderr


@pytest.mark.parametrize(
    ("named", "count"), [("GPU-1a,GPU-2b", 2), ("MIG-7", 1), ("", 0), ("simulated-0,simulated-1", 0)]
)
def test_a_worker_has_the_gpus_that_its_job_was_given(tmp_path: Path, named: str, count: int) -> None:
    assert discovered(tmp_path, {"CUDA_VISIBLE_DEVICES": named}) == [str(one) for one in range(count)]


def test_in_a_container_it_has_those_that_it_sees(tmp_path: Path) -> None:
    listed = "echo 'GPU 0: NVIDIA A100 (UUID: GPU-1)'\necho '  MIG 1g.5gb Device 0'\necho 'GPU 1: NVIDIA A100'"
    assert discovered(tmp_path, program(tmp_path / "bin", "nvidia-smi", listed)) == ["0", "1"]
    assert discovered(tmp_path, program(tmp_path / "bin", "nvidia-smi", "exit 9")) == []
    assert discovered(tmp_path, {"PATH": ""}) == []


def discovered(folder: Path, environ: dict[str, str]) -> list[str]:
    """What Spark learns from the discovery script, and that it is as many as the worker says."""
    settings = _resources(environ, folder)
    if not settings:
        return []
    said = subprocess.run([settings["spark.worker.resource.gpu.discoveryScript"]], capture_output=True, check=True)
    found = json.loads(said.stdout)
    assert found["name"] == "gpu"
    assert settings["spark.worker.resource.gpu.amount"] == str(len(found["addresses"]))
    return list(found["addresses"])


@dataclass
class Profile:
    name: str
    resource: str
    units: int = 2
    simulated: bool = False
    raw: dict[str, Any] = field(default_factory=dict)


class Catalog:
    """What a client knows of profiles."""

    def profiles(self) -> list[Profile]:
        return [
            Profile("a100", "nvidia.com/gpu"), Profile("slice", "nvidia.com/mig-1g.5gb", 1),
            Profile("cpu", "mlmp.dev/slot"), Profile("small", "mlmp.dev/slot", raw={"memory": 2 << 30}),
            Profile("pretended", "nvidia.com/gpu", simulated=True),
        ]  # fmt: skip


@pytest.mark.parametrize(
    ("manifest", "gpus"),
    [
        ({"profile": "a100"}, "2"),
        ({"profile": "a100", "units": 4}, "4"),
        ({"profile": "slice"}, "1"),
        ({"profile": "cpu"}, None),
        ({"profile": "pretended"}, None),
        ({"profile": "unheard-of"}, None),
    ],
)
def test_executors_and_tasks_ask_for_gpus_where_the_profile_has_real_ones(
    manifest: dict[str, Any], gpus: str | None
) -> None:
    client: Any = Catalog()
    settings = Workers(client, "spark://host:1", "1g", "secret", manifest).gpu_settings()
    assert settings.get("spark.executor.resource.gpu.amount") == gpus
    assert settings.get("spark.task.resource.gpu.amount") == ("1" if gpus else None)


@dataclass
class Booked:
    id: str
    end: int


class Bookings(Catalog):
    """A client who knows one booking."""

    def reservation(self, id: str) -> Booked:
        if id != "b1":
            raise NotFound("no such booking")
        return Booked("b1", 2 * HOUR)


def test_executors_talk_with_the_server_of_the_session_and_are_asked_for_as_long_as_it_is_booked() -> None:
    client: Any = Bookings()
    assert of_server(client, {"MLMP_RESERVATION_ID": "b1"}, HOUR) == {"hours": 1.0, "server": "b1"}
    for elsewhere in ({}, {"MLMP_RESERVATION_ID": "gone"}):
        assert of_server(client, elsewhere, HOUR) == {}
    assert of_server(client, {"MLMP_RESERVATION_ID": "b1"}, 3 * HOUR) == {}


@pytest.mark.parametrize(
    ("memory", "units", "fits"),
    [
        ("1536m", None, True),
        ("2g", None, False),
        ("1537m", 2, False),
        ("3g", 4, True),
        ("512m", 1, True),
        ("1g", 1, False),
    ],
)
def test_an_executor_that_has_no_room_for_its_memory_is_refused_before_it_is_asked_for(
    memory: str, units: int | None, fits: bool
) -> None:
    client: Any = Catalog()
    asked = {"profile": "small", "units": units}
    if fits:
        check_memory(client, memory, asked)
    else:
        with pytest.raises(Invalid, match=r"has [12] GiB, and 512 MiB of that are for Python"):
            check_memory(client, memory, asked)
    check_memory(client, memory, {"profile": "a100"})


HELD = """
import sys
from pathlib import Path
from mlmp_spawner.client import spark_folder
lock = spark_folder.take(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_folders_of_drivers_that_were_killed_are_cleared_and_no_others(tmp_path: Path) -> None:
    running, killed, elsewhere = tmp_path / "a", tmp_path / "b", tmp_path / "c"
    holders = [
        subprocess.Popen([sys.executable, "-c", HELD, str(one)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for one in (running, killed)
    ]
    try:
        for holder in holders:
            assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        elsewhere.mkdir()
        (elsewhere / "lock").write_text("another-machine")
        (tmp_path / "begun").mkdir()
        (tmp_path / "begun" / "lock").touch()
        holders[1].kill()
        holders[1].wait()
        spark_folder.clear_dead(tmp_path)
        assert {one.name for one in tmp_path.iterdir()} == {"a", "c", "begun"}
        assert (running.stat().st_mode & 0o777, (running / "lock").stat().st_mode & 0o777) == (0o700, 0o600)
    finally:
        for holder in holders:
            holder.communicate()


@pytest.mark.parametrize(("host", "encrypted"), [("10.0.0.7", True), ("fd00::7", True), ("127.0.0.1", False)])
def test_what_leaves_the_machine_is_encrypted(host: str, encrypted: bool) -> None:
    settings = spark_conf.closed("secret", host)
    assert settings["spark.authenticate"] == "true"
    assert (settings.get("spark.network.crypto.enabled") == "true") is encrypted
    assert (settings.get("spark.network.crypto.cipher") == "AES/GCM/NoPadding") is encrypted


@pytest.mark.parametrize("name", ["spark.x y", "other.x", "spark.a\nspark.b"])
def test_no_setting_smuggles_in_another(name: str) -> None:
    with pytest.raises(Invalid, match=r"a setting is spark\.NAME"):
        spark_conf.checked({name: "1"})
    with pytest.raises(Invalid, match="one line"):
        spark_conf.checked({"spark.x": "1\nspark.authenticate false"})


@dataclass
class Info:
    """Of a job, or of a stage."""

    stageIds: list[int] = field(default_factory=list)
    numTasks: int = 0
    numActiveTasks: int = 0
    numCompletedTasks: int = 0


@dataclass
class Tracker:
    """What Spark says of what it does."""

    jobs: dict[int, Info]
    stages: dict[int, Info]

    def getActiveJobsIds(self) -> list[int]:
        return list(self.jobs)

    def getJobInfo(self, job: int) -> Info | None:
        return self.jobs.get(job)

    def getStageInfo(self, stage: int) -> Info | None:
        return self.stages.get(stage)


def test_progress_counts_what_runs_and_has_run_since_nothing_did() -> None:
    skipped, running = Info(numTasks=50), Info(numTasks=8, numActiveTasks=2, numCompletedTasks=3)
    tracker = Tracker({1: Info([10, 11])}, {10: skipped, 11: running})
    tasks = Tasks(tracker)
    assert tasks.look() == (3, 8)
    tracker.jobs = {2: Info([12, 13])}
    tracker.stages = {12: Info(numTasks=4, numActiveTasks=4)}
    assert tasks.look() == (8, 12)
    tracker.jobs = {}
    assert tasks.look() is None
    tracker.jobs = {3: Info([12])}
    assert tasks.look() == (0, 4)
