"""Who may talk to whom: decided from the rendered policies by cyclonus, which reads them as Kubernetes means them."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.helm.chart import NAMESPACE, Manifest

USERS = "mlmp-users"


@dataclass(frozen=True)
class Place:
    """Where a connection begins or ends; ``labels`` None: outside of the cluster."""

    ip: str
    labels: dict[str, str] | None = None
    namespace: str = NAMESPACE

    def as_json(self) -> dict[str, Any]:
        if self.labels is None:
            return {"IP": self.ip}
        where = {"kubernetes.io/metadata.name": self.namespace}
        return {"IP": self.ip, "Internal": {"PodLabels": self.labels, "NamespaceLabels": where,
                                            "Namespace": self.namespace}}  # fmt: skip


def part(name: str, number: int) -> Place:
    """A part of MLMP."""
    labels = {"app.kubernetes.io/name": "mlmp", "app.kubernetes.io/instance": "mlmp"}
    return Place(f"10.244.0.{number}", {**labels, "app.kubernetes.io/component": name})


PLACES = {
    "hub": part("hub", 1),
    "proxy": part("proxy", 2),
    "service": part("service", 3),
    "enforcer": part("enforcer", 4),
    "database": part("postgresql", 5),
    "helm test": part("test", 6),
    "SSH gateway": part("ssh", 7),
    "ann's server": Place("10.244.1.1", {"mlmp.dev/kind": "server", "hub.jupyter.org/username": "ann"}, USERS),
    "bob's server": Place("10.244.1.2", {"mlmp.dev/kind": "server", "hub.jupyter.org/username": "bob"}, USERS),
    "ann's job": Place("10.244.1.5", {"mlmp.dev/kind": "job", "mlmp.dev/attempt": "j1-1"}, USERS),
    "a worker of it": Place("10.244.1.6", {"mlmp.dev/kind": "job", "mlmp.dev/attempt": "j1-1"}, USERS),
    "bob's job": Place("10.244.1.7", {"mlmp.dev/kind": "job", "mlmp.dev/attempt": "j2-1"}, USERS),
    "preload": Place("10.244.1.3", {"mlmp.dev/kind": "preload"}, USERS),
    "a job that makes homes": Place("10.244.0.8", {"mlmp.dev/kind": "home"}),
    "names": Place("10.244.2.1", {"k8s-app": "kube-dns"}, "kube-system"),
    "ingress": Place("10.244.2.2", {"app": "ingress"}, "ingress-nginx"),
    "somebody's pod": Place("10.244.2.3", {"app": "other"}, "other"),
    "API server": Place("10.96.0.1"),
    "a kubelet": Place("192.168.77.11"),
    "a name server on the node": Place("169.254.20.10"),
    "metadata": Place("169.254.169.254"),
    "file server": Place("10.1.2.3"),
    "a file server with a public address": Place("198.51.100.7"),
    "the internet": Place("93.184.216.34"),
}


def allowed(manifests: list[Manifest], flows: list[tuple[str, str, int]], folder: Path, **places: Place) -> list[bool]:
    """Whether each ``(from, to, port)`` may be; port 53 is UDP, all others are TCP."""
    known = {**PLACES, **places}
    policies, traffic = folder / "policies", folder / "traffic.json"
    policies.mkdir()
    for each in manifests:
        if each["kind"] == "NetworkPolicy":  # one a file: of a file with several it reads the first only
            each = {**each, "metadata": {"namespace": NAMESPACE, **each["metadata"]}}
            (policies / f"{each['metadata']['namespace']}-{each['metadata']['name']}.yaml").write_text(
                yaml.safe_dump(each)
            )
    traffic.write_text(json.dumps([
        {"Source": known[source].as_json(), "Destination": known[target].as_json(), "ResolvedPort": port,
         "Protocol": "UDP" if port == 53 else "TCP"}
        for source, target, port in flows
    ]))  # fmt: skip
    command = ["cyclonus", "analyze", "--policy-path", str(policies), "--mode", "query-traffic", "--traffic-path",
               str(traffic), "--use-example-policies=false"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    answers = [found == "TRUE" for found in re.findall(r"IS ALLOWED\?\W*(TRUE|FALSE)", done.stdout)]
    assert len(answers) == len(flows), done.stdout
    return answers
