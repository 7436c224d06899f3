"""MLMP installed with homes and shared data on a file server: the same files in Lab, over SSH, on both nodes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from kubernetes import client

from tests.cluster import nfs_claims
from tests.cluster.conftest import delete_namespace
from tests.cluster.release import Release, new_namespace, values_for
from tests.cluster.rig.cluster import Cluster
from tests.ssh.computers import Computer

RESERVATIONS = "/services/mlmp/api/v1/reservations"


@pytest.fixture(scope="module")
def users(core: client.CoreV1Api) -> str:
    """The namespace of servers, which Pod Security ``restricted`` guards."""
    return new_namespace(core, "files-users")


@pytest.fixture(scope="module")
def homes(cluster: Cluster, users: str) -> Path:
    """Where the file server has users' folders: root's, and empty."""
    return nfs_claims.folder(cluster, "/homes", users)


@pytest.fixture(scope="module")
def installed(cluster: Cluster, core: client.CoreV1Api, users: str, homes: Path) -> Iterator[Release]:
    """MLMP in a namespace where root may make folders."""
    (nfs_claims.folder(cluster, "/shared", users) / "data.csv").write_text("1,2\n")
    place = {"server": cluster.nfs.address, "mountOptions": cluster.nfs.mount_options}
    storage = {
        "type": "nfs",
        "nfs": {**place, "path": f"/homes/{users}"},
        "shared": {"nfs": {**place, "path": f"/shared/{users}"}},
    }
    namespace = new_namespace(core, "files")
    core.patch_namespace(namespace, {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "baseline"}}})
    values = values_for(cluster, users={"namespace": users, "storage": storage}, ssh={"gateway": {"enabled": False}})
    made = Release(cluster, namespace, values)
    try:
        made.install()
        yield made
    finally:
        made.close()
        made.helm("uninstall", "mlmp", "--ignore-not-found", check=False)
        for name in (users, namespace):
            delete_namespace(core, name)
        for volume in core.list_persistent_volume().items:
            if volume.spec.claim_ref is not None and volume.spec.claim_ref.namespace in (users, namespace):
                core.delete_persistent_volume(volume.metadata.name)


@pytest.mark.skipif(shutil.which("sftp") is None, reason="no sftp here; on Debian: apt-get install openssh-client")
def test_a_file_is_the_same_in_lab_over_sftp_and_later_on_the_other_node(
    installed: Release, cluster: Cluster, homes: Path, tmp_path: Path
) -> None:
    first, second = cluster.nodes[:2]
    fay = installed.api("fay")
    booking = installed.book("fay", 1200, profile="cpu", node=first)
    installed.start(booking, seconds=180)
    content = {"type": "file", "format": "text", "content": "by Lab\n"}
    assert fay.api.put("/user/fay/api/contents/lab.txt", json=content).status_code == 201
    computer = Computer(fay, tmp_path / "computer")
    assert computer.mlmp("ssh-config").returncode == 0
    (tmp_path / "mine").write_text("by sftp\n")
    batch = f"get lab.txt {tmp_path}/got\nput {tmp_path}/mine sftp.txt\n"
    copied = computer.run(*computer.words("sftp", "-b", "-", "fay"), input=batch)
    assert copied.returncode == 0, copied.stderr
    assert (tmp_path / "got").read_text() == "by Lab\n"
    assert fay.api.get("/user/fay/api/contents/sftp.txt").json()["content"] == "by sftp\n"
    assert fay.api.delete(f"{RESERVATIONS}/{booking['id']}").status_code < 300
    installed.wait_gone(booking, 60)

    again = installed.book("fay", 1200, profile="cpu", node=second)
    installed.start(again, seconds=180)
    pod = installed.pod_of(again)
    assert pod is not None
    assert pod.spec.node_name == second
    said = computer.ssh("fay", "cat lab.txt sftp.txt shared/data.csv; touch shared/new; stat -c '%a %u' ~")
    assert said.stdout == "by Lab\nby sftp\n1,2\n700 1000\n", said.stderr
    assert "Read-only file system" in said.stderr
    assert (homes / "fay" / "sftp.txt").read_text() == "by sftp\n"
