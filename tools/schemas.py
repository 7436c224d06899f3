"""Pages of docs/reference from schemas: the catalog and a job's manifest from their JSON Schemas, the HTTP API from
its OpenAPI document."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from mlmp_spawner.rules import job_manifest, scan_file
from mlmp_spawner.rules.catalog_yaml import json_schema
from mlmp_spawner.web.api.table import document

PREFIX = "/services/mlmp/api/v1/"
FILES = {
    "ProfileEntry": "profiles.yaml",
    "LimitRules": "limits.yaml",
    "Limits": "limits.yaml: what holds for somebody",
    "NodeEntry": "nodes.yaml",
    "Accelerator": "nodes.yaml: units of a node",
    "ImageEntry": "images.yaml",
}
RIGHTS = {
    "none": "anybody, also without login",
    "access": "who is let in",
    "book": "who may book",
    "run": "instructors of the course, and admins",
    "courses": "who may make courses, and admins",
    "admin": "admins",
}


def catalog() -> str:
    """The page of the catalog's files."""
    schemas = json_schema()["$defs"]
    missing = schemas.keys() - FILES.keys()
    assert not missing, f"tools/schemas.py: in which file is {missing}?"
    parts = [
        "# The catalog's files",
        "*Written by `make docs` from the schema that checks them (`profiles/schema.json`).*",
        "[Write a catalog](../how-to/write-a-catalog.md) says how to go about it. Durations are written `90m`, `4h`, "
        "`2d`, sizes\n`64GiB`.",
    ]
    for name, file in FILES.items():
        schema = schemas[name]
        parts += [f"## {file}", schema.get("description", ""), _members(schema)]
    text = "\n\n".join(part for part in parts if part) + "\n"
    for name, file in FILES.items():
        text = text.replace(f"[{name}](#{_anchor(name)})", f"[{file}](#{_anchor(file)})")
    return text


def job() -> str:
    """The page of a job's manifest."""
    schema = job_manifest.schema()
    metric = schema["$defs"]["Metric"]
    parts = [
        "# A job's manifest",
        "*Written by `make docs` from the schema that checks it (`profiles/job.schema.json`).*",
        "A file of YAML or JSON, 64 KiB at most, for `mlmp job submit`; [Run training jobs](../how-to/jobs.md) shows "
        "some.\nExactly one of `script`, `notebook` and `command` says what to run.",
        _members(schema).replace("[Metric](#metric)", "[a metric](#a-metric)"),
        "## A metric",
        metric["description"],
        _members(metric),
        "## A scan",
        "The part `scan` of a file for `mlmp scan submit` (`profiles/scan.schema.json`); the rest of it is each job's "
        "manifest.\n[Try many values of parameters](../how-to/scans.md) tells more.",
        _members(scan_file.Part.model_json_schema()),
    ]
    return "\n\n".join(parts).replace("``", "`") + "\n"


def api() -> str:
    """The page of the HTTP API."""
    found = document(PREFIX)
    parts = [
        "# HTTP API",
        "*Written by `make docs` from the table that serves it. A running MLMP has the same at "
        f"`{PREFIX}docs`, and as an\nOpenAPI document at `{PREFIX}openapi.json`.*",
        f"All addresses are under `{PREFIX}`. Sign in with `Authorization: Bearer TOKEN`, a token of the hub.\n"
        f"{found['info']['description']} Errors are problem documents (RFC 9457).",
    ]
    for path, calls in found["paths"].items():
        parts += [_call(method, path, call) for method, call in calls.items()]
    parts.append("# What is sent and answered")
    schemas = found["components"]["schemas"]
    for name in sorted(schemas):
        parts += [f"### {name}", schemas[name].get("description", ""), _members(schemas[name])]
    return "\n\n".join(part.rstrip() for part in parts if part).replace("\n# What", "\n## What") + "\n"


def _call(method: str, path: str, call: dict[str, Any]) -> str:
    right = call.get("x-mlmp-right", "none")
    lines = [f"## {method.upper()} {path[1:]}", f"{_sentence(call['summary'])} *For {RIGHTS.get(right, right)}.*"]
    if text := call.get("description"):
        lines.append(text)
    if parameters := call["parameters"]:
        rows = [(p["name"], p["in"], _shown(p["schema"]), p.get("description") or p["schema"].get("description", ""))
                for p in parameters]  # fmt: skip
        lines.append(_table(("parameter", "in", "is", "meaning"), rows))
    if body := call.get("requestBody"):
        lines.append(f"Body: {_shown(next(iter(body['content'].values()))['schema'])}")
    answers = [(status, _media(answer), answer["description"]) for status, answer in call["responses"].items()
               if status < "400"]  # fmt: skip
    lines.append(_table(("status", "answer", "when"), answers))
    return "\n\n".join(lines)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def _media(answer: dict[str, Any]) -> str:
    shown = [_shown(content["schema"]) if "json" in media else f"`{media}`"
             for media, content in answer.get("content", {}).items()]  # fmt: skip
    return " or ".join(shown) or "nothing"


def _members(schema: dict[str, Any]) -> str:
    if "properties" not in schema:
        return f"Is {_shown(schema)}." if schema.get("type") != "object" else ""
    rows = [
        (name, _shown(member), "required" if name in schema.get("required", ()) else _default(member),
         member.get("description", ""))
        for name, member in schema["properties"].items()
    ]  # fmt: skip
    return _table(("name", "is", "default", "meaning"), rows)


def _default(member: dict[str, Any]) -> str:
    value = member.get("default")
    return "" if value is None or isinstance(value, dict) else f"`{json.dumps(value)}`"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    def lines() -> Iterator[str]:
        yield _row(head)
        yield "|---" * len(head) + "|"
        for first, *rest in rows:
            yield _row((f"`{first}`", *rest))

    return "\n".join(lines())


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"


def _shown(schema: dict[str, Any]) -> str:
    """A schema in a few words: text, number, list of … or null."""
    if "$ref" in schema:
        name = str(schema["$ref"]).rpartition("/")[2]
        return f"[{name}](#{_anchor(name)})"
    for combined in ("anyOf", "oneOf", "allOf"):
        if combined in schema:
            return " or ".join(dict.fromkeys(_shown(one) for one in schema[combined]))
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    kind = {"string": "text", "object": "object"}.get(str(schema.get("type")), str(schema.get("type", "anything")))
    if kind == "array":
        return f"list of {_shown(schema.get('items', {}))}"
    if isinstance(schema.get("additionalProperties"), dict):
        return f"by name: {_shown(schema['additionalProperties'])}"
    examples = schema.get("examples")
    return f"{kind} such as `{examples[0]}`" if examples else str(schema.get("format") or kind)


def _anchor(title: str) -> str:
    return "".join(c for c in title.lower().replace(" ", "-") if c.isalnum() or c in "-_")
