"""The command line and its surroundings, for tests."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mlmp_spawner.client.cli import cli
from tests.client.standin import StandIn, serve

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
