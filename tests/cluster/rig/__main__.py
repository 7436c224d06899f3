"""``python -m tests.cluster.rig build|up|down|status|shell|run``."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import click

from . import binaries, control_plane, images, kueue, lifecycle, logs
from .console import RigError, run, say, step
from .places import ADMIN, BIN, CACHE, RUN

#: To say what they found, the tests get this long after an interruption.
PATIENCE_S = 20


class Interrupted(BaseException):
    """SIGTERM or SIGINT came."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = signal.Signals(number)
        self.status = 128 + number


@click.group(help=__doc__)
def main() -> None:
    """See the module."""


@main.command()
def build() -> None:
    """Build programs and images, where they are not there yet: 15 minutes from an empty cache. Starts no cluster."""
    binaries.ensure((*binaries.CLUSTER, "kueue"))
    with lifecycle.alone():
        if lifecycle.is_up():
            images.project()
        else:
            lifecycle.build_images()


@main.command()
@click.option("--with-kwok", is_flag=True, help="Build kwok too, which simulates nodes.")
@click.option("--with-kueue", is_flag=True, help="Install Kueue, which queues training jobs.")
@click.option("--no-images", is_flag=True, help="Without the project's images.")
def up(with_kwok: bool, with_kueue: bool, no_images: bool) -> None:
    """Bring the cluster up and leave it there; `make test-cluster` then uses it."""
    with lifecycle.alone():
        if lifecycle.is_kept():
            say(f"it is up: KUBECONFIG={ADMIN}")
        else:
            lifecycle.down()
            lifecycle.up(kept=True, programs=_programs(with_kwok, with_kueue))
        if with_kueue:
            binaries.ensure(["kueue"])
            kueue.up()
        if not no_images:
            lifecycle.describe(kept=True, images_there=images.project())


@main.command()
def down() -> None:
    """Remove the cluster and what is left of runs that were killed. Binaries and layers of images are kept."""
    with lifecycle.alone():
        lifecycle.down()


@main.command()
def status() -> None:
    """Say whether it is up and what it runs."""
    if not lifecycle.is_up():
        raise RigError(f"the test cluster is not up. Binaries and images are cached in {CACHE}.")
    print(f"KUBECONFIG={ADMIN}")
    print(run(*control_plane.kubectl(), "get", "nodes,pods", "--all-namespaces", "--output=wide"), end="")


@main.command()
def shell() -> None:
    """A shell with its KUBECONFIG, and kubectl and helm on the PATH."""
    if not lifecycle.is_up():
        raise RigError("the test cluster is not up: python -m tests.cluster.rig up")
    sys.exit(subprocess.run([os.environ.get("SHELL", "bash")], env=_environment()).returncode)


@main.command("run", context_settings={"ignore_unknown_options": True})
@click.option("--with-kwok", is_flag=True, help="Build kwok too.")
@click.option("--with-kueue", is_flag=True, help="Install Kueue too, or put it back as it has to be.")
@click.option("--no-images", is_flag=True, help="Without the project's images.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run_on_it(with_kwok: bool, with_kueue: bool, no_images: bool, command: tuple[str, ...]) -> None:
    """Run a command on the cluster: the one that KUBECONFIG names, the one that is up, else one made for it."""
    named = os.environ.get("KUBECONFIG")
    if named and Path(named) != ADMIN:
        folders = binaries.ensure(name for name in ("helm", "cyclonus") if shutil.which(name) is None)
        path = os.pathsep.join([*map(str, folders), os.environ["PATH"]])
        say(f"on the cluster that KUBECONFIG={named} names")
        sys.exit(subprocess.run(command, env={**os.environ, "PATH": path}).returncode)
    with lifecycle.alone():
        sys.exit(_run_on_ours(command, _programs(with_kwok, with_kueue), () if no_images else images.USUAL))


def _run_on_ours(command: tuple[str, ...], programs: list[str], names: tuple[str, ...]) -> int:
    kept, status = lifecycle.is_kept(), 1
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        if kept:
            say("on the cluster that is up")
            binaries.link(binaries.ensure((*binaries.CLUSTER, *programs)), BIN)
        else:
            lifecycle.down()
            lifecycle.up(kept=False, programs=programs)
        if "kueue" in programs:
            kueue.up()
        lifecycle.describe(kept=kept, images_there=images.project(names))
        with step(" ".join(command)):
            status = _run(command)
    except RigError as error:
        say(str(error))
    except Interrupted as interruption:
        say(f"{interruption}: taking all down")
        status = interruption.status
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        if status and RUN.exists():
            _keep_logs(interrupted=status > 128)
        if not kept:
            lifecycle.down()
    return status


def _programs(with_kwok: bool, with_kueue: bool) -> list[str]:
    """Builds beyond those of every cluster."""
    return ["kwok"] * with_kwok + ["kueue"] * with_kueue


def _run(command: tuple[str, ...]) -> int:
    """Its exit status. It dies with us, also when we are killed."""
    child = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *command], env=_environment())
    try:
        return child.wait()
    except Interrupted as interruption:
        if interruption.number != signal.SIGINT:  # Ctrl-C reached it too; a second one would cut off its end
            child.send_signal(signal.SIGINT)
        try:
            child.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            child.kill()
        raise


def _keep_logs(*, interrupted: bool) -> None:
    logs.keep_programs(logs.folder())
    if not interrupted and lifecycle.is_up():
        os.environ["PATH"] = f"{BIN}{os.pathsep}{os.environ['PATH']}"
        logs.keep_cluster(logs.folder(), ADMIN)
    say(f"logs: {logs.folder()}")


def _interrupt(number: int, _frame: object) -> None:
    # Once: a second Ctrl-C must not cut off the cleaning up.
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    raise Interrupted(number)


def _environment() -> dict[str, str]:
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "KUBECONFIG": str(ADMIN), "PATH": path, logs.VARIABLE: str(logs.folder())}


if __name__ == "__main__":
    try:
        main()
    except RigError as error:
        sys.exit(f"{error}")
