"""Builds the container images of MLMP with buildah, podman or docker, and pushes them where asked.

Prints a line for each image, its name and its reference; what goes on is said on stderr. An image whose contents did
not change is not built again.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from images import engines, recipe
from images.engines import Engine, ImagesError
from images.recipe import PROJECT, RECIPES, Recipe

#: Logs, and the bills of materials.
OUTPUT = PROJECT / "build"

EPILOG = """\
environment:
  MLMP_BUILD_OPTIONS   further options of the engine's build command, as in
                       "--volume=/etc/ssl/certs/ca-certificates.crt:/etc/ssl/certs/ca-certificates.crt:ro"
"""


@dataclass(frozen=True)
class Order:
    """What is to be built, and how. ``source``: the address of the code, for the label."""

    engine: Engine
    prefix: str
    tag: str
    base: str
    torch: str
    fresh: bool
    source: str | None
    options: tuple[str, ...]

    def reference(self, name: str) -> str:
        """``PREFIX/NAME:TAG``"""
        return f"{self.prefix}/{name}:{self.tag}"

    def arguments(self, made: Recipe) -> dict[str, str]:
        """The arguments of its build."""
        if made.parent:
            return {"BASE": self.reference(made.parent), "TORCH": self.torch}
        return {"BASE": self.base}

    def content(self, made: Recipe) -> str:
        """The hash of its contents. The names that images get are no part of it."""
        return recipe.content(made, {"BASE": self.base, "TORCH": self.torch if made.parent else ""})


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; gives the exit code."""
    asked = _arguments(argv)
    try:
        order = Order(
            engines.find(asked.engine), asked.prefix.rstrip("/"), asked.tag, asked.base, asked.torch, asked.fresh,
            asked.source, tuple(shlex.split(os.environ.get("MLMP_BUILD_OPTIONS", ""))),
        )  # fmt: skip
        for name in with_parents(asked.names or recipe.USUAL):
            build(order, RECIPES[name])
            if asked.push:
                push(order, name, asked.push, plain_http=asked.plain_http)
            print(name, order.reference(name), flush=True)
    except ImagesError as error:
        print(f"images: {error}", file=sys.stderr)
        return 1
    return 0


def with_parents(names: Sequence[str]) -> list[str]:
    """The names, each once, after the image it stands on."""
    wanted: list[str] = []
    for name in names:
        parent = RECIPES[name].parent
        wanted += [each for each in (parent, name) if each and each not in wanted]
    return wanted


def build(order: Order, made: Recipe) -> None:
    """Builds one image, unless it is there with these very contents; puts its bill of materials into build/sbom.

    :raises ImagesError: the engine failed.
    """
    reference, content = order.reference(made.name), order.content(made)
    if not order.fresh and _said(order.engine.label(reference, recipe.CONTENT)) == content:
        _tell(f"{made.name}: unchanged, {_size(order, reference)}")
    else:
        began = time.monotonic()
        log = OUTPUT / "images" / f"{made.name}.log"
        _tell(f"{made.name}: {order.engine.name} builds it; log: {log}")
        labels = recipe.labels(
            made, tag=order.tag, content=content, revision=recipe.revision(), source=order.source,
            base=order.arguments(made)["BASE"],
        )  # fmt: skip
        with tempfile.TemporaryDirectory(prefix="mlmp-image-") as folder:
            context = Path(folder)
            recipe.stage(made, context)
            command = order.engine.build(
                context, reference, labels=labels, arguments=order.arguments(made), options=order.options,
                fresh=order.fresh,
            )  # fmt: skip
            _logged(command, log, f"{made.name} could not be built")
        _tell(f"{made.name}: built in {time.monotonic() - began:.0f} s, {_size(order, reference)}")
    bill = OUTPUT / "sbom" / f"{made.name}.json"
    _take_out(order.engine, reference, bill)


def push(order: Order, name: str, registry: str, *, plain_http: bool) -> None:
    """Pushes one image under its own path and tag.

    :raises ImagesError: the engine failed.
    """
    began = time.monotonic()
    reference = order.reference(name)
    log = OUTPUT / "images" / f"{name}.push.log"
    for command in order.engine.push(reference, destination(reference, registry), plain_http=plain_http):
        _logged(command, log, f"{name} could not be pushed to {registry}")
    _tell(f"{name}: pushed to {destination(reference, registry)} in {time.monotonic() - began:.0f} s")


def destination(reference: str, registry: str) -> str:
    """The same image in another registry: ``localhost/mlmp/hub:1`` -> ``REGISTRY/mlmp/hub:1``."""
    first, _, rest = reference.partition("/")
    has_host = "." in first or ":" in first or first == "localhost"
    return f"{registry.rstrip('/')}/{rest if has_host else reference}"


def _take_out(engine: Engine, reference: str, bill: Path) -> None:
    """Writes the image's bill of materials beside the others."""
    bill.parent.mkdir(parents=True, exist_ok=True)
    container = _said(engine.create(reference))
    if not container:
        raise ImagesError(f"{engine.name} makes no container of {reference}")
    try:
        with tempfile.TemporaryDirectory() as folder:
            command = engine.read(container, recipe.SBOM_PATH, Path(folder))
            printed = _said(command)
            copied = Path(folder) / Path(recipe.SBOM_PATH).name
            text = copied.read_text() if copied.exists() else printed
        if not text:
            raise ImagesError(f"{reference} has no {recipe.SBOM_PATH}; build it anew with --fresh")
        bill.write_text(text + "\n")
    finally:
        subprocess.run(engine.remove(container), capture_output=True)


def _logged(command: Sequence[str], log: Path, failure: str) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as out:
        done = subprocess.run(command, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
    if done.returncode:
        end = "\n".join(log.read_text(errors="replace").splitlines()[-25:])
        raise ImagesError(f"{failure} (exit {done.returncode}). The end of {log}:\n{end}")


def _said(command: Sequence[str]) -> str | None:
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return done.stdout.strip() if done.returncode == 0 else None


def _size(order: Order, reference: str) -> str:
    said = (_said(order.engine.size(reference)) or "").splitlines()
    if not said:
        return "size unknown"
    return f"{int(said[0]) / 1e6:.0f} MB" if said[0].isdigit() else said[0]


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _torch(text: str) -> str:
    if not re.fullmatch(r"cpu|cu\d{3}|debian", text):
        raise argparse.ArgumentTypeError(f"{text!r} is none of cpu, debian or a CUDA version such as cu126")
    return text


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    about, _, _ = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="make images", description=about, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("names", nargs="*", metavar="NAME", help=f"of {', '.join(RECIPES)}; without one: {', '.join(recipe.USUAL)}")
    add("--engine", choices=engines.NAMES, help="default: the first of these that is installed")
    add("--prefix", default="localhost/mlmp", help="what comes before the name (default: %(default)s)")
    add("--tag", default=recipe.version(), help="default: the version of MLMP, %(default)s")
    add("--push", metavar="HOST[:PORT]", help="push each image to this registry, under its own path and tag")
    add("--plain-http", action="store_true", help="the registry of --push has no TLS")
    add("--base", default=recipe.BASE, help="a Debian 12 (default: %(default)s)")
    kinds = "cpu, a CUDA version such as cu126, or debian (Debian's own: old and small, for tests)"
    add("--torch", type=_torch, default="cpu", metavar="KIND", help=f"for lab-pytorch: {kinds}")
    add("--source", help="address of the code, for the label org.opencontainers.image.source")
    add("--fresh", action="store_true", help="build all of it anew, with Debian's latest updates")
    asked = parser.parse_args(argv)
    unknown = [name for name in asked.names if name not in RECIPES]
    if unknown:
        parser.error(f"no image is called {', '.join(unknown)}; there are {', '.join(RECIPES)}")
    return asked


if __name__ == "__main__":
    sys.exit(main())
