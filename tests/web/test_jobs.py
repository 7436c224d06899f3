"""Jobs over HTTP, on both databases."""

from __future__ import annotations

import httpx
import pytest
import yaml
from sqlalchemy import update

from mlmp_spawner.operations.site import Site
from mlmp_spawner.rules.job_queue import Outlook, Why
from mlmp_spawner.store.tables import job
from mlmp_spawner.store.transaction import transaction
from mlmp_spawner.units import HOUR, MINUTE, to_iso
from mlmp_spawner.web.context import Jobs
from tests.operations.conftest import NOW
from tests.web.harness import API, RunningApp
from tests.web.job_parts import CODE, SHA256, SLEEP, begin, end, printed, submit

PRIVATE = ("name", "manifest", "message", "reason", "outcome", "exit_status", "group", "batch", "code", "why")


def test_a_submitted_job_is_answered_with_its_address_and_can_be_read_there(ann: httpx.Client):
    answer = ann.post("jobs", json={"manifest": {**SLEEP, "name": "nap", "units": 2, "grace": "30s"}})
    assert answer.status_code == 201
    body = answer.json()
    assert answer.headers["Location"] == f"{API}jobs/{body['id']}" and answer.headers["ETag"] == body["etag"]
    assert (body["name"], body["owner"], body["state"], body["units"]) == ("nap", "ann", "queued", 2)
    assert (body["hours"], body["grace"], body["priority"], body["preemptible"]) == (1.0, 30.0, "normal", True)
    assert body["created_at"] == body["queued_at"] == to_iso(NOW) and body["attempts"] == []
    assert body["manifest"]["command"] == ["sleep", "60"] and body["manifest"]["retries"] == 0
    assert ann.get(answer.headers["Location"].removeprefix(API)).json() == body


def test_a_manifest_may_be_yaml_text_and_all_that_is_wrong_with_it_is_told_with_its_line(ann: httpx.Client):
    text = "# a nap\nprofile: gpu\ncommand: sleep 60\nhours: 0.5\n"
    made = ann.post("jobs", json={"manifest": text})
    assert made.status_code == 201 and made.json()["manifest"]["command"] == ["sh", "-c", "sleep 60"]
    wrong = ann.post("jobs", json={"manifest": "profile: gpu\ncommand: x\nhours: -1\nunit: 2\n"})
    assert wrong.status_code == 400
    assert [(one["field"], one["line"]) for one in wrong.json()["errors"]] == [("hours", 3), ("unit", 4)]


def test_a_dry_run_tells_the_whole_manifest_and_leaves_nothing_behind(ann: httpx.Client):
    script = {"profile": "gpu", "script": "train.py", "secrets": ["TOKEN"]}
    checked = ann.post("jobs?dry_run=1", json={"manifest": script})
    assert checked.status_code == 200
    assert checked.json()["manifest"]["name"] == "train" and checked.json()["manifest"]["workers"] == 1
    assert ann.post("jobs?dry_run=1", json={"manifest": {**script, "profile": "gone"}}).status_code == 400
    assert ann.get("jobs").json() == {"items": [], "next_cursor": None}


@pytest.mark.parametrize(
    ("manifest", "field"),
    [
        ({"profile": "gone"}, "profile"),
        ({"units": 5}, "units"),
        ({"units": 3, "workers": 2}, "workers"),
        ({"hours": 24 * 41}, "hours"),
        ({"image": "lab"}, "image"),
        ({"secrets": ["TOKEN"]}, "secrets"),
        ({"command": None, "script": "train.py"}, "code"),
    ],
)
def test_what_could_never_run_is_refused(ann: httpx.Client, manifest: dict, field: str):
    refused = ann.post("jobs", json={"manifest": {**SLEEP, **manifest}})
    assert refused.status_code == 400, refused.text
    assert field in [one["field"] for one in refused.json()["errors"]]
    assert ann.get("jobs").json()["items"] == []


def test_a_repeated_request_submits_once(ann: httpx.Client, ben: httpx.Client):
    key = {"Idempotency-Key": "7a1f"}
    first, second = (ann.post("jobs", json={"manifest": SLEEP}, headers=key) for _ in range(2))
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json()["id"] == second.json()["id"] and len(ann.get("jobs").json()["items"]) == 1
    assert ann.post("jobs", json={"manifest": {**SLEEP, "units": 2}}, headers=key).status_code == 409
    assert ann.post("reservations", json={"profile": "gpu"}, headers=key).status_code == 409
    assert ben.post("jobs", json={"manifest": SLEEP}, headers=key).json()["id"] != first.json()["id"]
    assert ann.post("jobs", json={"manifest": SLEEP}, headers={"Idempotency-Key": "a b"}).status_code == 400
    again = [ann.post(f"jobs/{first.json()['id']}/resubmit", headers={"Idempotency-Key": "x"}) for _ in range(2)]
    assert again[0].json()["id"] == again[1].json()["id"] != first.json()["id"]


def test_secrets_are_never_shown_again_and_go_with_a_job_that_is_submitted_again(ann: httpx.Client):
    made = submit(ann, values={"TOKEN": "tutti-frutti"}, secrets=["TOKEN"])
    again = ann.post(f"jobs/{made['id']}/resubmit")
    assert again.status_code == 201 and again.json()["manifest"]["secrets"] == ["TOKEN"]
    for path in ("jobs", f"jobs/{made['id']}", f"jobs/{again.json()['id']}", f"jobs/{made['id']}/manifest"):
        assert "tutti-frutti" not in ann.get(path).text
    assert ann.post("jobs", json={"manifest": SLEEP, "secrets": {"OTHER": "x"}}).status_code == 400


def test_of_others_jobs_one_sees_what_they_take_and_nothing_else(
    app: RunningApp, site: Site, ann: httpx.Client, ben: httpx.Client, admin: httpx.Client
):
    made = submit(ann, name="secret-plan", environment={"API": "tutti-frutti"})
    begin(site, made["id"], NOW, started_at=NOW)
    for seen in (ben.get(f"jobs/{made['id']}").json(), ben.get("jobs").json()["items"][0]):
        assert (seen["owner"], seen["mine"], seen["state"], seen["units"]) == ("ann", False, "running", 1)
        assert seen["started_at"] == to_iso(NOW) and seen["stops_at"] == to_iso(NOW + HOUR)
        assert [seen[name] for name in PRIVATE] == [None] * len(PRIVATE) and seen["attempts"] == []
    for path in ("logs", "manifest", "metrics", "code", "logs/stream"):
        refused = ben.get(f"jobs/{made['id']}/{path}")
        assert refused.status_code == 403 and "tutti-frutti" not in refused.text
    assert ben.delete(f"jobs/{made['id']}").status_code == 403
    assert ben.post(f"jobs/{made['id']}/resubmit").status_code == 403
    theirs = admin.get(f"jobs/{made['id']}").json()
    assert theirs["name"] == "secret-plan" and theirs["manifest"]["environment"] == {"API": "(hidden)"}
    assert "tutti-frutti" not in admin.get(f"jobs/{made['id']}/manifest").text
    assert admin.get(f"jobs/{made['id']}/logs").status_code == 403
    app.context.settings = type(app.context.settings)(rate=0, show_owners=False)
    assert ben.get(f"jobs/{made['id']}").json()["owner"] is None
    assert ben.get("jobs?owner=ann").status_code == 403 and ann.get("jobs?owner=ann").status_code == 200


def test_lists_are_pages_the_newest_first_by_owner_state_and_batch(
    app: RunningApp, site: Site, ann: httpx.Client, ben: httpx.Client
):
    ids = []
    for _ in range(5):
        app.now += MINUTE
        ids.append(submit(ann)["id"])
    batch = ben.post("jobs", json={"manifest": SLEEP, "batch": "scan2026", "place": 3}).json()
    assert (batch["batch"], batch["place"]) == ("scan2026", 3)
    begin(site, ids[0], app.now)
    begin(site, ids[1], app.now, started_at=app.now)
    begin(site, ids[2], app.now, started_at=app.now, stopping_at=app.now)
    ann.delete(f"jobs/{ids[3]}")

    def listed(**query: object) -> list[str]:
        return [one["id"] for one in ann.get("jobs", params={"owner": "ann", **query}).json()["items"]]

    assert listed() == ids[::-1]
    states = {"starting": ids[0], "running": ids[1], "stopping": ids[2], "ended": ids[3], "queued": ids[4]}
    for state, id in states.items():
        assert listed(state=state) == [id]
        assert ann.get(f"jobs/{id}").json()["state"] == state
    assert set(listed(state="open")) == set(ids) - {ids[3]}
    assert [one["id"] for one in ann.get("jobs?batch=scan2026").json()["items"]] == [batch["id"]]
    seen, cursor = [], None
    while True:
        page = ann.get("jobs", params={"limit": 2} | ({"cursor": cursor} if cursor else {})).json()
        seen += [one["id"] for one in page["items"]]
        assert all(one["manifest"] is None for one in page["items"])
        if (cursor := page["next_cursor"]) is None:
            break
    assert len(seen) == 6 and seen.index(ids[4]) < seen.index(ids[0])
    assert ann.get("jobs?cursor=nonsense").status_code == 400


def test_a_job_that_waits_is_cancelled_at_once_and_one_that_runs_gets_its_grace(
    app: RunningApp, site: Site, ann: httpx.Client
):
    waits, runs = submit(ann), submit(ann, grace="5m")
    begin(site, runs["id"], NOW, started_at=NOW)
    app.now += 10 * MINUTE
    over = ann.delete(f"jobs/{waits['id']}").json()
    assert (over["state"], over["outcome"], over["ended_at"]) == ("ended", "cancelled", to_iso(app.now))
    asked = ann.delete(f"jobs/{runs['id']}").json()
    assert asked["state"] == "running" and asked["cancel_asked_at"] == to_iso(app.now)
    attempt = asked["attempts"][0]
    assert (attempt["stops_at"], attempt["ends_at"]) == (to_iso(app.now), to_iso(app.now + 5 * MINUTE))
    assert attempt["stop_reason"] == "cancelled"
    app.now += MINUTE
    assert ann.delete(f"jobs/{runs['id']}").json() == asked  # once more changes nothing
    assert ann.delete(f"jobs/{waits['id']}").json() == over


def test_what_has_ended_by_itself_can_not_be_cancelled(site: Site, ann: httpx.Client):
    made = submit(ann)
    end(site, begin(site, made["id"], NOW, started_at=NOW), NOW + MINUTE)
    refused = ann.delete(f"jobs/{made['id']}")
    assert refused.status_code == 409 and refused.json()["code"] == "too_late"


def test_who_cancels_what_changed_meanwhile_is_told(site: Site, ann: httpx.Client):
    made = submit(ann)
    assert ann.delete(f"jobs/{made['id']}", headers={"If-Match": '"7-abc"'}).status_code == 412
    assert ann.delete(f"jobs/{made['id']}", headers={"If-Match": made["etag"]}).status_code == 200


def test_a_job_that_waits_says_when_it_will_start_and_why_not_now(
    app: RunningApp, jobs: Jobs, ann: httpx.Client, ben: httpx.Client
):
    made = submit(ann, units=2)
    assert made["estimated_start"] is None and made["why"]
    jobs.outlook = {made["id"]: Outlook(NOW + HOUR, Why("booked"))}.get
    seen = ann.get(f"jobs/{made['id']}").json()
    assert seen["estimated_start"] == to_iso(NOW + HOUR) and seen["why"].startswith("Waits for 2 × A100")
    assert ben.get(f"jobs/{made['id']}").json()["estimated_start"] == to_iso(NOW + HOUR)


def test_the_manifest_as_yaml_can_be_submitted_again_as_it_is(ann: httpx.Client):
    made = submit(ann, name="nap", units=2, metrics=[{"pattern": "loss=(?P<loss>[0-9.]+)"}])
    answer = ann.get(f"jobs/{made['id']}/manifest")
    assert answer.headers["Content-Type"].startswith("application/yaml")
    assert yaml.safe_load(answer.text)["units"] == 2
    again = ann.post("jobs", json={"manifest": answer.text})
    assert again.status_code == 201 and again.json()["manifest"] == made["manifest"]


def test_an_admin_submits_for_somebody_and_nobody_else_does(ann: httpx.Client, admin: httpx.Client):
    assert ann.post("jobs", json={"manifest": SLEEP, "owner": "ben"}).status_code == 403
    assert admin.post("jobs", json={"manifest": SLEEP, "owner": "nobody"}).status_code == 404
    made = admin.post("jobs", json={"manifest": SLEEP, "owner": "ben"})
    assert made.status_code == 201 and made.json()["owner"] == "ben"


def test_a_job_inside_a_booking_needs_one_of_ones_own_with_room(ann: httpx.Client, ben: httpx.Client):
    booking = ann.post("reservations", json={"profile": "gpu", "units": 2, "duration": "2h"}).json()["id"]
    assert submit(ann, inside=booking, units=2)["inside"] == booking
    assert ben.post("jobs", json={"manifest": {**SLEEP, "inside": booking}}).status_code == 403
    assert ann.post("jobs", json={"manifest": {**SLEEP, "inside": booking, "units": 3}}).status_code == 400
    assert ann.post("jobs", json={"manifest": {**SLEEP, "inside": "aaaaaaaaaaaa"}}).status_code == 404
    ann.delete(f"reservations/{booking}")
    assert ann.post("jobs", json={"manifest": {**SLEEP, "inside": booking}}).status_code == 409


def test_without_jobs_here_the_answer_says_so(app: RunningApp, ann: httpx.Client):
    app.context.jobs = None
    refused = ann.post("jobs", json={"manifest": SLEEP})
    assert refused.status_code == 409 and "switched them off" in refused.json()["detail"]
    assert ann.get("jobs").json()["items"] == []


def test_a_namesake_of_somebody_who_was_deleted_sees_nothing_of_his_jobs(site: Site, ann: httpx.Client):
    made = submit(ann, name="old")
    with transaction(site.engine) as connection:
        connection.execute(update(job).values(owner_id=None))
    assert ann.get("jobs?owner=ann").json()["items"] == []
    assert ann.get(f"jobs/{made['id']}").json()["name"] is None
    assert ann.delete(f"jobs/{made['id']}").status_code == 403


def test_where_jobs_are_off_what_is_kept_of_those_that_ran_is_read(app: RunningApp, jobs: Jobs, ann: httpx.Client):
    assert ann.put(f"jobs/code/{SHA256}", content=CODE).status_code == 201
    made = ann.post("jobs", json={"manifest": SLEEP, "code": SHA256}).json()["id"]
    printed(jobs, begin(app.site, made, NOW), b"epoch 20\n")
    app.context.jobs, app.context.former_jobs = None, jobs
    assert ann.get(f"jobs/{made}/logs").json()["text"] == "epoch 20\n"
    assert ann.get(f"jobs/{made}/metrics").status_code == 200
    assert ann.get(f"jobs/{made}/code").content == CODE
    assert ann.post("jobs", json={"manifest": SLEEP}).json()["code"] == "jobs_off"


def test_where_jobs_are_off_each_way_in_says_so_and_what_an_admin_does(app: RunningApp, ann: httpx.Client):
    made = submit(ann)
    app.context.jobs = None
    body = {"manifest": SLEEP}
    answers = [
        ann.post("jobs", json=body), ann.post("jobs?dry_run=1", json=body), ann.post(f"jobs/{made['id']}/resubmit"),
        ann.put(f"jobs/code/{SHA256}", content=CODE), ann.get(f"jobs/{made['id']}/logs"),
    ]  # fmt: skip
    for answer in answers:
        problem = answer.json()
        assert (answer.status_code, problem["code"]) == (409, "jobs_off"), answer.request.url
        assert "switched them off" in problem["detail"] and "c.MLMP.jobs = True" in problem["hint"]
    assert [one["id"] for one in ann.get("jobs").json()["items"]] == [made["id"]]
    assert ann.delete(f"jobs/{made['id']}").json()["outcome"] == "cancelled"
