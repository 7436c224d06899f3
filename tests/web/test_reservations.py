"""Bookings over HTTP, on both databases."""

from __future__ import annotations

import httpx

from mlmp_spawner.errors import NotNow
from mlmp_spawner.units import HOUR, MINUTE, to_iso
from tests.operations.conftest import NOW
from tests.web.harness import API, RunningApp
from tests.web.visitor import offer_images

IN_AN_HOUR = to_iso(NOW + HOUR)
IN_TWO_HOURS = to_iso(NOW + 2 * HOUR)


def book(client: httpx.Client, **body: object) -> dict:
    answer = client.post("reservations", json={"profile": "gpu", "duration": "1h", **body})
    assert answer.status_code in (201, 202), answer.text
    return answer.json()


def test_a_booking_is_answered_with_its_address_and_can_be_read_there(ann: httpx.Client):
    answer = ann.post(
        "reservations", json={"profile": "gpu", "start": IN_AN_HOUR, "end": IN_TWO_HOURS, "units": 2, "title": "Übung"}
    )
    assert answer.status_code == 201
    body = answer.json()
    assert answer.headers["Location"] == f"{API}reservations/{body['id']}"
    assert answer.headers["ETag"] == body["etag"]
    assert (body["start"], body["end"]) == (IN_AN_HOUR, IN_TWO_HOURS)
    assert (body["owner"], body["state"], body["title"], body["server"]) == ("ann", "booked", "Übung", "")
    assert body["allocations"] == [{"node": "gpu-b", "resource": "nvidia.com/gpu", "units": 2}]
    assert body["server_state"] == "none" and body["url"] is None
    assert ann.get(answer.headers["Location"].removeprefix(API)).json() == body


def test_without_a_start_it_begins_now_and_without_an_end_it_lasts_as_the_profile_says(ann: httpx.Client):
    body = ann.post("reservations", json={"profile": "gpu"}).json()
    assert body["start"] == to_iso(NOW) and body["state"] == "active"
    assert body["end"] == to_iso(NOW + 4 * HOUR)
    assert body["stops_at"] == to_iso(NOW + 4 * HOUR - 30_000)


def test_a_refusal_has_alternatives_that_can_be_posted_as_they_are(ann: httpx.Client, ben: httpx.Client):
    book(ann, units=4, node="gpu-a", start=IN_AN_HOUR, duration="1h")
    book(ann, units=1, node="gpu-b", duration="6h")
    refused = ben.post("reservations", json={"profile": "gpu", "units": 2, "duration": "4h"})
    assert refused.status_code == 409
    assert refused.headers["Content-Type"] == "application/problem+json"
    body = refused.json()
    assert body["code"] == "no_capacity" and body["status"] == 409
    assert {a["kind"] for a in body["alternatives"]} == {"later", "shorter", "smaller"}
    for alternative in body["alternatives"]:
        got = ben.post("reservations", json=alternative["request"])
        assert got.status_code == 201, got.text
        assert ben.delete(f"reservations/{got.json()['id']}").status_code == 200


def test_who_waits_gets_a_202_and_a_place_in_the_line(ann: httpx.Client, ben: httpx.Client):
    book(ann, units=4, node="gpu-a")
    answer = ben.post("reservations", json={"profile": "gpu", "units": 4, "duration": "1h", "waitlist": True})
    assert answer.status_code == 202
    body = answer.json()
    assert (body["state"], body["waiting_reason"], body["waitlist_position"]) == ("waiting", "requested", 1)
    assert body["allocations"] == []


def test_a_repeated_request_books_once(ann: httpx.Client, ben: httpx.Client):
    key = {"Idempotency-Key": "7a1f"}
    body = {"profile": "gpu", "start": IN_AN_HOUR, "duration": "1h"}
    first = ann.post("reservations", json=body, headers=key)
    second = ann.post("reservations", json=body, headers=key)
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json()["id"] == second.json()["id"]
    assert len(ann.get("reservations").json()["items"]) == 1
    other = ann.post("reservations", json={**body, "duration": "2h"}, headers=key)
    assert other.status_code == 409
    # The key is the user's own.
    assert ben.post("reservations", json=body, headers=key).json()["id"] != first.json()["id"]
    assert ann.post("reservations", json=body, headers={"Idempotency-Key": "a b"}).status_code == 400


def test_a_change_needs_the_etag_to_be_the_last_one(ann: httpx.Client):
    made = book(ann, start=IN_AN_HOUR)
    path, etag = f"reservations/{made['id']}", made["etag"]
    changed = ann.patch(path, json={"title": "new"}, headers={"If-Match": etag})
    assert changed.status_code == 200 and changed.json()["title"] == "new"
    stale = ann.patch(path, json={"title": "newer"}, headers={"If-Match": etag})
    assert stale.status_code == 412 and stale.json()["code"] == "changed"
    assert ann.delete(path, headers={"If-Match": etag}).status_code == 412
    assert ann.patch(path, json={"title": "x"}, headers={"If-Match": '"nonsense"'}).status_code == 412
    assert ann.patch(path, json={"title": "x"}, headers={"If-Match": "*"}).status_code == 200
    assert ann.delete(path, headers={"If-Match": ann.get(path).headers["ETag"]}).status_code == 200


def test_the_etag_follows_what_is_shown_also_where_only_the_time_changed_it(app: RunningApp, ann: httpx.Client):
    made = book(ann, start=IN_AN_HOUR)
    path = f"reservations/{made['id']}"
    unchanged = ann.get(path, headers={"If-None-Match": made["etag"]})
    assert unchanged.status_code == 304 and unchanged.content == b""
    app.now = NOW + HOUR + MINUTE
    begun = ann.get(path, headers={"If-None-Match": made["etag"]})
    assert begun.status_code == 200 and begun.json()["state"] == "active"
    # For a change only the version counts.
    assert ann.patch(path, json={"title": "t"}, headers={"If-Match": made["etag"]}).status_code == 200


def test_a_patch_changes_what_it_names_and_nothing_else(ann: httpx.Client):
    made = book(ann, start=IN_AN_HOUR, node="gpu-a", title="before")
    path = f"reservations/{made['id']}"
    assert made["pinned"]
    moved = ann.patch(path, json={"start": IN_TWO_HOURS, "units": 3}).json()
    assert (moved["start"], moved["title"], moved["allocations"][0]["units"]) == (IN_TWO_HOURS, "before", 3)
    assert moved["pinned"]
    assert not ann.patch(path, json={"node": None}).json()["pinned"]
    assert ann.patch(path, json={}).status_code == 400
    for wrong in ({"units": None}, {"start": None}, {"owner": "ben"}, {"units": 0}, {"units": "2"}, {"units": 99}):
        assert ann.patch(path, json=wrong).status_code == 400, wrong


def test_extend_by_a_while_or_to_an_end_as_far_as_it_goes(ann: httpx.Client, ben: httpx.Client):
    mine = book(ann, units=4, node="gpu-a")
    path = f"reservations/{mine['id']}/extend"
    assert ann.post(path, json={"duration": "30m"}).json()["end"] == to_iso(NOW + 90 * MINUTE)
    assert ann.post(path, json={"end": IN_TWO_HOURS}).json()["end"] == IN_TWO_HOURS
    book(ben, units=4, node="gpu-a", start=to_iso(NOW + 3 * HOUR))
    refused = ann.post(path, json={"duration": "4h"})
    assert refused.status_code == 409
    assert refused.json()["longest_end"] == to_iso(NOW + 3 * HOUR)
    assert ann.post(path, json={}).status_code == 400
    assert ann.post(path, json={"end": IN_TWO_HOURS, "duration": "1h"}).status_code == 400


def test_deleting_cancels_what_has_not_begun_and_releases_what_has(app: RunningApp, ann: httpx.Client):
    later, running = book(ann, start=IN_AN_HOUR), book(ann)
    app.now = NOW + MINUTE
    cancelled = ann.delete(f"reservations/{later['id']}").json()
    assert (cancelled["state"], cancelled["end_reason"], cancelled["allocations"]) == ("ended", "cancelled", [])
    released = ann.delete(f"reservations/{running['id']}").json()
    assert (released["state"], released["end_reason"]) == ("ended", "released")
    assert released["end"] == to_iso(NOW + MINUTE)


def test_pages_are_complete_and_without_repetition_while_bookings_come_in(ann: httpx.Client, ben: httpx.Client):
    made = [book(ann, start=to_iso(NOW + n * HOUR))["id"] for n in range(1, 8)]
    seen: list[str] = []
    cursor = None
    while True:
        query = {"limit": 3, **({"cursor": cursor} if cursor else {})}
        page = ann.get("reservations", params=query).json()
        seen += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
        book(ben, start=to_iso(NOW + HOUR // 2), duration="1m")
    assert seen == made
    assert ann.get("reservations", params={"cursor": "garbage!"}).status_code == 400


def test_a_list_can_be_narrowed_by_window_owner_and_state(app: RunningApp, ann: httpx.Client, ben: httpx.Client):
    now, later, bens = book(ann), book(ann, start=to_iso(NOW + 5 * HOUR)), book(ben)

    def ids(**query: str) -> set[str]:
        return {item["id"] for item in ann.get("reservations", params=query).json()["items"]}

    assert ids() == {now["id"], later["id"], bens["id"]}
    assert ids(owner="ann") == {now["id"], later["id"]}
    assert ids(state="booked") == {later["id"]}
    assert ids(start=to_iso(NOW), end=IN_TWO_HOURS, owner="ben") == {bens["id"]}
    # Half-open: what begins where the window ends is not in it.
    assert ids(start=to_iso(NOW + 4 * HOUR), end=to_iso(NOW + 5 * HOUR)) == set()
    app.now = NOW + 2 * HOUR
    assert ids(state="ended") == {now["id"], bens["id"]}


def test_of_others_bookings_one_sees_who_when_and_where(ann: httpx.Client, ben: httpx.Client, admin: httpx.Client):
    mine = book(ann, title="secret", server="lab")
    path = f"reservations/{mine['id']}"
    seen = ben.get(path).json()
    assert seen["owner"] == "ann" and seen["allocations"] == mine["allocations"] and not seen["mine"]
    assert seen["title"] is None and seen["server"] is None and seen["stops_at"] is None
    assert admin.get(path).json()["title"] == "secret"
    assert ben.get(f"{path}/history").status_code == 403
    for verb, call in (("PATCH", ""), ("DELETE", ""), ("POST", "/extend"), ("POST", "/start"), ("POST", "/stop")):
        body = {"json": {"title": "x"} if verb == "PATCH" else {"duration": "1h"}} if verb != "DELETE" else {}
        assert ben.request(verb, path + call, **body).status_code == 403, (verb, call)
    assert ann.get(path).json()["title"] == "secret"


def test_an_admin_books_and_gives_back_for_others(ann: httpx.Client, admin: httpx.Client):
    made = admin.post("reservations", json={"profile": "gpu", "duration": "1h", "owner": "ann"})
    assert made.status_code == 201 and made.json()["owner"] == "ann"
    assert ann.post("reservations", json={"profile": "gpu", "owner": "ben"}).status_code == 403
    assert admin.post("reservations", json={"profile": "gpu", "owner": "nobody"}).status_code == 404
    assert admin.delete(f"reservations/{made.json()['id']}").status_code == 200


def test_start_and_stop_go_through_the_hub_with_its_own_words(app: RunningApp, ann: httpx.Client):
    mine = book(ann, server="lab")
    path = f"reservations/{mine['id']}"
    assert ann.post(f"{path}/start").status_code == 202
    assert ann.post(f"{path}/stop").status_code == 202
    assert app.hub.asked == [("start", "ann", "lab"), ("stop", "ann", "lab")]
    app.hub.refusal = NotNow("Your booking begins in 5 min.")
    refused = ann.post(f"{path}/start")
    assert refused.status_code == 409 and refused.json()["detail"] == "Your booking begins in 5 min."
    ann.delete(path)
    assert ann.post(f"{path}/start").json()["code"] == "too_late"


def test_the_history_says_who_did_what_when(app: RunningApp, ann: httpx.Client, admin: httpx.Client):
    mine = book(ann, start=IN_AN_HOUR)
    app.now = NOW + MINUTE
    admin.patch(f"reservations/{mine['id']}", json={"title": "x"})
    lines = ann.get(f"reservations/{mine['id']}/history").json()["items"]
    assert [(line["at"], line["actor"], line["action"]) for line in lines] == [
        (to_iso(NOW), "ann", "booked"),
        (to_iso(NOW + MINUTE), "root", "changed"),
    ]


def test_availability_says_what_is_free_where_and_from_when(ann: httpx.Client):
    book(ann, units=2, node="gpu-b", duration="2h")
    book(ann, units=3, node="gpu-a", duration="1h")
    body = ann.get("availability", params={"profile": "gpu", "units": 2, "duration": "1h", "end": IN_TWO_HOURS}).json()
    assert body["nodes"] == [
        {
            "node": "gpu-a",
            "capacity": 4,
            "steps": [
                {"start": to_iso(NOW), "end": IN_AN_HOUR, "free": 1},
                {"start": IN_AN_HOUR, "end": IN_TWO_HOURS, "free": 4},
            ],
            "first_free": IN_AN_HOUR,
        },
        {
            "node": "gpu-b",
            "capacity": 2,
            "steps": [{"start": to_iso(NOW), "end": IN_TWO_HOURS, "free": 0}],
            "first_free": None,
        },
    ]
    assert body["first_free"] == IN_AN_HOUR


def test_a_plus_in_a_query_may_arrive_as_a_space_and_an_offset_must_be_there(ann: httpx.Client):
    ask = "availability?profile=gpu&start=2027-01-15T09:00:00+01:00&end=2027-01-15T10:00:00%2B01:00"
    answer = ann.get(ask)
    assert answer.status_code == 200 and answer.json()["start"] == "2027-01-15T08:00:00Z"
    refused = ann.get("availability?profile=gpu&start=2027-01-15T09:00:00")
    assert refused.status_code == 400 and refused.json()["errors"][0]["field"] == "start"


def test_me_and_the_catalog_show_what_holds_for_the_caller(ann: httpx.Client, ben: httpx.Client):
    book(ann, units=2, duration="2h")
    me = ann.get("me").json()
    assert (me["name"], me["admin"], me["groups"]) == ("ann", False, [])
    assert me["used"] == {"units_at_once": 2, "hours_per_week": 4.0, "open_bookings": 1}
    assert ben.get("me").json()["groups"] == ["lab"]
    catalog = ann.get("catalog").json()
    (profile,) = catalog["profiles"]
    assert (profile["name"], profile["units"], profile["max_units"], profile["simulated"]) == ("gpu", 1, 4, False)
    assert (profile["min_duration"], profile["default_duration"], profile["max_duration"]) == ("1m", "4h", "40d")
    assert [node["name"] for node in catalog["nodes"]] == ["gpu-a", "gpu-b"]


def test_the_catalog_says_what_of_a_share_is_enforced(ann: httpx.Client):
    found = ann.get("catalog").json()
    assert sorted([*found["enforced"], *found["not_enforced"]]) == ["cpu", "devices", "memory", "processes"]


def test_an_image_is_chosen_changed_and_shown(app: RunningApp, ann: httpx.Client):
    offer_images(app)
    made = ann.post("reservations", json={"profile": "gpu", "duration": "1h", "image": "torch"})
    assert (made.status_code, made.json()["image"]) == (201, "torch")
    address = f"reservations/{made.json()['id']}"
    assert ann.patch(address, json={"image": None}).json()["image"] is None
    assert ann.patch(address, json={"image": "lab"}).json()["image"] == "lab"
    assert ann.get(address).json()["image"] == "lab"
    for answer in (
        ann.patch(address, json={"image": "no"}),
        ann.post("reservations", json={"profile": "gpu", "image": "no"}),
    ):
        assert answer.status_code == 400
        assert answer.json()["errors"] == [
            {"field": "image", "message": "'no' is not possible with 'gpu'; valid: lab, torch"}
        ]


def test_others_do_not_see_which_image_it_is(app: RunningApp, ann: httpx.Client, ben: httpx.Client):
    offer_images(app)
    made = ann.post("reservations", json={"profile": "gpu", "duration": "1h", "image": "torch"}).json()
    assert ben.get(f"reservations/{made['id']}").json()["image"] is None
