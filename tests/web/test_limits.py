"""Limits over HTTP: who sees which, and what an admin sets."""

from __future__ import annotations

import httpx
import pytest
from sqlalchemy import insert

from mlmp_spawner.store import tables
from mlmp_spawner.store.transaction import transaction
from mlmp_spawner.units import MINUTE
from tests.web.harness import RunningApp

on_sqlite = pytest.mark.parametrize("db_url", ["sqlite"], indirect=True)
"""What no database has a say in is tried on one of them."""


def test_an_admin_sets_limits_and_they_hold_at_once(admin: httpx.Client, ann: httpx.Client):
    said = {"units_at_once": 1, "max_duration": "8h", "hours_per_week": None}
    answer = admin.put("limits/user:ann", json=said)
    assert answer.status_code == 200
    body = answer.json()
    assert (body["name"], body["kind"], body["set"], body["catalog"]) == ("user:ann", "user", said, None)
    assert (body["effective"]["units_at_once"], body["effective"]["max_duration"]) == (1, "8h")
    assert body["changed_by"] == "root"
    assert ann.get("me").json()["limits"]["units_at_once"] == 1
    refused = ann.post("reservations", json={"profile": "gpu", "units": 2})
    assert (refused.status_code, refused.json()["code"]) == (403, "over_limit")
    assert admin.delete("limits/user:ann").json()["set"] is None
    assert ann.post("reservations", json={"profile": "gpu", "units": 2}).status_code == 201


def test_one_sees_what_one_uses_of_them(ann: httpx.Client, admin: httpx.Client):
    ann.post("reservations", json={"profile": "gpu", "units": 2, "duration": "3h"})
    used = {"units_at_once": 2, "hours_per_week": 6, "open_bookings": 1}
    assert ann.get("limits/user:ann").json()["used"] == used
    assert admin.get("limits/user:ann").json()["used"] == used
    assert ann.get("limits/everybody").json()["used"] is None
    admin.put("limits/user:ann", json={})
    assert [one["used"] for one in admin.get("limits").json()["items"]] == [None, used]


def test_the_list_names_everybody_and_all_whom_something_is_said_for(admin: httpx.Client, ann: httpx.Client):
    for name in ("group:students", "user:ben", "user:ann"):
        assert admin.put(f"limits/{name}", json={"open_bookings": 2}).status_code == 200
    names = [one["name"] for one in admin.get("limits").json()["items"]]
    assert names == ["everybody", "group:students", "user:ann", "user:ben"]
    assert [one["name"] for one in ann.get("limits").json()["items"]] == ["everybody", "user:ann"]


def test_what_somebody_else_may_is_not_shown(ben: httpx.Client):
    assert ben.get("limits/user:ann").status_code == 403
    assert ben.get("limits/group:students").status_code == 403
    assert ben.get("limits/everybody").status_code == 200


def test_if_match_notices_a_change_made_meanwhile(admin: httpx.Client, app: RunningApp):
    seen = admin.get("limits/everybody").headers["ETag"]
    app.now += MINUTE
    assert admin.put("limits/everybody", json={"open_bookings": 4}, headers={"If-Match": seen}).status_code == 200
    again = admin.put("limits/everybody", json={"open_bookings": 5}, headers={"If-Match": seen})
    assert (again.status_code, again.json()["code"]) == (412, "changed")
    assert admin.delete("limits/everybody", headers={"If-Match": seen}).status_code == 412
    assert admin.get("limits/everybody", headers={"If-None-Match": seen}).status_code == 200


@on_sqlite
def test_limits_of_jobs_are_set_beside_those_of_bookings(admin: httpx.Client, ann: httpx.Client):
    said = {"job_units": 2, "open_jobs": 100, "job_logs": "1.5GiB"}
    body = admin.put("limits/user:ann", json=said).json()
    assert body["set"] == said | {"job_logs": "1536MiB"}
    effective = ann.get("me").json()["limits"]
    assert (effective["job_units"], effective["open_jobs"], effective["job_logs"]) == (2, 100, "1536MiB")


@on_sqlite
@pytest.mark.parametrize(
    "body",
    [{"units": 1}, {"units_at_once": -1}, {"units_at_once": "1"}, {"max_duration": 5}, {"max_duration": "soon"},
     {"job_logs": 5}, {"job_logs": "5G"}, {"job_logs": "0B"},
     {"open_jobs": 0.5},
     {"hours_per_week": 1e400}, {"min_duration": "2h", "max_duration": "1h"}, [], None],
)  # fmt: skip
def test_nonsense_is_refused_by_field(admin: httpx.Client, body: object):
    answer = admin.put("limits/everybody", content=repr(body).replace("'", '"').replace("None", "null"),
                       headers={"Content-Type": "application/json"})  # fmt: skip
    assert answer.status_code == 400, answer.text
    assert admin.get("limits/everybody").json()["set"] is None


@on_sqlite
@pytest.mark.parametrize("name", ["nobody", "group:", "user:%00", "user:%F0%9F", "everybody:", "%2e%2e"])
def test_what_names_nobody_is_refused(admin: httpx.Client, name: str):
    assert admin.get(f"limits/{name}").status_code == 400
    assert admin.put(f"limits/{name}", json={}).status_code == 400


def test_what_cannot_be_read_is_said_and_can_be_replaced(admin: httpx.Client, app: RunningApp):
    with transaction(app.site.engine) as connection:
        row = {"kind": "group", "name": "old", "limits": 7, "changed_at": 5, "changed_by": "x"}
        connection.execute(insert(tables.limits).values(row))
    assert admin.get("limits/group:old").json()["unreadable"] is True
    assert admin.put("limits/group:old", json={"extension": "0s"}).json()["unreadable"] is False
