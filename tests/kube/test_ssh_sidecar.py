"""The container for SSH: the same files and account as the server's, none of its units, and never its end."""

from __future__ import annotations

from typing import Any

from mlmp_spawner.kube.ssh_sidecar import SOCKET, Sidecar, with_ssh

HOME = {"name": "home", "mountPath": "/home/jovyan", "subPath": "ann"}
SIDECAR = Sidecar("mlmp/ssh:1", "Always", {"limits": {"memory": "512Mi"}})


def pod(spec: dict[str, Any] | None = None, **server: Any) -> dict[str, Any]:
    """A pod as it comes out of the confinement."""
    container = {
        "name": "notebook", "image": "lab:1", "volumeMounts": [HOME],
        "resources": {"limits": {"nvidia.com/gpu": "2", "cpu": "4"}},
        "env": [{"name": "MLMP_TOKEN", "value": "t"}, {"name": "PATH", "value": "/opt/conda/bin"}],
        "securityContext": {"runAsUser": 1000, "runAsGroup": 1000, "allowPrivilegeEscalation": False},
    } | server  # fmt: skip
    volumes = [{"name": "home", "persistentVolumeClaim": {"claimName": "homes"}}]
    return {"metadata": {"name": "x"}, "spec": {"containers": [container], "volumes": volumes} | (spec or {})}


def parts(given: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The server's container and the one beside it."""
    spec = with_ssh(given, SIDECAR)["spec"]
    (server,) = [one for one in spec["containers"] if one["name"] == "notebook"]
    (ssh,) = [one for one in spec["initContainers"] if one["name"] == "ssh"]
    return server, ssh


def said(container: dict[str, Any]) -> dict[str, str]:
    return {entry["name"]: entry["value"] for entry in container["env"]}


def test_it_has_the_servers_files_and_account() -> None:
    server, ssh = parts(pod())
    assert HOME in ssh["volumeMounts"]
    assert ssh["volumeMounts"] == server["volumeMounts"]
    assert (ssh["securityContext"]["runAsUser"], ssh["securityContext"]["runAsGroup"]) == (1000, 1000)


def test_it_runs_beside_the_server_and_is_restarted_without_it() -> None:
    _, ssh = parts(pod())
    assert ssh["restartPolicy"] == "Always"  # among init containers: a sidecar, as Kubernetes has it since 1.29


def test_both_know_the_same_socket() -> None:
    server, ssh = parts(pod())
    assert said(server)["MLMP_SSH_SOCKET"] == said(ssh)["MLMP_SSH_SOCKET"] == SOCKET


def test_it_has_the_servers_environment_but_none_of_its_units_or_programs() -> None:
    server, ssh = parts(pod())
    assert said(ssh)["MLMP_TOKEN"] == "t"
    assert said(ssh)["NVIDIA_VISIBLE_DEVICES"] == "void"
    assert "PATH" not in said(ssh)
    assert said(server)["PATH"] == "/opt/conda/bin"
    assert ssh["resources"] == {"limits": {"memory": "512Mi"}}


def test_it_is_allowed_nothing_even_where_the_server_is() -> None:
    _, ssh = parts(pod(securityContext={"privileged": True, "allowPrivilegeEscalation": True, "runAsUser": 7}))
    assert ssh["securityContext"] == {
        "runAsUser": 7, "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip


def test_what_runs_before_the_server_and_beside_it_stays() -> None:
    spec = {"initContainers": [{"name": "first"}], "containers": [*pod()["spec"]["containers"], {"name": "metrics"}]}
    made = with_ssh(pod(spec), SIDECAR)["spec"]
    assert [one["name"] for one in made["initContainers"]] == ["first", "ssh"]
    assert [one["name"] for one in made["containers"]] == ["notebook", "metrics"]


def test_what_was_configured_under_its_name_gives_way() -> None:
    spec = {
        "initContainers": [{"name": "ssh", "image": "other"}],
        "volumes": [{"name": "ssh", "hostPath": {"path": "/"}}],
    }
    given = pod(spec, volumeMounts=[HOME, {"name": "ssh", "mountPath": "/host"}])
    made = with_ssh(given, SIDECAR)["spec"]
    assert [one["image"] for one in made["initContainers"]] == ["mlmp/ssh:1"]
    assert made["volumes"] == [{"name": "ssh", "emptyDir": {"medium": "Memory"}}]
    assert [one["mountPath"] for one in made["containers"][0]["volumeMounts"]] == ["/home/jovyan", "/run/mlmp-ssh"]


def test_the_given_pod_is_left_as_it_is() -> None:
    given = pod()
    with_ssh(given, SIDECAR)
    assert given == pod()
