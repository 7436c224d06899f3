"""Maintenance over HTTP: what is planned is seen by everybody, and set by admins who see first whom it hits."""

from __future__ import annotations

import httpx
import pytest

from mlmp_spawner.units import HOUR, to_iso
from tests.operations.conftest import NOW
from tests.web.harness import RunningApp

WINDOW = {"start": to_iso(NOW + HOUR), "end": to_iso(NOW + 3 * HOUR), "reason": "new driver"}


@pytest.fixture
def admin(app: RunningApp):
    with app.client("admin-token") as client:
        yield client


def test_a_dry_run_names_the_bookings_that_would_be_hit_and_changes_nothing(ann: httpx.Client, admin: httpx.Client):
    row = ann.post("reservations", json={"profile": "gpu", "duration": "4h", "node": "gpu-a", "title": "x"}).json()
    asked = {"items": [WINDOW], "dry_run": True}
    (hit,) = admin.put("nodes/gpu-a/outages", json=asked).json()["hits"]
    assert (hit["reservation"], hit["owner"], hit["outcome"]) == (row["id"], "ann", "kept")
    assert ann.get("nodes/gpu-a/outages").json()["items"] == []


def test_everybody_sees_when_a_node_takes_no_bookings(ann: httpx.Client, admin: httpx.Client):
    made = admin.put("nodes/gpu-a/outages", json={"items": [WINDOW, {"start": to_iso(NOW + 9 * HOUR)}]}).json()
    seen = ann.get("nodes/gpu-a/outages").json()
    assert seen["items"] == made["items"]
    first, second = seen["items"]
    assert {name: first[name] for name in WINDOW} == WINDOW
    assert second["end"] is None
    free = ann.get("availability", params={"profile": "gpu", "node": "gpu-a"}).json()
    assert 0 in [step["free"] for step in free["nodes"][0]["steps"]]


def test_a_state_of_every_node(ann: httpx.Client, admin: httpx.Client):
    ann.post("reservations", json={"profile": "gpu", "units": 3, "duration": "1h"})
    admin.put("nodes/gpu-b/outages", json={"items": [{"reason": "fan"}, WINDOW]})
    a, b = ann.get("nodes").json()["items"]
    assert a["units"] == [
        {"resource": "nvidia.com/gpu", "model": "A100", "capacity": 4, "taken": 3, "listed": 4, "why": ""}
    ]
    assert (a["outage"], a["planned"]) == (None, [])
    assert (b["outage"]["reason"], b["outage"]["end"], len(b["planned"])) == ("fan", None, 1)


def test_who_saw_older_outages_is_told_so(admin: httpx.Client):
    tag = admin.get("nodes/gpu-a/outages").headers["ETag"]
    assert admin.put("nodes/gpu-a/outages", json={"items": [WINDOW]}, headers={"If-Match": tag}).status_code == 200
    assert admin.put("nodes/gpu-a/outages", json={"items": []}, headers={"If-Match": tag}).status_code == 412


@pytest.mark.parametrize(
    ("node", "body", "status"),
    [
        ("gpu-x", {"items": []}, 404),
        ("gpu-a%2F..", {"items": []}, 404),
        ("gpu-a", {"items": [{"start": to_iso(NOW - HOUR)}]}, 400),
        ("gpu-a", {"items": [{"end": to_iso(NOW)}]}, 400),
        ("gpu-a", {"items": [{"reason": "two\nlines"}]}, 400),
        ("gpu-a", {"items": [{}] * 201}, 400),
        ("gpu-a", {"items": [], "bookings": "cancel"}, 400),
        ("gpu-a", {}, 400),
    ],
)
def test_what_can_not_be_is_refused_with_the_reason(admin: httpx.Client, node: str, body: dict, status: int):
    answer = admin.put(f"nodes/{node}/outages", json=body)
    assert answer.status_code == status, answer.text
    assert answer.json()["detail"]


def test_the_place_on_the_waitlist_is_that_of_the_fair_order(app: RunningApp, ann: httpx.Client):
    ann.post("reservations", json={"profile": "gpu", "units": 4, "duration": "1h"})
    whole = {"profile": "gpu", "units": 4, "duration": "1h", "waitlist": True}
    first, second = (ann.post("reservations", json=whole).json() for _ in range(2))
    assert (first["waitlist_position"], second["waitlist_position"]) == (1, 2)
    with app.client("ben-token") as ben:
        assert ben.post("reservations", json=whole).json()["waitlist_position"] == 2
    assert ann.get(f"reservations/{second['id']}").json()["waitlist_position"] == 3
    listed = ann.get("reservations", params={"state": "waiting"}).json()["items"]
    assert sorted(row["waitlist_position"] for row in listed) == [1, 2, 3]


def test_the_figures_count_who_waits_and_which_nodes_are_away(ann: httpx.Client, admin: httpx.Client):
    admin.put("nodes/gpu-b/outages", json={"items": [{}]})
    for _ in range(3):
        ann.post("reservations", json={"profile": "gpu", "units": 4, "duration": "1h", "waitlist": True})
    figures = ann.get("metrics").text.splitlines()
    assert {"mlmp_waiting 2.0", "mlmp_nodes_away 1.0"} <= set(figures)
