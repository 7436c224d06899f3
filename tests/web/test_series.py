"""Series over HTTP and by the form of the Book page."""

from __future__ import annotations

import json
import re
from html import unescape
from typing import Any

import httpx
import pytest

from mlmp_spawner.errors import Invalid
from mlmp_spawner.units import DAY, HOUR, from_iso, to_iso
from mlmp_spawner.web.recurrence_form import rule_of
from tests.operations.conftest import NOW
from tests.web.harness import PREFIX, RunningApp

START = NOW + DAY

on_sqlite = pytest.mark.parametrize("db_url", ["sqlite"], indirect=True)
"""What no database has a say in is tried on one of them."""


def body(rrule: str = "FREQ=WEEKLY;COUNT=3", **more: Any) -> dict[str, Any]:
    again = {"rrule": rrule, "zone": "Europe/Zurich", **more.pop("recurrence", {})}
    return {"profile": "gpu", "start": to_iso(START), "duration": "2h", "recurrence": again} | more


def test_a_series_is_booked_shown_changed_and_cancelled(ann: httpx.Client):
    made = ann.post("reservations", json=body(recurrence={"except": [to_iso(START + 7 * DAY)[:10]]}))
    first = made.json()
    assert made.status_code == 201 and made.headers["Location"].endswith(first["id"])
    series = ann.get(f"series/{first['series']}").json()
    assert (series["rrule"], series["zone"], series["duration"]) == ("FREQ=WEEKLY;COUNT=3", "Europe/Zurich", "2h")
    assert series["except"] == [to_iso(START + 7 * DAY)[:10]]
    assert [from_iso(one["start"]) - START for one in series["items"]] == [0, 14 * DAY]
    assert all(one["series"] == series["id"] for one in series["items"])
    changed = ann.patch(
        f"reservations/{first['id']}", params={"which": "all"}, json={"title": "lab", "start": to_iso(START + HOUR)}
    )
    assert changed.status_code == 200 and changed.json()["title"] == "lab"
    starts = [from_iso(one["start"]) for one in ann.get(f"series/{series['id']}").json()["items"]]
    assert starts == [START + HOUR, START + 14 * DAY + HOUR]
    gone = ann.delete(f"reservations/{first['id']}", params={"which": "following"}).json()
    assert gone["cancelled"] == [one["id"] for one in series["items"]]
    again = ann.post("reservations", json=gone["undo"])
    assert again.status_code == 201, again.text
    back = ann.get(f"series/{again.json()['series']}").json()["items"]
    assert [from_iso(one["start"]) for one in back] == starts


def test_one_booking_that_was_cancelled_can_be_had_again(ann: httpx.Client):
    first = ann.post("reservations", json=body()).json()
    gone = ann.delete(f"reservations/{first['id']}").json()
    assert (gone["cancelled"], gone["end_reason"]) == ([first["id"]], "cancelled")
    assert ann.post("reservations", json=gone["undo"]).json()["start"] == first["start"]
    twice = ann.delete(f"reservations/{first['id']}").json()
    assert (twice["cancelled"], twice["undo"]) == ([], None)


def test_a_refusal_names_the_days_and_what_is_possible(ann: httpx.Client, ben: httpx.Client):
    for node, units in (("gpu-a", 4), ("gpu-b", 2)):
        taken = {"profile": "gpu", "start": to_iso(START + 7 * DAY), "duration": "2h", "units": units, "node": node}
        assert ben.post("reservations", json=taken).status_code == 201
    refused = ann.post("reservations", json=body())
    problem = refused.json()
    assert (refused.status_code, problem["code"]) == (409, "no_capacity")
    assert problem["clashes"] == [to_iso(START + 7 * DAY)[:10]]
    kinds = {one["kind"]: one["request"] for one in problem["alternatives"]}
    assert set(kinds) == {"except", "later"}
    assert ann.post("reservations", json=kinds["except"]).status_code == 201


def test_the_same_key_books_a_series_once(ann: httpx.Client):
    headers = {"Idempotency-Key": "one"}
    ids = {ann.post("reservations", json=body(), headers=headers).json()["id"] for _ in range(2)}
    assert len(ids) == 1
    assert len(ann.get("reservations", params={"owner": "ann"}).json()["items"]) == 3


@on_sqlite
@pytest.mark.parametrize(
    "again",
    [{"rrule": "FREQ=SECONDLY;COUNT=3"}, {"rrule": ""}, {"rrule": "X" * 500}, {"zone": "Nowhere"},
     {"except": ["soon"]},
     {"except": "2027-01-01"}, {"until": "2027-01-01"}, {"zone": None}],
)  # fmt: skip
def test_nonsense_is_refused(ann: httpx.Client, again: dict[str, Any]):
    answer = ann.post("reservations", json=body(recurrence=again))
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid")
    assert ann.get("reservations").json()["items"] == []


@on_sqlite
def test_which_is_one_of_three(ann: httpx.Client):
    first = ann.post("reservations", json=body()).json()
    assert ann.delete(f"reservations/{first['id']}", params={"which": "some"}).status_code == 400
    assert ann.get("series/nosuchseries").status_code == 404


def test_somebody_elses_series_is_theirs(ann: httpx.Client, ben: httpx.Client, admin: httpx.Client):
    first = ann.post("reservations", json=body()).json()
    assert ben.get(f"series/{first['series']}").status_code == 403
    assert ben.get(f"reservations/{first['id']}").json()["series"] is None
    assert ben.delete(f"reservations/{first['id']}", params={"which": "all"}).status_code == 403
    assert admin.get(f"series/{first['series']}").status_code == 200


class TestForm:
    @pytest.mark.parametrize(
        ("repeat", "rule"),
        [("", None), ("daily", "FREQ=DAILY;UNTIL=20261218"), ("weekly", "FREQ=WEEKLY;UNTIL=20261218"),
         ("weekdays", "FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR;UNTIL=20261218")],
    )  # fmt: skip
    def test_the_two_fields_say_a_rule(self, repeat: str, rule: str | None):
        assert rule_of(repeat, "2026-12-18") == rule

    @pytest.mark.parametrize(("repeat", "until"), [("hourly", "2026-12-18"), ("daily", ""), ("daily", "18.12.2026")])
    def test_what_they_cannot_say_is_refused(self, repeat: str, until: str):
        with pytest.raises(Invalid):
            rule_of(repeat, until)

    def test_the_page_books_a_series_and_offers_what_is_possible(self, app: RunningApp, ben: httpx.Client):
        taken = {"profile": "gpu", "start": to_iso(START + DAY), "duration": "2h", "units": 4, "node": "gpu-a"}
        assert ben.post("reservations", json=taken).status_code == 201
        form = {
            "profile": "gpu", "units": "4", "start": to_iso(START), "duration": "2h", "repeat": "daily",
            "until": to_iso(START + 2 * DAY)[:10], "title": "lab",
        }  # fmt: skip
        with app.client("ann-token", Accept="text/html", Cookie="mlmp-zone=Europe%2FZurich") as http:
            page = http.get(app.url + PREFIX + "book").text
            assert 'name="repeat"' in page and 'name="until"' in page
            token = re.search(r'name="_xsrf" value="([^"]*)"', page)
            form["_xsrf"] = token[1] if token else ""
            refused = http.post(app.url + PREFIX + "book", data=form, follow_redirects=True).text
            assert "On 1 of 3 dates" in refused
            found = re.findall(r'name="recurrence" value="([^"]*)"', refused)
            offered = [json.loads(unescape(text)) for text in found]
            assert to_iso(START + DAY)[:10] in offered[0]["except"]
            form |= {"recurrence": json.dumps(offered[0])}
            done = http.post(app.url + PREFIX + "book", data=form, follow_redirects=True).text
            assert "and 1 more of its series" in done
            assert 'name="which" value="all"' in done  # Undo takes back all of it
        with app.client("ann-token") as ann:
            assert len(ann.get("reservations", params={"owner": "ann"}).json()["items"]) == 2
