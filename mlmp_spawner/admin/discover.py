"""``mlmp catalog``: write a catalog from what is there, and the JSON Schema that editors complete it with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from mlmp_spawner import machine
from mlmp_spawner.client.show import safe
from mlmp_spawner.operations.one_machine import one_machine_catalog
from mlmp_spawner.rules import discovery as rules
from mlmp_spawner.rules import job_manifest, scan_file
from mlmp_spawner.rules.catalog import Node
from mlmp_spawner.rules.catalog_yaml import entry_as_written, json_schema, section_text

__all__ = ["catalog", "discover", "one_machine_catalog", "schema", "schema_text"]


@click.group()
def catalog() -> None:
    """Write a catalog from what is there."""


@catalog.command()
@click.option("--kubernetes", is_flag=True, help="The nodes of the cluster that KUBECONFIG names.")
@click.option(
    "--resource", "also", multiple=True, metavar="NAME",
    help="With --kubernetes: a further resource that people book, such as vendor.example/gpu.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="As JSON, with the notes.")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Into this file: profiles/nodes.yaml.")
def discover(kubernetes: bool, also: tuple[str, ...], as_json: bool, output: Path | None) -> None:
    """Print this machine, or a cluster's nodes, as nodes.yaml: GPUs, cores and memory.

    A machine that is left out of the catalog is discovered whenever MLMP starts; the file is for changing what is
    found: fewer units, other names, models apart. A cluster's nodes are never discovered by themselves.
    """
    if also and not kubernetes:
        raise click.UsageError("--resource goes with --kubernetes")
    found, notes = _cluster(also) if kubernetes else _machine()
    nodes = {node.name: entry_as_written(node) for node in found}
    for note in notes:
        click.echo(f"note: {safe(note)}", err=True)
    if as_json:
        _write(json.dumps({"nodes": nodes, "notes": notes}, indent=2) + "\n", output)
    else:
        _write(section_text("nodes", nodes), output)


def _machine() -> tuple[list[Node], list[str]]:
    node, notes = machine.node(machine.GpuReader().read())
    return [node], notes


def _cluster(also: tuple[str, ...]) -> tuple[list[Node], list[str]]:
    """:raises ConfigurationError: none is configured. :raises Unavailable, NoAccess: no answer, or a refusal."""
    from mlmp_spawner.admin.cluster import Cluster  # its libraries are those of the extra [kube]

    cluster = Cluster()
    found = rules.discover(cluster.nodes(), cluster.pods(), also=also)
    return list(found.nodes.values()), found.notes


@catalog.command()
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), help="Into this file: profiles/schema.json."
)
@click.option("--jobs", is_flag=True, help="Of a job's manifest instead: profiles/job.schema.json.")
@click.option("--scans", is_flag=True, help="Of a scan in a file instead: profiles/scan.schema.json.")
def schema(output: Path | None, jobs: bool, scans: bool) -> None:
    """Print the JSON Schema of the catalog's files, for editors."""
    made = scan_file.schema() if scans else job_manifest.schema() if jobs else json_schema()
    _write(schema_text(made), output)


def schema_text(document: dict[str, Any]) -> str:
    """A schema as its file in ``profiles`` has it."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _write(text: str, output: Path | None) -> None:
    if output is None:
        click.echo(text, nl=False)
    else:
        output.write_text(text, encoding="utf-8")
        click.echo(f"wrote {output}", err=True)
