"""The settings of SSH, part of ``c.MLMP``."""

from __future__ import annotations

import re
from typing import Any

from traitlets import Bool, TraitError, Unicode, validate
from traitlets.config import Configurable

_GATEWAY = re.compile(r"(?P<host>[A-Za-z0-9][A-Za-z0-9.-]{0,252}|\[[0-9A-Fa-f:.]+\]):(?P<port>[0-9]{1,5})")


class SSHSettings(Configurable):
    """What of ``c.MLMP`` is about SSH."""

    ssh = Bool(True, help="Whether people may work in their servers over SSH.").tag(config=True)
    ssh_login = Unicode(
        "",
        help="""The name of the account inside servers, with which people log in over SSH; ``{username}`` stands for
        their own. Empty: the account that servers run as: that of the hub on one machine, ``jovyan`` on
        Kubernetes.""",
    ).tag(config=True)
    ssh_gateway = Unicode(
        "",
        help="""The SSH gateway as people reach it: ``host:port``. Empty: there is none, and ``mlmp ssh`` is the
        way.""",
    ).tag(config=True)
    ssh_ca_file = Unicode(
        "",
        help="""The private key (Ed25519, PEM, no passphrase) with which host keys and people's short certificates are
        signed. Empty: ``ssh_ca`` in the data directory, made when it is needed first.""",
    ).tag(config=True)

    @validate("ssh_gateway")
    def _valid_gateway(self, proposal: Any) -> str:
        text: str = proposal["value"].strip()
        if text:
            gateway(text)
        return text


def gateway(text: str) -> tuple[str, int] | None:
    """Host and port of :attr:`SSHSettings.ssh_gateway`, None for "".

    In small letters, as OpenSSH looks for the name among known hosts and in certificates.

    :raises TraitError: it is not ``host:port``.
    """
    if not text:
        return None
    found = _GATEWAY.fullmatch(text)
    if found is None or not 0 < int(found["port"]) < 65536:
        raise TraitError(f"c.MLMP.ssh_gateway is {text!r}; write host:port, such as ssh.example.org:22")
    return found["host"].strip("[]").lower(), int(found["port"])
