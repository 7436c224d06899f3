"""What runs beside a job's program: told all that it needs, and no way to keep a pod alive or to fail one."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlmp_spawner.kube.job_beside import FOLDER, GPU_USE
from mlmp_spawner.kube.job_pods import CODE_KEY, Work, name_of, objects
from mlmp_spawner.lab.job_sidecar import gpus
from tests.kube.test_job_pods import AROUND, GPU, HOME, main_of, said, spec_of, work
from tests.live import wait_for

METRICS = [{"tensorboard": "runs/$(X)"}, {"pattern": "loss=(?P<loss>.*)"}, {"json_lines": "~/numbers.jsonl"}]


def of_rank(rank: int, one: Work) -> dict[str, Any]:
    """The container that measures, of one worker of several."""
    pods = [made for made in objects(one, AROUND, {}, "") if made["kind"] == "Pod"]
    found: dict[str, Any] = pods[rank]["spec"]["initContainers"][1]
    return found


def test_it_runs_for_as_long_as_the_program_and_keeps_no_pod_alive():
    prepare, measure = spec_of(work())["initContainers"]
    assert measure["restartPolicy"] == "Always" and "restartPolicy" not in prepare
    assert measure["image"] == AROUND.image and "lifecycle" not in measure and "startupProbe" not in measure


def test_it_takes_little_and_no_unit():
    for container in spec_of(work())["initContainers"]:
        assert set(container["resources"]["requests"]) == set(container["resources"]["limits"]) == {"cpu", "memory"}
        assert container["resources"]["requests"] == {"cpu": "10m", "memory": "64Mi"}


def test_it_knows_where_the_metrics_are_as_the_program_has_it():
    told = said(spec_of(work({"metrics": METRICS, "directory": "src"}))["initContainers"][1])
    named = json.loads(told["MLMP_JOB_METRICS"].replace("$$", "$"))
    assert named == [METRICS[0], METRICS[2]], "patterns are for the log"
    assert told["MLMP_JOB_DIRECTORY"] == f"{HOME}/mlmp-jobs/j/src" and told["HOME"] == HOME
    assert told["MLMP_JOB_NUMBERS_URL"] == "http://mlmp/api/v1/pods/jobs/j-2/metrics?worker=0"
    assert told["MLMP_JOB_TOKEN"] == {"secretKeyRef": {"name": name_of("j-2"), "key": CODE_KEY}}


def test_what_prepares_notes_how_far_the_files_are_where_it_is_read():
    prepare, measure = (said(one) for one in spec_of(work({"metrics": METRICS}))["initContainers"])
    for name in ("HOME", "MLMP_JOB_METRICS", "MLMP_JOB_DIRECTORY", "MLMP_JOB_SEEN"):
        assert prepare[name] == measure[name]


def test_of_several_workers_the_first_reads_the_files_that_all_see():
    told = [said(of_rank(rank, work({"metrics": METRICS}, workers=2))) for rank in (0, 1)]
    assert len(json.loads(told[0]["MLMP_JOB_METRICS"])) == 2 and told[1]["MLMP_JOB_METRICS"] == "[]"
    assert [one["MLMP_JOB_NUMBERS_URL"][-1] for one in told] == ["0", "1"]


@pytest.mark.parametrize(("resource", "asked"), [(GPU, True), ("nvidia.com/mig-1g.5gb", True), ("amd.com/gpu", False)])
def test_the_driver_is_asked_in_the_container_that_has_the_gpus(resource: str, asked: bool):
    lifecycle = main_of(spec_of(replace(work(), resource=resource)))["lifecycle"]
    assert ("postStart" in lifecycle) == asked


def run(folder: Path, path: str) -> subprocess.CompletedProcess[bytes]:
    """The command as the kubelet runs it, which waits until nobody holds what it printed to."""
    command = ["/bin/sh", "-c", GPU_USE.replace(FOLDER, str(folder))]
    return subprocess.run(command, env={"PATH": path, "FOLDER": str(folder)}, capture_output=True, timeout=60)


def test_what_the_driver_tells_is_read_beside_it(tmp_path: Path):
    program = tmp_path / "nvidia-smi"
    program.write_text('#!/bin/sh\necho $$ >"$FOLDER/pid"\nprintf "0, 40, 2\\n1, 60, 4\\n"\nexec /bin/sleep 300\n')
    program.chmod(0o755)
    done = run(tmp_path, f"{tmp_path}:/usr/bin:/bin")
    try:
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
        wait_for(lambda: gpus(tmp_path / "gpu") == {"gpu": 50.0, "gpu_memory": 6.0 * 2**20}, what="its lines")
    finally:
        wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip(), what="its pid")
        os.kill(int((tmp_path / "pid").read_text()), 9)


def test_an_image_without_the_program_fails_no_job(tmp_path: Path):
    assert run(tmp_path, str(tmp_path)).returncode == 0
    assert run(tmp_path / "missing", str(tmp_path)).returncode == 0 and gpus(tmp_path / "missing/gpu") == {}
