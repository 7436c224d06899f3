"""What people are told on the pages and over the API, and how they choose."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from html import unescape
from typing import Any

import httpx
import pytest
from icalendar import Calendar
from sqlalchemy import delete, insert

from mlmp_spawner.operations import booking, changes, history
from mlmp_spawner.operations.people import Ways
from mlmp_spawner.operations.requests import BookingRequest
from mlmp_spawner.operations.site import CLOCK, Site
from mlmp_spawner.rules.reservations import Reservation
from mlmp_spawner.store.tables import users
from mlmp_spawner.store.transaction import transaction
from mlmp_spawner.units import DAY, HOUR
from mlmp_spawner.web.context import WebSettings
from tests.operations.conftest import NOW, admin, ann, ben
from tests.web.harness import PREFIX, RunningApp
from tests.web.test_stream import following
from tests.web.visitor import HOSTILE, Visitor

# What differs between databases is shown below the pages: tests/operations/test_delivery.py, test_calendar.py.
pytestmark = pytest.mark.parametrize("db_url", ["sqlite"], indirect=True)


def book(site: Site, actor: Any = ann, **fields: object) -> Reservation:
    request = BookingRequest(**({"profile": "gpu", "duration": HOUR, "start": NOW + HOUR} | fields))  # type: ignore[arg-type]
    return booking.book(site, request, actor=actor, now=NOW)


def tell(site: Site, action: str, booked: Reservation, **details: object) -> None:
    """The clock does something to a booking."""
    with transaction(site.engine) as connection:
        history.record(connection, action, actor=CLOCK.name, at=NOW, reservation=booked, **details)


@pytest.fixture
def visitor(app: RunningApp) -> Iterator[Visitor]:
    found = Visitor(app, "ann-token")
    yield found
    found.http.close()


def test_one_is_told_what_others_did_and_knows_what_one_did_oneself(app: RunningApp, ann: httpx.Client, site: Site):
    booked = book(site, title="finetune")
    assert ann.get("me/notices").json()["unread"] == 0
    changes.cancel(site, booked.id, actor=admin, now=NOW)
    found = ann.get("me/notices", params={"zone": "Europe/Zurich"}).json()
    assert [(one["kind"], one["read"], one["reservation"]) for one in found["items"]] == [
        ("released", False, booked.id),
        ("booked", True, booked.id),
    ]
    assert found["unread"] == 1 and found["zone"] == "Europe/Zurich"
    assert found["items"][0]["headline"].startswith("Cancelled: A100, ") and "root" in found["items"][0]["text"]
    only = ann.get("me/notices", params={"unread": "true"}).json()["items"]
    assert [one["kind"] for one in only] == ["released"]


def test_a_series_is_told_of_once(ann: httpx.Client, site: Site):
    rows = [replace(book(site, start=NOW + n * DAY), series="weekly") for n in range(1, 4)]
    with transaction(site.engine) as connection:
        for row in rows:
            history.record(connection, "cancelled", actor="root", at=NOW + 1, reservation=row)
        history.record(connection, "cancelled", actor="root", at=NOW + 2, reservation=rows[0])
    found = ann.get("me/notices", params={"unread": "true"}).json()["items"]
    assert len(found) == 2 and "series" in found[0]["text"]


def test_one_notice_is_marked_as_read_and_none_before_it(ann: httpx.Client, site: Site):
    booked = book(site)
    tell(site, "announced", booked)
    tell(site, "warned", booked)
    newest, older = [one["id"] for one in ann.get("me/notices", params={"unread": "true"}).json()["items"]]
    assert ann.post("me/notices/read", json={"up_to": newest, "only": True}).json() == {"unread": 1}
    left = ann.get("me/notices", params={"unread": "true"}).json()["items"]
    assert [one["id"] for one in left] == [older]


def test_reading_marks_what_was_seen_and_nothing_newer(ann: httpx.Client, site: Site):
    booked = book(site)
    tell(site, "announced", booked)
    seen = ann.get("me/notices").json()["items"][0]["id"]
    tell(site, "warned", booked, end=booked.end)
    assert ann.post("me/notices/read", json={"up_to": seen}).json() == {"unread": 1}
    assert ann.post("me/notices/read", json={"up_to": 2**63 - 1}).json() == {"unread": 0}
    assert ann.post("me/notices/read", json={"up_to": "1"}).status_code == 400


def test_the_list_comes_in_pages(ann: httpx.Client, site: Site):
    booked = book(site)
    for _ in range(4):
        tell(site, "moved", booked, target="gpu-b")
    seen, cursor = [], None
    while True:
        page = ann.get("me/notices", params={"limit": 2, **({"cursor": cursor} if cursor else {})}).json()
        seen += [one["id"] for one in page["items"]]
        if (cursor := page["next_cursor"]) is None:
            break
    assert len(seen) == 5 and seen == sorted(set(seen), reverse=True)
    assert ann.get("me/notices", params={"cursor": "x"}).status_code == 400


def test_others_see_nothing_of_it(ann: httpx.Client, ben: httpx.Client, site: Site):
    tell(site, "moved", book(site), target="gpu-b")
    assert ben.get("me/notices").json() == {"items": [], "unread": 0, "zone": "UTC", "next_cursor": None}
    top = ann.get("me/notices").json()["items"][0]["id"]
    ben.post("me/notices/read", json={"up_to": top})
    assert ann.get("me/notices").json()["unread"] == 1


def test_a_namesake_of_a_deleted_user_is_told_nothing_of_theirs(ann: httpx.Client, site: Site):
    booked = book(site)
    ann.put("me/preferences", json={"choices": {"moved": []}})
    with transaction(site.engine) as connection:
        connection.execute(delete(users).where(users.c.name == "ann"))
        connection.execute(insert(users), {"id": 99, "name": "ann"})
    gone = changes.get(site, booked.id)
    tell(site, "moved", gone, target="gpu-b")
    assert ann.get("me/notices").json()["items"] == []
    assert ann.get("me/preferences").json()["choices"]["moved"] == ["browser", "mail", "webhook"]


def test_what_is_not_wanted_in_the_browser_is_not_there(ann: httpx.Client, site: Site):
    booked = book(site)
    tell(site, "moved", booked, target="gpu-b")
    tell(site, "warned", booked, end=booked.end)
    ann.put("me/preferences", json={"choices": {"moved": ["mail"], "booked": []}})
    found = ann.get("me/notices").json()
    assert [one["kind"] for one in found["items"]] == ["ends_soon"] and found["unread"] == 1


def test_choices_are_kept_and_what_is_left_out_has_its_default(ann: httpx.Client):
    before = ann.get("me/preferences").json()
    assert before["choices"]["booked"] == ["browser"] and before["calendar_since"] is None
    after = ann.put("me/preferences", json={"choices": {"booked": ["mail", "browser", "mail"]}}).json()
    assert after["choices"]["booked"] == ["browser", "mail"]
    assert {kind: ways for kind, ways in after["choices"].items() if kind != "booked"} == {
        kind: ways for kind, ways in before["choices"].items() if kind != "booked"
    }
    assert ann.put("me/preferences", json={}).json() == before
    for wrong in (
        {"choices": {"nonsense": []}},
        {"choices": {"moved": ["pigeon"]}},
        {"choices": {"test": []}},
        {"x": 1},
    ):
        assert ann.put("me/preferences", json=wrong).status_code == 400


def test_addresses_only_where_the_site_allows_them(app: RunningApp, ann: httpx.Client):
    assert ann.put("me/preferences", json={"mail": "ann@example.org"}).status_code == 400
    assert ann.put("me/preferences", json={"webhook": "https://chat.example.org/x"}).status_code == 400
    ways = Ways(mail=True, template="{username}@example.org", choose=True, webhook_hosts={"chat.example.org": "slack"})
    app.context.settings = WebSettings(rate=0, poll=0.05, ways=ways)
    assert ann.get("me/preferences").json()["mail_to"] == "ann@example.org"
    chosen = ann.put("me/preferences", json={"mail": "a@b.example", "webhook": "https://chat.example.org/x"})
    assert chosen.json()["mail_to"] == "a@b.example" and chosen.json()["webhook"] == "https://chat.example.org/x"
    for wrong in ("nobody", "a@b.example\r\nBcc: eve@b.example", "a@b.example, c@d.example"):
        answer = ann.put("me/preferences", json={"mail": wrong})
        assert answer.status_code == 400 and answer.json()["errors"][0]["field"] == "mail"
    assert ann.put("me/preferences", json={"webhook": "http://127.0.0.1/"}).json()["errors"][0]["field"] == "webhook"


def test_a_test_goes_to_oneself_a_few_times_an_hour(app: RunningApp, ann: httpx.Client, ben: httpx.Client):
    assert ann.post("me/preferences/test").json() == {"channels": ["browser"]}
    assert ann.get("me/notices").json()["items"][0]["kind"] == "test"
    answers = [ann.post("me/preferences/test") for _ in range(6)]
    assert answers[-1].status_code == 429 and int(answers[-1].headers["Retry-After"]) > 60
    assert ben.post("me/preferences/test").status_code == 202


def test_a_service_is_told_nothing(app: RunningApp):
    with app.client("service-token") as robot:
        assert [robot.get("me/notices").status_code, robot.get("me/preferences").status_code] == [403, 403]
        assert robot.post("calendar-token").status_code == 403


# -- the stream ------------------------------------------------------------------------------------------------


def test_an_open_page_is_told_at_once_and_only_its_own(app: RunningApp, site: Site, ann: httpx.Client):
    booked = book(site, title=HOSTILE)
    with following(app, "ann-token") as mine, following(app, "ben-token") as others:
        tell(site, "moved", booked, target="gpu-b")
        told = mine.next("notice")
        assert told["kind"] == "moved" and told["reservation"] == booked.id and "gpu-b" in told["headline"]
        tell(site, "started", booked)
        while others.next("reservation")["action"] != "started":
            pass
        ann.put("me/preferences", json={"choices": {"ends_soon": []}})
        tell(site, "warned", booked, end=booked.end)
        tell(site, "idle_warned", booked)
        assert mine.next("notice")["kind"] == "idle"


# -- the pages -------------------------------------------------------------------------------------------------


def test_the_bell_counts_on_every_page(visitor: Visitor, site: Site):
    assert 'aria-label="Notices"' in visitor.get()
    booked = book(site)
    tell(site, "moved", booked, target="gpu-b")
    for page in ("", "book", "bookings", f"bookings/{booked.id}", "notices", "preferences"):
        assert 'aria-label="Notices, 1 unread"' in visitor.get(page)


def test_the_page_of_notices(visitor: Visitor, site: Site):
    assert "Nothing yet" in visitor.get("notices")
    booked = book(site, title=HOSTILE)
    tell(site, "moved", booked, target=HOSTILE)
    page = visitor.get("notices")
    assert f'href="{PREFIX}bookings/{booked.id}"' in page and "<strong>1</strong> unread" in page
    assert "<script>alert" not in page and HOSTILE[:20] in unescape(page)
    assert "All read" in visitor.press("notices")
    assert visitor.get("notices?before=1") and visitor.answer.status_code == 200
    assert visitor.get("notices?before=x") and visitor.answer.status_code == 400


def test_the_choices_are_a_plain_form(app: RunningApp, visitor: Visitor, ann: httpx.Client):
    page = visitor.get("preferences")
    assert "sends no mail" in page and 'name="moved:mail"' not in page
    where, sent = PREFIX + "preferences", {"_xsrf": "x", "booked:browser": "1"}
    assert "Saved." in visitor.post(where, sent)
    found = ann.get("me/preferences").json()["choices"]
    # What the form could not show stays as it was.
    assert found["booked"] == ["browser"] and found["moved"] == ["mail", "webhook"]
    app.context.settings = WebSettings(rate=0, poll=0.05, ways=Ways(mail=True, choose=True))
    assert 'name="moved:mail"' in visitor.get("preferences")
    refused = visitor.post(where, {"_xsrf": "x", "mail": HOSTILE})
    assert visitor.answer.status_code == 400 and "<script>alert" not in refused and "not a mail address" in refused
    assert HOSTILE in unescape(refused)  # still there, to be mended
    assert "ann@example.org" in visitor.post(where, {"_xsrf": "x", "mail": "ann@example.org"})


def test_who_may_only_look_changes_nothing(app: RunningApp, ann: httpx.Client):
    reader = Visitor(app, "reader-token")
    for action in ("preferences", "preferences/test", "preferences/calendar", "preferences/revoke"):
        reader.post(PREFIX + action, {"_xsrf": "x"})
        assert reader.answer.status_code == 403
    reader.http.close()
    assert ann.get("me/preferences").json()["calendar_since"] is None


@pytest.mark.parametrize("page", ["preferences", "preferences/calendar", "preferences/revoke"])
def test_the_token_of_a_server_makes_nothing_by_the_pages_either(app: RunningApp, ann: httpx.Client, page: str):
    app.context.settings = WebSettings(rate=0, poll=0.05, ways=Ways(mail=True, choose=True))
    url = ann.post("calendar-token").json()["url"]
    headers = {"Authorization": "token server-token"}
    refused = httpx.post(f"{app.url}{PREFIX}{page}", data={"mail": "eve@example.org"}, headers=headers)
    assert refused.status_code == 403
    assert ann.get("me/preferences").json()["mail"] is None
    assert httpx.get(url).status_code == 200


# -- the calendar ----------------------------------------------------------------------------------------------


def test_the_address_of_the_calendar_is_shown_once(app: RunningApp, visitor: Visitor):
    visitor.get("preferences")
    page = visitor.press("preferences/calendar")
    address = re.search(r'id="address" readonly value="([^"]+)"', page)
    assert address
    assert httpx.get(address[1]).headers["Content-Type"] == "text/calendar; charset=utf-8"
    page = visitor.get("preferences")
    assert address[1] not in page and "can&#39;t be shown again" in page.replace("'", "&#39;")
    assert "dead" in visitor.press("preferences/revoke")
    assert httpx.get(address[1]).status_code == 404


def test_the_calendar_needs_nothing_but_its_address(app: RunningApp, ann: httpx.Client, site: Site):
    booked = book(site, title=HOSTILE, start=NOW + DAY)
    book(site, ben)
    url = ann.post("calendar-token").json()["url"]
    assert url.startswith(app.url)
    answer = httpx.get(url)
    (event,) = Calendar.from_ical(answer.content).walk("VEVENT")
    assert event["uid"] == f"{booked.id}@mlmp" and event["summary"] == HOSTILE
    again = httpx.get(url, headers={"If-None-Match": answer.headers["ETag"]})
    assert again.status_code == 304 and again.content == b""
    changes.cancel(site, booked.id, actor=admin, now=NOW)
    after = httpx.get(url, headers={"If-None-Match": answer.headers["ETag"]})
    (event,) = Calendar.from_ical(after.content).walk("VEVENT")
    assert event["status"] == "CANCELLED" and event["sequence"] > 1
    assert httpx.head(url).status_code == 200


@pytest.mark.parametrize("query", ["", "?token=", "?token=x", "?token=%00", "?token=%ff%fe", "?token=a&token=b"])
def test_no_other_address_opens_a_calendar(app: RunningApp, query: str):
    with app.client(None) as client:
        assert client.get(f"calendar.ics{query}").status_code in (400, 404)


def test_the_token_of_the_hub_opens_no_calendar_and_a_calendar_s_no_api(app: RunningApp, ann: httpx.Client):
    url = ann.post("calendar-token").json()["url"]
    token = url.partition("token=")[2]
    with app.client(None) as client:
        assert client.get("calendar.ics?token=ann-token").status_code == 404
        assert client.get(f"me?token={token}").status_code == 401
    with app.client(token) as client:
        assert client.get("me").status_code == 401


def test_asking_for_calendars_is_throttled(app: RunningApp):
    app.context.throttle.rate, app.context.throttle.burst = 0.001, 3
    with app.client(None) as client:
        answers = [client.get("calendar.ics?token=guess").status_code for _ in range(5)]
    assert answers == [404, 404, 404, 429, 429]
