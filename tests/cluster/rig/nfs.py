"""A real NFS server (nfs-ganesha) at an address of its own, which the nodes mount from and pods are refused by.

Nodes mount with their kernel's client where it has one, else with ``files/nfs_client.c`` in place of ``mount.nfs``.
"""

from __future__ import annotations

import socket
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .console import run, wait_until
from .places import FILES, LOGS, NFS, NODES, RUN
from .processes import Process

FOLDER = RUN / "nfs"
PORT, MOUNT_PORT = 2049, 20048
#: Whom root is taken for where it is squashed, as Linux's own server does.
NOBODY = 65534
#: export -> how it treats root, who may do what: as an admin might have set it up.
EXPORTS = {
    "/homes": ("No_Root_Squash", "RW"),
    "/squashed": ("Root_Squash", "RW"),
    "/shared": ("Root_Squash", "RO"),
}
#: As a PersistentVolume lists them; of these our client heeds the ports. Without a lock manager, locks hold on a node.
MOUNT_OPTIONS = ["vers=3", "nolock", "hard", f"port={PORT}", f"mountport={MOUNT_PORT}"]


class NfsServer(Process):
    """``stop()`` is a crash, ``freeze()`` a hang; ``start()``, ``thaw()`` bring it back. What was written stays."""

    address = NFS.address
    exports = tuple(EXPORTS)
    mount_options = MOUNT_OPTIONS

    def folder(self, export: str) -> Path:
        """Where the files of an export are on this machine."""
        return FOLDER / export.removeprefix("/")

    def start(self) -> None:
        """Raises RigError when it does not answer within 20 s."""
        super().start()
        wait_until(self.ready, f"an answer of the NFS server ({self.log}, {LOGS / 'ganesha.log'})", seconds=20)

    @contextmanager
    def away(self) -> Iterator[None]:
        """Nobody reaches it meanwhile: connections are cut, new ones refused."""
        inside = ("ip", "netns", "exec", NFS.netns, "nft")
        run(*inside, "-f", "-", text_in=AWAY)
        try:
            yield
        finally:
            run(*inside, "delete", "table", "inet", "away")

    def ready(self) -> bool:
        """Whether it takes connections; raises RigError where it has ended."""
        self.require()
        return all(_listens(port) for port in (PORT, MOUNT_PORT))


server = NfsServer("nfs-server")


def up() -> None:
    """Makes the exports, empty, and returns when they can be mounted."""
    for export in EXPORTS:
        server.folder(export).mkdir(parents=True, exist_ok=True)
        # With root squashed it is the users who make what is theirs.
        server.folder(export).chmod(0o1777 if EXPORTS[export] == ("Root_Squash", "RW") else 0o755)
    (FOLDER / "recovery").mkdir(exist_ok=True)
    config = FOLDER / "ganesha.conf"
    core = CORE.format(address=NFS.address, folder=FOLDER, port=PORT, mount_port=MOUNT_PORT, plugins=_plugins())
    config.write_text(core + "".join(_export(number, name) for number, name in enumerate(EXPORTS, start=1)))
    server.define(
        "nsenter", f"--net=/run/netns/{NFS.netns}",
        "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc",
        "bash", FILES / "nfs_server.sh", config, LOGS / "ganesha.log",
    )  # fmt: skip
    server.start()


def _export(number: int, name: str) -> str:
    squash, access = EXPORTS[name]
    clients = ", ".join(node.address for node in NODES)
    return EXPORT.format(
        number=number,
        path=server.folder(name),
        name=name,
        squash=squash,
        access=access,
        clients=clients,
        nobody=NOBODY,
    )


def _listens(port: int) -> bool:
    try:
        socket.create_connection((NFS.address, port), timeout=1).close()
    except OSError:
        return False
    return True


def _plugins() -> Path:
    """Debian's folder of libraries for this kind of machine."""
    return Path("/usr/lib") / str(sysconfig.get_config_var("MULTIARCH") or "") / "ganesha"


AWAY = f"""\
table inet away {{
    chain input {{
        type filter hook input priority 0;
        tcp dport {{ {PORT}, {MOUNT_PORT} }} reject with tcp reset
    }}
}}
"""
CORE = """\
NFS_CORE_PARAM {{
    NFS_Port = {port}; MNT_Port = {mount_port}; Bind_addr = {address}; Plugins_Dir = "{plugins}";
    Protocols = 3, 4; mount_path_pseudo = true; Enable_NLM = false; Enable_RQUOTA = false; fsid_device = true;
}}
NFSV4 {{ Graceless = true; RecoveryBackend = fs; RecoveryRoot = "{folder}/recovery"; Only_Numeric_Owners = true; }}
LOG {{ Default_Log_Level = EVENT; }}
"""
EXPORT = """\
EXPORT {{
    Export_Id = {number}; Path = "{path}"; Pseudo = "{name}"; Protocols = 3, 4; Transports = TCP; SecType = sys;
    Access_Type = None; Squash = {squash}; Anonymous_Uid = {nobody}; Anonymous_Gid = {nobody};
    CLIENT {{ Clients = {clients}; Access_Type = {access}; Squash = {squash};
        Anonymous_Uid = {nobody}; Anonymous_Gid = {nobody}; }}
    FSAL {{ Name = VFS; }}
}}
"""
