"""Public SSH keys as people paste them: read, checked, brought into one form."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    SSHPublicKeyTypes,
    load_ssh_public_key,
)

ALGORITHMS = (
    "ssh-ed25519",
    "sk-ssh-ed25519@openssh.com",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ecdsa-sha2-nistp256@openssh.com",
    "ssh-rsa",
)
"""What is accepted, the best first. ``sk-…`` are keys in hardware (FIDO)."""

RSA_BITS = 3072
LONGEST_RSA = 16384
LONGEST = 16 * 1024
"""Characters of a pasted key."""
LONGEST_COMMENT = 200

MAKE_ONE = "make one with `ssh-keygen -t ed25519`"
PUBLIC_ONE = "paste the one line of the file that ends in .pub, such as ~/.ssh/id_ed25519.pub"

_PRIVATE = re.compile(r"PRIVATE KEY|PuTTY-User-Key-File", re.IGNORECASE)
_CERTIFICATE = "-cert-v01@openssh.com"


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key that may be used. ``blob``: its base64, in the one form that it has; ``comment``: what followed it."""

    algorithm: str
    blob: str
    fingerprint: str
    comment: str = ""

    @property
    def line(self) -> str:
        """As OpenSSH's files have it, without the comment: ``ssh-ed25519 AAAA…``."""
        return f"{self.algorithm} {self.blob}"

    @property
    def in_hardware(self) -> bool:
        """Whether it is the key of a security key (FIDO)."""
        return self.algorithm.startswith("sk-")


def parse(text: str) -> PublicKey:
    """Reads a public key as it is in a ``.pub`` file.

    :raises ValueError: what it is instead, or why it is refused, and what to do.
    """
    text = text.strip()
    if not text:
        raise ValueError(f"there is no key; {PUBLIC_ONE}")
    if _PRIVATE.search(text):
        raise ValueError(
            f"this is a private key, which must never leave your computer; it was not kept. To be safe, {MAKE_ONE} "
            f"and {PUBLIC_ONE}"
        )
    if len(text) > LONGEST:
        raise ValueError(f"this is longer than any key; {PUBLIC_ONE}")
    if "BEGIN SSH2 PUBLIC KEY" in text:
        raise ValueError("this is a key in another form; turn it into one line with `ssh-keygen -i -f FILE`")
    if len(text.splitlines()) > 1:
        raise ValueError("these are several lines; add one key at a time, in one line")
    algorithm, _, rest = text.replace("\t", " ").partition(" ")
    blob, _, comment = rest.strip().partition(" ")
    _check_algorithm(algorithm, rest)
    return _checked(algorithm, blob, _printable(comment))


def fingerprint_of(raw: bytes) -> str:
    """``SHA256:…`` of a key, as ``ssh-keygen -l`` shows it."""
    digest = base64.b64encode(hashlib.sha256(raw).digest()).decode().rstrip("=")
    return f"SHA256:{digest}"


def _check_algorithm(algorithm: str, rest: str) -> None:
    if algorithm in ALGORITHMS:
        return
    if algorithm in ("ssh-dss", "ssh-dsa"):
        raise ValueError(f"DSA keys are too weak, and OpenSSH refuses them too; {MAKE_ONE}")
    if algorithm.endswith(_CERTIFICATE):
        raise ValueError(f"this is a certificate; {PUBLIC_ONE}")
    if any(f"{known} " in f"{rest} " for known in ALGORITHMS):
        raise ValueError("options before the key are not taken; leave them out: it begins with ssh-… or ecdsa-…")
    shown = ascii(algorithm[:40])
    raise ValueError(
        f"it begins with {shown}; valid: {', '.join(ALGORITHMS)}. {PUBLIC_ONE[0].upper()}{PUBLIC_ONE[1:]}"
    )


def _checked(algorithm: str, blob: str, comment: str) -> PublicKey:
    broken = ValueError(f"the key is damaged, perhaps cut off; {PUBLIC_ONE}")
    try:
        raw = base64.b64decode(blob, validate=True)
        loaded = load_ssh_public_key(f"{algorithm} {blob}".encode("ascii"))
        if not algorithm.startswith("sk-"):  # of those, the library keeps no more than the curve's point
            raw = _standard_form(loaded)
    except (ValueError, UnsupportedAlgorithm, binascii.Error) as error:
        raise broken from error
    if isinstance(loaded, RSAPublicKey):
        bits = loaded.key_size
        if bits < RSA_BITS:
            raise ValueError(f"this RSA key has {bits} bits, too few: at least {RSA_BITS}; {MAKE_ONE}")
        if bits > LONGEST_RSA:
            raise ValueError(f"this RSA key has {bits} bits; at most {LONGEST_RSA}; {MAKE_ONE}")
    return PublicKey(algorithm, base64.b64encode(raw).decode(), fingerprint_of(raw), comment)


def _standard_form(key: SSHPublicKeyTypes) -> bytes:
    line = key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return base64.b64decode(line.split()[1], validate=True)


def _printable(comment: str) -> str:
    """What can be shown of a comment."""
    return "".join(c for c in comment.strip() if c.isprintable())[:LONGEST_COMMENT].strip()
