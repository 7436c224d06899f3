"""The images that pods run, in the cluster's registry, each under a tag that says what it was made from."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from . import binaries, registry
from .console import RigError, run, say, step
from .places import CACHE, FILES, PROJECT, PUSH_TO, REGISTRY, RUN

#: The images of the project that tests use.
PROJECT_IMAGES = ("hub", "lab", "postgresql")
#: What they are made from, in the repository.
SOURCES = ("images", "mlmp_spawner", "hub_config", "profiles", "requirements",
           "setup.cfg", "pyproject.toml", "package.json", "package-lock.json")  # fmt: skip
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
    name, tag = "mlmp-rig/coredns", binaries.key("coredns")
    if not registry.has(name, tag):
        _push_program(binaries.folder("coredns") / "coredns", name, tag)
    return registry.reference(name, tag)


def debian() -> str:
    """The reference of a small Debian: base of the project's images, and what simple test pods run."""
    with_image = ("debian", "bookworm-slim")
    if not _here(DEBIAN):
        with step("a small Debian, once"):
            _bootstrap_debian()
    if not registry.has(*with_image):
        _push(DEBIAN, *with_image)
    return registry.reference(*with_image)


def project(names: Iterable[str] = PROJECT_IMAGES) -> dict[str, str]:
    """Builds and pushes the project's images unless these very sources are in the registry. Name -> reference."""
    names = list(names)
    tag = project_tag()
    missing = [name for name in names if not registry.has(f"mlmp/{name}", tag)]
    if missing:
        with step(f"images {', '.join(missing)}"):
            _build_project(missing, tag)
    else:
        say(f"images {', '.join(names)}: there, tag {tag}")
    return {name: registry.reference(f"mlmp/{name}", tag) for name in names}


def project_tag() -> str:
    """The hash of what the project's images are made from."""
    digest = hashlib.sha256()
    for source in SOURCES:
        top = PROJECT / source
        for file in sorted(top.rglob("*")) if top.is_dir() else [top]:
            if file.is_file() and "__pycache__" not in file.parts and file.suffix != ".pyc":
                digest.update(str(file.relative_to(PROJECT)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:12]


def _build_project(names: list[str], tag: str) -> None:
    options = " ".join(f"--volume={file}:{file}:ro" for file in MACHINE_CONFIG if Path(file).exists())
    command = [sys.executable, "-m", "images.build", "--engine=buildah", f"--prefix={REGISTRY}/mlmp", f"--tag={tag}",
               f"--push={PUSH_TO}", f"--base={DEBIAN}", *names]  # fmt: skip
    log = RUN / "logs" / "images.log"
    with log.open("ab") as out:
        # The sources' layers that did not change are taken from buildah's store.
        env = {**os.environ, "MLMP_BUILD_OPTIONS": f"--isolation=chroot {options}"}
        done = subprocess.run(command, cwd=PROJECT, env=env, stdout=out, stderr=out, stdin=subprocess.DEVNULL)
    if done.returncode:
        said = "\n".join(log.read_text(errors="replace").splitlines()[-25:])
        raise RigError(f"the project's images could not be built; the end of {log}:\n{said}")


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


def _push_program(program: Path, name: str, tag: str) -> None:
    """An image of one static program and nothing else."""
    local = f"localhost/{name}:{tag}"
    container = run("buildah", "from", "--pull-never", "scratch").strip()
    run("buildah", "add", "--quiet", container, program, f"/{program.name}")
    run("buildah", "config", "--entrypoint", f'["/{program.name}"]', container)
    run("buildah", "commit", "--quiet", "--rm", container, local)
    _push(local, name, tag)
    run("buildah", "rmi", local)


def _push(local: str, name: str, tag: str) -> None:
    run("buildah", "push", "--quiet", "--tls-verify=false", local, f"docker://{PUSH_TO}/{name}:{tag}")


def _here(image: str) -> bool:
    return subprocess.run(["buildah", "inspect", "--type=image", image], capture_output=True).returncode == 0


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
