"""The programs of the cluster, built from Go modules at the versions that go/*/go.mod pin and from C files of ours.

Each is kept by what it is built from. What stands on Kubernetes' libraries is one module with it, and C is left out of
all of it, so that these libraries, most of the work, are compiled once, and programs run in images of nothing else.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .console import RigError, run, step
from .places import CACHE, FILES

SOURCES = Path(__file__).parent / "go"
KUBERNETES = "v1.36.3"
KUEUE = "v0.19.2"
_, MAJOR, MINOR = KUBERNETES.replace("v", ".").split(".")[:3]


@dataclass(frozen=True)
class Build:
    """Packages of one Go module of ours, and the linker's variables."""

    packages: tuple[str, ...]
    variables: tuple[str, ...] = ()
    module: str = "kubernetes"


@dataclass(frozen=True)
class CBuild:
    """One C file of ours, the program's name, and the libraries as pkg-config calls them."""

    source: str
    program: str
    libraries: tuple[str, ...]


def _kubernetes(*programs: str) -> tuple[str, ...]:
    return tuple(f"k8s.io/kubernetes/cmd/{program}" for program in programs)


BUILDS: dict[str, Build | CBuild] = {
    "kubernetes": Build(
        _kubernetes("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet", "kubectl"),
        (
            f"k8s.io/component-base/version.gitVersion={KUBERNETES}",
            f"k8s.io/component-base/version.gitMajor={MAJOR}",
            f"k8s.io/component-base/version.gitMinor={MINOR}",
        ),
    ),
    "etcd": Build(("go.etcd.io/etcd/server/v3",)),
    "coredns": Build(("mlmp.test/rig/kubernetes/coredns",)),
    # `helm template` stands for this Kubernetes; its own default is 1.20.
    "helm": Build(
        ("helm.sh/helm/v3/cmd/helm",),
        tuple(
            f"helm.sh/helm/v3/pkg/{package}.k8sVersion{part}={value}"
            for package in ("chartutil", "lint/rules")
            for part, value in (("Major", MAJOR), ("Minor", MINOR))
        ),
    ),
    # Decides from NetworkPolicies alone who may reach whom: the CNI plugins here enforce none.
    "cyclonus": Build(("github.com/mattfenwick/cyclonus/cmd/cyclonus",)),
    "nfs-client": CBuild("nfs_client.c", "mount.nfs.mlmp", ("fuse3", "libnfs")),
    "kwok": Build(("sigs.k8s.io/kwok/cmd/kwok",), module="kwok"),
    "kueue": Build(("sigs.k8s.io/kueue/cmd/kueue",), (f"sigs.k8s.io/kueue/pkg/version.GitVersion={KUEUE}",)),
}
CLUSTER = ("kubernetes", "etcd", "coredns", "helm", "cyclonus", "nfs-client")
# Go names a program after its package.
RENAMED = {"server": "etcd"}


def key(name: str) -> str:
    """The hash of what decides the result: our files, the packages or libraries, the flags, the compiler."""
    build = BUILDS[name]
    if isinstance(build, CBuild):
        compiler = run("gcc", "-dumpfullversion", "-dumpmachine") + run("pkg-config", "--modversion", *build.libraries)
        files = [FILES / build.source]
    else:
        compiler = run("go", "env", "GOVERSION", "GOARCH")
        files = sorted(file for file in (SOURCES / build.module).rglob("*") if file.is_file())
    digest = hashlib.sha256(repr((build, compiler)).encode())
    for file in files:
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:16]


def folder(name: str) -> Path:
    """Where the programs of one build are, once ``ensure`` put them there."""
    return CACHE / "bin" / f"{name}-{key(name)}"


def ensure(names: Iterable[str] = CLUSTER) -> list[Path]:
    """Builds what is not there. Returns the folders that hold the programs.

    Raises RigError when Go is missing or a build fails.
    """
    if shutil.which("go") is None:
        raise RigError("go is not here: the cluster's programs are built with Go 1.26 or newer, https://go.dev/dl")
    (CACHE / "bin").mkdir(parents=True, exist_ok=True)
    folders = {name: folder(name) for name in names}
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        missing = [name for name, place in folders.items() if not place.is_dir()]
        for name in missing:
            with step(f"building {name}, once"):
                _build(name, folders[name])
        if missing:
            shutil.rmtree(_objects(), ignore_errors=True)
    return list(folders.values())


def link(folders: Iterable[Path], into: Path) -> None:
    """One folder with links to all the programs."""
    into.mkdir(parents=True, exist_ok=True)
    for place in folders:
        for program in place.iterdir():
            (into / program.name).unlink(missing_ok=True)
            (into / program.name).symlink_to(program)


def _objects() -> Path:
    """Go's objects: ten times the size of the programs, of no use once these are linked."""
    return CACHE / "go-build"


def _build(name: str, place: Path) -> None:
    build = BUILDS[name]
    unfinished = place.with_name(f".{place.name}")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    if isinstance(build, CBuild):
        _build_c(build, unfinished)
    else:
        _build_go(build, unfinished)
    for old in (*place.parent.glob(f"{name}-*"), *place.parent.glob(f".{name}-*")):
        if old != unfinished:
            shutil.rmtree(old)
    unfinished.rename(place)


def _build_c(build: CBuild, into: Path) -> None:
    flags = run("pkg-config", "--cflags", "--libs", *build.libraries).split()
    run("gcc", "-O2", "-Wall", "-Wextra", FILES / build.source, "-o", into / build.program, *flags)


def _build_go(build: Build, into: Path) -> None:
    env = {**os.environ, "GOFLAGS": "-mod=readonly -trimpath -buildvcs=false", "GOWORK": "off",
           "GOCACHE": str(_objects()), "CGO_ENABLED": "0"}  # fmt: skip
    flags = " ".join(["-s", "-w", *(f"-X {variable}" for variable in build.variables)])
    run("go", "build", "-ldflags", flags, "-o", f"{into}/", *build.packages, env=env, folder=SOURCES / build.module)
    for made, wanted in RENAMED.items():
        if (into / made).exists():
            (into / made).rename(into / wanted)
