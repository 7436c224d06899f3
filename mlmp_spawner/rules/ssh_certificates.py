"""Certificates of the SSH CA: short ones for people, longer ones for the host keys of their servers."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    SSHCertificateBuilder,
    SSHCertificateType,
    load_pem_private_key,
    load_ssh_private_key,
    load_ssh_public_key,
)

from mlmp_spawner.rules.ssh_keys import PublicKey
from mlmp_spawner.units import DAY, MINUTE, SECOND

USER_VALID = 10 * MINUTE
HOST_VALID = 30 * DAY
SLACK = 5 * MINUTE
"""By how much the clocks of two machines may differ: certificates hold from that long before now."""

_EXTENSIONS = (b"permit-agent-forwarding", b"permit-port-forwarding", b"permit-pty")


def new_authority() -> bytes:
    """A new private key for a CA, as OpenSSH's files have it."""
    return Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())


def read_authority(pem: bytes) -> Ed25519PrivateKey:
    """The private key of a CA, from OpenSSH's form or PKCS 8.

    :raises ValueError: it is no Ed25519 private key without a passphrase.
    """
    load = load_ssh_private_key if b"OPENSSH PRIVATE KEY" in pem else load_pem_private_key
    try:
        key = load(pem, None)
    except (ValueError, TypeError) as error:
        raise ValueError(f"it holds no private key without a passphrase: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError("its key is not an Ed25519 one; make one with `ssh-keygen -t ed25519 -N '' -f FILE`")
    return key


def public_line(authority: Ed25519PrivateKey) -> str:
    """The CA's public key: ``ssh-ed25519 AAAA…``."""
    return authority.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def user_certificate(authority: Ed25519PrivateKey, key: PublicKey, *, principal: str, now: int) -> tuple[str, int]:
    """A certificate that logs its key in as ``principal``, in one line, and when it ends (ms UTC).

    :raises ValueError: a key in hardware, for which none can be made.
    """
    return _sign(
        authority, key, SSHCertificateType.USER, principal, f"mlmp:{principal}:{key.fingerprint}", now, USER_VALID
    )


def host_certificate(authority: Ed25519PrivateKey, key: PublicKey, *, principal: str, now: int) -> tuple[str, int]:
    """A certificate for the host key of the servers of ``principal``, in one line, and when it ends (ms UTC).

    :raises ValueError: a key in hardware, for which none can be made.
    """
    return _sign(authority, key, SSHCertificateType.HOST, principal, f"mlmp-host:{principal}", now, HOST_VALID)


def _sign(
    authority: Ed25519PrivateKey,
    key: PublicKey,
    kind: SSHCertificateType,
    principal: str,
    key_id: str,
    now: int,
    valid: int,
) -> tuple[str, int]:
    if key.in_hardware:
        raise ValueError("no certificate can be made for a key in hardware; the key itself logs in")
    end = (now + valid) // SECOND
    builder = (
        SSHCertificateBuilder()
        .public_key(load_ssh_public_key(key.line.encode()))  # type: ignore[arg-type] # DSA is refused when it is read
        .type(kind)
        .serial(now)
        .key_id(key_id.encode())
        .valid_principals([principal.encode()])
        .valid_after((now - SLACK) // SECOND)
        .valid_before(end)
    )
    if kind is SSHCertificateType.USER:
        for name in _EXTENSIONS:
            builder = builder.add_extension(name, b"")
    return builder.sign(authority).public_bytes().decode(), end * SECOND
