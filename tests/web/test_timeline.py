"""The timeline over HTTP: the call and the page."""

from __future__ import annotations

import re
from dataclasses import replace

import httpx
import pytest

from mlmp_spawner.operations.timeline import Kind, Timeline
from mlmp_spawner.rules.reservations import Step
from mlmp_spawner.units import DAY, HOUR, to_iso
from mlmp_spawner.web.api.timeline import in_a_line, summary
from mlmp_spawner.web.times import find_zone
from tests.operations.conftest import NOW
from tests.web.harness import PREFIX, RunningApp
from tests.web.visitor import HOSTILE

ZURICH = {"date": "2027-01-15", "zone": "Europe/Zurich"}


def book(client: httpx.Client, start: float = 1, hours: float = 2, **more: object) -> dict[str, object]:
    begin = NOW + round(start * HOUR)
    body = {"profile": "gpu", "start": to_iso(begin), "end": to_iso(begin + round(hours * HOUR))} | more
    made: dict[str, object] = client.post("reservations", json=body).raise_for_status().json()
    return made


def page(app: RunningApp, query: str = "", token: str = "ann-token") -> httpx.Response:
    with app.client(token, Accept="text/html") as client:
        return client.get(f"{app.url}{PREFIX}timeline{query}")


def test_a_day_of_the_viewers_zone_with_its_lines(ann: httpx.Client):
    found = ann.get("timeline", params=ZURICH).json()
    assert (found["start"], found["end"]) == ("2027-01-14T23:00:00Z", "2027-01-15T23:00:00Z")
    assert (found["zone"], found["date"]) == ("Europe/Zurich", "2027-01-15")
    assert [tick["label"] for tick in found["ticks"]][:3] == ["Fri 15 Jan", "01:00", "02:00"]
    assert found["summary"] == "6 of 6 free now"
    assert ann.get("timeline", params={"zone": "Asia/Tokyo"}).json()["date"] == "2027-01-15"
    week = ann.get("timeline", params=ZURICH | {"days": "7"}).json()
    assert [t["label"] for t in week["ticks"]][:5] == ["Fri 15 Jan", "06:00", "12:00", "18:00", "Sat 16 Jan"]


def test_of_others_one_sees_when_where_and_who_and_no_more(ann: httpx.Client, ben: httpx.Client, app: RunningApp):
    book(ben, title="secret")
    mine = book(ann, 5, title="thesis")
    bars = ann.get("timeline", params=ZURICH).json()["bars"]
    assert [(bar["owner"], bar["title"], bar["mine"]) for bar in bars] == [
        ("ben", None, False),
        ("ann", "thesis", True),
    ]
    assert bars[0]["etag"] is None
    changed = ann.patch(f"reservations/{mine['id']}", json={"title": "x"}, headers={"If-Match": bars[1]["etag"]})
    assert changed.status_code == 200
    again = ann.patch(f"reservations/{mine['id']}", json={"title": "y"}, headers={"If-Match": bars[1]["etag"]})
    assert again.status_code == 412
    app.context.settings = replace(app.context.settings, show_owners=False)
    assert {bar["owner"] for bar in ann.get("timeline", params=ZURICH).json()["bars"]} == {None, "ann"}
    assert "ben" not in page(app).text


def test_unchanged_is_304_also_when_time_has_passed(ann: httpx.Client, app: RunningApp):
    book(ann)
    first = ann.get("timeline", params=ZURICH)
    app.now += 1000
    seen = {"If-None-Match": first.headers["ETag"]}
    assert ann.get("timeline", params=ZURICH, headers=seen).status_code == 304
    book(ann, 5)
    assert ann.get("timeline", params=ZURICH, headers=seen).status_code == 200


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"date": "2027-02-30"}, "date"), ({"date": "1999-01-01"}, "date"), ({"date": "tomorrow"}, "date"),
        ({"zone": "Mars/Base"}, "zone"), ({"zone": "../etc/passwd"}, "zone"), ({"days": "0"}, "days"),
        ({"start": "2027-01-15T00:00:00Z"}, "end"), ({"profile": "none"}, "profile"),
        ({"start": "2027-01-15T00:00:00Z", "end": "2028-01-15T00:00:00Z"}, "end"),
        ({"start": "2027-01-15T00:00:00Z", "end": "2027-01-14T00:00:00Z"}, "end"),
        ({"start": "2027-01-15T00:00:00Z", "end": "2027-01-16T00:00:00Z", "date": "2027-01-15"}, "date"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_with_the_field(still: RunningApp, query: dict[str, str], field: str):
    with still.client() as ann:
        answer = ann.get("timeline", params=query)
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"] == field


def test_the_line_above_says_what_is_free_now_and_next():
    zurich = find_zone("Europe/Zurich")
    assert zurich is not None
    hours = [Step(NOW, NOW + HOUR, 5), Step(NOW + HOUR, NOW + DAY, 11)]
    assert summary(hours, 16, now=NOW, zone=zurich) == "5 of 16 free now, 11 from 10:00"
    assert summary(hours, 16, now=NOW - HOUR, zone=zurich) == "5 to 11 of 16 free"
    assert summary(hours[1:], 16, now=NOW, zone=zurich) == "11 of 16 free"


def test_a_free_core_does_not_count_as_a_free_gpu():
    zurich = find_zone("Europe/Zurich")
    assert zurich is not None
    gpu, cpu = (Step(NOW, NOW + HOUR, 0), Step(NOW + HOUR, NOW + DAY, 2)), (Step(NOW, NOW + DAY, 2),)
    found = Timeline((), (), (), 6, (), (Kind("A100", 4, gpu), Kind("CPU", 2, cpu)))
    assert in_a_line(found, now=NOW, zone=zurich) == "A100: 0 of 4 free now, 2 from 10:00 · CPU: 2 of 2 free now"


def test_the_list_is_whole_without_a_script(ann: httpx.Client, ben: httpx.Client, app: RunningApp):
    mine = book(ann, 0, node="gpu-a", title=HOSTILE)
    book(ben, 1, units=2, node="gpu-b")
    text = page(app).text
    assert HOSTILE not in text
    assert f'action="{PREFIX}bookings/{mine["id"]}/extend"' in text
    assert re.search(r"6 of 6|[0-5] of 6 free now", text)
    assert text.index("Yours") < text.index("gpu-a")
    assert "ben" in text and 'node=gpu-a"' in text
    assert "UTC" in text
    for query in (
        "?view=week",
        "?view=3days&date=2027-03-27",
        "?profile=gpu&model=A100",
        "?zone=Asia/Tokyo&show=list",
    ):
        assert page(app, query).status_code == 200, query
    assert page(app, "?date=2027-99-01").status_code == 400
    assert page(app, "?zone=Mars/Base").status_code == 400


def test_links_keep_what_was_chosen(app: RunningApp):
    text = page(app, "?view=week&date=2027-01-15&profile=gpu&zone=Europe/Zurich").text
    assert "timeline?date=2027-01-22&amp;view=week&amp;profile=gpu&amp;zone=Europe%2FZurich" in text
    assert "timeline?date=2027-01-15&amp;profile=gpu&amp;zone=Europe%2FZurich" in text


def test_releasing_from_the_list_comes_back_to_it(ann: httpx.Client, app: RunningApp):
    mine = book(ann, 3)
    with app.client() as client:
        answer = client.post(f"{app.url}{PREFIX}bookings/{mine['id']}/cancel", data={"back": "timeline"})
    assert answer.headers["Location"] == f"{PREFIX}timeline?did=cancelled&id={mine['id']}"
