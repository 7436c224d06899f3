"""The OpenAPI document, from the same table and types that check requests and write answers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from mlmp_spawner import __version__
from mlmp_spawner.web import models
from mlmp_spawner.web.routes import Route

_REF = "#/components/schemas/{model}"
_PROBLEM = "application/problem+json"

ERRORS = {
    400: "the request makes no sense; `errors` has a line for each field",
    401: "no login, or a token that is not valid",
    403: "not allowed, or over a limit (`code: over_limit`, the numbers in `limits`)",
    404: "there is no such thing",
    405: "the address does not know this method",
    413: "the body is too large",
    415: "the body is not JSON",
    429: "too fast; `Retry-After` says when to go on",
    503: "the hub or the database does not answer; try again",
}


def document(rows: Iterable[Route], server: str) -> dict[str, Any]:
    """The whole document.

    :param server: the path of the API, as clients reach it.
    """
    table = list(rows)
    requests = {row.body for row in table if row.body} | {row.query for row in table if row.query}
    answers = {row.answer for row in table if row.answer} | {models.Problem}
    answers |= {model for row in table for model in row.answers.values()}
    wanted: list[tuple[type[BaseModel], Any]] = [(m, "validation") for m in sorted(requests, key=_name)]
    wanted += [(m, "serialization") for m in sorted(answers, key=_name)]
    references, schemas = models_json_schema(wanted, ref_template=_REF)
    refs: dict[Any, str] = {model: schema["$ref"] for (model, _), schema in references.items()}
    definitions = schemas["$defs"]
    paths: dict[str, Any] = {}
    for row in table:
        paths.setdefault(f"/{row.path}", {})[row.method.lower()] = _operation(row, refs, definitions)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "MLMP",
            "version": __version__,
            "description": "Book deep-learning machines and work on them. Times are ISO 8601 with an offset, answered "
            "in UTC; intervals are half-open; durations are written 90m, 4h, 2d.",
        },
        "servers": [{"url": server.rstrip("/")}],
        "security": [{"token": []}, {"cookie": [], "xsrf": []}],
        "paths": paths,
        "components": {
            "schemas": definitions,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "a token of the hub"},
                "cookie": {"type": "apiKey", "in": "cookie", "name": "service-mlmp"},
                "xsrf": {"type": "apiKey", "in": "header", "name": "X-XSRFToken"},
            },
        },
    }


def _name(model: type[BaseModel]) -> str:
    return model.__name__


def _operation(row: Route, refs: dict[Any, str], definitions: dict[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": row.name,
        "summary": row.summary,
        "parameters": list(_parameters(row, refs, definitions)),
        "responses": _responses(row, refs),
    }
    if row.description:
        operation["description"] = row.description
    if row.right == "none":
        operation["security"] = []
    else:
        operation["x-mlmp-right"] = row.right
    if row.body:
        content = {"application/json": {"schema": {"$ref": refs[row.body]}}}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _parameters(row: Route, refs: dict[Any, str], definitions: dict[str, Any]) -> Iterable[dict[str, Any]]:
    for name in row.placeholders:
        schema = {"type": "string", "pattern": f"^{models.ID}$"} if name == "id" else {"type": "string"}
        yield {"name": name, "in": "path", "required": True, "schema": schema}
    for name, description in row.headers.items():
        yield {"name": name, "in": "header", "description": description, "schema": {"type": "string"}}
    if row.query:
        found = definitions[refs[row.query].rpartition("/")[2]]
        for name, schema in found.get("properties", {}).items():
            required = name in found.get("required", ())
            yield {"name": name, "in": "query", "required": required, "schema": schema}


def _responses(row: Route, refs: dict[Any, str]) -> dict[str, Any]:
    schema = {"$ref": refs[row.answer]} if row.answer else {"type": "string"}
    media = "application/json" if row.answer else row.media_type
    answer: dict[str, Any] = {"description": row.summary, "content": {media: {"schema": schema}}}
    if row.answer is None and row.media_type == "application/json":
        answer["content"] = {media: {"schema": {"type": "object"}}}
    if row.status == 204:
        del answer["content"]
    else:
        answer["content"] |= {also: {"schema": {"type": "string"}} for also in row.also}
    responses: dict[str, Any] = {str(row.status): answer}
    for status, words in row.statuses.items():
        if status in row.answers:
            content = {"application/json": {"schema": {"$ref": refs[row.answers[status]]}}}
            responses[str(status)] = {"description": words, "content": content}
        elif status < 300:
            responses[str(status)] = answer | {"description": words}
        elif status == 304:
            responses[str(status)] = {"description": words}
    problem = {_PROBLEM: {"schema": {"$ref": refs[models.Problem]}}}
    errors = {status: words for status, words in row.statuses.items() if status >= 400}
    common = dict(ERRORS)
    if row.right == "none":
        for status in (401, 403, 429):
            common.pop(status)
    if row.body is None:
        common.pop(415)
    if not row.placeholders:
        common.pop(404)
    for status, words in sorted({**common, **errors}.items()):
        responses[str(status)] = {"description": words, "content": problem}
    return responses
