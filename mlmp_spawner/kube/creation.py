"""What it means that the cluster refuses to create a pod. Pure."""

from __future__ import annotations

import json
import re

from mlmp_spawner.kube.outcomes import ASK, Fails, sentence

_QUOTA = re.compile(r"exceeded quota: ([^,]+), requested: (.+), used: (.+), limited: (.+)$")


def message_of(body: object) -> str:
    """The message in the body of an answer that refuses something."""
    try:
        said = json.loads(body) if isinstance(body, (str, bytes)) else None
    except ValueError:
        said = None
    return str(said.get("message") or "") if isinstance(said, dict) else str(body or "")


def refused(status: int, message: str) -> Fails:
    """Why the cluster does not take the pod.

    :param status: of its answer, as in HTTP.
    """
    quota = _QUOTA.search(message)
    if quota is not None:
        name, asked, used, limit = (sentence(part) for part in quota.groups())
        return Fails(
            "quota",
            f"The quota {name} of this cluster is used up: asked for {asked}; in use {used}; at most {limit}.",
            hint="Wait until other servers end, book less, or ask the people who run this cluster.",
        )
    if "violates PodSecurity" in message:
        why = sentence(message.partition("violates PodSecurity")[2])
        return Fails("not_permitted", f"The cluster's rules of security forbid this server: {why}.")
    if status == 403 and "cannot create resource" in message:
        return Fails("not_permitted", "The hub may not create pods in this cluster.", hint=ASK)
    return Fails("refused", f"The cluster does not take this server: {sentence(message) or f'status {status}'}.")
