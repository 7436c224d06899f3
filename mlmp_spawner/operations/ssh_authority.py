"""MLMP's SSH CA: its private key, made when it is needed first, and what it signs for whom."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mlmp_spawner import private_files
from mlmp_spawner.errors import ConfigurationError, Invalid, NotAllowed, Unavailable
from mlmp_spawner.operations import ssh_keys
from mlmp_spawner.operations.site import Site
from mlmp_spawner.rules import ssh_certificates as rules
from mlmp_spawner.rules.ssh_names import GATEWAY, principal_of

log = logging.getLogger("mlmp.ssh")

WHERE_MOUNTED = "On Kubernetes, add the key ssh-ca to the Secret that secrets.existingSecret names."
"""What to do where the file is mounted, and nobody can make it: that Secret is older than the key."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate, as one line of a ``-cert.pub`` file; ``expires`` in ms UTC."""

    line: str
    expires: int


def public_line(site: Site) -> str:
    """The CA's public key: ``ssh-ed25519 AAAA…``.

    :raises Unavailable: it can't be read or made; the log says why.
    """
    return rules.public_line(_key(site))


def for_user(site: Site, owner: str, public_key: str, *, now: int) -> Certificate:
    """A short certificate for one of a person's registered keys.

    :raises Invalid: it is no public key. :raises NotAllowed: it is none that they registered.
    :raises Unavailable: the CA can't be read or made; the log says why.
    """
    key = ssh_keys.checked(public_key)
    if (known := ssh_keys.find(site, owner, key.fingerprint)) is None:
        raise NotAllowed(
            f"The key {key.fingerprint} is not registered for {owner[:60]!r}.",
            hint="Register it first: on the page SSH, or by `mlmp ssh-key add FILE.pub`.",
        )
    try:
        line, expires = rules.user_certificate(_key(site), key, principal=principal_of(owner), now=now)
    except ValueError as error:
        raise Invalid.field("public_key", str(error)) from error
    ssh_keys.used(site, known.id, now=now)
    return Certificate(line, expires)


def for_host(site: Site, owner: str, public_key: str, *, now: int) -> Certificate:
    """A certificate for the host key of a person's servers, under the one name that is theirs.

    :raises Invalid: it is no public key. :raises NotAllowed: their name is that of the gateway.
    :raises Unavailable: the CA can't be read or made; the log says why.
    """
    key = ssh_keys.checked(public_key)
    principal = principal_of(owner)
    if principal == GATEWAY or (site.ssh.gateway and principal == site.ssh.gateway[0].lower()):
        raise NotAllowed("This user is called as the SSH gateway is, so nobody could tell their servers from it.")
    try:
        return Certificate(*rules.host_certificate(_key(site), key, principal=principal, now=now))
    except ValueError as error:
        raise Invalid.field("public_key", str(error)) from error


def _key(site: Site) -> Ed25519PrivateKey:
    try:
        return load(site.ssh.ca_file)
    except ConfigurationError as error:
        log.error("%s", error.detail)
        raise Unavailable(
            "Nothing can be signed for SSH just now.", hint="Tell the people who run this: the log says why."
        ) from error


def load(file: str | Path) -> Ed25519PrivateKey:
    """The CA's private key, made (0600) if there is no such file.

    :raises ConfigurationError: it can't be made or read, or is no Ed25519 key.
    """
    if not str(file):
        raise ConfigurationError(["the SSH CA has no file: set c.MLMP.ssh_ca_file or c.MLMP.data"])
    try:
        if (found := look(file)) is not None:
            return found
        private_files.write(Path(file), rules.new_authority(), replace=False)
        return _read(str(file), os.stat(file).st_mtime_ns)
    except OSError as error:
        raise _unusable(file, error) from error


def look(file: str | Path) -> Ed25519PrivateKey | None:
    """The CA's private key, None where there is no such file yet.

    :raises ConfigurationError: it can't be read, or is no Ed25519 key.
    """
    try:
        return _read(str(file), os.stat(file).st_mtime_ns)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unusable(file, error) from error


@lru_cache(maxsize=4)
def _read(file: str, changed: int) -> Ed25519PrivateKey:
    """:param changed: so that a file that was replaced is read again."""
    try:
        return rules.read_authority(Path(file).read_bytes())
    except ValueError as error:
        raise ConfigurationError([f"the SSH CA, {file}: {error}"]) from error


def _unusable(file: str | Path, error: OSError) -> ConfigurationError:
    return ConfigurationError(
        [
            f"the SSH CA, {file}: {error.strerror or error}; the service must be able to read it, or to make it. "
            f"{WHERE_MOUNTED}"
        ]
    )
