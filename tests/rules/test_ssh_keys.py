"""Which public keys are taken, in which form, and what is said of the others."""

from __future__ import annotations

import base64
import struct
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from mlmp_spawner.rules import ssh_keys
from mlmp_spawner.rules.ssh_keys import parse

ED25519 = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFZ/NjApOsAaTTRQGQiFxbHjDryfYzQkpSQ/Ust23aVj"


def line(key: object) -> str:
    return key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()  # type: ignore[attr-defined]


def in_hardware(algorithm: str = "sk-ssh-ed25519@openssh.com", application: bytes = b"ssh:") -> str:
    raw = ed25519.Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    parts = [algorithm.encode(), raw, application]
    blob = b"".join(struct.pack(">I", len(part)) + part for part in parts)
    return f"{algorithm} {base64.b64encode(blob).decode()}"


def rsa_line(bits: int) -> str:
    return line(rsa.generate_private_key(65537, bits).public_key())


@pytest.mark.parametrize("text", [ED25519, f"{ED25519} ann@laptop", f"  {ED25519}\tann@laptop \r\n", f"\n{ED25519}\n"])
def test_a_key_has_one_form_however_it_was_pasted(text: str):
    found = parse(text)
    assert (found.algorithm, found.line) == ("ssh-ed25519", ED25519)
    assert found.comment == ("ann@laptop" if "laptop" in text else "")


def test_the_fingerprint_is_that_of_ssh_keygen(tmp_path: Path):
    file = tmp_path / "key.pub"
    for text in (ED25519, in_hardware(), line(ec.generate_private_key(ec.SECP384R1()).public_key())):
        file.write_text(text)
        said = subprocess.run(["ssh-keygen", "-l", "-f", file], capture_output=True, text=True, check=True).stdout
        assert parse(text).fingerprint == said.split()[1]


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()])
def test_elliptic_curves_are_taken(curve: ec.EllipticCurve):
    text = line(ec.generate_private_key(curve).public_key())
    assert parse(text).line == text


def test_rsa_keys_are_taken_from_3072_bits_on():
    text = rsa_line(3072)
    assert parse(text).line == text
    with pytest.raises(ValueError, match="2048 bits, too few: at least 3072"):
        parse(rsa_line(2048))


def test_keys_in_hardware_are_taken_as_they_are():
    text = in_hardware(application=b"ssh:mine")
    assert parse(text).line == text and parse(text).in_hardware


def test_dsa_keys_are_refused():
    with pytest.warns(match="DSA"):
        text = line(dsa.generate_private_key(1024).public_key())
    with pytest.raises(ValueError, match="DSA keys are too weak"):
        parse(text)


@pytest.mark.parametrize("form", [PrivateFormat.OpenSSH, PrivateFormat.PKCS8])
def test_a_private_key_is_refused_and_not_repeated(form: PrivateFormat):
    pem = ed25519.Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, form, NoEncryption()).decode()
    with pytest.raises(ValueError, match="private key, which must never leave") as refused:
        parse(pem)
    assert pem.splitlines()[1][:20] not in str(refused.value)
    with pytest.raises(ValueError, match="private key"):
        parse(f"{ED25519}\n{pem}")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "there is no key"),
        (f"{ED25519}\n{ED25519}", "several lines"),
        (f'command="/bin/sh" {ED25519}', "options before the key"),
        (f"no-pty,permitopen=\"x:1\" {ED25519}", "options before the key"),
        (f"cert-authority {ED25519}", "options before the key"),
        (f"restrict\t{ED25519}", "options before the key"),
        (ED25519.replace("ssh-ed25519", "ssh-rsa"), "damaged"),
        (ED25519[:-4], "damaged"),
        (f"{ED25519}AAAA", "damaged"),
        ("ssh-ed25519", "damaged"),
        ("ssh-ed25519 AA\N{LATIN SMALL LETTER E WITH ACUTE}A", "damaged"),
        ("hello there", "it begins with 'hello'; valid: ssh-ed25519"),
        ("\x1b[2Jhello there", r"it begins with '\\x1b"),
        ("ssh-ed25519-cert-v01@openssh.com AAAA", "this is a certificate"),
        ("---- BEGIN SSH2 PUBLIC KEY ----\nAAAA\n---- END SSH2 PUBLIC KEY ----", "ssh-keygen -i"),
        ("PuTTY-User-Key-File-3: ssh-ed25519", "private key"),
        ("ssh-rsa " + "A" * 20_000, "longer than any key"),
    ],
)  # fmt: skip
def test_what_is_no_key_to_register_is_refused_with_the_reason(text: str, said: str):
    with pytest.raises(ValueError, match=said):
        parse(text)


def test_another_way_to_write_the_same_number_makes_no_second_key():
    """An RSA modulus with zeros in front is the same key, under the same fingerprint."""
    text = rsa_line(3072)
    raw = base64.b64decode(text.split()[1])
    parts, rest = [], raw
    while rest:
        (length,) = struct.unpack(">I", rest[:4])
        parts.append(rest[4 : 4 + length])
        rest = rest[4 + length :]
    parts[2] = b"\0\0" + parts[2]
    padded = base64.b64encode(b"".join(struct.pack(">I", len(part)) + part for part in parts)).decode()
    try:
        found = parse(f"ssh-rsa {padded}")
    except ValueError as error:
        assert "damaged" in str(error)
    else:
        assert found.fingerprint == parse(text).fingerprint


def test_a_comment_is_shown_without_what_steers_a_terminal():
    assert parse(f"{ED25519} a\x1b[2J\u202eb  ").comment == "a[2Jb"
    assert len(parse(f"{ED25519} {'x' * 5000}").comment) == ssh_keys.LONGEST_COMMENT


@settings(max_examples=300)
@given(st.one_of(st.text(max_size=200), st.builds(lambda kind, raw: f"{kind} {base64.b64encode(raw).decode()}",
                 st.sampled_from(ssh_keys.ALGORITHMS), st.binary(max_size=80))))  # fmt: skip
def test_nothing_that_is_pasted_does_more_than_be_refused(text: str):
    try:
        found = parse(text)
    except ValueError:
        return
    assert parse(found.line).fingerprint == found.fingerprint
