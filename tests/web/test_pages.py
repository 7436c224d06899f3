"""The pages as they are without any script: what they say, what their forms do."""

from __future__ import annotations

import re
from collections.abc import Callable

import httpx
import pytest

from mlmp_spawner.errors import Conflict
from mlmp_spawner.operations import changes, limit_settings, outages
from mlmp_spawner.operations.limit_settings import Subject
from mlmp_spawner.operations.site import Actor
from mlmp_spawner.rules.catalog import Catalog, Limits
from mlmp_spawner.units import DAY, HOUR, MINUTE, to_iso
from tests.operations.conftest import NOW, admin, ben
from tests.web.harness import PREFIX, RunningApp
from tests.web.visitor import EVALUATED, HOSTILE, Visitor, app_listing, booked, running, text

# -- who sees what ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["", "book", "bookings", "bookings/aaaaaaaaaaaa"])
def test_a_stranger_is_sent_to_the_hubs_login(app: RunningApp, path: str):
    with httpx.Client(verify=False) as http:
        answer = http.get(app.url + PREFIX + path, headers={"Accept": "text/html"})
    assert answer.status_code == 302
    assert answer.headers["Location"].startswith("/hub/api/oauth2/authorize")


def test_a_form_without_login_is_refused_and_not_carried_through_a_login(app: RunningApp):
    with httpx.Client(verify=False) as http:
        answer = http.post(app.url + PREFIX + "book", data={"profile": "gpu"}, headers={"Accept": "text/html"})
    assert answer.status_code in (401, 403)


def test_who_has_no_booking_is_told_how_to_get_one(visit: Callable[[str], Visitor]):
    ann_ = visit("ann-token")
    assert "Press a length of time" in text(ann_.get())
    assert "You have nothing booked" in text(ann_.get("bookings"))


def test_who_may_not_book_is_told_whom_to_ask_and_finds_no_button_that_works(visit: Callable[[str], Visitor]):
    reader = visit("reader-token")
    for path in ("", "book"):
        assert "custom:mlmp:book" in text(reader.get(path))
    assert "<fieldset disabled" in reader.get()
    reader.post(PREFIX + "book", {"profile": "gpu", "duration": "1h"})
    assert reader.answer.status_code == 403
    reader.post(PREFIX + "start", {"duration:gpu": "1h"})
    assert reader.answer.status_code == 403


def test_where_no_profile_is_open_it_says_so(app: RunningApp, visit: Callable[[str], Visitor]):
    gpu = app.site.catalog.profiles["gpu"].model_copy(update={"groups": ("staff",)})
    catalog = Catalog(nodes=app.site.catalog.nodes, profiles={"gpu": gpu})
    app.context.site = type(app.site)(app.site.engine, catalog)
    assert "Nothing is open to your groups" in text(visit("ann-token").get())
    assert "Nothing is open to your groups" in text(visit("ann-token").get("book"))


def test_somebody_elses_booking_is_not_found_but_an_admin_sees_it(app: RunningApp, visit: Callable[[str], Visitor]):
    found = booked(app, ben, title="secret")
    eve = visit("eve-token")
    assert "secret" not in eve.get(f"bookings/{found.id}")
    assert eve.answer.status_code == 404
    for action in ("start", "extend", "cancel", "stop"):
        eve.post(f"{PREFIX}bookings/{found.id}/{action}", {"end": to_iso(NOW + 3 * HOUR)})
        assert eve.answer.status_code == 404
    assert not app.hub.asked
    assert "secret" in visit("admin-token").get(f"bookings/{found.id}")


# -- Home ---------------------------------------------------------------------------------------------------------


def test_home_says_what_is_free_and_until_when(app: RunningApp, visit: Callable[[str], Visitor]):
    booked(app, ben, units=4)
    booked(app, ben, start=NOW + 2 * HOUR, units=2, hours=60)
    words = text(visit("ann-token").get())
    assert "2 of 6 free until" in words


def test_where_nothing_is_free_home_names_the_machines_that_are_away(app: RunningApp, visit: Callable[[str], Visitor]):
    outages.set_outages(app.site, "gpu-b", [outages.Wanted(reason=HOSTILE)], actor=admin, now=NOW)
    ann_ = visit("ann-token")
    assert "takes no bookings" not in text(ann_.get()), "the other machine is free"
    wanted = [outages.Wanted(end=NOW + 3 * HOUR, reason="new disks")]
    outages.set_outages(app.site, "gpu-a", wanted, actor=admin, now=NOW)
    words = text(ann_.get())
    assert "none free · first 11:00 for 4 h" in words
    assert "gpu-a takes no bookings until 11:00 : new disks." in words
    assert f"gpu-b takes no bookings until further notice: {HOSTILE}." in words
    assert HOSTILE not in ann_.answer.text


def test_a_button_of_home_books_from_now_and_starts(app: RunningApp, visit: Callable[[str], Visitor]):
    ann_ = visit("ann-token")
    ann_.get()
    ann_.press("start", name="duration:gpu", value="3600s")
    assert ann_.answer.status_code == 303
    assert ann_.answer.headers["Location"] == "/hub/spawn-pending/ann"
    assert app.hub.asked == [("start", "ann", "")]
    assert "ready to start" in text(ann_.get())


def test_a_second_booking_at_the_same_time_gets_a_server_of_its_own(app: RunningApp, visit: Callable[[str], Visitor]):
    running(app, booked(app))
    ann_ = visit("ann-token")
    ann_.get()
    ann_.press("start", name="duration:gpu", value="3600s")
    where = ann_.answer.headers["Location"]
    assert re.fullmatch(r"/hub/spawn-pending/ann/[a-z0-9]{12}", where)
    assert app.hub.asked == [("start", "ann", where.rpartition("/")[2])]


def test_until_somebody_has_it_is_cut_to_the_very_moment(app: RunningApp, visit: Callable[[str], Visitor]):
    booked(app, ben, start=NOW + 2 * HOUR, units=4, hours=60)
    booked(app, ben, start=NOW + 2 * HOUR, units=2, hours=60)
    ann_ = visit("ann-token")
    ann_.get()
    app.now += 7500  # people read before they click
    ann_.press("start", name="duration:gpu", value="7200s")
    assert ann_.answer.status_code == 303
    (mine,) = [one for one in app_listing(app) if one.owner == "ann"]
    assert mine.end == NOW + 2 * HOUR


def test_the_spawners_refusal_is_shown_on_the_page(app: RunningApp, visit: Callable[[str], Visitor]):
    found = booked(app)
    app.hub.refusal = Conflict("Waiting for ben's server to end.")
    ann_ = visit("ann-token")
    ann_.get()
    words = text(ann_.press(f"bookings/{found.id}/start"))
    assert ann_.answer.status_code == 409
    assert "Waiting for ben's server to end." in words


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"duration:gpu": "soon"},
        {"duration:gpu": "1h", "duration:cpu": "1h"},
        {"duration:nothing": "1h"},
        {"duration:gpu": "1h", "units:gpu": "9"},
        {"duration:gpu": "1h", "units:gpu": "²"},
        {"duration:gpu": "1h", "units:gpu": "-1"},
        {"duration:gpu": "0s"},
        {"duration:gpu": "3000d"},
        {"duration:" + HOSTILE: "1h"},
        {"reservation": "aaaaaaaaaaaa"},
        {"reservation": "../../x"},
    ],
)
def test_a_form_that_home_does_not_have_starts_and_books_nothing(still: RunningApp, form: dict[str, str]):
    visitor = Visitor(still, "ann-token")
    with visitor.http:
        page = visitor.post(PREFIX + "start", form)
        assert 400 <= visitor.answer.status_code < 500
    assert "<script>alert" not in page
    assert not still.hub.asked
    assert not app_listing(still)


# -- Book ---------------------------------------------------------------------------------------------------------


def test_the_limit_that_is_in_the_way_is_said_once_with_what_stays_within_it(
    app: RunningApp, visit: Callable[[str], Visitor]
):
    limit_settings.put(app.site, Subject("everybody"), Limits(units_at_once=2), actor=admin, now=NOW)
    ann_ = visit("ann-token")
    ann_.get("book?units=4&duration=2h")
    words = text(ann_.press("book"))
    assert ann_.answer.status_code == 403
    assert "Not booked: that is over a limit, see below." in words
    assert words.count("At most 2 units at once") == 1 and "Take 2 × A100 for 2 h" in words


def test_a_limit_of_a_form_that_the_sentence_does_not_say_is_told_in_full(
    app: RunningApp, visit: Callable[[str], Visitor]
):
    ann_ = visit("ann-token")
    words = text(ann_.post(PREFIX + "book", {"profile": "gpu", "duration": "50d"}))
    assert words.count("A booking lasts at most 40 d") == 1


# -- what one does with bookings ----------------------------------------------------------------------------------


def test_cancelling_can_be_undone(app: RunningApp, visit: Callable[[str], Visitor]):
    found = booked(app, start=NOW + DAY, units=2, title="class")
    ann_ = visit("ann-token")
    ann_.get("bookings")
    words = text(ann_.press(f"bookings/{found.id}/cancel"))
    assert "Cancelled : 2 × A100" in words
    ann_.press("book")
    again = [one for one in app_listing(app) if one.state(app.now) == "booked"]
    assert [(one.start, one.end, one.units, one.title) for one in again] == [(found.start, found.end, 2, "class")]


def test_giving_back_what_runs_nothing_can_be_undone_until_its_end(app: RunningApp, visit: Callable[[str], Visitor]):
    found = booked(app, hours=2)
    app.now += 10 * MINUTE
    ann_ = visit("ann-token")
    ann_.get()
    words = text(ann_.press(f"bookings/{found.id}/cancel"))
    assert "Given back" in words
    ann_.press("book")
    (again,) = [one for one in app_listing(app) if one.state(app.now) == "active"]
    assert (again.start, again.end) == (app.now, found.end)


def test_giving_back_a_running_server_asks_first(app: RunningApp, visit: Callable[[str], Visitor]):
    found = booked(app, hours=2)
    running(app, found)
    page = visit("ann-token").get()
    menu = page[page.index(f'id="end-{found.id}"') :]
    assert "unsaved work is lost" in menu[: menu.index("</details>")]
    before = page[: page.index(f'id="end-{found.id}"')]
    assert f"bookings/{found.id}/cancel" not in before


def test_extending_offers_what_is_possible_and_the_most(app: RunningApp, visit: Callable[[str], Visitor]):
    found = booked(app, units=4, hours=2)
    booked(app, ben, start=NOW + 5 * HOUR, units=4)
    ann_ = visit("ann-token")
    page = ann_.get()
    assert f'value="{to_iso(NOW + 5 * HOUR)}"' in page and f'value="{to_iso(NOW + 6 * HOUR)}"' not in page
    words = text(ann_.press(f"bookings/{found.id}/extend", value=to_iso(NOW + 5 * HOUR)))
    assert "Extended" in words
    assert changes.get(app.site, found.id).end == NOW + 5 * HOUR
    assert "can't be extended" in words


def test_an_extension_that_is_too_long_is_refused_with_the_longest(app: RunningApp, visit: Callable[[str], Visitor]):
    found = booked(app, units=4, hours=2)
    booked(app, ben, start=NOW + 3 * HOUR, units=4)
    ann_ = visit("ann-token")
    words = text(ann_.post(f"{PREFIX}bookings/{found.id}/extend", {"end": to_iso(NOW + 5 * HOUR)}))
    assert ann_.answer.status_code == 409
    assert "It can be extended by 1 h, not by 3 h" in words


def test_a_stopped_server_keeps_its_booking(app: RunningApp, visit: Callable[[str], Visitor]):
    found = booked(app)
    running(app, found)
    ann_ = visit("ann-token")
    ann_.get()
    words = text(ann_.press(f"bookings/{found.id}/stop"))
    assert app.hub.asked == [("stop", "ann", "")]
    assert "the booking stays yours" in words


@pytest.mark.parametrize(("left", "warned"), [(11, False), (10, True), (5, True), (2, True)])
def test_the_end_of_a_running_server_is_announced_with_a_way_to_extend(
    app: RunningApp, visit: Callable[[str], Visitor], left: int, warned: bool
):
    found = booked(app)
    running(app, found)
    app.now = found.end - left * MINUTE
    for path in ("", "book", "bookings"):
        page = visit("ann-token").get(path)
        assert (f'id="warning-{found.id}"' in page) is warned
        assert not warned or f"{left} min left" in text(page)


def test_the_page_says_when_it_is_next_to_be_looked_at(app: RunningApp, visit: Callable[[str], Visitor]):
    found = booked(app, start=NOW + HOUR)
    assert f'data-next="{found.start}"' in visit("ann-token").get()
    app.now = found.start
    assert f'data-next="{found.end - 10 * MINUTE}"' in visit("ann-token").get()


def test_the_past_is_shown_a_month_at_a_time(app: RunningApp, visit: Callable[[str], Visitor]):
    found = booked(app, title="long ago")
    app.now += 40 * DAY
    ann_ = visit("ann-token")
    assert "long ago" not in ann_.get("bookings")
    assert "long ago" in ann_.get(f"bookings?before={to_iso(app.now - 30 * DAY)}")
    assert f"bookings/{found.id}" in ann_.answer.text
    assert ann_.get("bookings?before=nonsense")
    assert ann_.answer.status_code == 200


def test_a_booking_tells_its_history(app: RunningApp, visit: Callable[[str], Visitor]):
    found = booked(app, start=NOW + DAY)
    changes.cancel(app.site, found.id, actor=Actor("root", admin=True), now=app.now)
    words = text(visit("ann-token").get(f"bookings/{found.id}"))
    assert "booked by you" in words and "cancelled by root" in words


# -- what was saved -----------------------------------------------------------------------------------------------


def test_what_was_saved_is_said(app: RunningApp, visit: Callable[[str], Visitor]):
    root = visit("admin-token")
    for step, words in (
        ("set", "These limits hold for ben now."),
        ("reset", "For ben the catalog's limits hold again."),
    ):
        root.get("admin/limits?name=user:ben")
        assert f"Saved. {words}" in text(root.press("admin/limits", value=step))
    group = root.get("admin/people?done=set:group:lab")
    assert "These limits hold for the group lab now." in text(group)
    assert "Saved" not in root.get("admin/people?done=1") + root.get("admin/people?done=set:" + HOSTILE)
    sent = {"reason": "new disks", "bookings": "keep"}
    assert "Saved. This is when gpu-a is away." in text(root.post(f"{PREFIX}admin/machines/gpu-a", sent))
    ann_ = visit("ann-token")
    ann_.get("preferences")
    assert "Saved. This is what you are told from now on, and how." in text(ann_.press("preferences"))


# -- what others write --------------------------------------------------------------------------------------------


def test_what_people_write_is_never_markup(app: RunningApp, visit: Callable[[str], Visitor]):
    found = booked(app, title=HOSTILE, start=NOW + HOUR)
    ann_ = visit("ann-token")
    for path in ("", "bookings", f"bookings/{found.id}", f"bookings?did=booked&id={found.id}"):
        page = ann_.get(path)
        assert HOSTILE in text(page)
        assert "<script>alert" not in page and EVALUATED not in text(page).replace(HOSTILE, "")
    page = ann_.get("book?" + str(httpx.QueryParams({"title": HOSTILE, "node": HOSTILE, "profile": HOSTILE})))
    assert "<script>alert" not in page


@pytest.mark.parametrize("path", ["", "book", "bookings"])
def test_a_page_runs_no_script_and_no_style_of_its_own(app: RunningApp, visit: Callable[[str], Visitor], path: str):
    ann_ = visit("ann-token")
    page = ann_.get(path)
    policy = ann_.answer.headers["Content-Security-Policy"]
    assert "script-src 'self' 'sha256-" in policy and "style-src 'self';" in policy and "unsafe" not in policy
    main = page[page.index("<main") : page.index("</main>")]
    assert "<script" not in main and " style=" not in main and not re.search(r" on[a-z]+=", main)


def test_nonsense_in_a_query_is_no_error(visit: Callable[[str], Visitor]):
    ann_ = visit("ann-token")
    for path in (
        "?did=x&id=y",
        "?did=booked&id=aaaaaaaaaaaa",
        "book?units=%00&at=%ff",
        "bookings?before=%F0%9F%98%80",
    ):
        ann_.get(path)
        assert ann_.answer.status_code in (200, 400), path


def test_scripts_are_kept_while_their_address_names_a_version_and_else_asked_for_anew(
    app: RunningApp, visit: Callable[[str], Visitor]
):
    found = re.search(r"/services/mlmp/static/mlmp\.js\?v=[0-9a-f]{12}", visit("ann-token").get())
    assert found
    with httpx.Client(verify=False) as http:
        assert "max-age" in http.get(app.url + found[0]).headers["Cache-Control"]
        assert http.get(app.url + PREFIX + "static/times.js").headers["Cache-Control"] == "no-cache"
