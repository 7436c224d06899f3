"""The command line against the real service, on both databases."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlmp_spawner import units
from mlmp_spawner.operations import catalog_sync
from mlmp_spawner.operations.site import Site
from mlmp_spawner.units import HOUR, MINUTE, from_iso, to_iso
from tests.client.conftest import CommandLine, Ran
from tests.operations.conftest import site
from tests.web.harness import RunningApp

__all__ = ["site"]


@pytest.fixture
def app(site: Site) -> Iterator[RunningApp]:
    now = units.now()
    catalog_sync.sync(site, now=now)
    with RunningApp(site, now) as running:
        yield running


def of(app: RunningApp, name: str, home: Path) -> CommandLine:
    return CommandLine(
        {
            "XDG_CONFIG_HOME": str(home),
            "MLMP_URL": f"{app.url}/",
            "MLMP_TOKEN": f"{name}-token",
            "DISPLAY": None,
        }
    )


@pytest.fixture
def ann(app: RunningApp, tmp_path: Path) -> CommandLine:
    return of(app, "ann", tmp_path)


@pytest.fixture
def ben(app: RunningApp, tmp_path: Path) -> CommandLine:
    return of(app, "ben", tmp_path)


def done(ran: Ran) -> Ran:
    assert ran.status == 0, ran.err
    return ran


def test_a_booking_from_its_beginning_to_its_release(ann: CommandLine, app: RunningApp) -> None:
    booked = done(ann("book", "-p", "gpu", "--for", "2h", "--units", "2", "--json")).json
    assert booked["state"] == "active"
    assert booked["id"] in done(ann("ls")).out
    assert f"2 x gpu on {booked['allocations'][0]['node']}" in done(ann("show", booked["id"])).out

    extended = done(ann("extend", booked["id"], "30m", "--json")).json
    assert from_iso(extended["end"]) - from_iso(booked["end"]) == 30 * MINUTE

    assert ann("cancel", booked["id"]).status == 1
    assert done(ann("release", booked["id"], "--json")).json["state"] == "ended"
    assert booked["id"] not in done(ann("ls")).out
    assert "over already" in done(ann("release", booked["id"])).out


def test_a_booking_for_tomorrow_is_cancelled(ann: CommandLine) -> None:
    booked = done(ann("book", "-p", "gpu", "--for", "2h", "--start", "tomorrow 9:00", "--json")).json
    assert booked["state"] == "booked"
    assert done(ann("cancel", booked["id"], "--json")).json["end_reason"] == "cancelled"


def test_free_counts_down_as_others_book(ann: CommandLine, ben: CommandLine) -> None:
    assert done(ann("free", "--for", "1h")).out.count("4 of 4") == 1
    done(ben("book", "-p", "gpu", "--node", "gpu-a", "--units", "3", "--for", "4h"))
    line = next(line for line in done(ann("free", "--for", "1h", "--units", "2")).out.splitlines() if "gpu-a" in line)
    assert "1 of 4" in line


def test_each_alternative_of_a_refusal_is_a_command_that_books(ann: CommandLine, ben: CommandLine) -> None:
    done(ben("book", "-p", "gpu", "--node", "gpu-a", "--units", "3", "--for", "4h"))
    refused = ann("book", "-p", "gpu", "--units", "4", "--for", "2h")
    assert refused.status == 1
    commands = [shlex.split(line) for line in refused.err.splitlines() if line.startswith("    mlmp book")]
    assert commands
    for command in commands:
        id = done(ann(*command[1:], "--json")).json["id"]
        started = done(ann("show", id, "--json")).json["state"] == "active"
        done(ann("release" if started else "cancel", id))


def test_a_refused_extension_offers_one_that_works(ann: CommandLine, ben: CommandLine, app: RunningApp) -> None:
    first = done(ann("book", "-p", "gpu", "--node", "gpu-b", "--units", "2", "--for", "1h", "--json")).json
    start = units.to_iso(from_iso(first["end"]) + 30 * MINUTE)
    done(ben("book", "-p", "gpu", "--node", "gpu-b", "--units", "2", "--for", "1h", "--start", start))
    refused = ann("extend", first["id"], "2h")
    assert refused.status == 1
    command = next(shlex.split(line) for line in refused.err.splitlines() if line.startswith("    mlmp extend"))
    extended = done(ann(*command[1:], "--json")).json
    assert from_iso(extended["end"]) - from_iso(first["end"]) == 30 * MINUTE


def test_the_refusal_is_in_the_words_of_the_api(ann: CommandLine, app: RunningApp) -> None:
    with app.client("ann-token") as api:
        api_says = api.post("reservations", json={"profile": "gpu", "units": 4, "node": "gpu-b", "duration": "1h"})
    ran = ann("book", "-p", "gpu", "--units", "4", "--node", "gpu-b", "--for", "1h")
    assert f"error: {api_says.json()['detail']}\n" in ran.err
    assert ran.status == 1


def test_bookings_of_others_are_listed_but_not_changed(ann: CommandLine, ben: CommandLine) -> None:
    id = done(ben("book", "-p", "gpu", "--for", "1h", "--title", "secret plans", "--json")).json["id"]
    listed = done(ann("ls", "--all")).out
    assert id in listed
    assert "secret plans" not in listed
    assert "secret plans" not in done(ann("show", id)).out
    for arguments in (("release", id), ("extend", id, "1h"), ("start", id), ("stop", id)):
        assert ann(*arguments).status == 1


def test_start_and_stop_go_through_the_hub(ann: CommandLine, app: RunningApp) -> None:
    id = done(ann("book", "-p", "gpu", "--for", "1h", "--json")).json["id"]
    done(ann("start", id, "--no-wait"))
    done(ann("stop", id))
    assert app.hub.asked == [("start", "ann", ""), ("stop", "ann", "")]


def test_what_is_over_is_listed_on_request(ann: CommandLine, app: RunningApp) -> None:
    id = done(ann("book", "-p", "gpu", "--for", "1h", "--json")).json["id"]
    done(ann("release", id))
    assert id not in done(ann("ls")).out
    assert id in done(ann("ls", "--past")).out


def test_whoami_names_the_limits(ann: CommandLine) -> None:
    out = done(ann("whoami")).out
    assert out.startswith("ann on http://")
    assert "units at once" in out


@pytest.mark.parametrize("token", ["outsider", "nobody"])
def test_who_is_not_let_in_ends_with_3(app: RunningApp, tmp_path: Path, token: str) -> None:
    assert of(app, token, tmp_path)("ls").status == 3


def test_who_may_look_but_not_book_is_told_which_scope_is_missing(app: RunningApp, tmp_path: Path) -> None:
    reader = of(app, "reader", tmp_path)
    assert reader("free").status == 0
    ran = reader("book", "-p", "gpu", "--for", "1h")
    assert ran.status == 3
    assert "custom:mlmp:book" in ran.err


def test_an_unknown_profile_is_a_slip_of_usage(ann: CommandLine) -> None:
    ran = ann("book", "-p", "tpu", "--for", "1h")
    assert ran.status == 2
    assert "gpu" in ran.err


def test_a_listing_longer_than_a_page_is_whole(ann: CommandLine, app: RunningApp) -> None:
    with app.client("ann-token") as api:
        for number in range(103):
            start = units.to_iso(app.now + (1 + number) * HOUR)
            assert (
                api.post("reservations", json={"profile": "gpu", "start": start, "duration": "1h"}).status_code == 201
            )
    assert len(done(ann("ls", "--json")).json["items"]) == 103


def test_an_admin_sets_limits_and_whom_they_are_for_reads_them(app: RunningApp, ann: CommandLine, tmp_path: Path):
    admin = of(app, "admin", tmp_path)
    limits = ("hours_per_week=40", "max-duration=8h", "units_at_once=none")
    said = done(admin("limits", "set", "user:ann", *limits, "--json"))
    assert said.json["set"] == {"hours_per_week": 40, "max_duration": "8h", "units_at_once": None}
    added = done(admin("limits", "set", "user:ann", "ahead=14d", "max_duration=default", "--json")).json
    assert added["set"] == {"hours_per_week": 40, "units_at_once": None, "ahead": "14d"}
    assert "14d" in done(ann("limits", "user:ann")).out
    listed = done(ann("limits")).out
    assert "everybody" in listed and "set by root" in listed
    assert [one["name"] for one in done(ann("limits", "--json")).json["items"]] == ["everybody", "user:ann"]
    jobs = ("job_units=2", "open_jobs=none", "job_logs=5GiB")
    assert done(admin("limits", "set", "user:ann", *jobs, "--json")).json["set"] == added["set"] | {
        "job_units": 2, "open_jobs": None, "job_logs": "5GiB"}  # fmt: skip
    assert done(admin("limits", "set", "user:ann", "ahead=1d", "--only", "--json")).json["set"] == {"ahead": "1d"}
    refused = ann("book", "-p", "gpu", "--for", "1h", "--start", "in 3d")
    assert refused.status == 1 and "at most 24 h ahead" in refused.err
    assert done(admin("limits", "reset", "user:ann", "--json")).json["set"] is None
    assert ann("limits", "set", "user:ann", "ahead=30d").status == 3
    assert ann("limits", "user:ben").status == 1


@pytest.mark.parametrize("wrong", ["ahead", "ahead=soon", "hours=4", "units_at_once=many", "job_logs=5G"])
def test_limits_that_make_no_sense_are_refused_before_anything_is_asked(nobody: CommandLine, wrong: str) -> None:
    ran = nobody("limits", "set", "everybody", wrong)
    assert (ran.status == 2 and "valid" in ran.err) or "none (no limit)" in ran.err


def test_an_admin_plans_maintenance_sees_whom_it_hits_and_takes_it_back(
    app: RunningApp, ann: CommandLine, tmp_path: Path
) -> None:
    admin = of(app, "admin", tmp_path)
    booked = done(ann("book", "-p", "gpu", "--for", "4h", "--node", "gpu-a", "--json")).json
    plan = ("maintenance", "gpu-a", "--from", "in 1h", "--for", "2h", "--reason", "new driver")
    dry = done(admin(*plan, "--dry-run")).out
    assert "would be away" in dry and booked["id"] in dry and "goes on" in dry
    assert done(ann("maintenance", "gpu-a", "--json")).json["items"][0]["planned"] == []
    (hit,) = done(admin(*plan, "--json")).json["hits"]
    assert (hit["reservation"], hit["outcome"]) == (booked["id"], "kept")
    listed = done(ann("maintenance")).out
    assert "new driver" in listed and "gpu-b" in listed
    assert "takes bookings" in done(admin("maintenance", "gpu-a", "--clear")).out
    assert ann(*plan).status == 3, "only admins"


def test_a_drained_node_takes_no_bookings_until_it_is_undrained(
    app: RunningApp, ann: CommandLine, tmp_path: Path
) -> None:
    admin = of(app, "admin", tmp_path)
    assert "further notice" in done(admin("drain", "gpu-a", "--reason", "fan")).out
    ran = ann("book", "-p", "gpu", "--for", "1h", "--node", "gpu-a")
    assert ran.status == 1
    app.now += MINUTE
    assert "takes bookings" in done(admin("undrain", "gpu-a")).out
    assert ann("book", "-p", "gpu", "--for", "1h", "--node", "gpu-a").status == 0
    ran = admin("drain", "gpu-x")
    assert ran.status != 0 and "gpu-a, gpu-b" in ran.err
    assert admin("maintenance", "gpu-a", "--reason", "x").status == 2


def test_a_series_is_booked_and_cancelled_from_one_date_on(app: RunningApp, ann: CommandLine) -> None:
    ann.environment["TZ"] = "Europe/Zurich"
    asked = ("book", "-p", "gpu", "--for", "2h", "--start", "in 1d", "--rrule", "FREQ=DAILY;COUNT=4")
    said = done(ann(*asked))
    assert "4 bookings in all" in said.out
    rows = done(ann("ls", "--json")).json["items"]
    assert len(rows) == 4 and {row["series"] for row in rows} == {rows[0]["series"]}
    assert "Cancelled 2 bookings" in done(ann("cancel", rows[2]["id"], "--following")).out
    assert done(ann("cancel", rows[0]["id"], "--all", "--json")).json["cancelled"] == [rows[0]["id"], rows[1]["id"]]
    assert "no bookings" in done(ann("ls")).out


def test_the_command_that_a_refused_series_offers_books_it(
    app: RunningApp, ann: CommandLine, ben: CommandLine
) -> None:
    ann.environment["TZ"] = ben.environment["TZ"] = "Europe/Zurich"
    done(ben("book", "-p", "gpu", "--for", "3h", "--start", "in 47h", "--units", "4", "--node", "gpu-a"))
    asked = ("--for", "1h", "--start", "in 24h", "--units", "4", "--rrule", "FREQ=DAILY;COUNT=3")
    refused = ann("book", "-p", "gpu", *asked)
    assert refused.status == 1 and "On 1 of 3 dates" in refused.err
    offered = next(line for line in refused.err.splitlines() if "--except" in line)
    done(ann(*shlex.split(offered.strip())[1:]))


@pytest.mark.parametrize(
    "options",
    [("--until", "2026-12-18"), ("--repeat", "weekly"), ("--repeat", "daily", "--until", "Friday"),
     ("--repeat", "daily", "--rrule", "FREQ=DAILY;COUNT=2", "--until", "2026-12-18"), ("--except", "2026-12-18")],
)  # fmt: skip
def test_options_that_do_not_go_together_are_refused(nobody: CommandLine, options: tuple[str, ...]) -> None:
    ran = nobody("book", "-p", "gpu", *options)
    assert ran.status == 2 and "--" in ran.err


def test_what_was_used_with_bars_for_programs_and_for_spreadsheets(ann: CommandLine, app: RunningApp) -> None:
    begin = to_iso(app.now)
    done(ann("book", "-p", "gpu", "--for", "2h", "--units", "2"))
    app.now += HOUR
    end = to_iso(app.now)
    span = ("--from", begin, "--to", end)
    assert "Nothing was booked" in done(ann("usage", "--from", "2020-01-01T00:00Z", "--to", "2020-01-02T00:00Z")).out
    line = next(line for line in done(ann("usage", *span)).out.splitlines() if line.startswith("ann"))
    assert "░" * 30 in line and line.split()[-4:] == ["2.0", "0.0", "0.0", "2.0"]
    assert done(ann("usage", *span, "--by", "node", "--json")).json["total"]["booked"] == 2
    table = done(ann("usage", *span, "--by", "profile", "--csv")).out.splitlines()
    assert table[1] == '"gpu",2.0,0.0,0.0,2.0,0.0'
    assert ann("usage", *span, "--csv", "--json").status == 2
    assert ann("usage", "--from", end, "--to", begin).status == 2
