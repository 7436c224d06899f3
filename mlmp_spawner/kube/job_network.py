"""Whom the workers of an attempt reach, and who them: network policies of the attempt's own. Pure.

Where the chart's policies hold, they let nobody reach a job, and a job no server. What is opened here is between the
workers of one attempt, and to the one server of their owner that the job names: each by labels that users can't set.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlmp_spawner.kube.labels import KIND, RESERVATION, SERVER

Json = dict[str, Any]


def policies(about: Mapping[str, Any], *, together: bool, server: str, closed: bool) -> list[Json]:
    """The policies of an attempt.

    :param about: metadata of its objects, whose labels its pods have. :param together: it has several workers.
    :param server: under which reservation the server was started that they talk with, "" for none.
    :param closed: policies of others keep users' pods apart. Only then is a way opened to the server and from there:
        a policy on a pod that had none would close all other ways.
    """
    ours, theirs = _pods(about["labels"]), _pods(labels_of_server(server))
    made = []
    if together or (server and closed):
        sources = [ours] * together + [theirs] * bool(server)
        spec = {"podSelector": ours["podSelector"], "policyTypes": ["Ingress"], "ingress": [{"from": sources}]}
        if server and closed:
            spec |= {"policyTypes": ["Ingress", "Egress"], "egress": [{"to": [theirs]}]}
        made.append(_policy(about, about["name"], spec))
    if server and closed:
        spec = {"podSelector": theirs["podSelector"], "policyTypes": ["Ingress", "Egress"],
                "ingress": [{"from": [ours]}], "egress": [{"to": [ours]}]}  # fmt: skip
        made.append(_policy(about, name_at_server(about["name"]), spec))
    return made


def name_at_server(name: str) -> str:
    """What the policy on the server is called. :param name: of all other objects of the attempt."""
    return f"{name}-server"


def labels_of_server(reservation: str) -> dict[str, str]:
    """Of the pod of a server that was started under a reservation."""
    return {KIND: SERVER, RESERVATION: reservation}


def _pods(labels: Mapping[str, str]) -> Json:
    return {"podSelector": {"matchLabels": dict(labels)}}


def _policy(about: Mapping[str, Any], name: str, spec: Json) -> Json:
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {**about, "name": name},
            "spec": spec}  # fmt: skip
