"""What each image is made from, and the hash of exactly that."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
BASE = "docker.io/library/debian:bookworm-slim"
#: Carries the hash of what an image was made from: an image with the right one is not built again.
CONTENT = "dev.mlmp.content"
#: Carries where in the image its software bill of materials lies (CycloneDX JSON).
SBOM = "dev.mlmp.sbom"
SBOM_PATH = "/usr/share/sbom/mlmp.cdx.json"

_TOOLS = ("images/build.lock", "images/sbom.py")
_OURS = ("setup.cfg", "pyproject.toml", "README.md", "LICENSE", "package.json", "package-lock.json",
         "mlmp_spawner", "hub_config", "profiles")  # fmt: skip
#: Sources alone: what is built of them is built again in the image.
_EXTENSION = tuple(
    f"lab_extension/{name}"
    for name in (
        "src",
        "style",
        "package.json",
        "package-lock.json",
        "tsconfig.json",
        "pyproject.toml",
        "install.json",
    )
)


@dataclass(frozen=True)
class Recipe:
    """One image. ``inputs``: files and folders of the project; ``parent``: the image of ours it stands on."""

    name: str
    title: str
    inputs: tuple[str, ...]
    parent: str | None = None

    @property
    def containerfile(self) -> str:
        """Where it is described."""
        return f"images/{self.name}/Containerfile"


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("hub", "MLMP hub, proxy, service and enforcer",
               (*_TOOLS, *_OURS, "requirements/hub-image.lock", "images/hub")),
        Recipe("lab", "MLMP JupyterLab", (*_TOOLS, *_OURS, *_EXTENSION, "requirements/lab.lock", "images/lab")),
        Recipe("lab-pytorch", "MLMP JupyterLab with PyTorch", (*_TOOLS, "images/lab-pytorch"), parent="lab"),
        Recipe("lab-spark", "MLMP JupyterLab with Spark", (*_TOOLS, "images/lab-spark"), parent="lab"),
        Recipe("postgresql", "PostgreSQL for trying out MLMP", ("images/sbom.py", "images/postgresql")),
        Recipe("ssh", "MLMP SSH beside a server", (*_TOOLS, *_OURS, "images/ssh")),
    )
}  # fmt: skip
#: What is built when nothing is named: lab-pytorch is several GB with CUDA, and not everybody has use for Spark.
USUAL = ("hub", "lab", "postgresql", "ssh")


def files(recipe: Recipe, project: Path = PROJECT) -> Iterator[Path]:
    """The files that the image is made from, relative to the project, in a fixed order."""
    for name in sorted(set(recipe.inputs)):
        top = project / name
        for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
            if not path.is_dir() and "__pycache__" not in path.parts and path.suffix != ".pyc":
                yield path.relative_to(project)


def content(recipe: Recipe, arguments: Mapping[str, str], project: Path = PROJECT) -> str:
    """The hash of all that the image is made from: its files, the arguments of the build, its parent's content."""
    digest = hashlib.sha256()
    for key, value in sorted(arguments.items()):
        digest.update(f"{key}={value}\0".encode())
    if recipe.parent:
        digest.update(content(RECIPES[recipe.parent], arguments, project).encode())
    for file in files(recipe, project):
        path = project / file
        executable = path.stat().st_mode & 0o111 != 0
        digest.update(f"{file}\0{executable}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:24]


def stage(recipe: Recipe, folder: Path, project: Path = PROJECT) -> None:
    """Lays the context of a build: those files and no others, so that nothing else can get into an image."""
    for file in files(recipe, project):
        target = folder / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(project / file, target)
    shutil.copy2(project / recipe.containerfile, folder / "Containerfile")


def labels(
    recipe: Recipe, *, tag: str, content: str, revision: str | None, source: str | None, base: str
) -> dict[str, str]:
    """The image's labels: OCI's own names, and ours."""
    known = {
        "org.opencontainers.image.title": recipe.title,
        "org.opencontainers.image.version": tag,
        "org.opencontainers.image.revision": revision,
        "org.opencontainers.image.source": source,
        "org.opencontainers.image.licenses": "PostgreSQL" if recipe.name == "postgresql" else "BSD-3-Clause",
        "org.opencontainers.image.base.name": base,
        CONTENT: content,
        SBOM: SBOM_PATH,
    }
    return {name: value for name, value in known.items() if value}


def version(project: Path = PROJECT) -> str:
    """The version of MLMP."""
    found = re.search(r'^__version__ = "(.+)"', (project / "mlmp_spawner/__init__.py").read_text(), re.M)
    assert found, "mlmp_spawner/__init__.py has no __version__"
    return found[1]


def revision(project: Path = PROJECT) -> str | None:
    """The commit that is checked out, with ``-modified`` where files differ from it; None outside a clone."""
    try:
        commit = _git(project, "rev-parse", "HEAD")
        return f"{commit}-modified" if _git(project, "status", "--porcelain") else commit
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(project: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(project), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()
