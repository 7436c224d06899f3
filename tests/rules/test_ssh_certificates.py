"""What the CA signs, as OpenSSH reads it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from mlmp_spawner.rules import ssh_certificates as rules
from mlmp_spawner.rules.ssh_keys import parse
from mlmp_spawner.units import DAY, MINUTE
from tests.rules.test_ssh_keys import ED25519, in_hardware, line

NOW = 1_800_000_000_000
CA = ed25519.Ed25519PrivateKey.generate()


def read(certificate: str, folder: Path) -> str:
    file = folder / "key-cert.pub"
    file.write_text(certificate + "\n")
    ran = subprocess.run(
        ["ssh-keygen", "-L", "-f", file], capture_output=True, text=True, check=True, env={"TZ": "UTC"}
    )
    return " ".join(ran.stdout.split())


@pytest.mark.parametrize("text", [ED25519, line(ec.generate_private_key(ec.SECP256R1()).public_key()),
                                  line(rsa.generate_private_key(65537, 3072).public_key())])  # fmt: skip
def test_a_person_s_certificate_is_short_and_for_one_principal(text: str, tmp_path: Path):
    key = parse(text)
    certificate, expires = rules.user_certificate(CA, key, principal="ann", now=NOW)
    said = read(certificate, tmp_path)
    assert "user certificate" in said and "Principals: ann Critical Options: (none)" in said
    assert key.fingerprint in said and f'Key ID: "mlmp:ann:{key.fingerprint}"' in said
    assert expires == NOW + 10 * MINUTE
    assert "Valid: from 2027-01-15T07:55:00 to 2027-01-15T08:10:00" in said
    assert "permit-pty" in said and "permit-port-forwarding" in said and "permit-X11" not in said


def test_a_host_s_certificate_is_of_the_other_kind_and_for_thirty_days(tmp_path: Path):
    certificate, expires = rules.host_certificate(CA, parse(ED25519), principal="ann", now=NOW)
    said = read(certificate, tmp_path)
    assert "host certificate" in said and "Principals: ann Critical" in said and "permit" not in said
    assert expires == NOW + 30 * DAY


def test_none_is_made_for_a_key_in_hardware():
    """What such a key signs is more than the plain key would: a certificate of the plain one would be another's."""
    with pytest.raises(ValueError, match="hardware"):
        rules.user_certificate(CA, parse(in_hardware()), principal="ann", now=NOW)


@settings(max_examples=20)
@given(st.integers(min_value=0, max_value=DAY))
def test_a_certificate_holds_now_on_machines_whose_clocks_differ_by_minutes(later: int):
    from cryptography.hazmat.primitives.serialization import load_ssh_public_identity

    now = NOW + later
    made, expires = rules.user_certificate(CA, parse(ED25519), principal="ann", now=now)
    found = load_ssh_public_identity(made.encode())
    found.verify_cert_signature()
    assert found.valid_after * 1000 <= now - 5 * MINUTE and found.valid_before * 1000 == expires
    assert now + 9 * MINUTE < expires <= now + 10 * MINUTE


def test_the_authority_is_read_as_openssh_and_as_helm_write_it():
    """Helm's genPrivateKey "ed25519" writes PKCS 8."""
    for form in (PrivateFormat.OpenSSH, PrivateFormat.PKCS8):
        found = rules.read_authority(CA.private_bytes(Encoding.PEM, form, NoEncryption()))
        assert rules.public_line(found) == rules.public_line(CA)
    assert rules.public_line(CA).startswith("ssh-ed25519 AAAA")


@pytest.mark.parametrize("pem", [
    b"", b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n", ED25519.encode(),
    CA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
    ec.generate_private_key(ec.SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
])  # fmt: skip
def test_what_is_no_authority_is_refused(pem: bytes):
    with pytest.raises(ValueError, match=r"private key|Ed25519"):
        rules.read_authority(pem)
