"""What a preloaded image saves: the same server, its image first not on the node and then there."""

from __future__ import annotations

import os
import shutil
import subprocess

from benchmarks.cluster.place import Place, booking, seconds_until_ready
from benchmarks.common import Report, note

MB = 1_000_000


def run(report: Report, place: Place, *, quick: bool) -> None:
    """Pushes an image of random bytes, which no node can have, and starts two servers of it on one node."""
    if shutil.which("buildah") is None:
        note("buildah makes the image that no node has, and is not installed: skipped")
        return
    size = 20 if quick else 300
    name = f"bench/{place.namespace}:1"
    _push(place, name, size)
    with place.hub("hub", image=f"{place.cluster.registry}/{name}") as hub:
        cold = seconds_until_ready(hub, "cold", **booking(hub))
        hub.release("cold")
        warm = seconds_until_ready(hub, "warm", **booking(hub))
        hub.release("warm")
    report.add(
        f"start with a preloaded image of {size} MB", warm, "s", versus=cold, goal="versus: pulled at the start"
    )


def _push(place: Place, name: str, size: int) -> None:
    random = place.folder / "random"
    with random.open("wb") as file:
        for _ in range(size):
            file.write(os.urandom(MB))
    base = "docker.io/library/debian:bookworm-slim"
    container = _buildah("from", base)
    try:
        _buildah("add", "--quiet", container, str(random), "/random")
        _buildah("commit", "--quiet", container, f"localhost/{name}")
        target = f"docker://{place.cluster.push_to}/{name}"
        _buildah("push", "--quiet", "--tls-verify=false", f"localhost/{name}", target)
        _buildah("rmi", f"localhost/{name}")
    finally:
        _buildah("rm", container)


def _buildah(*arguments: str) -> str:
    done = subprocess.run(["buildah", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"buildah {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout.strip()
