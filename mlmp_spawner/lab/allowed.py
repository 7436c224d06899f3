"""Who may come in, as the service says it; while it does not answer, as it said last."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from mlmp_spawner import private_files, units
from mlmp_spawner.client.config import Access
from mlmp_spawner.client.problems import NotReachable
from mlmp_spawner.client.transport import Transport
from mlmp_spawner.errors import MLMPError

log = logging.getLogger("mlmp.ssh")

RENEW = 7 * 86_400_000
"""Milliseconds before its end at which the host certificate is renewed."""
PATIENCE = 4.0
"""Seconds that the service has for an answer while somebody waits to come in."""

KEY = re.compile(r"[a-z0-9.@-]+ [A-Za-z0-9+/]+=*")
FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}")
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")


@dataclass(frozen=True, slots=True)
class Allowed:
    """Who may come in. ``keys``: lines of public keys by fingerprint. ``expires``: ms UTC, of the host certificate.

    ``authority``: the public line of the CA whose certificates count, for ``principal`` only. ``certified``: the host
    key and the authority of ``certificate``. ``refusal``: why nobody may; empty where somebody may.
    """

    keys: Mapping[str, str] = field(default_factory=dict)
    principal: str = ""
    authority: str = ""
    certificate: str = ""
    expires: int = 0
    certified: tuple[str, str] = ("", "")
    refusal: str = "The hub has not said yet who may come in."


class Service:
    """Asks the service, with the token of the server. A seam: tests answer from a file.

    :raises ConfigurationError, NotSignedIn: as :func:`mlmp_spawner.client.config.load`.
    """

    def __init__(self, access: Access) -> None:
        self._transport = Transport(access, patience=1, timeout=PATIENCE)

    def get(self, path: str) -> Any:
        """What the API answers to a GET. :raises MLMPError: it refuses. :raises NotReachable: it does not answer."""
        return self._transport.json("GET", path)

    def post(self, path: str, body: Mapping[str, str]) -> Any:
        """What the API answers to a POST; raises as :meth:`get`."""
        return self._transport.json("POST", path, body=body)


class Asking:
    """Keeps :class:`Allowed` right.

    :param file: where the last answer is kept. :param host_key: the public line of the host key, to be certified.
    """

    def __init__(self, service: Service, file: Path, host_key: str, *, now: Callable[[], int] = units.now) -> None:
        self._service = service
        self._file = file
        self._host_key = host_key
        self._now = now
        self.allowed = _read(file)
        self.fresh = False
        """Whether the service has answered the last question."""

    def ask(self) -> Allowed:
        """Asks anew; it takes as long as the service takes. Never raises for what the service says."""
        before = self.allowed
        try:
            self.allowed = self._ask()
            self.fresh = True
        except MLMPError as error:
            self.fresh = not _silent(error)
            if self.fresh:
                self.allowed = Allowed(refusal=" ".join(f"{error.detail} {error.hint or ''}".split()))
            else:
                log.warning("the service does not answer; what it said last holds: %s", error.detail)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            self.fresh = False
            log.error("the service's answer is not understood; what it said last holds: %r", error)
        if self.allowed != before:
            _write(self._file, self.allowed)
        return self.allowed

    def _ask(self) -> Allowed:
        said = self._service.get("ssh")
        if not said["enabled"]:
            return Allowed(refusal="SSH is switched off on this hub.")
        items = self._service.get("ssh-keys")["items"]
        keys = {item["fingerprint"]: f"{item['algorithm']} {item['key']}" for item in items}
        now = replace(
            self.allowed, keys=_checked_keys(keys), refusal="",
            authority=checked(KEY, said["authority"]), principal=checked(NAME, said["principal"]),
        )  # fmt: skip
        return self._certified(now)

    def _certified(self, allowed: Allowed) -> Allowed:
        """With a host certificate that lasts. Where none is to be had, SSH works, and clients have to ask."""
        certified = (self._host_key, allowed.authority)
        holds = bool(allowed.certificate) and allowed.certified == certified
        if holds and allowed.expires - self._now() > RENEW:
            return allowed
        try:
            made = self._service.post("ssh-host-certificates", {"public_key": self._host_key})
            line = checked(KEY, " ".join(made["certificate"].split()[:2]))
            return replace(allowed, certificate=line, expires=units.from_iso(made["expires"]), certified=certified)
        except MLMPError as error:
            log.warning("no certificate for the host key: %s", error.detail)
            return allowed if holds else replace(allowed, certificate="", expires=0, certified=("", ""))


def checked(kind: re.Pattern[str], text: Any) -> str:
    """The text, if it is empty or nothing but what it should be: sshd reads it from files with meanings of their own.

    :raises ValueError: it is something else.
    """
    if not isinstance(text, str) or (text and not kind.fullmatch(text)):
        raise ValueError(f"{str(text)[:60]!r} is not {kind.pattern}")
    return text


def _checked_keys(keys: Mapping[str, Any]) -> dict[str, str]:
    return {checked(FINGERPRINT, name): checked(KEY, line) for name, line in keys.items()}


def _silent(error: MLMPError) -> bool:
    """Whether nothing is known by this answer: nobody there, or too busy."""
    return isinstance(error, NotReachable) or error.status >= 500 or error.status == 429


def _read(file: Path) -> Allowed:
    """What was said last. A file that a full disk, or somebody's editor, has spoilt counts as none."""
    try:
        kept = json.loads(file.read_text())
        return Allowed(
            keys=_checked_keys(kept["keys"]), principal=checked(NAME, kept["principal"]),
            authority=checked(KEY, kept["authority"]), certificate=checked(KEY, kept["certificate"]),
            expires=int(kept["expires"]),
            certified=(str(kept["certified"][0]), str(kept["certified"][1])), refusal=str(kept["refusal"]),
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError):
        return Allowed()


def _write(file: Path, allowed: Allowed) -> None:
    """Keeps it, in one step, for the user's eyes only. A full disk keeps nobody out."""
    try:
        private_files.write(file, json.dumps(asdict(allowed)).encode())
    except OSError as error:
        log.warning("%s can't be written: %s", file, error.strerror)
