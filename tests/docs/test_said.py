"""What the pages say exists: commands and their options, settings, keys of the catalog."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click
import pytest
import yaml

from mlmp_spawner.client.cli import cli
from mlmp_spawner.errors import MLMPError
from mlmp_spawner.rules import job_manifest, scan_file, scan_parameters
from mlmp_spawner.rules.catalog_yaml import catalog_from_texts
from tools import reference

ROOT = Path(__file__).parents[2]
PAGES = [
    page
    for page in sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
    if page.parent.name != "reference"  # written from the code itself
]
_FENCE = re.compile(r"^```(?P<kind>\w*)[^\n]*\n(?P<text>.*?)^```", re.MULTILINE | re.DOTALL)
# To helm and kubectl, `mlmp` is also the name of a release and a namespace.
_COMMAND = re.compile(r"(?:^(?!\s*(?:kubectl|helm)\s)(?:.*\s)?|\s--\s|[(;&|]\s*)(mlmp\s.+)")
_INLINE = re.compile(r"`(mlmp [^`]+)`")
_SETTING = re.compile(r"\bc\.(MLMP\w*)\.(\w+)")


class Said(NamedTuple):
    """A command that a page shows."""

    page: str
    command: str


def commands() -> Iterator[Said]:
    for page in PAGES:
        text, name = page.read_text(encoding="utf-8"), str(page.relative_to(ROOT))
        for block in _FENCE.finditer(text):
            if block["kind"] in ("sh", "console", "bash"):
                for line in block["text"].replace("\\\n", " ").splitlines():
                    if line.startswith(("helm ", "kubectl ")):  # there it is a name, but for what runs in a pod
                        line = line.partition(" -- ")[2].partition(" > ")[0]
                    for found in _COMMAND.finditer(line.split(" # ")[0]):
                        yield Said(name, found.group(1))
        for found in _INLINE.finditer(_FENCE.sub("", text)):
            yield Said(name, found.group(1))


def words(command: str) -> list[str]:
    """The words of the command itself: up to a pipe, a bracket, an ellipsis."""
    parts = shlex.shlex(command, posix=True, punctuation_chars="|&;<>()")
    parts.whitespace_split = True
    found: list[str] = []
    for part in parts:
        if set(part) <= set("|&;<>()…"):
            break
        found.append(part)
    return found


def opened(command: click.Command, parent: click.Context | None, name: str | None) -> click.Context:
    """As click opens it: a command keeps the help option that its first context asked for."""
    return click.Context(command, parent, info_name=name, **command.context_settings)


def parse(arguments: list[str]) -> None:
    """Goes down the commands. :raises click.UsageError: there is no such command or option."""
    command: click.Command = cli
    context = opened(cli, None, "mlmp")
    while isinstance(command, click.Group):
        if not arguments or arguments[0].startswith("-"):
            break
        _, found, arguments = command.resolve_command(context, arguments)
        assert found is not None
        command, context = found, opened(found, context, found.name)
    known = {option for parameter in command.get_params(context) for option in parameter.opts}
    known |= {option for parameter in command.get_params(context) for option in parameter.secondary_opts}
    for word in arguments:
        if word == "--":
            break
        option = word.partition("=")[0]
        if option.startswith("--") and option not in known:
            raise click.NoSuchOption(option, ctx=context)
    if isinstance(command, click.Group):
        return
    takes = [p for p in command.get_params(context) if isinstance(p, click.Argument)]
    if not takes and arguments and not arguments[0].startswith("-"):
        raise click.UsageError(f"{context.command_path} takes no {arguments[0]!r}")


@pytest.mark.parametrize("said", sorted(set(commands())), ids=lambda said: f"{said.page}: {said.command}")
def test_every_command_exists_with_its_options(said: Said) -> None:
    try:
        parse(words(said.command)[1:])
    except (click.UsageError, ValueError) as error:
        pytest.fail(f"{said.page}: `{said.command}`: {error}")


def test_there_are_commands_to_look_at() -> None:
    assert len({said.command for said in commands()}) > 20


def test_a_command_that_does_not_exist_is_found() -> None:
    for wrong in ("frobnicate", "book --soon", "whoami me"):
        with pytest.raises(click.UsageError):
            parse(wrong.split())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_setting_of_ours_exists(page: Path) -> None:
    kinds = {kind.__name__: kind.class_trait_names() for kind in reference.CLASSES}
    for kind, name in _SETTING.findall(page.read_text(encoding="utf-8")):
        if kind not in ("MLMPKubeSpawner",):
            assert name in kinds.get(kind, ()), f"there is no c.{kind}.{name}"


def catalogs() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        for block in _FENCE.finditer(page.read_text(encoding="utf-8")):
            content = yaml.safe_load(block["text"]) if block["kind"] == "yaml" else None
            if isinstance(content, dict) and content.keys() <= {"nodes", "images", "profiles", "limits"}:
                yield f"{page.relative_to(ROOT)}:{block.start()}", block["text"]


@pytest.mark.parametrize(("where", "text"), list(catalogs()), ids=[where for where, _ in catalogs()])
def test_every_piece_of_a_catalog_is_valid(where: str, text: str) -> None:
    profiles = "profiles: {gpu: {resource: mlmp.dev/slot}}"
    nodes = (
        "nodes: {one: {accelerators: [{resource: nvidia.com/gpu, count: 4, model: RTX-4090},"
        " {resource: mlmp.dev/slot, count: 8}]}}"
    )
    rest = {"nodes": nodes, "profiles": profiles}
    given = {key: value for key, value in rest.items() if key not in yaml.safe_load(text)}
    try:
        catalog_from_texts({"page.yaml": text} | {f"{key}.yaml": value for key, value in given.items()})
    except MLMPError as error:
        pytest.fail(f"{where}: {error}")


def manifests() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        for block in _FENCE.finditer(page.read_text(encoding="utf-8")):
            content = yaml.safe_load(block["text"]) if block["kind"] == "yaml" else None
            if isinstance(content, dict) and "profile" in content and content.keys() & set(job_manifest.WAYS):
                yield f"{page.relative_to(ROOT)}:{block.start()}", block["text"]


@pytest.mark.parametrize(("where", "text"), list(manifests()), ids=[where for where, _ in manifests()])
def test_every_manifest_of_a_job_is_valid(where: str, text: str) -> None:
    try:
        job_manifest.parse(text, beside=scan_file.KEY)
        if (part := scan_file.part_of(text)) is not None:
            scan_parameters.rows(part.kind, part.parameters, samples=part.samples, seed=part.seed)
    except MLMPError as error:
        pytest.fail(f"{where}: {error}")


def test_there_is_a_manifest_to_look_at() -> None:
    assert list(manifests())
