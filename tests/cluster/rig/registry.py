"""The registry that the nodes pull from, as ``registry.mlmp.test``: on this side of the bridge."""

from __future__ import annotations

import json
import shutil

import httpx

from .console import say, wait_until
from .places import CACHE, PUSH_TO, REGISTRY, RUN
from .processes import Process

STORAGE = CACHE / "registry"
#: Beyond this all of it is thrown away: old images pile up, and its garbage collection wants it stopped anyway.
LARGEST_GIB = 12
_MANIFESTS = ", ".join(
    (
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)

process = Process("registry")


def up() -> None:
    """Returns when it answers."""
    if STORAGE.exists() and _size_gib() > LARGEST_GIB:
        say(f"{STORAGE} has more than {LARGEST_GIB} GiB: emptied")
        shutil.rmtree(STORAGE)
    STORAGE.mkdir(parents=True, exist_ok=True)
    config = RUN / "registry.json"
    config.write_text(
        json.dumps(
            {
                "version": 0.1,
                "storage": {"filesystem": {"rootdirectory": str(STORAGE)}, "delete": {"enabled": True}},
                "http": {"addr": PUSH_TO},
                "log": {"level": "warn"},
            }
        )
    )
    process.define("docker-registry", "serve", config)
    process.start()
    wait_until(_answers, "an answer of the registry", seconds=20)


def has(name: str, tag: str) -> bool:
    """Whether ``name:tag`` can be pulled."""
    url = f"http://{PUSH_TO}/v2/{name}/manifests/{tag}"
    return httpx.head(url, headers={"Accept": _MANIFESTS}, trust_env=False).status_code == 200


def reference(name: str, tag: str) -> str:
    """As a pod spec names it."""
    return f"{REGISTRY}/{name}:{tag}"


def _answers() -> bool:
    process.require()
    try:
        return httpx.get(f"http://{PUSH_TO}/v2/", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def _size_gib() -> float:
    return sum(file.stat().st_size for file in STORAGE.rglob("*") if file.is_file()) / 2**30
