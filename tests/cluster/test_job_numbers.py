"""What jobs in pods measure and use: it reaches a real service, and holds up no pod."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from kubernetes import client
from sqlalchemy import insert

from mlmp_spawner.kube.files import Account
from mlmp_spawner.kube.job_pods import Surroundings, Work, objects
from mlmp_spawner.operations import catalog_sync
from mlmp_spawner.operations.jobs import listing
from mlmp_spawner.operations.site import Site, new_id
from mlmp_spawner.rules.jobs import Attempt
from mlmp_spawner.rules.storage import Storage
from mlmp_spawner.store.engine import make_engine
from mlmp_spawner.store.tables import users
from mlmp_spawner.store.transaction import transaction
from mlmp_spawner.units import HOUR, MINUTE, now
from mlmp_spawner.web.context import Jobs
from tests.cluster.hub_here import address_towards, wait_for
from tests.cluster.queues import Api
from tests.cluster.rig.cluster import Cluster
from tests.databases import prepare
from tests.operations.conftest import catalog
from tests.web.harness import API, RunningApp
from tests.web.job_parts import begin, end, make_jobs, submit

GPU = "nvidia.com/gpu"
TRAIN = """
import json, pathlib, sys, time
steps, pause = int(sys.argv[1]), float(sys.argv[2])
hold = bytearray(200 << 20)
pathlib.Path("numbers").mkdir(exist_ok=True)
with open("numbers/metrics.jsonl", "a", buffering=1) as file:
    for step in range(steps):
        print(json.dumps({"step": step, "loss": 1 / (step + 1)}), file=file)
        ends = time.monotonic() + pause
        while time.monotonic() < ends: pass
print("trained")
"""
SAVES = """
import json, pathlib, signal, sys, time
pathlib.Path("numbers").mkdir(exist_ok=True)
file = open("numbers/metrics.jsonl", "a", buffering=1)
def told(*_):
    time.sleep(2)
    print(json.dumps({"step": 2, "loss": 0.5}), file=file)
    sys.exit(0)
signal.signal(signal.SIGTERM, told)
print(json.dumps({"step": 1, "loss": 1}), file=file)
while True: time.sleep(0.1)
"""
NVIDIA_SMI = "#!/bin/sh\nwhile :; do echo '0, 40, 1000'; echo '1, 60, 3000'; sleep 1; done\n"


class Place:
    """A service that pods reach, and what starts them without any queue."""

    def __init__(self, app: RunningApp, jobs: Jobs, api: Api, image: str, ann: httpx.Client) -> None:
        self.app, self.jobs, self.api, self.image, self.ann = app, jobs, api, image, ann

    def run(self, *, code: str = TRAIN, resource: str = GPU, **manifest: Any) -> Attempt:
        """An attempt of a job of ann's, begun: a pod is made at once."""
        packed = _packed(code)
        sha256 = hashlib.sha256(packed).hexdigest()
        assert self.ann.put(f"jobs/code/{sha256}", content=packed).status_code == 201
        said = {"metrics": [{"json_lines": "numbers/metrics.jsonl"}], "script": "train.py"} | manifest
        job = submit(self.ann, code=sha256, command=None, **said)
        attempt = begin(self.app.site, job["id"], now(), reservation=new_id())
        self.make(attempt, listing.get(self.app.site, job["id"]).manifest, sha256, resource)
        return attempt

    def make(self, attempt: Attempt, manifest: dict[str, Any], sha256: str, resource: str) -> None:
        """Makes the objects of an attempt, of which Kueue knows nothing."""
        work = Work(
            id=attempt.id, job=attempt.job, number=attempt.number, owner="ann", manifest=manifest, image=self.image,
            resource=resource, units=1, workers=1, hostnames=frozenset({"node-a", "node-b"}), length=HOUR,
            grace=MINUTE, cpus=1.0, memory=512 << 20, queue="none", code=sha256,
        )  # fmt: skip
        around = Surroundings(
            self.api.namespace, "http://hub/", self.app.url + API, self.image, Storage(claim="homes"),
            "ann", Account(1000, 1000),
        )  # fmt: skip
        for made in objects(work, around, {}, self.jobs.tokens.make(attempt.id)):
            if made["kind"] == "Job":
                made["spec"]["suspend"] = False
                made["metadata"] |= {"labels": {"mlmp.dev/attempt": attempt.id}, "annotations": {}}
            answer = self.api.create(made)
            assert answer.status_code == 201, answer.text

    def pod(self, attempt: Attempt) -> dict[str, Any] | None:
        """Its pod, once there is one."""
        found = self.api.pods(attempt.id)
        return found[0] if found else None

    def wait_over(self, attempt: Attempt) -> dict[str, Any]:
        """Waits until nothing of it runs; its pod."""

        def over() -> dict[str, Any] | None:
            pod = self.pod(attempt)
            return pod if pod is not None and pod["status"]["phase"] in ("Succeeded", "Failed") else None

        found = wait_for(over, 180, f"the end of {attempt.id}")
        assert isinstance(found, dict)
        return found

    def numbers(self, attempt: Attempt) -> dict[str, Any]:
        """What the service shows of the job."""
        return dict(self.ann.get(f"jobs/{attempt.job}/metrics").json())


def _packed(text: str) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        member = tarfile.TarInfo("train.py")
        member.size = len(text)
        archive.addfile(member, io.BytesIO(text.encode()))
    return made.getvalue()


@pytest.fixture
def place(cluster: Cluster, core: client.CoreV1Api, namespace: str, tmp_path: Path) -> Iterator[Place]:
    cluster.must_be_ours()
    if not any(one.metadata.name == "homes" for one in core.list_namespaced_persistent_volume_claim(namespace).items):
        spec = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}
        core.create_namespaced_persistent_volume_claim(namespace, {"metadata": {"name": "homes"}, "spec": spec})
    url = f"sqlite:///{tmp_path / 'mlmp.sqlite'}"
    prepare(url)
    site = Site(make_engine(url), catalog(gpu_a=4))
    with transaction(site.engine) as connection:
        connection.execute(insert(users), [{"id": 1, "name": "ann"}])
    catalog_sync.sync(site, now=now())
    api = Api(namespace)
    with RunningApp(site, now(), address=address_towards(core)) as app, app.client("ann-token") as ann:
        jobs = app.context.jobs = make_jobs(tmp_path)
        yield Place(app, jobs, api, cluster.images["hub"], ann)
    api.http.close()


def how_ended(pod: dict[str, Any], container: str, kind: str = "containerStatuses") -> dict[str, Any]:
    """How a container ended."""
    found = next(one for one in pod["status"][kind] if one["name"] == container)
    return dict(found["state"]["terminated"])


def test_metrics_and_what_is_used_are_shown_to_the_last_step(place: Place) -> None:
    attempt = place.run(arguments=["60", "0.3"])
    wait_for(lambda: place.numbers(attempt)["series"], 120, "the first numbers, while it runs")
    pod = place.wait_over(attempt)
    assert pod["status"]["phase"] == "Succeeded", pod["status"]
    assert how_ended(pod, "measure", "initContainerStatuses")["exitCode"] == 0
    found = place.numbers(attempt)
    assert found["series"]["loss"]["steps"] == list(range(60))
    assert 0.3 < max(found["usage"]["cpu"]["values"]) < 1.5
    assert max(found["usage"]["memory"]["values"]) > 200 << 20


def test_a_later_attempt_has_its_own_metrics_from_the_first_line_on(place: Place) -> None:
    first = place.run(arguments=["3", "0"])
    place.wait_over(first)
    end(place.app.site, first, now(), over=False, reason="vanished")
    job = listing.get(place.app.site, first.job)
    second = begin(place.app.site, job.id, now(), reservation=new_id())
    place.make(second, job.manifest, job.code or "", GPU)
    place.wait_over(second)
    for attempt in (first, second):
        assert len(place.jobs.files.metrics(attempt.id).read_bytes().splitlines()) == 3


def test_what_is_measured_while_it_makes_way_arrives_too(place: Place) -> None:
    attempt = place.run(code=SAVES)
    wait_for(lambda: place.numbers(attempt)["series"], 120, "the first number")
    pod = place.pod(attempt)
    assert pod is not None
    place.api.ask("DELETE", f"/api/v1/namespaces/{place.api.namespace}/pods/{pod['metadata']['name']}")
    wait_for(lambda: place.numbers(attempt)["series"]["loss"]["steps"] == [1, 2], 60, "the last number")
    wait_for(lambda: place.pod(attempt) is None, 60, "the end of the pod")


def test_a_service_that_is_away_holds_up_no_pod(place: Place) -> None:
    attempt = place.run(arguments=["30", "0.2"])
    wait_for(lambda: place.numbers(attempt)["series"], 120, "the first numbers")
    place.app.call(place.app.go_away())
    pod = place.wait_over(attempt)
    assert pod["status"]["phase"] == "Succeeded" and how_ended(pod, "notebook")["exitCode"] == 0


def test_what_gpus_do_is_asked_where_they_are(place: Place) -> None:
    program = "/home/jovyan/bin/nvidia-smi"
    write = f"""
from pathlib import Path
path = Path({program!r})
path.parent.mkdir()
path.write_text({NVIDIA_SMI!r})
path.chmod(0o755)
"""
    assert place.wait_over(place.run(code=write))["status"]["phase"] == "Succeeded"
    search = "/home/jovyan/bin:/opt/mlmp/bin:/usr/local/bin:/usr/bin:/bin"
    attempt = place.run(environment={"PATH": search}, arguments=["60", "0.3"])
    pod = place.wait_over(attempt)
    assert pod["status"]["phase"] == "Succeeded", "what the driver runs for ever holds up no pod"
    found = place.numbers(attempt)["usage"]
    assert set(found["gpu"]["values"]) == {50.0} and set(found["gpu_memory"]["values"]) == {4000.0 * (1 << 20)}
