"""SSH on a real cluster, by OpenSSH's own client: into the server's container, and into the one beside it."""

from __future__ import annotations

import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes.client.models import V1Pod

from tests.cluster.inside import Inside
from tests.cluster.release import Release, storage_of
from tests.live import wait_for
from tests.ssh.computers import Computer

OWN = "/services/mlmp/api/v1"
ODD = bytes(range(256)) * 4096


@pytest.fixture(scope="module", autouse=True)
def client_programs() -> None:
    """OpenSSH's client."""
    missing = [name for name in ("ssh", "scp", "sftp", "rsync") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"no {', '.join(missing)} here; on Debian: apt-get install openssh-client rsync")


class Way:
    """Somebody with a server and a computer that is configured for it."""

    def __init__(self, release: Release, name: str, directory: Path, **asked: Any) -> None:
        self.release, self.name = release, name
        self.booking = release.book(name, 1200, profile="cpu", **asked)
        release.start(self.booking, seconds=180)
        self.computer = Computer(release.api(name), directory)
        configured = self.computer.mlmp("ssh-config")
        assert configured.returncode == 0, configured.stderr

    @property
    def pod(self) -> V1Pod:
        """As it is now."""
        pod = self.release.pod_of(self.booking)
        assert pod is not None
        return pod

    def inside(self, container: str = "notebook") -> Inside:
        """A container of the pod, past SSH."""
        return Inside(self.release.cluster, self.release.users, self.pod.metadata.name, container)

    def says(self, command: str) -> str:
        """What a command in the server writes."""
        ran = self.computer.ssh(self.name, command)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    def close(self) -> None:
        """Ends it."""
        self.release.api(self.name).api.delete(f"{OWN}/reservations/{self.booking['id']}")


@pytest.fixture(scope="module")
def dora(release: Release, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Way]:
    """Dora, whose SSH leads into the server's own container."""
    made = Way(release, "dora", tmp_path_factory.mktemp("dora"))
    yield made
    made.close()


class TestIntoTheServersContainer:
    def test_it_is_the_same_container_as_a_notebooks(self, dora: Way) -> None:
        look = "readlink /proc/self/ns/mnt /proc/self/ns/pid; id; ls /dev"
        assert dora.says(look) == dora.inside().run("sh", "-c", look)

    def test_the_environment_is_that_of_the_server(self, dora: Way) -> None:
        find = "tr '\\0' '\\n' </proc/$(pgrep -o -f jupyterhub-singleuser)/environ"
        server = dict(line.split("=", 1) for line in dora.inside().run("sh", "-c", find).splitlines() if "=" in line)
        ssh = dict(line.split("=", 1) for line in dora.says("env").splitlines() if "=" in line)
        own = {"PWD", "OLDPWD", "SHLVL", "_", "TERM"}
        assert server["MLMP_RESERVATION_ID"] == dora.booking["id"]
        assert {name: ssh.get(name) for name in server if name not in own} == {
            name: value for name, value in server.items() if name not in own
        }

    def test_nothing_in_it_has_a_right_more(self, dora: Way) -> None:
        said = dict(line.split(":", 1) for line in dora.says("cat /proc/self/status").splitlines())
        assert (int(said["CapEff"], 16), said["NoNewPrivs"].strip(), said["Uid"].split()[0]) == (0, "1", "1000")

    def test_a_command_has_its_status_and_its_bytes(self, dora: Way) -> None:
        ran = dora.computer.mlmp("ssh", dora.booking["id"], "echo out; echo err >&2; exit 7")
        assert (ran.returncode, ran.stdout, ran.stderr) == (7, "out\n", "err\n")
        assert dora.computer.ssh("dora", "cat", input=ODD, text=False).stdout == ODD

    def test_a_terminal_has_the_image_of_its_path(self, dora: Way) -> None:
        """A login shell of Debian forgets PATH."""
        ran = dora.computer.ssh("-tt", "dora", "bash", "-lc", "'command -v jupyterhub-singleuser'")
        assert ran.stdout.strip() == "/opt/mlmp/bin/jupyterhub-singleuser", ran.stderr

    def test_files_go_there_and_back(self, dora: Way, tmp_path: Path) -> None:
        (tmp_path / "odd").write_bytes(ODD)
        words = dora.computer.words
        for command in (
            words("scp", str(tmp_path / "odd"), "dora:by-scp"),
            words("rsync", "-a", str(tmp_path / "odd"), "dora:by-rsync"),
        ):
            ran = dora.computer.run(*command)
            assert ran.returncode == 0, ran.stderr
        got = dora.computer.run(*words("sftp", "-b", "-", "dora"), input=f"get by-scp {tmp_path}/back\n")
        assert got.returncode == 0, got.stderr
        assert (tmp_path / "back").read_bytes() == ODD
        seen = dora.release.api("dora").api.get("/user/dora/api/contents/by-rsync", params={"content": 0})
        assert seen.json()["size"] == len(ODD)

    def test_ports_are_forwarded_both_ways(self, dora: Way) -> None:
        with socket.create_server(("127.0.0.1", 0)) as here, socket.create_server(("127.0.0.1", 0)) as free:
            port, back = free.getsockname()[1], here.getsockname()[1]
            free.close()
            forwards = ("-L", f"127.0.0.1:{port}:127.0.0.1:8888", "-R", f"127.0.0.1:7070:127.0.0.1:{back}")
            with dora.computer.open("-N", "-o", "ExitOnForwardFailure=yes", *forwards, "dora"):
                there = wait_for(lambda: _answer(port, b"GET /user/dora/api HTTP/1.0\r\n\r\n"), 30, "the way there")
                assert b"200 OK" in there.split(b"\r\n")[0]
                dora.inside().python("say(reaches('127.0.0.1', 7070))")
                here.settimeout(20)
                here.accept()[0].close()

    def test_the_host_is_known_before_the_first_connection(self, dora: Way) -> None:
        assert "matches the ED25519-CERT host certificate" in dora.computer.ssh("-v", "dora", "true").stderr

    def test_a_password_is_never_asked_for(self, dora: Way) -> None:
        ran = dora.computer.ssh("-o", "PubkeyAuthentication=no", "dora", "true")
        assert ran.returncode == 255
        assert "Permission denied (publickey)" in ran.stderr

    def test_anothers_server_is_not_reached(self, dora: Way, release: Release, tmp_path: Path) -> None:
        eli = Computer(release.api("eli"), tmp_path)
        eli.mlmp("ssh-config")
        asked = eli.mlmp("ssh", "--proxy", "dora")
        assert asked.returncode != 0
        assert "none of your servers" in asked.stderr
        url = f"{release.url}user/dora/ssh/"
        upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
                   "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA=="}  # fmt: skip
        assert release.api("eli").api.get(url, headers=upgrade).status_code in (403, 404)

    def test_a_removed_key_ends_its_sessions(self, dora: Way) -> None:
        api = dora.release.api("dora").api
        (key,) = api.get(f"{OWN}/ssh-keys").json()["items"]
        with dora.computer.open("dora", "echo in; sleep 600") as session:
            assert session.stdout is not None
            assert session.stdout.readline() == "in\n"
            assert api.delete(f"{OWN}/ssh-keys/{key['id']}").status_code == 204
            begun = time.monotonic()
            wait_for(lambda: session.poll() is not None, 30, "the end of the session")
            assert time.monotonic() - begun < 15
        refused = dora.computer.ssh("dora", "true")
        assert refused.returncode == 255


def test_a_session_ends_with_its_booking(release: Release, tmp_path: Path) -> None:
    fay = Way(release, "fay", tmp_path)
    with fay.computer.open("fay", "echo in; sleep 600") as session:
        assert session.stdout is not None
        assert session.stdout.readline() == "in\n"
        fay.close()
        release.wait_gone(fay.booking, 60)
        wait_for(lambda: session.poll() is not None, 10, "the end of the session")
    stopped = fay.computer.mlmp("ssh", fay.booking["id"], "true")
    assert stopped.returncode != 0
    assert "does not run" in stopped.stderr


@pytest.fixture(scope="module")
def gus(release: Release, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Way]:
    """Gus, whose SSH leads into the container beside the server."""
    if storage_of(release.cluster) is None:
        pytest.skip("this cluster makes no volumes by itself, and a home is what both containers share")
    before = dict(release.values)
    image, _, tag = _image(release).rpartition(":")
    release.values |= {
        "ssh": {"mode": "sidecar", "image": {"name": image, "tag": tag}},
        "users": {**before.get("users", {}), "storage": {"type": "dynamic", "size": "1Gi"}},
    }
    release.install()
    try:
        made = Way(release, "gus", tmp_path_factory.mktemp("gus"))
        yield made
        made.close()
    finally:
        release.values = before
        release.install()


class TestIntoTheContainerBesideIt:
    def test_it_has_the_same_files_and_account_and_not_the_same_processes(self, gus: Way) -> None:
        gus.inside().run("sh", "-c", "echo from the notebook >~/seen")
        assert gus.says("cat ~/seen; id -u") == "from the notebook\n1000\n"
        gus.says("echo by ssh >~/back")
        assert gus.inside().run("sh", "-c", "cat ~/back") == "by ssh\n"
        assert gus.says("readlink /proc/self/ns/mnt") != gus.inside().run("readlink", "/proc/self/ns/mnt")
        assert gus.says("pgrep -f '[j]upyterhub-singleuser' || true") == ""

    def test_it_may_no_more_than_the_server_and_has_no_units(self, gus: Way) -> None:
        said = dict(line.split(":", 1) for line in gus.says("cat /proc/self/status").splitlines())
        assert (int(said["CapEff"], 16), said["NoNewPrivs"].strip(), said["Seccomp"].strip()) == (0, "1", "2")
        assert gus.says("echo $NVIDIA_VISIBLE_DEVICES") == "void\n"
        assert gus.says("test -e /var/run/secrets/kubernetes.io || echo none") == "none\n"

    def test_its_end_leaves_the_server_alone_and_it_comes_back(self, gus: Way) -> None:
        before = _status(gus.pod, "notebook")
        for how in ("-f [s]sh_listener", "-x mlmp-ssh"):
            gus.inside("ssh").run("pkill", "-9", *how.split(), check=False)
            wait_for(lambda: gus.computer.ssh(gus.name, "true").returncode == 0, 60, f"SSH after the end of {how}")
        after = _status(gus.pod, "notebook")
        assert (after.restart_count, after.state.running.started_at) == (0, before.state.running.started_at)
        assert gus.release.api(gus.name).api.get(f"/user/{gus.name}/api/status").status_code == 200
        assert _status(gus.pod, "ssh").restart_count >= 1


def _status(pod: V1Pod, name: str) -> Any:
    """Of a container."""
    statuses = [*(pod.status.init_container_statuses or ()), *pod.status.container_statuses]
    return next(one for one in statuses if one.name == name)


def _image(release: Release) -> str:
    """The image of the container, built where the run has not."""
    if "ssh" in release.cluster.images or not release.cluster.ours:
        return release.cluster.images["ssh"]
    from tests.cluster.rig import images

    return images.project(["ssh"])["ssh"]


def _answer(port: int, request: bytes) -> bytes:
    """What is said at a port of this machine; nothing where nobody listens."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as one:
            one.sendall(request)
            return one.recv(1000)
    except OSError:
        return b""
