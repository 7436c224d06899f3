"""The command line and its surroundings, for tests."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mlmp_spawner.client import job_api
from mlmp_spawner.client.cli import cli
from tests.client.answers import me, queued_job
from tests.client.standin import Answer, Asked, StandIn, serve

TOKEN = "0123456789abcdef"


@dataclass
class Ran:
    """What a call of ``mlmp`` did."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its standard output as JSON."""
        return json.loads(self.out)


class CommandLine:
    """``mlmp`` with an environment of its own."""

    def __init__(self, environment: Mapping[str, str | None]) -> None:
        self.environment = {"COLUMNS": None, **environment}  # pytest-xdist sets it

    def __call__(self, *arguments: str, stdin: str | None = None) -> Ran:
        result = CliRunner().invoke(cli, arguments, input=stdin, env=self.environment, prog_name="mlmp")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Ran(result.exit_code, result.stdout, result.stderr)


@pytest.fixture
def server() -> Iterator[StandIn]:
    """A server that answers as the test tells it."""
    with serve() as stand_in:
        yield stand_in


@pytest.fixture
def nobody(tmp_path: Path) -> CommandLine:
    """``mlmp`` of somebody who never signed in."""
    return CommandLine({"XDG_CONFIG_HOME": str(tmp_path), "MLMP_URL": None, "MLMP_TOKEN": None, "DISPLAY": None})


@pytest.fixture
def mlmp(nobody: CommandLine, server: StandIn) -> CommandLine:
    """``mlmp`` of somebody with a token for ``server``."""
    nobody.environment |= {"MLMP_URL": server.url, "MLMP_TOKEN": TOKEN}
    return nobody


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with a folder of code, which is the current one."""
    code = tmp_path / "home" / "code"
    code.mkdir(parents=True)
    (code / "train.py").write_text("print('hello')\n")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(code)
    monkeypatch.setattr(job_api, "STEP", 0.01)
    return tmp_path / "home"


@pytest.fixture
def service(server: StandIn) -> StandIn:
    """``server``, which takes every job and keeps code."""

    def answer(asked: Asked) -> Answer:
        if "dry_run" in asked.query:
            said = asked.body["manifest"]
            known = said if isinstance(said, dict) else {"script": "train.py", "secrets": ["KEY"] * ("KEY" in said)}
            return Answer(200, {"manifest": {"directory": ".", **known}})
        return Answer(201, queued_job())

    kept: dict[str, bytes] = {}

    def keep(asked: Asked) -> Answer:
        kept[asked.path] = asked.body
        return Answer(201, {"sha256": asked.path.rpartition("/")[2], "size": len(asked.body)})

    def route(asked: Asked) -> Answer:
        if not asked.path.startswith("jobs/code/"):
            return plain(asked)
        server.asked.append(asked)
        if asked.method == "HEAD":
            return Answer(200 if asked.path in kept else 404)
        return keep(asked)

    plain = server.answer
    server.answer = route  # type: ignore[method-assign]
    server.on["POST jobs"] = answer
    server.on["GET me"] = Answer(200, me())
    return server
