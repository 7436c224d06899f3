"""The same image, said to buildah, podman and docker."""

from __future__ import annotations

from pathlib import Path

import pytest

from images import engines
from images.engines import Engine, ImagesError

CONTEXT = Path("/context")


def build(name: str, **more) -> list[str]:
    return Engine(name).build(
        CONTEXT, "localhost/mlmp/hub:1", labels={"b": "2", "a": "1 x"}, arguments={"BASE": "debian"}, **more
    )


@pytest.mark.parametrize("name", engines.NAMES)
def test_a_build_names_file_tag_arguments_and_labels_and_ends_with_the_context(name):
    command = build(name, options=["--volume=/a:/a:ro"])
    assert command[:6] == [name, "build", "--file", "/context/Containerfile", "--tag", "localhost/mlmp/hub:1"]
    assert command[-5:] == ["--build-arg=BASE=debian", "--label=a=1 x", "--label=b=2", "--volume=/a:/a:ro", "/context"]


def test_buildah_keeps_layers_for_the_next_build_as_the_others_do_unasked():
    assert "--layers" in build("buildah")
    assert "--layers" not in build("docker")


@pytest.mark.parametrize("name", engines.NAMES)
def test_a_fresh_build_takes_nothing_from_earlier_ones(name):
    command = build(name, fresh=True)
    assert "--no-cache" in command
    assert "--layers" not in command


def test_a_registry_without_tls_is_said_to_those_that_take_it():
    push = ["push", "--quiet", "--tls-verify=false", "localhost/mlmp/hub:1", "docker://10.0.0.1:5000/mlmp/hub:1"]
    for name in ("buildah", "podman"):
        said = Engine(name).push("localhost/mlmp/hub:1", "10.0.0.1:5000/mlmp/hub:1", plain_http=True)
        assert said == [[name, *push]]


def test_tls_is_verified_unless_said_otherwise():
    [command] = Engine("buildah").push("localhost/mlmp/hub:1", "registry.example.org/mlmp/hub:1")
    assert not [part for part in command if "tls" in part]


def test_docker_pushes_under_the_name_of_the_registry():
    assert Engine("docker").push("localhost/mlmp/hub:1", "registry.example.org/mlmp/hub:1") == [
        ["docker", "tag", "localhost/mlmp/hub:1", "registry.example.org/mlmp/hub:1"],
        ["docker", "push", "--quiet", "registry.example.org/mlmp/hub:1"],
    ]


def test_the_first_engine_that_is_installed_is_taken():
    def installed(*names: str):
        return lambda name: f"/usr/bin/{name}" if name in names else None

    assert engines.find(None, installed("docker", "podman")).name == "podman"
    assert engines.find(None, installed("docker", "buildah")).name == "buildah"
    assert engines.find("docker", installed("docker", "buildah")).name == "docker"


def test_without_an_engine_it_is_said_how_to_get_one():
    with pytest.raises(ImagesError, match=r"None of buildah, podman, docker .* apt-get install buildah"):
        engines.find(None, lambda name: None)
    with pytest.raises(ImagesError, match="podman is not installed"):
        engines.find("podman", lambda name: None)
