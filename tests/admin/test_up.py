"""``mlmp up``: everything on one machine from one command, and in order again whatever dies."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from traitlets.config import Config

from mlmp_spawner import processes, settings
from mlmp_spawner.admin import db, node, ports
from mlmp_spawner.admin import up as up_module
from mlmp_spawner.admin.supervisor import Child, Supervisor
from mlmp_spawner.spawners.hub import OneMachine
from tests.live import Site, wait_for


def up(*options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """``mlmp up`` that is expected to end by itself."""
    command = [sys.executable, "-m", "mlmp_spawner.client.cli", "up", *options]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, env={**os.environ, **environment}, check=False
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(tmp_path_factory.mktemp("up"), settings="c.MLMP.tick = 0.5", auth="shared-password")
    try:
        yield made.start()
    finally:
        made.close()


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def test_tells_the_passwords_the_first_time_and_they_work(site: Site) -> None:
    told = site.output.read_text()
    admin = re.search(r"Admin: (\S+)  password: (\S+)", told)
    others = re.search(r"All others: any name  password: (\S+)", told)
    assert admin
    assert others
    assert site.url in told
    assert "isolates nobody" in told
    boss = site.person(admin[1], admin[2])
    assert "admin-ui" in boss.api.get("/hub/api/user").json()["scopes"]
    assert site.person("ann", others[1]).token
    assert not site.person("ann", "wrong").token
    assert not site.person(admin[1], others[1]).token


def test_after_login_people_are_at_home(site: Site) -> None:
    kept = json.loads((site.data / "up.json").read_text())
    ann = site.person("ann", kept["user_password"])
    assert ann.landed.url.path == "/services/mlmp/"
    assert ann.landed.status_code == 200


def test_keeps_secrets_to_itself(site: Site) -> None:
    assert site.data.stat().st_mode & 0o777 == 0o700
    for name in ("up.json", "cookie_secret"):
        assert (site.data / name).stat().st_mode & 0o777 == 0o600
    kept = json.loads((site.data / "up.json").read_text())
    assert site.process is not None
    for pid in [site.process.pid, *processes.below(site.process.pid)]:
        shown = Path(f"/proc/{pid}/cmdline").read_bytes()
        assert kept["service_token"].encode() not in shown
        assert kept["proxy_token"].encode() not in shown


def test_a_second_one_with_the_same_data_is_refused(site: Site) -> None:
    result = up("--data", str(site.data), "--simulate", "--port", "0")
    assert result.returncode == 2
    assert "another `mlmp up` runs" in result.stderr


def test_a_taken_port_is_named(site: Site, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = up("--data", str(tmp_path / "d"), "--simulate", "--port", str(port))
    assert result.returncode == 2
    assert f"port {port} is taken" in result.stderr


def test_a_taken_port_of_the_ssh_gateway_is_named_too(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = up("--data", str(tmp_path / "d"), "--simulate", "--port", "0", "--ssh-port", str(port))
    assert result.returncode == 2
    assert f"port {port} is taken by another program; choose one: mlmp up --ssh-port {port + 1}" in result.stderr


@pytest.mark.parametrize("part", ["hub", "service", "proxy", "job starter"])
def test_starts_again_what_dies_and_says_so(site: Site, part: str) -> None:
    before = site.pid_of(part)
    site.kill(part)
    wait_for(lambda: site.pid_of(part) not in (None, before))
    wait_for(lambda: answers(f"{site.url}hub/health"), 60)
    wait_for(lambda: answers(f"{site.url}services/mlmp/api/v1/health"), 60)
    wait_for(lambda: f"The {part} ended (killed by SIGKILL); started again" in site.output.read_text())


def test_leaves_servers_running_and_finds_them_again(site: Site) -> None:
    kept = json.loads((site.data / "up.json").read_text())
    ann = site.person("stays", kept["user_password"])
    ann.book(600, profile="cpu")
    assert ann.start().status_code == 201
    (record,) = site.servers()
    assert site.process is not None
    children = processes.below(site.process.pid)
    assert site.end() == 0
    assert "1 server of users runs on" in site.output.read_text()
    assert processes.alive(record.identity)
    left = set(children) - {record.pid, *processes.below(record.pid)}
    assert not [pid for pid in left if processes.identity(pid) and processes.alive(processes.identity(pid) or "")]

    site.start()
    assert json.loads((site.data / "up.json").read_text()) == kept
    assert site.output.read_text().count("Admin: ") == 1
    wait_for(lambda: ann.servers().get("", {}).get("ready"))
    assert ann.environment()["MLMP_NODE"]
    assert ann.stop().status_code in (202, 204)
    wait_for(lambda: not site.servers())


def test_a_changed_catalog_holds_at_once_for_pages_and_starts(site: Site) -> None:
    kept = json.loads((site.data / "up.json").read_text())
    ann = site.person("ann", kept["user_password"])
    file = site.catalog / "catalog.yaml"
    before = file.read_text()
    file.write_text(before + "  brand-new: {title: Brand new, resource: mlmp.dev/slot}\n")
    wait_for(lambda: "Brand new" in ann.api.get("/services/mlmp/api/v1/catalog").text)
    wait_for(lambda: "Brand new" in ann.browser.get("/hub/spawn").text)
    assert "The catalog changed" in site.output.read_text()
    file.write_text("profiles: [broken")
    wait_for(lambda: "stays as it was" in (site.data / "logs" / "service.log").read_text())
    assert "Brand new" in ann.browser.get("/hub/spawn").text
    file.write_text(before)


def test_dies_with_all_its_children_and_can_be_started_again(site: Site) -> None:
    assert site.process is not None
    children = processes.below(site.process.pid)
    assert len(children) == 4
    site.kill("up")
    wait_for(lambda: not any(processes.alive(processes.identity(pid) or "") for pid in children), 30)
    site.start()


def test_ends_servers_too_where_asked(site: Site) -> None:
    site.end()
    site.start("--stop-servers")
    kept = json.loads((site.data / "up.json").read_text())
    ann = site.person("leaves", kept["user_password"])
    ann.book(600, profile="cpu")
    assert ann.start().status_code == 201
    assert site.end() == 0
    assert not site.servers()
    site.start()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--host", "0.0.0.0"), "--force"),
        (("--host", "example.org"), "--force"),
        (("--ssh-port", "0", "--ssh-host", "0.0.0.0"), "--ssh-host 0.0.0.0 can be reached by others"),
    ],
)
def test_refuses_what_it_should_not_do(tmp_path: Path, options: tuple[str, ...], told: str) -> None:
    result = up("--data", str(tmp_path / "d"), "--simulate", "--port", "0", *options)
    assert result.returncode == 2
    assert told in result.stderr
    assert not (tmp_path / "d").exists()


def test_tells_every_mistake_in_the_catalog_before_anything_starts(tmp_path: Path) -> None:
    catalog = tmp_path / "catalog"
    catalog.mkdir()
    (catalog / "profiles.yaml").write_text("profiles:\n  a: {resource: nvidia.com/gpu, unitz: 1}\n  b: {units: 1}\n")
    result = up("--data", str(tmp_path / "d"), "--catalog", str(catalog), "--simulate", "--port", "0")
    assert result.returncode == 2
    assert "unitz" in result.stderr
    assert "resource" in result.stderr
    assert not (tmp_path / "d" / "logs" / "hub.log").exists()


@pytest.mark.parametrize(
    ("host", "port", "gateway"),
    [
        ("127.0.0.1", None, ""),
        ("127.0.0.1", 2222, "127.0.0.1:2222"),
        ("::1", 22, "[::1]:22"),
        ("ssh.example.org", 22, "ssh.example.org:22"),
        ("SSH.Example.org", 22, "ssh.example.org:22"),  # OpenSSH looks for small letters
    ],
)
def test_the_ssh_gateway_is_where_it_was_told_to_listen(host: str, port: int | None, gateway: str) -> None:
    assert OneMachine("", "", ssh_host=host, ssh_port=port).ssh_gateway == gateway


def test_hub_and_commands_mean_the_same_database(tmp_path: Path) -> None:
    assert OneMachine(str(tmp_path), "").db_url == db.file_url(tmp_path)


@pytest.mark.parametrize(("jobs", "left", "starts"), [(True, 0, True), (False, 0, False), (False, 1, True)])
def test_what_starts_jobs_stays_as_long_as_any_may_run(tmp_path: Path, jobs: bool, left: int, starts: bool) -> None:
    running = tmp_path / "jobs" / "running"
    running.mkdir(parents=True)
    for number in range(left):
        (running / f"job-{number}.json").touch()
    machine = OneMachine(str(tmp_path), "")
    given = Config({"MLMP": {"jobs": jobs}})
    children = up_module._children(machine, None, tmp_path / "config.py", node.Node("node", ("npm",)), tmp_path, given)
    assert ("job starter" in [child.name for child in children]) is starts


# -- its parts -----------------------------------------------------------------------------------------------------


def test_a_supervised_process_that_keeps_dying_is_started_ever_more_slowly(tmp_path: Path) -> None:
    said: list[str] = []
    child = Child("thing", [sys.executable, "-c", "raise SystemExit(3)"], tmp_path / "log")
    supervisor = Supervisor([child], said.append)
    supervisor.start()
    limit = time.monotonic() + 30
    while len(said) < 3 and time.monotonic() < limit:
        supervisor.look()
        time.sleep(0.02)
    assert ["exit status 3" in text for text in said] == [True] * 3
    assert child.pause == pytest.approx(1.6)
    supervisor.end()


def test_a_supervised_process_that_does_not_listen_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlmp_spawner.admin.supervisor.LAST_WORDS", 0.5)
    deaf = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    )
    child = Child("thing", [sys.executable, "-c", deaf], tmp_path / "log")
    supervisor = Supervisor([child], print)
    supervisor.start()
    wait_for(lambda: "deaf" in (tmp_path / "log").read_text())
    supervisor.end()
    assert child.process is not None
    assert child.process.returncode == -signal.SIGKILL


def test_chosen_ports_are_free_and_apart() -> None:
    chosen: list[int] = []
    for _ in range(5):
        chosen.append(ports.choose(chosen))
    assert len(set(chosen)) == 5
    with socket.create_server(("127.0.0.1", chosen[0])):
        assert not ports.is_free(chosen[0])
    assert ports.is_free(chosen[0], patience=2)


def test_finds_a_node_that_is_new_enough(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MLMP_OWN_NODE", "1")
    own = node.find_node()
    assert subprocess.run([own.node, "--version"], capture_output=True, text=True, check=True).stdout.startswith("v2")
    monkeypatch.delenv("MLMP_OWN_NODE")
    old = tmp_path / "node"
    old.write_text("#!/bin/sh\necho v18.1.0\n")
    (tmp_path / "npm").write_text("#!/bin/sh\n")
    for program in (old, tmp_path / "npm"):
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert node.find_node().node == own.node


def test_the_proxy_of_the_clone_is_found(tmp_path: Path) -> None:
    if not (settings.shared_file("package.json").parent / "node_modules").exists():
        pytest.skip("no node_modules here: make test installs them")
    assert node.installed_proxy(tmp_path) is not None
