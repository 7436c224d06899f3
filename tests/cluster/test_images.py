"""The project's images on a real cluster, under Pod Security `restricted` and with a read-only root."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator

import pytest
from kubernetes import client
from kubernetes.stream import stream

from tests.cluster.rig.cluster import Cluster

# One `key: value` a line on stdout; what a program says to stderr is not wanted.
LOOK = """
say() { key=$1; shift; echo "$key: $("$@" 2>/dev/null | tr '\\n' ' ')"; }
say uid id -u
say setuid find / -xdev -type f -perm /6000
say bill grep -c bom-ref /usr/share/sbom/mlmp.cdx.json
say compiler sh -c 'command -v gcc cc make'
touch /nothing 2>/dev/null && echo 'root: written' || echo 'root: read-only'
"""
HUB = """
say mlmp mlmp --version
say jupyterhub jupyterhub --version
say proxy configurable-http-proxy --version
say pip sh -c 'command -v pip; ls -d /root/.cache'
python -c 'import psycopg, kubespawner, oauthenticator; import mlmp_spawner.service; print("imports: fine")'
"""
LAB = """
say mlmp mlmp --version
say jupyterlab jupyter lab --version
say singleuser jupyterhub-singleuser --version
say git git --version
cd && python - <<'PYTHON'
import site, sys
import os
os.makedirs(site.getusersitepackages()); sys.path[:] = []; site.main()
ours, theirs = (next(n for n, path in enumerate(sys.path) if path.startswith(top)) for top in ("/opt", "/home"))
print("home packages:", "after ours" if ours < theirs else "before ours")
PYTHON
jupyter lab --no-browser --IdentityProvider.token= --port 8888 >/tmp/log 2>&1 &
for i in $(seq 100); do curl -sf localhost:8888/api/kernelspecs >/tmp/answer && break; sleep 0.3; done
grep -q '"python3"' /tmp/answer && echo 'server: answers' || { echo 'server: silent'; tail -n 20 /tmp/log; }
"""
CONNECT = """
import os, psycopg, sys
url = f"host={sys.argv[1]} user=mlmp dbname=mlmp connect_timeout=5 password="
for n in range(100):
    try:
        with psycopg.connect(url + os.environ["PASSWORD"]) as connection:
            connection.execute("create table if not exists kept (value int)")
            connection.execute("insert into kept values (1)")
            [rows] = connection.execute("select count(*) from kept").fetchone()
            print("version:", connection.info.server_version // 10000, "rows:", rows)
        break
    except psycopg.OperationalError as error:
        last = error
        import time; time.sleep(0.3)
else:
    print("failed:", last)
try:
    psycopg.connect(url + "wrong")
except psycopg.OperationalError as error:
    print("wrong password:", "refused" if "authentication failed" in str(error) else error)
"""


@pytest.fixture(scope="module")
def restricted(core: client.CoreV1Api, namespace: str) -> str:
    """The namespace, where the API server refuses what is not `restricted`."""
    core.patch_namespace(namespace, {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}})
    return namespace


@pytest.fixture(scope="module")
def said(cluster: Cluster, core: client.CoreV1Api, restricted: str) -> dict[str, dict[str, str]]:
    """What each image said of itself, by `key: value`."""
    start(core, restricted, "hub", cluster.images["hub"], ["sh", "-c", LOOK + HUB], writes=["/srv/mlmp", "/tmp"])
    start(core, restricted, "lab", cluster.images["lab"], ["sh", "-c", LOOK + LAB], writes=["/home/jovyan", "/tmp"])
    start(core, restricted, "look", cluster.images["postgresql"], ["sh", "-c", LOOK], writes=["/tmp"], entry=True)
    return {name: log(core, restricted, pod) for name, pod in (("hub", "hub"), ("lab", "lab"), ("postgresql", "look"))}


@pytest.mark.parametrize("name", ["hub", "lab", "postgresql"])
def test_an_image_runs_as_nobody_special_and_can_write_nothing_of_itself(said, name):
    assert said[name]["uid"] == {"hub": "1000", "lab": "1000", "postgresql": "999"}[name]
    assert said[name]["root"] == "read-only"
    assert said[name]["setuid"] == ""
    assert said[name]["compiler"] == ""


@pytest.mark.parametrize("name", ["hub", "lab", "postgresql"])
def test_an_image_brings_its_bill_of_materials(said, name):
    assert int(said[name]["bill"]) > 50


def test_the_hub_image_has_all_of_its_programs_and_no_pip(said):
    hub = said["hub"]
    assert hub["mlmp"].startswith("mlmp ")
    assert hub["jupyterhub"].startswith("6.")
    assert hub["proxy"].startswith("5.")
    assert hub["imports"] == "fine"
    assert hub["pip"] == ""


def test_the_lab_image_has_what_a_user_and_the_hub_need_and_serves(said):
    lab = said["lab"]
    assert lab["mlmp"].startswith("mlmp ")
    assert lab["jupyterlab"].startswith("4.")
    assert lab["singleuser"].startswith("6.")
    assert lab["git"].startswith("git version 2.")
    assert lab["home packages"] == "after ours"
    assert lab["server"] == "answers"


@pytest.fixture
def password(core: client.CoreV1Api, restricted: str) -> Iterator[str]:
    """A password in a Secret."""
    made = secrets.token_urlsafe(12)
    core.create_namespaced_secret(restricted, {"metadata": {"name": "database"}, "stringData": {"password": made}})
    yield made
    core.delete_namespaced_secret("database", restricted)


def test_postgresql_makes_its_database_at_the_first_start_and_keeps_it_over_a_restart(
    cluster, core, restricted, password
):
    start(
        core, restricted, "postgresql", cluster.images["postgresql"], None,
        writes=["/var/lib/postgresql/data", "/run/postgresql", "/tmp"],
        environment={"POSTGRES_PASSWORD_FILE": "/secret/password"}, secret="database", restart="Always",
    )  # fmt: skip
    address = wait(lambda: core.read_namespaced_pod("postgresql", restricted).status.pod_ip)
    for number in range(2):
        pod = f"client-{number}"
        start(
            core, restricted, pod, cluster.images["hub"], ["python", "-c", CONNECT, address], writes=["/tmp"],
            environment={"PASSWORD": password},
        )  # fmt: skip
        assert log(core, restricted, pod) == {"version": f"15 rows: {number + 1}", "wrong password": "refused"}
        if number == 0:
            crash(core, restricted, "postgresql")


def start(
    core, namespace, name, image, command, *, writes, environment=None, secret=None, restart="Never", entry=False
):
    """A pod as `restricted` wants it, whose image says who runs it. ``entry``: instead of the image's entry point."""
    volumes = [{"name": f"v{n}", "emptyDir": {}} for n, _ in enumerate(writes)]
    mounts = [{"name": f"v{n}", "mountPath": path} for n, path in enumerate(writes)]
    if secret:
        volumes.append({"name": "secret", "secret": {"secretName": secret}})
        mounts.append({"name": "secret", "mountPath": "/secret", "readOnly": True})
    container = {
        "name": "main", "image": image, "args": None if entry else command, "command": command if entry else None,
        "volumeMounts": mounts, "env": [{"name": key, "value": value} for key, value in (environment or {}).items()],
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}},
        "securityContext": {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
                            "capabilities": {"drop": ["ALL"]}},
    }  # fmt: skip
    spec = {
        "containers": [container], "volumes": volumes, "restartPolicy": restart, "terminationGracePeriodSeconds": 5,
        "automountServiceAccountToken": False, "enableServiceLinks": False,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
    }  # fmt: skip
    core.create_namespaced_pod(namespace, {"metadata": {"name": name}, "spec": spec})


def log(core, namespace, name, *, seconds=240) -> dict[str, str]:
    """What a pod said, as soon as it ended, and ended well."""
    ended = {"Succeeded", "Failed"}
    wait(lambda: core.read_namespaced_pod(name, namespace).status.phase in ended, seconds=seconds)
    text = core.read_namespaced_pod_log(name, namespace)
    assert core.read_namespaced_pod(name, namespace).status.phase == "Succeeded", text
    return {key: value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}


def crash(core, namespace, name):
    """Crashes the database; returns when it runs anew."""
    command = ["sh", "-c", "pg_ctl stop --mode=immediate"]
    # What it prints is cut off: the container ends with it.
    said = stream(
        core.connect_get_namespaced_pod_exec, name, namespace, command=command, stdout=True, stderr=True,
        _preload_content=False,
    )  # fmt: skip
    said.run_forever(timeout=20)
    said.close()

    def again():
        [status] = core.read_namespaced_pod(name, namespace).status.container_statuses
        return status.restart_count == 1 and status.ready

    wait(again)


def wait(condition, *, seconds=120):
    """What ``condition`` gives, once that is true."""
    ends = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < ends, f"not within {seconds} s"
        time.sleep(0.3)
    return found
