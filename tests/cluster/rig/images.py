"""The images that pods run, in the cluster's registry, each under a tag that says what it was made from."""

from __future__ import annotations

import hashlib
import os
import shlex
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from images import recipe
from images.recipe import USUAL

from . import binaries, registry
from .console import run, step
from .places import CACHE, FILES, PROJECT, PUSH_TO, REGISTRY, RUN

DEBIAN = "docker.io/library/debian:bookworm-slim"
#: What the machine knows about its mirrors and authorities, read by builds too where it is there.
MACHINE_CONFIG = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pip.conf",
    "/etc/npmrc",
    "/etc/apt/sources.list",
    "/etc/apt/sources.list.d/debian.sources",
)


def pause() -> str:
    """The reference of the image that holds a pod's namespaces."""
    source = FILES / "pause.c"
    name, tag = "mlmp-rig/pause", _hash(source.read_bytes())
    if not registry.has(name, tag):
        program = RUN / "pause"
        run("gcc", "-Os", "-static", "-s", "-o", program, source)
        _push_program(program, name, tag)
    return registry.reference(name, tag)


def coredns() -> str:
    """The reference of the image of the cluster's DNS server."""
    return _of_program("coredns", "mlmp-rig/coredns")


def kueue() -> str:
    """The reference of the image of Kueue, whose program its manifests call ``manager``."""
    return _of_program("kueue", "mlmp-rig/kueue", "manager")


def debian() -> str:
    """The reference of a small Debian: base of the project's images, and what simple test pods run."""
    with_image = ("debian", "bookworm-slim")
    if not _here(DEBIAN):
        with step("a small Debian, once"):
            _bootstrap_debian()
    if not registry.has(*with_image):
        _push(DEBIAN, *with_image)
    return registry.reference(*with_image)


def pytorch() -> str:
    """The reference of a Debian with PyTorch for CPUs, as simple training wants it: 300 MB to fetch, once."""
    with_image = ("mlmp-rig/pytorch", "bookworm-slim")
    if not registry.has(*with_image):
        debian()
        with step("PyTorch on a small Debian, once"):
            _push_with_packages(*with_image, "python3-torch", "python-is-python3")
    return registry.reference(*with_image)


def spark() -> str:
    """The reference of the project's image with Spark, and PyTorch beside it: :func:`build_spark` builds it."""
    return registry.reference(*_spark())


def build_spark() -> None:
    """Builds and pushes that unless these very contents are in the registry: minutes, so who tests with it does."""
    name, tag = _spark()
    if not registry.has(name, tag):
        project(["lab-spark"])
        with step("PyTorch beside Spark"):
            _push_with_packages(name, tag, "python3-torch", base=f"{PUSH_TO}/mlmp/lab-spark:{tag}")


def _spark() -> tuple[str, str]:
    return "mlmp-rig/spark", project_tag("lab-spark")


def project(names: Iterable[str] = USUAL) -> dict[str, str]:
    """Builds and pushes the project's images unless these very contents are in the registry. Name -> reference."""
    tags = {name: project_tag(name) for name in names}
    for name, tag in tags.items():
        if not registry.has(f"mlmp/{name}", tag):
            with step(f"image {name}"):
                _build_project(name, tag)
    return {name: registry.reference(f"mlmp/{name}", tag) for name, tag in tags.items()}


def project_tag(name: str) -> str:
    """The hash of what an image of the project is made from."""
    return recipe.content(recipe.RECIPES[name], {"BASE": DEBIAN})[:12]


def _build_project(name: str, tag: str) -> None:
    options = _options()
    run(
        sys.executable, "-m", "images.build", "--engine=buildah", f"--base={DEBIAN}",
        f"--prefix={REGISTRY}/mlmp", f"--tag={tag}", f"--push={PUSH_TO}", "--plain-http", name,
        env={**os.environ, "MLMP_BUILD_OPTIONS": shlex.join(options)}, folder=PROJECT,
    )  # fmt: skip


def _options() -> list[str]:
    """Of every build."""
    return ["--isolation=chroot", *(f"--volume={file}:{file}:ro" for file in MACHINE_CONFIG if Path(file).exists())]


def _push_with_packages(name: str, tag: str, *packages: str, base: str = DEBIAN) -> None:
    """A Debian, or an image on one that is in the registry, with these packages."""
    local = f"localhost/{name}:{tag}"
    pull = ["--pull-never"] if base == DEBIAN else ["--pull", "--tls-verify=false"]
    container = run("buildah", "from", *pull, base).strip()
    install = f"apt-get update && apt-get install --yes --no-install-recommends {shlex.join(packages)}"
    clean = "rm -rf /var/lib/apt/lists/* /var/cache/apt/archives"
    run("buildah", "run", "--user=root", *_options(), container, "--", "sh", "-c", f"{install} && {clean}")
    run("buildah", "commit", "--quiet", "--rm", container, local)
    _push(local, name, tag)
    run("buildah", "rmi", local)


def _bootstrap_debian() -> None:
    archive = CACHE / "debian.tar"
    archive.parent.mkdir(parents=True, exist_ok=True)
    run("mmdebstrap", "--variant=minbase", "--include=ca-certificates", "bookworm", archive)
    container = run("buildah", "from", "--pull-never", "scratch").strip()
    run("buildah", "add", "--quiet", container, archive, "/")
    path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    run("buildah", "config", "--cmd", '["bash"]', "--env", path, container)
    run("buildah", "commit", "--quiet", "--rm", container, DEBIAN)
    archive.unlink()


def _of_program(build: str, name: str, program: str | None = None) -> str:
    tag = binaries.key(build)
    if not registry.has(name, tag):
        _push_program(binaries.folder(build) / build, name, tag, program)
    return registry.reference(name, tag)


def _push_program(program: Path, name: str, tag: str, called: str | None = None) -> None:
    """An image of one static program and nothing else."""
    inside = f"/{called or program.name}"
    local = f"localhost/{name}:{tag}"
    container = run("buildah", "from", "--pull-never", "scratch").strip()
    run("buildah", "add", "--quiet", container, program, inside)
    run("buildah", "config", "--entrypoint", f'["{inside}"]', container)
    run("buildah", "commit", "--quiet", "--rm", container, local)
    _push(local, name, tag)
    run("buildah", "rmi", local)


def _push(local: str, name: str, tag: str) -> None:
    run("buildah", "push", "--quiet", "--tls-verify=false", local, f"docker://{PUSH_TO}/{name}:{tag}")


def _here(image: str) -> bool:
    return subprocess.run(["buildah", "inspect", "--type=image", image], capture_output=True).returncode == 0


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
