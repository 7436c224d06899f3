"""The chart as Helm renders it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parents[2] / "helm" / "mlmp"
VALUES = sorted([*(Path(__file__).parent / "values").glob("*.yaml"), *CHART.parent.glob("examples/*.yaml")])
NAMESPACE = "mlmp"
Manifest = dict[str, Any]


class RefusedError(Exception):
    """Helm rendered nothing; what it said instead."""


def render(
    values: Mapping[str, Any] | Path | None = None, *options: str, namespace: str = NAMESPACE, name: str = "mlmp"
) -> list[Manifest]:
    """All manifests.

    :raises RefusedError: the values are wrong.
    """
    command = ["helm", "template", name, str(CHART), "--namespace", namespace, "--kube-version", "1.36.0", *options]
    given = values.read_text() if isinstance(values, Path) else yaml.safe_dump(dict(values or {}))
    done = subprocess.run([*command, "--values", "-"], input=given, capture_output=True, text=True, timeout=60)
    if done.returncode:
        raise RefusedError(done.stderr)
    return [found for found in yaml.safe_load_all(done.stdout) if found]


def of(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    """One of them."""
    found = [each for each in manifests if each["kind"] == kind and each["metadata"]["name"] == name]
    assert len(found) == 1, f"{len(found)} of {kind} {name}; {kind}: {names(manifests, kind)}"
    return found[0]


def names(manifests: list[Manifest], kind: str) -> set[str]:
    """The names of all of a kind."""
    return {each["metadata"]["name"] for each in manifests if each["kind"] == kind}


def pods(manifests: list[Manifest]) -> dict[str, Manifest]:
    """The pods that will be made, by name of what makes them: metadata and spec."""
    found = {}
    for each in manifests:
        if each["kind"] in ("Deployment", "StatefulSet", "Job"):
            pod = found[each["metadata"]["name"]] = each["spec"]["template"]
            for claim in each["spec"].get("volumeClaimTemplates", ()):
                pod["spec"]["volumes"].append({"name": claim["metadata"]["name"], "emptyDir": {}})
        elif each["kind"] == "Pod":
            found[each["metadata"]["name"]] = {"metadata": each["metadata"], "spec": each["spec"]}
    return found


def installed() -> bool:
    """Whether there is a helm."""
    return shutil.which("helm") is not None
