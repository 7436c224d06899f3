"""The command lines of buildah, podman and docker, which build the same Containerfiles in the same way."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

#: In this order the first that is installed is taken: buildah needs neither a daemon nor its rights.
NAMES = ("buildah", "podman", "docker")


class ImagesError(Exception):
    """What went wrong with an image, and what to do."""


@dataclass(frozen=True)
class Engine:
    """One of :data:`NAMES`. Each method gives a command, or several to be run one after the other."""

    name: str

    def build(
        self,
        context: Path,
        reference: str,
        *,
        labels: Mapping[str, str],
        arguments: Mapping[str, str],
        options: Sequence[str] = (),
        fresh: bool = False,
    ) -> list[str]:
        """Builds ``context``/Containerfile. ``fresh``: nothing is taken from earlier builds."""
        command = [self.name, "build", "--file", str(context / "Containerfile"), "--tag", reference]
        if self.name == "buildah" and not fresh:
            command.append("--layers")  # the others keep them unasked
        if fresh:
            command.append("--no-cache")
        command += [f"--build-arg={key}={value}" for key, value in sorted(arguments.items())]
        command += [f"--label={key}={value}" for key, value in sorted(labels.items())]
        return [*command, *options, str(context)]

    def label(self, reference: str, label: str) -> list[str]:
        """Prints a label's value; fails where there is no such image."""
        if self.name == "buildah":
            template = f'{{{{index .OCIv1.Config.Labels "{label}"}}}}'
            return ["buildah", "inspect", "--type=image", f"--format={template}", reference]
        return [self.name, "image", "inspect", f'--format={{{{index .Config.Labels "{label}"}}}}', reference]

    def size(self, reference: str) -> list[str]:
        """Prints the size for people (buildah), or in bytes."""
        if self.name == "buildah":
            return ["buildah", "images", "--noheading", "--format={{.Size}}", reference]
        return [self.name, "image", "inspect", "--format={{.Size}}", reference]

    def push(self, reference: str, destination: str, *, plain_http: bool = False) -> list[list[str]]:
        """Pushes under another name. Docker knows of registries without TLS by its daemon's configuration only."""
        if self.name == "docker":
            return [["docker", "tag", reference, destination], ["docker", "push", "--quiet", destination]]
        insecure = ["--tls-verify=false"] if plain_http else []
        return [[self.name, "push", "--quiet", *insecure, reference, f"docker://{destination}"]]

    def create(self, reference: str) -> list[str]:
        """Makes a container of the image and prints its id, for :meth:`copy_out`."""
        if self.name == "buildah":
            return ["buildah", "from", "--pull-never", reference]
        return [self.name, "create", reference]

    def read(self, container: str, path: str, folder: Path) -> list[str]:
        """Copies a file out of a container into ``folder``, or, with buildah, prints it."""
        if self.name == "buildah":
            return ["buildah", "run", "--isolation=chroot", container, "--", "cat", path]
        return [self.name, "cp", f"{container}:{path}", str(folder)]

    def remove(self, container: str) -> list[str]:
        """Removes a container."""
        return [self.name, "rm", container]


def find(name: str | None, which: Callable[[str], str | None] = shutil.which) -> Engine:
    """The engine of that name, else the first that is installed.

    :raises ImagesError: there is none.
    """
    if name is not None:
        if which(name) is None:
            raise ImagesError(
                f"{name} is not installed, or not on PATH. Install it, or name another of: {', '.join(NAMES)}."
            )
        return Engine(name)
    for known in NAMES:
        if which(known):
            return Engine(known)
    raise ImagesError(
        f"None of {', '.join(NAMES)} is installed, and images are built by one of them. "
        "On Debian and Ubuntu: apt-get install buildah"
    )
