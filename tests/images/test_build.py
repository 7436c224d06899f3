"""`make images`, up to the engine."""

from __future__ import annotations

import os
import stat

import pytest

from images import build, recipe
from images.recipe import RECIPES

#: An engine that has every image, with the content that the environment says, and writes down what it was asked.
ENGINE = """#!/bin/sh
echo "$*" >>"$ENGINE_LOG"
case "$1 $2" in
"inspect --type=image") [ -n "$ENGINE_HAS" ] && echo "$ENGINE_HAS" ;;
"images --noheading") echo 12 MB ;;
"from --pull-never") echo container-1 ;;
"run --isolation=chroot") echo '{"bomFormat": "CycloneDX"}' ;;
"build --file") echo "STEP 3: boom"; exit ${ENGINE_FAILS:-0} ;;
esac
"""


@pytest.fixture
def engine(tmp_path, monkeypatch):
    """A stub of buildah, first on PATH; its log is what it was called with."""
    program = tmp_path / "bin" / "buildah"
    program.parent.mkdir()
    program.write_text(ENGINE)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    log = tmp_path / "engine.log"
    log.touch()
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("ENGINE_LOG", str(log))
    monkeypatch.setenv("ENGINE_HAS", "")
    monkeypatch.delenv("MLMP_BUILD_OPTIONS", raising=False)
    monkeypatch.setattr(build, "OUTPUT", tmp_path / "build")
    return log


def content(name: str, torch: str = "") -> str:
    return recipe.content(RECIPES[name], {"BASE": recipe.BASE, "TORCH": torch})


def builds(log) -> list[str]:
    return [line for line in log.read_text().splitlines() if line.startswith("build ")]


def test_a_line_for_each_image_on_stdout_and_what_goes_on_on_stderr(engine, capsys):
    assert build.main(["hub", "postgresql", "--tag", "7"]) == 0
    said = capsys.readouterr()
    assert said.out == "hub localhost/mlmp/hub:7\npostgresql localhost/mlmp/postgresql:7\n"
    assert "hub: buildah builds it; log: " in said.err
    assert "postgresql: built in 0 s, 12 MB" in said.err


def test_without_names_the_usual_images_are_built_with_the_version_as_tag(engine, capsys):
    assert build.main([]) == 0
    assert capsys.readouterr().out.split()[1::2] == [
        f"localhost/mlmp/{name}:{recipe.version()}" for name in ("hub", "lab", "postgresql", "ssh")
    ]


def test_an_image_with_these_very_contents_is_not_built_again(engine, capsys, monkeypatch):
    monkeypatch.setenv("ENGINE_HAS", content("hub"))
    assert build.main(["hub"]) == 0
    assert builds(engine) == []
    assert "hub: unchanged, 12 MB" in capsys.readouterr().err
    assert build.main(["hub", "--fresh"]) == 0
    assert len(builds(engine)) == 1


def test_other_contents_are_built(engine, monkeypatch):
    monkeypatch.setenv("ENGINE_HAS", "something else")
    assert build.main(["hub"]) == 0
    [command] = builds(engine)
    assert f"--label=dev.mlmp.content={content('hub')}" in command


def test_the_image_that_another_stands_on_is_built_before_it(engine, capsys):
    assert build.main(["lab-pytorch", "--torch", "cu126", "--tag", "7"]) == 0
    lab, pytorch = builds(engine)
    assert "--build-arg=BASE=docker.io/library/debian:bookworm-slim" in lab
    assert "--build-arg=BASE=localhost/mlmp/lab:7 --build-arg=TORCH=cu126" in pytorch


def test_options_of_the_environment_reach_the_build_as_a_shell_would_split_them(engine, monkeypatch):
    monkeypatch.setenv("MLMP_BUILD_OPTIONS", "--volume=/a:/a:ro '--annotation=x=a b'")
    assert build.main(["postgresql"]) == 0
    assert " --volume=/a:/a:ro --annotation=x=a b " in builds(engine)[0]


def test_a_push_goes_to_the_same_path_in_the_other_registry(engine, capsys):
    assert (
        build.main(["hub", "--prefix", "registry.example.org/ai/mlmp", "--tag", "7", "--push", "10.0.0.1:5000"]) == 0
    )
    assert "push --quiet registry.example.org/ai/mlmp/hub:7 docker://10.0.0.1:5000/ai/mlmp/hub:7" in engine.read_text()
    assert build.destination("mlmp/hub:7", "10.0.0.1:5000") == "10.0.0.1:5000/mlmp/hub:7"
    assert build.destination("localhost/mlmp/hub:7", "registry.example.org/") == "registry.example.org/mlmp/hub:7"


def test_the_bill_of_materials_lies_beside_those_of_the_other_images(engine):
    assert build.main(["hub"]) == 0
    assert (build.OUTPUT / "sbom" / "hub.json").read_text() == '{"bomFormat": "CycloneDX"}\n'


def test_a_failure_says_which_image_shows_the_end_of_the_log_and_stops(engine, capsys, monkeypatch):
    monkeypatch.setenv("ENGINE_FAILS", "3")
    assert build.main(["hub", "postgresql"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert "images: hub could not be built (exit 3). The end of " in said.err
    assert "STEP 3: boom" in said.err
    assert len(builds(engine)) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["hubb"], "no image is called hubb; there are hub, lab, lab-pytorch, lab-spark, postgresql, ssh"),
        (["--torch", "gpu"], "'gpu' is none of cpu, debian or a CUDA version such as cu126"),
    ],
)
def test_a_wrong_name_is_answered_with_the_right_ones(arguments, said, capsys):
    with pytest.raises(SystemExit, match="2"):
        build.main(arguments)
    assert said in capsys.readouterr().err
