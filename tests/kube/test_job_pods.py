"""An attempt in a cluster: nothing starts before Kueue and the calendar let it, and no user has a part in the pod."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlmp_spawner.kube import job_pods
from mlmp_spawner.kube.confinement import containers
from mlmp_spawner.kube.files import Account
from mlmp_spawner.kube.job_pods import MAIN, Surroundings, Work, command, name_of, objects
from mlmp_spawner.rules import job_manifest
from mlmp_spawner.rules.storage import Storage
from mlmp_spawner.units import HOUR, MINUTE

GPU = "nvidia.com/gpu"
HOME = "/home/jovyan"
AROUND = Surroundings(
    namespace="users", url="http://hub/", api_url="http://mlmp/api/v1/", image="mlmp/lab:1",
    storage=Storage(claim="homes"), folder="ann", account=Account(1000, 100),
)  # fmt: skip


def manifest(**given: Any) -> dict[str, Any]:
    """A checked one, with its paths filled in."""
    said = {"profile": "gpu", "script": "train.py", "arguments": ["--epochs", "3"]} | given
    return job_manifest.for_job(job_manifest.parse({k: v for k, v in said.items() if v is not None}).normal(), "j")


def work(given: dict[str, Any] | None = None, **changed: Any) -> Work:
    """An attempt with two GPUs for an hour."""
    known: dict[str, Any] = {
        "id": "j-2", "job": "j", "number": 2, "owner": "ann@x.org", "manifest": manifest(**(given or {})),
        "image": "torch:2", "resource": GPU, "units": 2, "workers": 1, "hostnames": frozenset({"a", "b"}),
        "length": HOUR, "grace": MINUTE, "cpus": 8.0, "memory": 64 << 30, "queue": "team",
        "code": "c" * 64,
    }  # fmt: skip
    return Work(**known | changed)


def by_kind(one: Work, around: Surroundings = AROUND, **values: str) -> dict[str, list[dict[str, Any]]]:
    """Its objects; the token is never what is looked for."""
    found: dict[str, list[dict[str, Any]]] = {}
    for made in objects(one, around, values, "the-token"):
        found.setdefault(made["kind"], []).append(made)
    return found


def job_of(one: Work, around: Surroundings = AROUND) -> dict[str, Any]:
    (found,) = by_kind(one, around)["Job"]
    return found


def spec_of(one: Work, around: Surroundings = AROUND) -> dict[str, Any]:
    """The pod's, of the only worker."""
    return dict(job_of(one, around)["spec"]["template"]["spec"])


def main_of(spec: dict[str, Any]) -> dict[str, Any]:
    return next(one for one in spec["containers"] if one["name"] == MAIN)


def said(container: dict[str, Any]) -> dict[str, Any]:
    return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in container["env"]}


# -- when it starts -----------------------------------------------------------------------------------------------


def test_a_job_waits_in_its_groups_queue_and_does_not_even_ask_before_it_may():
    made = job_of(work())
    assert made["spec"]["suspend"] is True
    assert made["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team"
    assert made["metadata"]["labels"]["kueue.x-k8s.io/priority-class"] == "mlmp-normal"
    assert made["metadata"]["annotations"]["kueue.x-k8s.io/admission-gated-by"] == "mlmp.dev/calendar"
    assert job_pods.attempt_of(made["metadata"]["name"]) == "j-2" and job_pods.attempt_of("other") is None


def test_kueue_ends_no_job_at_a_time_of_its_own():
    """One that it ends so stays suspended for ever, and can't be woken."""
    assert "max-exec-time" not in json.dumps(
        [objects(work(), AROUND, {}, ""), objects(work(workers=2), AROUND, {}, "")]
    )


def test_the_flavor_says_where_it_runs_and_nothing_of_ours_contradicts_it():
    spec = spec_of(work())
    assert "nodeSelector" not in spec and "nodeName" not in spec
    (term,) = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    hosts = {"key": "kubernetes.io/hostname", "operator": "In", "values": ["a", "b"]}
    assert term == {"matchExpressions": [hosts]}, "by which Kueue leaves out the flavors of other nodes"


def test_nothing_runs_twice():
    spec = job_of(work())["spec"]
    assert (spec["parallelism"], spec["completions"], spec["backoffLimit"]) == (1, 1, 0)
    assert spec["podReplacementPolicy"] == "Failed"
    assert spec["template"]["spec"]["restartPolicy"] == "Never"


def test_it_has_its_grace_and_the_cluster_ends_it_when_everybody_else_is_away():
    spec = spec_of(work())
    assert spec["terminationGracePeriodSeconds"] == 60
    assert spec["activeDeadlineSeconds"] == 3600 + 60 + job_pods.START // 1000


# -- what it may --------------------------------------------------------------------------------------------------


def test_a_worker_has_its_units_and_what_goes_with_them():
    resources = main_of(spec_of(work()))["resources"]
    assert resources["limits"] == {GPU: "2", "cpu": "8000m", "memory": str(64 << 30)}
    assert resources["requests"] == {GPU: "2", "cpu": "7200m", "memory": str(round((64 << 30) * 0.9))}


@pytest.mark.parametrize("workers", [1, 3])
def test_a_pod_is_confined_as_a_servers_is(workers: int):
    for made in objects(work(workers=workers), AROUND, {}, ""):
        spec = made["spec"].get("template", made).get("spec") if made["kind"] in ("Job", "Pod") else None
        if spec is None:
            continue
        assert spec["automountServiceAccountToken"] is False and spec["enableServiceLinks"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
        for container in containers(spec):
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False and security["capabilities"] == {"drop": ["ALL"]}
            assert (security["runAsUser"], security["runAsGroup"]) == (1000, 100)
            if container["name"] != MAIN:
                assert said(container)["NVIDIA_VISIBLE_DEVICES"] == "void"
        assert {"key": GPU, "operator": "Exists", "effect": "NoSchedule"} in spec["tolerations"]


def test_it_sees_its_users_folder_and_no_other():
    around = replace(AROUND, storage=Storage(claim="homes", shared={"claim": "data"}))
    spec = spec_of(work(), around)
    home = {"name": "home", "mountPath": HOME, "subPath": "ann"}
    assert home in main_of(spec)["volumeMounts"]
    beside = {"name": "beside", "mountPath": "/run/mlmp"}
    prepare, measure = spec["initContainers"]
    assert prepare["volumeMounts"] == [home, beside], "what fetches the code needs no more"
    assert all(one.get("readOnly") for one in measure["volumeMounts"] if one != beside), "what measures only reads"
    assert {one["mountPath"]: one.get("readOnly") for one in main_of(spec)["volumeMounts"]}["/mnt/shared"] is True


def test_nothing_of_the_manifest_gets_into_the_pod_but_program_and_environment():
    hostile = {"hostNetwork": True, "nodeName": "a", "tolerations": [], "securityContext": {"privileged": True}}
    one = work()
    assert spec_of(replace(one, manifest={**one.manifest, **hostile})) == spec_of(one)


def test_a_variable_of_the_user_is_taken_as_it_stands_and_ours_are_ours():
    one = work({"environment": {"A": "$(MLMP_URL) and $B", "OMP_NUM_THREADS": "2"}, "arguments": ["$(A)"]})
    forged = {**one.manifest, "environment": {**one.manifest["environment"], "MLMP_JOB_ID": "another"}}
    forged["environment"]["NVIDIA_VISIBLE_DEVICES"] = "all"
    main = main_of(spec_of(replace(one, manifest=forged)))
    assert said(main)["A"] == "$$(MLMP_URL) and $$B", "which Kubernetes reads as it was written"
    assert main["command"] == ["python", "train.py", "$$(A)"]
    assert said(main)["OMP_NUM_THREADS"] == "2" and said(main)["MLMP_JOB_ID"] == "j"
    assert "NVIDIA_VISIBLE_DEVICES" not in said(main), "the device plugin says which"


def test_secrets_stand_in_no_pod():
    made = by_kind(work({"secrets": ["TOKEN"]}, secrets=("TOKEN",)), TOKEN="hush", OTHER="not asked for")
    (secret,) = made["Secret"]
    assert secret["stringData"] == {"TOKEN": "hush", job_pods.CODE_KEY: "the-token"}
    (job,) = made["Job"]
    assert "hush" not in json.dumps(job) and "the-token" not in json.dumps(job)
    spec = job["spec"]["template"]["spec"]
    assert said(main_of(spec))["TOKEN"] == {"secretKeyRef": {"name": name_of("j-2"), "key": "TOKEN"}}
    assert job_pods.CODE_KEY not in json.dumps(main_of(spec)), "the program can't fetch in its owner's name"


def test_its_code_is_fetched_at_an_address_of_the_attempt():
    (prepare, *_) = spec_of(work())["initContainers"]
    assert said(prepare)["MLMP_JOB_CODE_URL"] == "http://mlmp/api/v1/pods/jobs/j-2/code"


def test_objects_that_start_something_come_last():
    kinds = [one["kind"] for one in objects(work(workers=2), AROUND, {}, "")]
    assert kinds == ["ConfigMap", "Secret", "Service", "NetworkPolicy", "Pod", "Pod"]
    for made in objects(work(workers=2), AROUND, {}, ""):
        assert made["metadata"]["namespace"] == "users" and made["metadata"]["labels"]["mlmp.dev/attempt"] == "j-2"


# -- what it runs -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "runs"),
    [
        ({}, ["python", "train.py", "--epochs", "3"]),
        ({"script": "run.sh", "arguments": None}, ["bash", "run.sh"]),
        ({"script": "bin/run", "arguments": None}, ["./bin/run"]),
        ({"script": None, "arguments": None, "command": "a | b"}, ["sh", "-c", "a | b"]),
        (
            {"script": None, "arguments": None, "notebook": "s.ipynb", "parameters": {"n": 1}},
            ["python", "-m", "papermill", "s.ipynb", "/out/s-done.ipynb", "--log-output", "--no-progress-bar",
             "--parameters_yaml", '{"n": 1}'],
        ),
    ],
)  # fmt: skip
def test_it_runs_what_the_manifest_says(given: dict[str, Any], runs: list[str]):
    assert command(manifest(**given), "/out") == runs


def test_it_starts_in_its_code_and_knows_its_directories():
    main = main_of(spec_of(work({"directory": "src", "checkpoint": "ck/{id}"})))
    assert main["workingDir"] == f"{HOME}/mlmp-jobs/j/src"
    known = said(main)
    assert (known["MLMP_CHECKPOINT_DIR"], known["MLMP_OUTPUT_DIR"]) == (f"{HOME}/ck/j", f"{HOME}/mlmp-jobs/j")
    assert (known["MLMP_JOB_ID"], known["MLMP_JOB_ATTEMPT"], known["MLMP_PROFILE"]) == ("j", "2", "gpu")
    assert known["MLMP_NODE"] == {"fieldRef": {"fieldPath": "spec.nodeName"}}
    assert known["MLMP_JOB_ENDS_AT"] == {"fieldRef": {"fieldPath": "metadata.annotations['mlmp.dev/stops-at']"}}


def test_sigterm_reaches_the_program_and_a_file_says_how_long_is_left(tmp_path: Path):
    spec = spec_of(work())
    assert spec["shareProcessNamespace"] is True, "process 1 would not be ended by SIGTERM"
    notice = main_of(spec)["lifecycle"]["preStop"]["exec"]["command"]
    file = tmp_path / "stop.json"
    environment = {"PATH": "/usr/bin:/bin", "MLMP_STOP_FILE": str(file), "MLMP_GRACE": "60"}
    subprocess.run(notice, env=environment, check=True)
    found = json.loads(file.read_text())
    assert found["seconds_left"] == 60 and found["kill_at"] > 1_700_000_000_000 and found["reason"] == "asked"
    assert subprocess.run(notice, env={**environment, "MLMP_STOP_FILE": "/nowhere/x"}, check=False).returncode == 0


# -- several workers ----------------------------------------------------------------------------------------------


def test_each_worker_is_a_pod_set_of_its_own_and_none_starts_without_the_others():
    pods = by_kind(work(workers=3))["Pod"]
    assert [pod["metadata"]["annotations"]["kueue.x-k8s.io/role-hash"] for pod in pods] == ["w0", "w1", "w2"]
    assert len({pod["metadata"]["name"] for pod in pods}) == 3
    for pod in pods:
        assert pod["metadata"]["labels"]["kueue.x-k8s.io/pod-group-name"] == name_of("j-2")
        assert pod["metadata"]["annotations"]["kueue.x-k8s.io/pod-group-total-count"] == "3"
        assert pod["metadata"]["annotations"]["kueue.x-k8s.io/retriable-in-group"] == "false"
        assert pod["spec"]["schedulingGates"] == [{"name": "kueue.x-k8s.io/admission"}]


def test_workers_find_each_other_as_torchrun_has_it():
    made = by_kind(work(workers=2))
    (service,) = made["Service"]
    assert service["spec"]["clusterIP"] == "None" and service["spec"]["publishNotReadyAddresses"] is True
    for rank, pod in enumerate(made["Pod"]):
        assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
        assert (pod["spec"]["hostname"], pod["spec"]["subdomain"]) == (f"w{rank}", service["metadata"]["name"])
        known = said(main_of(pod["spec"]))
        assert known["MASTER_ADDR"] == f"w0.{service['metadata']['name']}" and known["MASTER_PORT"] == "29500"
        assert (known["WORLD_SIZE"], known["RANK"], known["NODE_RANK"]) == ("2", str(rank), str(rank))
    assert "MASTER_ADDR" not in said(main_of(spec_of(work())))


def test_workers_are_reached_by_each_other_and_by_no_other_attempt():
    made = objects(work(workers=2), AROUND, {}, "")
    (policy,) = [one for one in made if one["kind"] == "NetworkPolicy"]
    (rule,) = policy["spec"]["ingress"]
    assert policy["spec"]["policyTypes"] == ["Ingress"], "what they may reach is for the chart to say"
    for pod in (one for one in made if one["kind"] == "Pod"):
        for selector in (policy["spec"]["podSelector"], rule["from"][0]["podSelector"]):
            assert selector["matchLabels"].items() <= pod["metadata"]["labels"].items()
            assert "mlmp.dev/attempt" in selector["matchLabels"]
    assert rule["from"][0].keys() == {"podSelector"}, "of no other namespace"
    assert not [one for one in objects(work(), AROUND, {}, "") if one["kind"] == "NetworkPolicy"]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_way_is_opened_to_the_server_that_it_names_and_to_no_other(workers: int):
    closed = replace(AROUND, closed=True)
    made = objects(work(workers=workers, server="b1"), closed, {}, "")
    mine, at_server = [one for one in made if one["kind"] == "NetworkPolicy"]
    assert [one["kind"] for one in made].index("NetworkPolicy") < len(made) - workers, "before anything starts"
    server = {"podSelector": {"matchLabels": {"mlmp.dev/kind": "server", "mlmp.dev/reservation": "b1"}}}
    ours = {"podSelector": {"matchLabels": {"mlmp.dev/kind": "job", "mlmp.dev/attempt": "j-2"}}}
    assert mine["spec"] == ours | {
        "policyTypes": ["Ingress", "Egress"], "ingress": [{"from": [ours, server][2 - workers:]}],
        "egress": [{"to": [server]}],
    }  # fmt: skip
    assert at_server["spec"] == server | {
        "policyTypes": ["Ingress", "Egress"], "ingress": [{"from": [ours]}], "egress": [{"to": [ours]}],
    }  # fmt: skip
    assert {one["metadata"]["labels"]["mlmp.dev/attempt"] for one in (mine, at_server)} == {"j-2"}


def test_where_nothing_keeps_pods_apart_no_policy_is_put_on_a_server_which_would_close_its_other_ways():
    assert not [one for one in objects(work(server="b1"), AROUND, {}, "") if one["kind"] == "NetworkPolicy"]
    made = objects(work(workers=2, server="b1"), AROUND, {}, "")
    (policy,) = [one for one in made if one["kind"] == "NetworkPolicy"]
    assert policy["spec"]["policyTypes"] == ["Ingress"] and len(policy["spec"]["ingress"][0]["from"]) == 2


def test_a_claim_of_ones_own_is_given_to_ones_group_and_the_one_of_all_homes_never_is():
    own = replace(AROUND, storage=Storage(claim="home-ann"), folder="", account=Account(1000, 100, fs_group=100))
    spec = spec_of(work(), own)
    assert spec["securityContext"]["fsGroup"] == 100
    (home,) = [one for one in main_of(spec)["volumeMounts"] if one["mountPath"] == HOME]
    assert not home["subPath"]
    assert "fsGroup" not in spec_of(work(), replace(own, folder="ann"))["securityContext"]
    assert "fsGroup" not in spec_of(work(), replace(own, account=Account(1000, 100)))["securityContext"]


def test_no_program_starts_before_the_workers_of_its_job_can_be_found():
    for pod in (made for made in objects(work(workers=2), AROUND, {}, "") if made["kind"] == "Pod"):
        prepare, main = pod["spec"]["initContainers"][0], pod["spec"]["containers"][0]
        names = json.loads(said(prepare)["MLMP_JOB_WORKERS"])
        assert names == [f"w{rank}.{name_of('j-2')}" for rank in (0, 1)]
        assert said(main)["MASTER_ADDR"] == names[0]
    assert said(spec_of(work())["initContainers"][0])["MLMP_JOB_WORKERS"] == "[]"
