"""Requests that nobody thinks of, made from the OpenAPI document: as anybody, never a 5xx, never another answer than
the document says.

Every call of the table is met by itself: a new one needs nothing here. Data that fit the document and data that break
it alternate. ``FUZZ_EXAMPLES`` says how many of each per call and person.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from sqlalchemy import insert

from mlmp_spawner.operations.site import Site
from mlmp_spawner.store.tables import users
from mlmp_spawner.store.transaction import transaction
from mlmp_spawner.units import HOUR, to_iso
from mlmp_spawner.web.api.table import TABLE, document
from tests.operations.conftest import NOW, site
from tests.web.harness import API, RunningApp

__all__ = ["site"]

pytestmark = pytest.mark.faults

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "12"))
ROLES = {"anonymous": None, "user": "ann-token", "other user": "ben-token", "admin": "admin-token"}
ENDLESS = {"stream"}
"""Answers that go on: tests/web/test_stream.py has those."""
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
CALLS = [(row.method, row.path) for row in TABLE if row.name not in ENDLESS]
SCHEMA = schemathesis.openapi.from_dict(document(API))


@pytest.fixture
def app(site: Site) -> Iterator[RunningApp]:
    with transaction(site.engine) as connection:
        connection.execute(insert(users), [{"id": 10, "name": "root"}])
    with RunningApp(site, NOW) as running:
        yield running


def known(app: RunningApp) -> dict[str, list[str]]:
    """Names that lead somewhere: a random path finds nothing but 404s."""
    ids = []
    for hours in (0, 5, 50):
        body = {"profile": "gpu", "start": to_iso(NOW + hours * HOUR), "duration": "1h"}
        with app.client("ann-token") as ann:
            ids.append(str(ann.post("reservations", json=body).json()["id"]))
    return {"id": ids, "name": ["gpu-a", "gpu-b", "group:lab", "user:ann", "everybody"]}


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(("method", "path"), CALLS, ids=[f"{method} {path}" for method, path in CALLS])
def test_every_answer_to_any_request_is_one_of_the_document(
    app: RunningApp, role: str, method: str, path: str
) -> None:
    places = known(app)
    operation = SCHEMA[f"/{path}"][method]
    with app.client(ROLES[role]) as client:

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(data=st.data(), mode=st.sampled_from(list(GenerationMode)))
        def ask(data: st.DataObject, mode: GenerationMode) -> None:
            case = data.draw(operation.as_strategy(generation_mode=mode))
            for name in case.path_parameters or {}:
                if name in places and data.draw(st.booleans()):
                    case.path_parameters[name] = data.draw(st.sampled_from(places[name]))
            answer = send(client, case)
            case.validate_response(answer, checks=CHECKS)

        ask()


def send(client: httpx.Client, case: Any) -> Any:
    return case.call(base_url=str(client.base_url), headers=dict(client.headers))


def test_an_answer_that_the_document_lacks_would_be_found(app: RunningApp) -> None:
    wrong = document(API)
    del wrong["paths"]["/me"]["get"]["responses"]["200"]
    case = schemathesis.openapi.from_dict(wrong)["/me"]["GET"].Case()
    with app.client() as client, pytest.raises(FailureGroup):
        case.validate_response(send(client, case), checks=CHECKS)
