"""The OpenAPI document: valid, and true: what is answered is what it says."""

from __future__ import annotations

import json
from typing import Any

import httpx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from mlmp_spawner.units import HOUR, to_iso
from mlmp_spawner.web.api.table import TABLE, document
from tests.operations.conftest import NOW
from tests.web.harness import API, RunningApp

DOCUMENT = document(API)


def test_it_is_valid_and_has_every_call():
    validate(DOCUMENT)
    found = {f"{method.upper()} {path[1:]}" for path, ways in DOCUMENT["paths"].items() for method in ways}
    assert found == {f"{row.method} {row.path}" for row in TABLE}


def test_it_is_served_as_document_and_as_a_page_without_scripts(app: RunningApp):
    with app.client(None) as client:
        assert client.get("openapi.json").json() == DOCUMENT
        page = client.get("docs")
    assert page.status_code == 200 and page.headers["Content-Type"].startswith("text/html")
    assert "<script" not in page.text and "//" not in page.text.replace("https://", "").split("</style>")[0]
    for row in TABLE:
        assert f'id="{row.name}"' in page.text
    for member in schema_of("Booking")["properties"]:
        assert f"<code>{member}</code>" in page.text


def conforms(path: str, answer: httpx.Response) -> None:
    """The answer is one that the document names, and its body fits the schema."""
    operation = DOCUMENT["paths"][f"/{path}"][answer.request.method.lower()]
    responses = operation["responses"]
    assert str(answer.status_code) in responses, f"{answer.request.method} {path}: {answer.status_code} {answer.text}"
    content = responses[str(answer.status_code)].get("content")
    if content is None:
        assert answer.content == b""
        return
    media = answer.headers["Content-Type"].partition(";")[0]
    assert media in content
    if media.endswith("json"):
        schema = {**content[media]["schema"], "components": DOCUMENT["components"]}
        Draft202012Validator(schema).validate(answer.json())


def test_answers_fit_the_document(app: RunningApp, ann: httpx.Client, ben: httpx.Client):
    for path in ("me", "catalog", "reservations", "health", "openapi.json", "metrics", "docs"):
        conforms(path, ann.get(path))
    conforms("availability", ann.get("availability?profile=gpu&duration=1h"))
    conforms("availability", ann.get("availability"))
    made = ann.post("reservations", json={"profile": "gpu", "units": 4, "duration": "1h"})
    conforms("reservations", made)
    conforms("reservations", ben.post("reservations", json={"profile": "gpu", "units": 4, "duration": "1h"}))
    waits = {"profile": "gpu", "units": 4, "duration": "1h", "waitlist": True}
    conforms("reservations", ben.post("reservations", json=waits))
    conforms("reservations", ben.get("reservations"))
    one, id = "reservations/{id}", made.json()["id"]
    conforms(one, ann.get(f"reservations/{id}"))
    conforms(
        one, ann.get(f"reservations/{id}", headers={"If-None-Match": ann.get(f"reservations/{id}").headers["ETag"]})
    )
    conforms(one, ben.get(f"reservations/{id}"))
    conforms(one, ann.get("reservations/aaaaaaaaaaaa"))
    conforms(one, ann.patch(f"reservations/{id}", json={"title": "x"}))
    conforms(one, ann.patch(f"reservations/{id}", json={"title": "x"}, headers={"If-Match": '"1-"'}))
    conforms(f"{one}/extend", ann.post(f"reservations/{id}/extend", json={"duration": "1h"}))
    conforms(f"{one}/start", ann.post(f"reservations/{id}/start"))
    conforms(f"{one}/stop", ben.post(f"reservations/{id}/stop"))
    conforms(f"{one}/history", ann.get(f"reservations/{id}/history"))
    conforms(one, ann.delete(f"reservations/{id}"))


ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=30),
    st.sampled_from(
        ["gpu", "gpu-a", "1h", "90m", "", "\x00", "\ud800", "1e400s", to_iso(NOW + HOUR), "2027-13-45T99:00Z"]
    ),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=5), st.integers(), max_size=3),
)


def schema_of(name: str) -> dict[str, Any]:
    schema: dict[str, Any] = DOCUMENT["components"]["schemas"][name]
    return schema


def like(name: str) -> st.SearchStrategy[dict[str, Any]]:
    """Bodies with the members of a schema, some as they should be and some odd, and with members that it lacks."""
    members = {member: st.one_of(ODD, fitting(member)) for member in schema_of(name)["properties"]}
    return st.fixed_dictionaries({}, optional=members | {"surprise": ODD})


def fitting(member: str) -> st.SearchStrategy[Any]:
    instants = st.integers(-(10**9), 10**9).map(lambda seconds: to_iso(NOW + seconds * 1000))
    return {
        "profile": st.just("gpu"),
        "start": instants,
        "end": instants,
        "duration": st.sampled_from(["1m", "1h", "2d", "39d", "365d"]),
        "node": st.sampled_from(["gpu-a", "gpu-b"]),
        "units": st.integers(1, 5),
        "node_count": st.integers(1, 3),
        "owner": st.sampled_from(["ann", "ben"]),
        "server": st.sampled_from(["", "lab", "Lab", "x" * 40]),
    }.get(member, ODD)


def send(client: httpx.Client, method: str, path: str, body: object) -> httpx.Response:
    return client.request(
        method, path, content=json.dumps(body).encode(), headers={"Content-Type": "application/json"}
    )


FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FUZZ
@given(body=like("Booking"))
def test_no_booking_however_odd_makes_the_service_fail(app: RunningApp, ann: httpx.Client, body: dict[str, Any]):
    answer = send(ann, "POST", "reservations", body)
    assert answer.status_code < 500, answer.text
    conforms("reservations", answer)


@FUZZ
@given(change=like("Change"), extension=like("Extension"), tag=st.text(max_size=20))
def test_no_change_however_odd_makes_the_service_fail(
    app: RunningApp, ann: httpx.Client, change: dict[str, Any], extension: dict[str, Any], tag: str
):
    items = ann.get("reservations", params={"state": "booked"}).json()["items"]
    id = items[0]["id"] if items else ann.post(
        "reservations", json={"profile": "gpu", "start": to_iso(NOW + HOUR), "duration": "1h"}
    ).json()["id"]  # fmt: skip
    answer = send(ann, "PATCH", f"reservations/{id}", change)
    assert answer.status_code < 500, answer.text
    conforms("reservations/{id}", answer)
    answer = send(ann, "POST", f"reservations/{id}/extend", extension)
    assert answer.status_code < 500, answer.text
    header = {b"If-Match": bytes(byte for byte in tag.encode("utf-8", "ignore") if byte > 0x20 and byte != 0x7F)}
    assert ann.patch(f"reservations/{id}", json={"title": "t"}, headers=header).status_code < 500


@FUZZ
@given(
    path=st.sampled_from(["availability", "reservations", "me"]),
    query=st.dictionaries(
        st.sampled_from(["profile", "start", "end", "units", "limit", "cursor", "owner", "state", "duration", "x"]),
        st.one_of(st.text(alphabet=st.characters(codec="utf-8"), max_size=30), st.sampled_from(["gpu", "1h", "5"])),
        max_size=5,
    ),
)
def test_no_query_however_odd_makes_the_service_fail(
    app: RunningApp, ann: httpx.Client, path: str, query: dict[str, str]
):
    answer = ann.get(path, params=query)
    assert answer.status_code < 500, answer.text


@FUZZ
@given(raw=st.binary(max_size=60), where=st.sampled_from(["path", "query", "body", "header"]))
def test_no_bytes_anywhere_make_the_service_fail(app: RunningApp, ann: httpx.Client, raw: bytes, where: str):
    quoted = "".join(f"%{byte:02x}" for byte in raw)
    if where == "path":
        answer = ann.get(f"reservations/{quoted or 'x'}")
    elif where == "query":
        answer = ann.get(f"reservations?cursor={quoted}&{quoted}={quoted}")
    elif where == "body":
        answer = ann.post("reservations", content=raw, headers={"Content-Type": "application/json"})
    else:
        value = bytes(byte for byte in raw if byte > 0x20 and byte != 0x7F)
        answer = ann.post("reservations", json={"profile": "x"}, headers={b"Idempotency-Key": value, b"X": value})
    assert answer.status_code < 500, answer.text
