"""The gateway's own key, and the certificate by which MLMP's SSH CA says that it is the gateway's."""

from __future__ import annotations

from pathlib import Path

import asyncssh
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from mlmp_spawner import private_files
from mlmp_spawner.errors import ConfigurationError
from mlmp_spawner.operations import ssh_authority
from mlmp_spawner.rules.ssh_names import GATEWAY
from mlmp_spawner.units import DAY, SECOND

VALID = 3650 * DAY
"""How long the certificate holds. Key and CA are kept in the same place, so a shorter time would protect nothing."""


def load(path: Path) -> asyncssh.SSHKey:
    """The gateway's private key, made (0600) where there is none.

    :raises ConfigurationError: it can't be read or made.
    """
    try:
        if not path.exists():
            key = asyncssh.generate_private_key("ssh-ed25519").export_private_key()
            private_files.write(path, key, replace=False)
        return asyncssh.read_private_key(path)
    except (OSError, asyncssh.KeyImportError) as error:
        raise ConfigurationError([f"the SSH gateway's key, {path}: {error}"]) from error


def certify(key: asyncssh.SSHKey, certificate: Path, *, authority: str, host: str, now: int) -> None:
    """Has the CA sign the key under the gateway's names, into ``certificate``, unless it has.

    :param authority: the file of the CA. :param host: as people reach the gateway, "" where nobody said.
    :param now: ms UTC.
    :raises ConfigurationError: the CA can't be read, or the certificate can't be written.
    """
    ca = ssh_authority.load(authority)
    signer = asyncssh.import_private_key(ca.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    signed = signer.generate_host_certificate(
        key,
        GATEWAY,
        principals=[GATEWAY, *([host] if host else [])],
        valid_after=(now - DAY) // SECOND,
        valid_before=(now + VALID) // SECOND,
    )
    try:
        private_files.write(certificate, signed.export_certificate())
    except OSError as error:
        raise ConfigurationError([f"the certificate of the SSH gateway's key, {certificate}: {error}"]) from error
