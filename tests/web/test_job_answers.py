"""What the calls about jobs answer is what the document says, and nothing odd makes them fail."""

from __future__ import annotations

import hashlib
from typing import Any

import httpx
from hypothesis import given
from hypothesis import strategies as st

from mlmp_spawner.operations.jobs import telling
from mlmp_spawner.operations.site import Site
from mlmp_spawner.store import jobs as store
from mlmp_spawner.store.transaction import transaction
from mlmp_spawner.units import MINUTE
from mlmp_spawner.web.context import Jobs
from tests.operations.conftest import NOW
from tests.web.harness import RunningApp
from tests.web.job_parts import CODE, SHA256, SLEEP, begin, end, printed, submit
from tests.web.test_limits import on_sqlite
from tests.web.test_openapi import FUZZ, ODD, conforms, schema_of, send
from tests.web.test_stream import following


def test_answers_fit_the_document(site: Site, jobs: Jobs, ann: httpx.Client, ben: httpx.Client):
    one = "jobs/{id}"
    conforms("jobs/code/{sha256}", ann.put(f"jobs/code/{SHA256}", content=CODE))
    conforms("jobs/code/{sha256}", ann.put(f"jobs/code/{'0' * 64}", content=CODE))
    for body in (
        {"manifest": SLEEP},
        {"manifest": {}},
        {"manifest": "profile: ["},
        {"manifest": SLEEP, "code": SHA256},
    ):
        conforms("jobs", ann.post("jobs", json=body))
        conforms("jobs", ann.post("jobs?dry_run=1", json=body))
    conforms("jobs", ben.get("jobs"))
    id = submit(ann, code=SHA256)["id"]
    attempt = begin(site, id, NOW, started_at=NOW)
    printed(jobs, attempt, b"loss=1\n")
    for client in (ann, ben):
        conforms(one, client.get(f"jobs/{id}"))
        for part in ("logs", "metrics", "manifest", "code"):
            conforms(f"{one}/{part}", client.get(f"jobs/{id}/{part}"))
    conforms(f"{one}/logs", ann.get(f"jobs/{id}/logs", headers={"Accept": "text/plain"}))
    conforms(one, ann.get(f"jobs/{id}", headers={"If-None-Match": ann.get(f"jobs/{id}").headers["ETag"]}))
    conforms(f"{one}/resubmit", ann.post(f"jobs/{id}/resubmit"))
    conforms(one, ann.delete(f"jobs/{id}"))
    end(site, attempt, NOW + MINUTE)
    conforms(one, ann.get(f"jobs/{id}"))
    conforms(one, ann.delete("jobs/aaaaaaaaaaaa"))


def test_an_open_page_is_told_of_jobs_as_the_api_shows_them(app: RunningApp, ann: httpx.Client):
    with following(app, "ann-token") as mine, following(app, "ben-token") as theirs:
        made = submit(ann, name="secret-plan")
        told = mine.next("job", 30)
        assert told == {**made, "action": "job_submitted", "manifest": None, "etag": told["etag"]}
        seen = theirs.next("job", 30)
        assert (seen["id"], seen["owner"], seen["name"]) == (made["id"], "ann", None)
        assert "secret-plan" not in str(seen)
        ann.delete(f"jobs/{made['id']}")
        assert mine.next("job", 30)["outcome"] == "cancelled"


def test_an_open_page_tells_the_owner_at_once_what_became_of_a_job(app: RunningApp, site: Site, ann: httpx.Client):
    with following(app, "ann-token") as mine, following(app, "ben-token") as theirs:
        made = submit(ann, name="nap")
        with transaction(site.engine) as connection:
            job = store.find(connection, made["id"])
            assert job is not None
            telling.record(
                connection, "job_failed", job, at=NOW, outcome="failed", reason="exit_status", exit_status=3
            )
        notice = mine.next("notice", 30)
        assert (notice["headline"], notice["job"], notice["reservation"]) == ("Failed: nap", made["id"], None)
        assert theirs.next("job", 30)["action"] == "job_submitted"
        assert theirs.next("job", 30)["action"] == "job_failed"
        assert theirs.anything(30)[0] == "availability"


MANIFEST = st.one_of(
    ODD,
    st.text(max_size=200),
    st.fixed_dictionaries(
        {"profile": st.sampled_from(["gpu", "gone"])},
        optional={
            "command": st.one_of(ODD, st.lists(st.text(max_size=10), max_size=3)),
            "script": st.one_of(ODD, st.sampled_from(["train.py", "../x", "/etc/passwd", "-c"])),
            "hours": st.one_of(ODD, st.floats(), st.integers(-1, 10**6)),
            "units": st.one_of(ODD, st.integers(-1, 10)),
            "workers": st.one_of(ODD, st.integers(-1, 10)),
            "secrets": st.one_of(ODD, st.lists(st.text(max_size=5), max_size=3)),
            "inside": st.one_of(ODD, st.just("a" * 12)),
            "group": ODD,
            "name": ODD,
            "metrics": st.lists(st.dictionaries(st.sampled_from(["pattern", "tensorboard"]), st.text(max_size=20))),
        },
    ),
)


@on_sqlite
@FUZZ
@given(
    manifest=MANIFEST,
    more=st.fixed_dictionaries(
        {}, optional={name: ODD for name in schema_of("Submission")["properties"] if name != "manifest"}
    ),
    dry=st.booleans(),
)
def test_nothing_submitted_however_odd_makes_the_service_fail(
    app: RunningApp, ann: httpx.Client, manifest: Any, more: dict[str, Any], dry: bool
):
    answer = send(ann, "POST", "jobs?dry_run=true" if dry else "jobs", {"manifest": manifest, **more})
    assert answer.status_code < 500, answer.text
    conforms("jobs", answer)


@on_sqlite
@FUZZ
@given(
    path=st.sampled_from(["jobs", "jobs/{}", "jobs/{}/logs", "jobs/{}/logs/stream", "jobs/{}/metrics"]),
    query=st.dictionaries(
        st.sampled_from(["owner", "state", "batch", "limit", "cursor", "attempt", "start", "x"]),
        st.one_of(
            st.text(alphabet=st.characters(codec="utf-8"), max_size=30),
            st.sampled_from(["ann", "open", "5", "-1", "all", "9" * 30]),
        ),
        max_size=4,
    ),
    last=st.sampled_from(["", "1.5", "9.9", "x", "1." + "9" * 15]),
)
def test_no_query_however_odd_makes_the_service_fail(
    app: RunningApp, ann: httpx.Client, path: str, query: dict[str, str], last: str
):
    items = ann.get("jobs?owner=ann").json()["items"]
    id = items[0]["id"] if items else submit(ann)["id"]
    if not items:
        ann.delete(f"jobs/{id}")  # so that what follows its log ends
    answer = ann.get(path.format(id), params=query, headers={"Last-Event-ID": last})
    assert answer.status_code < 500, answer.text


@on_sqlite
@FUZZ
@given(raw=st.binary(max_size=100), name=st.one_of(st.none(), st.text(max_size=70)))
def test_no_bytes_sent_as_code_make_the_service_fail(app: RunningApp, ann: httpx.Client, raw: bytes, name: str | None):
    path = hashlib.sha256(raw).hexdigest() if name is None else "".join(f"%{b:02x}" for b in name.encode()) or "x"
    answer = ann.put(f"jobs/code/{path}", content=raw)
    assert answer.status_code == 201 if name is None else answer.status_code < 500
