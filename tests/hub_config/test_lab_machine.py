"""The files that a lab machine's admin copies hold: systemd and nginx take them, and they say what they must."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

from click.testing import CliRunner

from mlmp_spawner.client.cli import cli

FILES = Path(__file__).parents[2] / "hub_config" / "lab-machine"


def test_the_unit_leaves_users_servers_alone_and_calls_what_there_is(tmp_path: Path) -> None:
    text = (FILES / "mlmp.service").read_text()
    unit = ConfigParser(strict=False, interpolation=None, delimiters=("=",))
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read_string(text)
    assert unit["Service"]["KillMode"] == "process"
    assert unit["Service"]["TasksMax"] == "infinity"
    program, command, *options = unit["Service"]["ExecStart"].split()
    assert program == "/opt/mlmp/bin/mlmp"
    known = CliRunner().invoke(cli, [command, "--help"]).output
    assert [option for option in options if option.startswith("--") and option not in known] == []
    if shutil.which("systemd-analyze"):
        copy = tmp_path / "mlmp.service"
        copy.write_text(text.replace(program, sys.executable))  # the program has to be there
        said = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", str(copy)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert [line for line in (said.stdout + said.stderr).splitlines() if "mlmp.service" in line] == []


def test_nginx_passes_on_what_a_hub_needs(tmp_path: Path) -> None:
    text = (FILES / "nginx.conf").read_text()
    said = {re.sub(r"\s+", " ", line.strip().rstrip(";")) for line in text.splitlines()}
    assert {
        "proxy_set_header Upgrade $http_upgrade", "proxy_set_header X-Forwarded-Proto $scheme",
        "proxy_set_header Host $http_host", "proxy_http_version 1.1", "proxy_buffering off", "client_max_body_size 0",
        "ssl_protocols TLSv1.2 TLSv1.3", "proxy_pass http://127.0.0.1:8000",
    } <= said  # fmt: skip
    assert text.count("{") == text.count("}")
    if (nginx := shutil.which("nginx")) and (openssl := shutil.which("openssl")):
        key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
        make = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=lab.example.org", "-days", "2"]
        subprocess.run([*make, "-keyout", key, "-out", certificate], check=True, capture_output=True)
        copy = tmp_path / "mlmp.conf"
        copy.write_text(re.sub(r"/etc/ssl/\S+\.pem", str(certificate), re.sub(r"/etc/ssl/\S+\.key", str(key), text)))
        main = tmp_path / "nginx.conf"
        main.write_text(f"pid {tmp_path}/nginx.pid;\nevents {{}}\nhttp {{ access_log off; include {copy}; }}\n")
        told = subprocess.run(
            [nginx, "-t", "-c", str(main), "-e", str(tmp_path / "errors")], capture_output=True, text=True, check=False
        )
        assert told.returncode == 0, told.stderr
