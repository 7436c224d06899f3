"""``mlmp catalog``: what is there, as a file that can be read again."""

from __future__ import annotations

import json
from pathlib import Path

import yaml
from click.testing import CliRunner

from mlmp_spawner import machine
from mlmp_spawner.client.cli import cli
from mlmp_spawner.rules import job_manifest
from mlmp_spawner.rules.catalog_yaml import catalog_from_texts, json_schema

PROFILE = "profiles: {gpu: {resource: nvidia.com/gpu}}"


def test_what_is_discovered_can_be_read_as_a_catalog() -> None:
    result = CliRunner().invoke(cli, ["catalog", "discover"])
    assert result.exit_code == 0
    node, _ = machine.node(machine.GpuReader().read())
    found = catalog_from_texts({"nodes.yaml": result.stdout, "profiles.yaml": PROFILE})
    assert found.nodes == {node.name: node}


def test_notes_stand_beside_the_answer_and_in_json_within_it() -> None:
    plain = CliRunner().invoke(cli, ["catalog", "discover"])
    answer = json.loads(CliRunner().invoke(cli, ["catalog", "discover", "--json"]).stdout)
    assert answer["nodes"] == yaml.safe_load(plain.stdout)["nodes"]
    assert all(note in plain.stderr and note not in plain.stdout for note in answer["notes"])


def test_the_schema_is_printed_or_written(tmp_path: Path) -> None:
    printed = CliRunner().invoke(cli, ["catalog", "schema"])
    assert json.loads(printed.stdout) == json_schema()
    jobs = CliRunner().invoke(cli, ["catalog", "schema", "--jobs"])
    assert json.loads(jobs.stdout) == job_manifest.schema()
    file = tmp_path / "schema.json"
    assert CliRunner().invoke(cli, ["catalog", "schema", "--output", str(file)]).exit_code == 0
    assert file.read_text() == printed.stdout
