"""A real LDAP server (slapd) on this machine with StartTLS, whose people a test changes."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
import tempfile
from pathlib import Path

import ldap3
import pytest
import trustme

from tests.live import wait_for
from tests.login.provider import free_port

BASE = "dc=example,dc=org"
ADMIN, PASSWORD = f"cn=admin,{BASE}", "the admin of the directory"
READER = f"cn=mlmp,ou=services,{BASE}"
CONFIG = """\
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/nis.schema
include /etc/ldap/schema/inetorgperson.schema
pidfile {root}/slapd.pid
modulepath /usr/lib/ldap
moduleload back_mdb
TLSCACertificateFile {root}/ca.pem
TLSCertificateFile {root}/server.pem
TLSCertificateKeyFile {root}/server.key
security simple_bind=128
database mdb
suffix "{base}"
rootdn "{admin}"
rootpw "{password}"
directory {root}/db
access to attrs=userPassword by anonymous auth by * none
access to attrs=employeeNumber by * search
access to * by dn.exact="{reader}" read by self read by * none
"""


def slapd() -> str:
    """Where the server is; skips where it is not, and fails in CI."""
    found = shutil.which("slapd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/lib/openldap")
    if found is None:
        reason = "no slapd (Debian: apt-get install slapd)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


class Directory:
    """slapd, in a directory of its own. ``ca``: the file of the authority that signed its certificate."""

    def __init__(self) -> None:
        program = slapd()
        self._folder = tempfile.TemporaryDirectory(prefix="mlmp-ldap-")
        root = Path(self._folder.name)
        self.port = free_port()
        self.ca = root / "ca.pem"
        authority = trustme.CA()
        authority.cert_pem.write_to_path(self.ca)
        certificate = authority.issue_cert("localhost")
        certificate.private_key_pem.write_to_path(root / "server.key")
        certificate.cert_chain_pems[0].write_to_path(root / "server.pem")
        (root / "db").mkdir()
        values = {"root": root, "base": BASE, "admin": ADMIN, "password": PASSWORD, "reader": READER}
        (root / "slapd.conf").write_text(CONFIG.format(**values))
        self._log = (root / "log").open("wb")
        command = [program, "-d", "0", "-f", str(root / "slapd.conf"), "-h", f"ldap://127.0.0.1:{self.port}"]
        self._process = subprocess.Popen(command, stdout=self._log, stderr=self._log)
        self._admin = wait_for(self._connect, 30, "slapd")
        self._fill()

    def _connect(self) -> ldap3.Connection | None:
        assert self._process.poll() is None, (Path(self._folder.name) / "log").read_text()
        tls = ldap3.Tls(validate=ssl.CERT_REQUIRED, ca_certs_file=str(self.ca))
        server = ldap3.Server("localhost", port=self.port, tls=tls)
        try:
            return ldap3.Connection(server, ADMIN, PASSWORD, auto_bind=ldap3.AUTO_BIND_TLS_BEFORE_BIND)
        except ldap3.core.exceptions.LDAPSocketOpenError:
            return None

    def _do(self, done: bool) -> None:
        assert done, self._admin.result

    def _fill(self) -> None:
        top = {"objectClass": ["dcObject", "organization"], "dc": "example", "o": "example"}
        self._do(self._admin.add(BASE, attributes=top))
        for unit in ("people", "groups", "services"):
            self._do(self._admin.add(f"ou={unit},{BASE}", "organizationalUnit"))
        reader = {"userPassword": "the reader's"}
        self._do(self._admin.add(READER, ["organizationalRole", "simpleSecurityObject"], reader))

    def person(self, name: str, password: str, *groups: str, number: int = 5000) -> None:
        """Adds a person; each group is made when it is first named."""
        dn = f"uid={name},ou=people,{BASE}"
        kinds = ["inetOrgPerson", "posixAccount"]
        about = {"cn": name, "sn": name, "userPassword": password, "uidNumber": number, "gidNumber": number,
                 "homeDirectory": f"/home/{name}"}  # fmt: skip
        self._do(self._admin.add(dn, kinds, about))
        for group in groups:
            self.join(name, group)

    def also(self, name: str, value: str, attribute: str = "uid") -> None:
        """Gives a person a second name, or another value; `employeeNumber` can be looked for and not be read."""
        self._do(self._admin.modify(f"uid={name},ou=people,{BASE}", {attribute: [(ldap3.MODIFY_ADD, [value])]}))

    def join(self, name: str, group: str) -> None:
        """Makes a person a member. The reader is one of every group: it may not be empty (RFC 4519, groupOfNames)."""
        dn = f"cn={group},ou=groups,{BASE}"
        self._admin.add(dn, "groupOfNames", {"member": READER})
        self._do(self._admin.modify(dn, {"member": [(ldap3.MODIFY_ADD, [f"uid={name},ou=people,{BASE}"])]}))

    def leave(self, name: str, group: str) -> None:
        """Ends a membership."""
        member = f"uid={name},ou=people,{BASE}"
        change = {"member": [(ldap3.MODIFY_DELETE, [member])]}
        self._do(self._admin.modify(f"cn={group},ou=groups,{BASE}", change))

    def remove(self, name: str) -> None:
        """Removes a person."""
        self._do(self._admin.delete(f"uid={name},ou=people,{BASE}"))

    def close(self) -> None:
        """Ends it."""
        self._process.terminate()
        self._process.wait()
        self._log.close()
        self._folder.cleanup()
