"""The admin's pages without any script: machines, anybody's bookings, people and limits, health, the audit log."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import replace

import pytest

from mlmp_spawner.operations import catalog_sync, changes, history, node_outages, outages
from mlmp_spawner.operations.changes import Changes
from mlmp_spawner.operations.cluster_look import ClusterLook
from mlmp_spawner.operations.watch import Activity
from mlmp_spawner.rules.foreign_pods import Foreigner
from mlmp_spawner.rules.nodes import CORDONED, ClusterNode
from mlmp_spawner.units import DAY, HOUR, MINUTE, to_iso
from mlmp_spawner.web.context import State
from tests.operations.conftest import NOW, ann, ben
from tests.operations.conftest import admin as root
from tests.web.harness import PREFIX, RunningApp
from tests.web.test_change_page import form
from tests.web.visitor import EVALUATED, HOSTILE, Visitor, booked, text

PAGES = [
    "admin",
    "admin/machines/gpu-a",
    "admin/bookings",
    "admin/people",
    "admin/limits",
    "admin/health",
    "admin/audit",
]


@pytest.fixture
def admin(visit: Callable[..., Visitor]) -> Visitor:
    return visit("admin-token")


@pytest.mark.parametrize("path", PAGES)
def test_every_page_shows_a_site_without_a_booking(admin: Visitor, path: str):
    assert "People and limits" in text(admin.get(path))
    assert admin.answer.status_code == 200


# -- machines -----------------------------------------------------------------------------------------------------


def test_machines_say_what_is_free_and_until_when(app: RunningApp, admin: Visitor):
    booked(app, ben, units=4, hours=3)
    words = text(admin.get("admin"))
    assert "gpu-a 4 × A100 0 of 4 free until 11:00" in words and "gpu-b 2 × A100 2 of 2 free" in words


def seen(app: RunningApp, **more: object) -> None:
    """The site is on a cluster whose gpu-a has lost a GPU, and that has a node which is not in the catalog."""
    gpu = "nvidia.com/gpu"
    nodes = (ClusterNode("gpu-a", units={gpu: 3}), ClusterNode("gpu-b", units={gpu: 2}, cordoned=True),
             ClusterNode("gpu-z", units={gpu: 8}))  # fmt: skip
    look = replace(ClusterLook(NOW, nodes), **more)  # type: ignore[arg-type]
    app.context.activity = lambda: Activity(cluster=look)


def test_machines_of_a_cluster_say_where_it_differs_from_the_catalog(app: RunningApp, admin: Visitor):
    assert "The cluster" not in text(admin.get("admin")), "on one machine there is none"
    seen(app)
    words = text(admin.get("admin"))
    assert "differs 4 nvidia.com/gpu in the catalog, 3 in the cluster" in words
    assert "it is cordoned in the cluster kubectl uncordon gpu-b" in words
    assert "gpu-z it has 8 nvidia.com/gpu and is not in the catalog" in words
    assert "Pods of other namespaces are not looked at" in words


def test_capacity_that_the_cluster_lacks_is_said_with_the_reason(app: RunningApp, admin: Visitor):
    catalog_sync.set_units(app.site, {("gpu-a", "nvidia.com/gpu"): 4}, {("gpu-a", "nvidia.com/gpu"): 3}, now=NOW)
    assert "3 × A100 the cluster has 3 of 4 nvidia.com/gpu 3 of 3 free" in text(admin.get("admin"))


def test_pods_of_nobodys_booking_are_shown_and_hostile_names_harmless(app: RunningApp, admin: Visitor):
    pods = (Foreigner("research", HOSTILE, "gpu-a", "nvidia.com/gpu", 2, NOW - HOUR, 1),)
    seen(app, foreign=pods, problem="The Kubernetes cluster does not answer.")
    words = text(admin.get("admin"))
    assert "gpu-a 2 × nvidia.com/gpu 1 missing for bookings 07:00" in words
    assert "not seen the last time: The Kubernetes cluster does not answer. What is shown is from" in words
    assert HOSTILE not in admin.answer.text
    seen(app, foreign=())
    assert "No other pod takes units that people book" in text(admin.get("admin"))


def test_what_the_watch_took_out_of_use_no_form_ends(app: RunningApp, admin: Visitor):
    node_outages.begin(app.site, "gpu-a", CORDONED, now=NOW - HOUR)
    words = text(admin.get("admin/machines/gpu-a"))
    assert "until the cluster has it again cordoned in the cluster ends by itself" in words
    assert "End it now" not in words and "until the cluster has it again" in text(admin.get("admin"))
    with app.client("admin-token") as program:
        answer = program.put("nodes/gpu-a/outages", json={"items": []}).json()
    assert [(one["reason"], one["automatic"]) for one in answer["items"]] == [(CORDONED, True)]


def test_programs_get_the_cluster_beside_the_catalog(app: RunningApp):
    with app.client("admin-token") as admin:
        empty = admin.get("cluster").json()
        assert (empty["kubernetes"], empty["nodes"], empty["foreign_pods"]) == (False, [], None)
        seen(app, foreign=(Foreigner("research", "train", "gpu-a", "nvidia.com/gpu", 2, NOW, 0),))
        body = admin.get("cluster").json()
        outage = admin.get("nodes").json()["items"][0]
    assert [(one["name"], one["in_catalog"], one["cordoned"]) for one in body["nodes"]] == [
        ("gpu-a", True, False), ("gpu-b", True, True), ("gpu-z", False, False),
    ]  # fmt: skip
    assert body["nodes"][0]["units"] == [{"resource": "nvidia.com/gpu", "catalog": 4, "cluster": 3}]
    assert body["nodes"][0]["differences"][0]["wrong"] and body["foreign_pods"][0]["name"] == "train"
    assert outage["units"][0]["listed"] == 4 and outage["units"][0]["why"] == ""


def test_maintenance_says_whom_it_would_hit_before_anything_is_changed(app: RunningApp, admin: Visitor):
    moved = booked(app, start=NOW + DAY, units=2)
    waits = booked(app, ben, start=NOW + DAY, units=4)
    asked = "start=2027-01-16T07:00&end=2027-01-16T12:00&reason=new+driver&bookings=move"
    words = text(admin.get(f"admin/machines/gpu-a?{asked}"))
    assert "ben 4 × A100 tomorrow 08:00 – 09:00 loses its place and waits for another" in words
    assert "Nothing is changed yet" in words
    assert changes.get(app.site, waits.id) == waits and changes.get(app.site, moved.id) == moved
    assert not outages.get(app.site, "gpu-a", now=app.now).outages
    words = text(admin.press("admin/machines/gpu-a"))
    assert "Saved." in words and "from tomorrow 07:00 until tomorrow 12:00 new driver" in words
    assert changes.get(app.site, waits.id).waiting_reason == "capacity_lost"
    words = text(admin.get("admin"))
    assert "from tomorrow 07:00 until tomorrow 12:00 new driver" in words


def test_a_drain_lasts_until_somebody_ends_it(app: RunningApp, admin: Visitor):
    running = booked(app, ben, units=4, hours=2)
    words = text(admin.get("admin/machines/gpu-a?bookings=move&start=&end=&reason="))
    assert "goes on; ben is told" in words
    admin.press("admin/machines/gpu-a")
    assert "until somebody ends it" in text(admin.answer.text)
    assert changes.get(app.site, running.id) == running
    app.now += MINUTE
    admin.get("admin/machines/gpu-a")
    assert "takes bookings" in text(admin.press("admin/machines/gpu-a"))
    assert not outages.get(app.site, "gpu-a", now=app.now + 1).outages


def test_a_preview_that_was_overtaken_is_shown_anew(app: RunningApp, admin: Visitor):
    admin.get("admin/machines/gpu-a?bookings=move&start=&end=&reason=mine")
    sent = form(admin, "admin/machines/gpu-a")
    outages.set_outages(
        app.site, "gpu-a", [outages.Wanted(NOW + DAY, NOW + 2 * DAY, "theirs")], actor=root, now=app.now
    )
    admin.post(f"{PREFIX}admin/machines/gpu-a", sent)
    assert admin.answer.status_code == 412
    assert [one.reason for one in outages.get(app.site, "gpu-a", now=app.now).outages] == ["theirs"]


@pytest.mark.parametrize("query", ["start=soon", "end=2020-01-01T00:00", "reason=%E2%80%AE", "reason=" + "x" * 300])
def test_nonsense_about_maintenance_is_refused(app: RunningApp, admin: Visitor, query: str):
    admin.get(f"admin/machines/gpu-a?bookings=move&{query}")
    assert admin.answer.status_code == 400
    admin.get("admin/machines/nowhere")
    assert admin.answer.status_code == 404


# -- bookings -----------------------------------------------------------------------------------------------------


def test_anybodys_bookings_are_found_by_owner_node_state_and_time(app: RunningApp, admin: Visitor):
    booked(app, ann, title="one", units=4)
    booked(app, ben, title="two", units=2)
    booked(app, ben, title="three", start=NOW + DAY)
    gone = booked(app, ben, title="four", start=NOW + 2 * DAY)
    changes.cancel(app.site, gone.id, actor=ben, now=app.now)
    for query, expected in {
        "": ["one", "two", "three", "four"], "owner=ann": ["one"], "node=gpu-a": ["one"], "state=booked": ["three"],
        "state=ended": ["four"], f"start={to_iso(NOW + DAY)}": ["three", "four"], "owner=nobody": [],
        "owner=ben&state=active": ["two"], "end=2027-01-15T12:00": ["one", "two"],
    }.items():  # fmt: skip
        words = text(admin.get(f"admin/bookings?{query}"))
        assert [title for title in ("one", "two", "three", "four") if f"A100 {title} " in words] == expected, query
    for query in ("state=odd", "start=soon", "cursor=x", "end=2020-01-01T00:00"):
        admin.get(f"admin/bookings?{query}")
        assert admin.answer.status_code == 400, query


def test_an_admin_books_for_somebody(app: RunningApp, admin: Visitor):
    words = text(admin.get("book?owner=ben&duration=1h"))
    assert "from now until 09:00 , for ben" in words
    words = text(admin.press("book"))
    assert "Booked : A100 of ben" in words and "Everybody's bookings" in words
    assert "There is no user 'nobody'" in text(admin.get("book?owner=nobody"))


def test_whoever_may_not_books_for_nobody_else(visit: Callable[..., Visitor]):
    ann_ = visit()
    assert "for ben" not in text(ann_.get("book?owner=ben&duration=1h"))
    ann_.post(PREFIX + "book", {"profile": "gpu", "duration": "1h", "owner": "ben"})
    assert ann_.answer.status_code == 403


def test_an_admin_who_takes_something_away_says_why(app: RunningApp, admin: Visitor, visit: Callable[..., Visitor]):
    found = booked(app, ann, start=NOW + DAY)
    admin.get(f"bookings/{found.id}")
    sent = form(admin, f"bookings/{found.id}/cancel")
    admin.post(f"{PREFIX}bookings/{found.id}/cancel", sent | {"message": "the air conditioning is broken"})
    assert admin.answer.status_code == 200
    words = text(visit().get(f"bookings/{found.id}"))
    assert "cancelled by root the air conditioning is broken" in words


def test_an_admin_who_moves_something_says_why(app: RunningApp, admin: Visitor, visit: Callable[..., Visitor]):
    found = booked(app, ann, start=NOW + DAY)
    admin.get(f"bookings/{found.id}")
    sent = form(admin, f"bookings/{found.id}/change")
    admin.post(f"{PREFIX}bookings/{found.id}/change", sent | {"end": "2027-01-16T08:30", "message": "a class"})
    assert "changed by root : tomorrow 08:00 – 08:30 on gpu-b a class" in text(visit().get(f"bookings/{found.id}"))


# -- people and limits --------------------------------------------------------------------------------------------


def test_limits_are_set_shown_beside_what_is_used_and_taken_back(app: RunningApp, admin: Visitor):
    booked(app, ann, units=2, hours=3)
    admin.get("admin/limits?kind=user&name=ann")
    sent = form(admin, "admin/limits")
    words = text(
        admin.post(PREFIX + "admin/limits", sent | {"units_at_once": "2", "hours_per_week": "40", "ahead": "14d"})
    )
    assert "Saved." in words and "2 of 2 full 6 of 40 h" in words and "How far ahead: 14d" in words
    admin.get("admin/limits?name=user:ann")
    assert form(admin, "admin/limits")["ahead"] == "14d"
    words = text(admin.press("admin/limits", value="reset"))
    assert "Saved." in words and "How far ahead" not in words


@pytest.mark.parametrize(
    "field", [{"units_at_once": "many"}, {"ahead": "soon"}, {"hours_per_week": "nan"}, {"name": "x"}]
)
def test_limits_that_make_no_sense_are_refused(app: RunningApp, admin: Visitor, field: dict[str, str]):
    admin.get("admin/limits?name=group:lab")
    admin.post(PREFIX + "admin/limits", form(admin, "admin/limits") | field)
    assert admin.answer.status_code == 400


# -- audit and health ---------------------------------------------------------------------------------------------


def test_the_audit_log_has_everything_and_finds_it(app: RunningApp, admin: Visitor):
    one = booked(app, ann, start=NOW + DAY)
    booked(app, ben, start=NOW + DAY)
    app.now += HOUR
    changes.change(app.site, one.id, Changes(title="x"), actor=root, now=app.now)
    for query, expected in {
        "": ["root changed", "ben booked", "ann booked"], "person=ann": ["root changed", "ann booked"],
        "action=booked": ["ben booked", "ann booked"], "person=root": ["root changed"],
        f"reservation={one.id}": ["root changed", "ann booked"], "start=2027-01-15T08:30": ["root changed"],
        "end=2027-01-15T08:30": ["ben booked", "ann booked"], "person=nobody": [],
    }.items():  # fmt: skip
        words = text(admin.get(f"admin/audit?{query}"))
        places = sorted((words.find(line), line) for line in ("root changed", "ben booked", "ann booked"))
        assert [line for at, line in places if at >= 0] == expected, query
    for query in ("start=soon", "cursor=x", "reservation=%2e%2e"):
        admin.get(f"admin/audit?{query}")
        assert admin.answer.status_code == 400, query


def test_every_line_is_on_one_page_and_none_on_two(app: RunningApp):
    for number in range(7):
        booked(app, (ann, ben)[number % 2], start=NOW + DAY * (number + 1))
    for wanted in (history.Filter(), history.Filter(person="ann"), history.Filter(action="booked", start=NOW)):
        whole, _ = history.audit(app.site.engine, wanted, limit=50)
        cursor, paged = None, []
        while True:
            page, cursor = history.audit(app.site.engine, wanted, limit=2, cursor=cursor)
            paged += page
            if cursor is None:
                break
        assert paged == whole and len(whole) >= 4


def test_a_spreadsheet_runs_nothing_that_somebody_wrote(app: RunningApp, admin: Visitor):
    booked(app, ann, title='=HYPERLINK("http://x")')
    found = changes.change(
        app.site, booked(app, ann, start=NOW + DAY).id, Changes(title="@SUM(A1)\N{BOM}"), actor=ann, now=app.now
    )
    admin.get("admin/audit.csv?person=ann")
    assert admin.answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert "attachment" in admin.answer.headers["Content-Disposition"]
    header, *rows = csv.reader(io.StringIO(admin.answer.content.decode("utf-8-sig")))
    assert header[:4] == ["id", "at", "actor", "action"] and len(rows) == 3
    assert all(not cell.startswith(("=", "+", "-", "@")) for row in rows for cell in row)
    assert rows[0][5] == found.id
    with app.client("admin-token", Accept="text/csv") as http:
        assert http.get("audit", params={"person": "ann"}).text == admin.answer.text


def test_health_says_what_failed_and_who_lost_a_place(app: RunningApp, admin: Visitor):
    lost = booked(app, ben, start=NOW + DAY, units=4)
    outages.set_outages(app.site, "gpu-a", [outages.Wanted()], actor=root, now=app.now)
    words = text(admin.get("admin/health"))
    assert f"booking {lost.id} of ben lost its place and waits for another" in words
    assert "Clock has not ticked yet" in words


@pytest.mark.parametrize(("answers", "said"), [(True, "answers"), (False, "does not answer")])
def test_health_says_whether_the_cluster_answers_and_nothing_of_what_nobody_looks_at_there(
    app: RunningApp, admin: Visitor, answers: bool, said: str
):
    app.context.state = lambda: State(cluster=answers)
    words = text(admin.get("admin/health"))
    assert f"Kubernetes cluster {said}" in words
    assert "Idle bookings" not in words and "Processes of nobody's booking" not in words
    with app.client(None) as nobody:
        health = nobody.get("health").json()
    assert health["cluster"] is answers and health["status"] == ("ok" if answers else "degraded")


def test_health_says_what_is_wrong_with_a_catalog_that_is_not_used(app: RunningApp, admin: Visitor):
    app.context.state = lambda: State(catalog=("profiles.yaml:3: there is no resource 'gppu'",))
    assert "profiles.yaml:3: there is no resource 'gppu'" in text(admin.get("admin/health"))


# -- what others write --------------------------------------------------------------------------------------------


def test_what_people_write_is_never_markup(app: RunningApp, admin: Visitor):
    found = booked(app, title=HOSTILE, start=NOW + DAY, units=4)
    changes.change(app.site, found.id, Changes(title=HOSTILE), actor=ann, now=app.now)
    outages.set_outages(app.site, "gpu-a", [outages.Wanted(reason=HOSTILE)], actor=root, now=app.now)
    admin.post(PREFIX + "admin/limits", {"name": f"group:{HOSTILE}", "units_at_once": "4"})
    shown = 0
    for path in [
        *PAGES, f"bookings/{found.id}", "admin/limits?kind=user&name=%3Cscript%3Ealert(1)%3C/script%3E",
        "admin/bookings?owner=%3Cscript%3Ealert(1)%3C/script%3E",
        "admin/audit?person=%3Cscript%3Ealert(1)%3C/script%3E",
        "admin/machines/gpu-b?bookings=move&reason=%3Cscript%3Ealert(1)%3C/script%3E",
    ]:  # fmt: skip
        page = admin.get(path)
        assert admin.answer.status_code == 200, path
        main = page[page.index("<main") : page.index("</main>")]
        assert "<script" not in main and " style=" not in main, path
        assert EVALUATED not in text(main).replace(HOSTILE, ""), path
        shown += HOSTILE in text(main)
    assert shown >= 5
