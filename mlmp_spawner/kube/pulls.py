"""What the cluster says about pulling a server's image: how far it is, how large, and why it fails. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from mlmp_spawner.kube.outcomes import OTHER_IMAGE, Fails, Going, sentence
from mlmp_spawner.units import format_duration, format_size

Json = Mapping[str, Any]

REASONS = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "ImageInspectError",
     "RegistryUnavailable", "SignatureValidationFailed"}
)  # fmt: skip
"""Why a container waits, where that is about its image."""
TRIES = 3
"""After how many failures of the network a pull counts as failed: the kubelet waits 10 s, 20 s … in between."""
PATIENCE = 120.0
"""Seconds after which it counts as failed with fewer: a connection that hangs takes as long to fail."""

# What means nothing for good. It is looked for first: such a message may hold the other words too.
_NETWORK = (
    "dial tcp", "i/o timeout", "connection re", "tls handshake", "unexpected eof", "toomanyrequests", "429 ",
    "no such host", "503 service", "502 bad", "504 gateway", "context deadline",
)  # fmt: skip
_DENIED = ("image_denied", "the registry does not give it to this cluster")
_ABSENT = ("image_not_found", "the registry has no such image")
_OTHER_MACHINE = ("image_not_found", "it is not made for this kind of machine")
_FOR_GOOD = {
    "no space left": ("disk_full", "the disk of the node is full"),
    "denied": _DENIED,
    "unauthorized": _DENIED,
    "authorization failed": _DENIED,
    "forbidden": _DENIED,
    "no match for platform": _OTHER_MACHINE,
    "no matching manifest": _OTHER_MACHINE,
    "not found": _ABSENT,
    "manifest unknown": _ABSENT,
    "invalid reference": ("image_not_found", "that is no name of an image"),
}
_PULLED = re.compile(r'Successfully pulled image "[^"]+" in ([0-9hmsµ.]*[a-z])')
_SIZE = re.compile(r"Image size: (\d+) bytes")
_PART = re.compile(r"([0-9.]+)(h|ms|µs|m|s)")
_SCALE = {"h": 3_600_000.0, "m": 60_000.0, "s": 1000.0, "ms": 1.0, "µs": 0.001}


def image_of(pod: Json) -> str:
    """The image of the server."""
    containers = (pod.get("spec") or {}).get("containers") or ()
    return next((str(one.get("image") or "") for one in containers if one.get("name") == "notebook"), "")


def failing(image: str, reason: str, message: str, events: Sequence[Json]) -> Fails | None:
    """Why an image can't be pulled; None where nothing says that it can't.

    :param reason: why the container waits, where that is known, and ``message``, what goes with it.
    :param events: of this pod, the oldest first.
    """
    failures = [one for one in events if str(one.get("message", "")).startswith("Failed to pull image")]
    if not reason and not failures:
        return None
    said = " ".join([message, *(str(one["message"]) for one in failures)])
    for_good = _for_good(image, reason, said.lower())
    if for_good is not None:
        return for_good
    tries = sum(int(one.get("count") or 1) for one in failures)
    why = _in_short(str(failures[-1]["message"]) if failures else message)
    return Fails(
        "image_unreachable",
        f"The image {image} can't be pulled: the registry can't be reached ({why}).",
        hint=f"Try again in a few minutes. {OTHER_IMAGE}",
        patience=0 if tries >= TRIES else PATIENCE,
        step=f"Pulling the image {image} again ({why})",
    )


def _for_good(image: str, reason: str, said: str) -> Fails | None:
    if reason == "ErrImageNeverPull":
        return Fails("image_not_found", f"The image {image} is not on the node, and may not be pulled.", OTHER_IMAGE)
    if reason == "InvalidImageName":
        return Fails("image_not_found", f"{image} is no name of an image.", OTHER_IMAGE)
    if reason == "SignatureValidationFailed":
        return Fails("image_denied", f"The image {image} is not signed as this cluster asks for.", OTHER_IMAGE)
    if any(words in said for words in _NETWORK):
        return None
    for words, (code, why) in _FOR_GOOD.items():
        if words in said:
            return Fails(code, f"The image {image} can't be pulled: {why}.", OTHER_IMAGE)
    return None


def _in_short(message: str) -> str:
    """The end of a long chain of causes is the cause: ``dial tcp …: i/o timeout``."""
    return sentence(message.rpartition(": ")[2] or message) or "no reason is given"


def step(mine: Sequence[Json], everything: Sequence[Json]) -> Going | None:
    """How far the pull is.

    :param mine: the events of this pod, the oldest first.
    :param everything: all of the namespace: there the size of the same image may have been told.
    """
    about = [one for one in mine if one.get("reason") in ("Pulling", "Pulled")]
    if not about:
        return None
    message = str(about[-1].get("message") or "")
    image = message.partition('"')[2].partition('"')[0]
    if about[-1]["reason"] == "Pulling":
        size = size_of(image, everything)
        return Going(60, f"Pulling the image {image}{f' ({format_size(size)})' if size else ''}")
    done = _PULLED.search(message)
    if done is None:
        return Going(70, "The image is on the node already")
    size = size_of(image, about[-1:])
    took = round(sum(float(number) * _SCALE[unit] for number, unit in _PART.findall(done[1])))
    return Going(70, f"Pulled the image{f' ({format_size(size)})' if size else ''} in {format_duration(took)}")


def size_of(image: str, events: Sequence[Json]) -> int | None:
    """The size in bytes, compressed as it is pulled, that an event tells of an image."""
    for event in events:
        message = str(event.get("message") or "")
        if image and f'"{image}"' in message and (found := _SIZE.search(message)):
            return int(found[1])
    return None
