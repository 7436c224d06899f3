"""OpenSSH's own client by `mlmp ssh` and as `mlmp ssh-config` has it, into a real server on this machine."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.live import wait_for
from tests.ssh.computers import Computer
from tests.ssh.conftest import with_server
from tests.ssh.terminals import environment_of_lab, on_a_terminal

ODD = bytes(range(256)) * 4096


def test_a_command_runs_in_the_server_and_its_exit_status_comes_back(
    computer: Computer, booking: dict[str, Any], home: Path
) -> None:
    ran = computer.mlmp("ssh", booking["id"], "pwd; echo problem >&2; exit 7")
    assert (ran.returncode, ran.stdout, ran.stderr) == (7, f"{home}\n", "problem\n")


def test_bytes_pass_as_they_are(either: Computer) -> None:
    assert either.ssh("ann", "cat", input=ODD, text=False).stdout == ODD


def test_a_shell_has_a_terminal_with_its_size_and_its_signals(computer: Computer, booking: dict[str, Any]) -> None:
    with on_a_terminal(computer.words("mlmp", "ssh", booking["id"]), computer.environment, rows=24, columns=80) as tty:
        tty.say("stty size; echo reservation=$MLMP_RESERVATION_ID")
        tty.expect("24 80")
        tty.expect(f"reservation={booking['id']}")
        tty.resize(55, 201)
        wait_for(lambda: (tty.say("stty size"), tty.sees("55 201"))[1], 20, "the new size")
        tty.say("sleep 1000; echo interrupted=$?")
        tty.press_until("\x03", "^C")
        tty.say("echo status=$?; exit 3")
        tty.expect("status=130")
        assert tty.exit_status() == 3


# What terminals, and JupyterLab for its own, set anew each time.
OF_EACH_SESSION = {"TERM", "SHLVL", "PWD", "OLDPWD", "_", "SHELL", "LOGNAME", "MAIL", "COLUMNS", "LINES",
                   "PYXTERM_DIMENSIONS", "JUPYTER_SERVER_ROOT", "JUPYTER_SERVER_URL"}  # fmt: skip


@pytest.mark.parametrize("way", ["", "-tt"], ids=["command", "terminal"])
def test_inside_are_the_variables_devices_and_files_of_a_terminal_in_jupyterlab(
    either: Computer, booking: dict[str, Any], home: Path, way: str
) -> None:
    lab = environment_of_lab(either.person, home)
    told = either.ssh(*way.split(), "ann", "env -0 > ssh-env; ls -F /dev > ssh-dev; id > ssh-id")
    assert told.returncode == 0, told.stderr
    here = dict(item.split("=", 1) for item in (home / "ssh-env").read_text().split("\0") if item)
    own = OF_EACH_SESSION | {name for name in here if name.startswith("SSH_")}
    # JupyterLab's terminals are login shells: there Debian's /etc/profile has set another PATH. mlmp is found even so.
    servers = [Path(f"/proc/{one.pid}/environ").read_text().split("\0") for one in either.person.site.servers()]
    (server,) = [one for one in servers if f"MLMP_RESERVATION_ID={booking['id']}" in one]
    assert f"PATH={here.pop('PATH')}" in server
    assert str(Path(sys.executable).parent) in lab.pop("PATH").split(":")
    assert {k: v for k, v in here.items() if k not in own} == {k: v for k, v in lab.items() if k not in own}
    assert here["CUDA_VISIBLE_DEVICES"] and here["MLMP_RESERVATION_ID"] == booking["id"]
    assert (home / "ssh-dev").read_text() == (home / "lab-dev").read_text()
    assert (home / "ssh-id").read_text() == (home / "lab-id").read_text()


@pytest.mark.parametrize(("protocol", "name"), [("-s", "over there"), ("-O", "over-there")], ids=["sftp", "old"])
def test_scp_takes_files_there_and_back(
    either: Computer, home: Path, tmp_path: Path, protocol: str, name: str
) -> None:
    (tmp_path / "odd").write_bytes(ODD)
    there = either.run(*either.words("scp", protocol, str(tmp_path / "odd"), f"ann:{name}"))
    assert there.returncode == 0 and (home / name).read_bytes() == ODD, there.stderr
    back = either.run(*either.words("scp", protocol, f"ann:{name}", str(tmp_path / "back")))
    assert back.returncode == 0 and (tmp_path / "back").read_bytes() == ODD, back.stderr


def test_sftp_sees_the_same_files_as_jupyterlab(either: Computer, home: Path, tmp_path: Path) -> None:
    (tmp_path / "odd").write_bytes(ODD)
    ran = either.run(*either.words("sftp", "-b", "-", "ann"), input=f"put {tmp_path}/odd by-sftp\nls -l by-sftp\n")
    assert ran.returncode == 0 and str(len(ODD)) in ran.stdout, ran.stderr
    seen = either.person.api.get("/user/ann/api/contents/by-sftp", params={"content": 0})
    assert seen.json()["size"] == len(ODD)


def test_rsync_sends_only_what_changed(either: Computer, home: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for number in range(20):
        path = tree / f"d{number % 3}" / f"file {number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(2000))
    for _ in range(2):
        ran = either.run(*either.words("rsync", "-a", "--out-format=%n", "--delete", f"{tree}/", "ann:tree/"))
        assert ran.returncode == 0, ran.stderr
        sent = [line for line in ran.stdout.splitlines() if not line.endswith("/")]
        assert len(sent) == len([path for path in tree.rglob("*") if path.is_file()]) or sent == ["d1/file 1"]
        (tree / "d1" / "file 1").write_bytes(b"new")
    assert (home / "tree/d1/file 1").read_bytes() == b"new"


def test_ports_are_forwarded_both_ways(either: Computer) -> None:
    for option in ("-L", "-R"):
        with answering(b"hello") as target, free_port() as port:
            forward = f"127.0.0.1:{port}:127.0.0.1:{target}"
            with either.open("-N", option, forward, "-o", "ExitOnForwardFailure=yes", "ann"):
                assert wait_for(lambda port=port: _asked(port), 30, f"the forward by {option}") == b"hello"


def test_an_editor_starts_its_server_and_talks_to_it_as_vs_code_does(either: Computer) -> None:
    script = r"""
D=$(mktemp -d); echo hello > $D/index.html
nohup python3 -c 'if True:
    import http.server, sys, os
    os.chdir(sys.argv[1])
    one = http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
    open("part", "w").write(str(one.server_port)); os.rename("part", "port")
    one.serve_forever()' "$D" >$D/log 2>&1 </dev/null &
for i in $(seq 300); do [ -s $D/port ] && break; sleep .1; done
echo "listeningOn==$(cat $D/port)== gpu==$CUDA_VISIBLE_DEVICES== pid==$!=="
"""
    with free_port() as local, either.open("-T", "-D", f"127.0.0.1:{local}", "ann", "bash") as session:
        assert session.stdin is not None and session.stdout is not None
        session.stdin.write(script)
        session.stdin.flush()
        _, port, _, gpu, _, pid, _ = session.stdout.readline().split("==")
        assert gpu
        try:
            assert _by_socks(local, int(port)).endswith(b"hello\n")
        finally:
            os.kill(int(pid), signal.SIGKILL)


def test_one_connection_carries_many_sessions(either: Computer, tmp_path: Path) -> None:
    shared = ("-o", f"ControlPath={tmp_path}/c")
    with either.open("-N", "-o", "ControlMaster=yes", *shared, "ann"):
        wait_for((tmp_path / "c").exists, 30, "the connection")
        for number in range(20):
            assert either.ssh(*shared, "-o", "ProxyCommand=false", "ann", f"echo {number}").stdout == f"{number}\n"


@pytest.mark.faults
def test_a_server_with_a_name_of_its_own_is_another_host(
    computer: Computer, behind_gateway: Computer, booking: dict[str, Any]
) -> None:
    named = with_server(computer.person, 600, "train", profile="cpu")
    for one in (computer, behind_gateway):
        assert one.ssh("ann--train", "echo $MLMP_RESERVATION_ID").stdout == f"{named['id']}\n"
        assert one.ssh("ann", "echo $MLMP_RESERVATION_ID").stdout == f"{booking['id']}\n"
    assert computer.mlmp("ssh", named["id"], "echo $JUPYTERHUB_SERVER_NAME").stdout == "train\n"
    assert computer.person.api.delete(f"/services/mlmp/api/v1/reservations/{named['id']}").status_code == 200


def test_the_host_is_known_before_the_first_connection(either: Computer) -> None:
    told = either.ssh("-v", "ann", "true").stderr
    assert "matches the ED25519-CERT host certificate" in told
    (either.directory / "stranger").write_text("")
    stranger = either.ssh("-o", f"UserKnownHostsFile={either.directory}/stranger", "ann", "true")
    assert stranger.returncode == 255 and "Host key verification failed" in stranger.stderr


@contextmanager
def answering(text: bytes) -> Iterator[int]:
    """The port of a server that says ``text`` to each."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            while True:
                try:
                    one, _ = server.accept()
                except OSError:
                    return
                with one:
                    one.sendall(text)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


@contextmanager
def free_port() -> Iterator[int]:
    """A port where nobody listens."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    yield port


def _by_socks(proxy: int, port: int) -> bytes:
    """What an HTTP server answers that is reached by `ssh -D`."""
    with socket.create_connection(("127.0.0.1", proxy), 20) as one:
        one.sendall(b"\x05\x01\x00")
        assert one.recv(2) == b"\x05\x00"
        one.sendall(b"\x05\x01\x00\x01\x7f\x00\x00\x01" + port.to_bytes(2, "big"))
        assert one.recv(10)[1] == 0
        one.sendall(b"GET /index.html HTTP/1.0\r\n\r\n")
        return b"".join(iter(lambda: one.recv(4096), b""))


def _asked(port: int) -> bytes:
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as one:
            return one.recv(100)
    except OSError:
        return b""
