"""What the commands ask the service, what they say, and with which status they end."""

from __future__ import annotations

import shlex
import subprocess
import sys
from datetime import datetime, timedelta

import pytest

from mlmp_spawner.client.when import local_zone
from mlmp_spawner.units import HOUR, MINUTE, from_iso, now, to_iso
from tests.client.answers import ID, at, catalog, me, reservation
from tests.client.conftest import CommandLine
from tests.client.standin import Answer, StandIn, problem

ONE = f"reservations/{ID}"


def wall(text: str) -> str:
    """The time of day of an instant, as this user's clocks show it."""
    return f"{datetime.fromtimestamp(from_iso(text) / 1000, local_zone()):%H:%M}"


# -- booking ------------------------------------------------------------------------------------------------------


def test_booking_asks_for_what_was_said(mlmp: CommandLine, server: StandIn) -> None:
    server.on["POST reservations"] = Answer(201, reservation())
    ran = mlmp("book", "-p", "gpu", "--for", "90m", "--units", "2", "--node", "box", "--title", "training",
               "--image", "lab")  # fmt: skip
    assert ran.status == 0, ran.err
    assert server.asked[0].body == {
        "profile": "gpu", "duration": "1h30m", "units": 2, "node": "box", "title": "training",
        "image": "lab",
    }  # fmt: skip
    assert "Booked 2 x gpu on box" in ran.out
    assert f"mlmp start {ID}" in ran.out


def test_booking_for_later_sends_an_instant_of_this_users_zone(mlmp: CommandLine, server: StandIn) -> None:
    server.on["POST reservations"] = Answer(201, reservation(state="booked"))
    assert mlmp("book", "-p", "gpu", "--start", "tomorrow 9:00").status == 0
    tomorrow = datetime.fromtimestamp(now() / 1000, local_zone()) + timedelta(days=1)
    sent = datetime.fromtimestamp(from_iso(server.asked[0].body["start"]) / 1000, local_zone())
    assert (sent.date(), sent.hour, sent.minute) == (tomorrow.date(), 9, 0)


def test_the_waiting_list_is_not_called_a_booking(mlmp: CommandLine, server: StandIn) -> None:
    waits = reservation(state="waiting", waiting_reason="requested", waitlist_position=2, allocations=[])
    server.on["POST reservations"] = Answer(202, waits)
    ran = mlmp("book", "-p", "gpu", "--waitlist")
    assert server.asked[0].body["waitlist"] is True
    assert ran.out.startswith("On the waitlist")


def test_json_is_the_answer_as_it_came(mlmp: CommandLine, server: StandIn) -> None:
    answer = reservation(brand_new={"x": 1})
    server.on["POST reservations"] = Answer(201, answer)
    assert mlmp("book", "-p", "gpu", "--json").json == answer


def test_a_refusal_says_what_is_possible_as_commands_that_work(mlmp: CommandLine, server: StandIn) -> None:
    later = {"profile": "gpu", "start": at(5 * HOUR), "end": at(9 * HOUR), "units": 2, "node": "box; rm -rf ~"}
    shorter = {"profile": "gpu", "duration": "2h"}
    offered = [{"kind": "later", "request": later}, {"kind": "shorter", "request": shorter}]
    server.on["POST reservations"] = problem(409, "no_capacity", "Only 1 of 4 is free.", alternatives=offered)
    ran = mlmp("book", "-p", "gpu", "--for", "4h")
    assert ran.status == 1
    assert "error: Only 1 of 4 is free." in ran.err
    commands = [shlex.split(line) for line in ran.err.splitlines() if line.startswith("    mlmp ")]
    server.on["POST reservations"] = Answer(201, reservation())
    for command in commands:
        assert mlmp(*command[1:]).status == 0
    sent = [asked.body for asked in server.asked[1:]]
    assert sent == [
        {"profile": "gpu", "start": later["start"], "duration": "4h", "units": 2, "node": "box; rm -rf ~"},
        {"profile": "gpu", "duration": "2h"},
    ]


def test_alternatives_that_a_newer_server_words_differently_are_left_out(mlmp: CommandLine, server: StandIn) -> None:
    odd = [{"kind": "x"}, "y", {"kind": "z", "request": {"profile": "gpu", "start": "soon"}}, None]
    server.on["POST reservations"] = problem(409, "no_capacity", "No.", alternatives=odd)
    ran = mlmp("book", "-p", "gpu")
    assert (ran.status, "Traceback" in ran.err) == (1, False)


def test_a_refusal_with_json_is_the_problem_document(mlmp: CommandLine, server: StandIn) -> None:
    limits = [{"limit": "hours_per_week", "allowed": 40, "used": 38, "asked": 4, "unit": "h"}]
    server.on["POST reservations"] = problem(403, "over_limit", "42 of 40 h.", limits=limits)
    ran = mlmp("book", "-p", "gpu", "--json")
    assert ran.status == 1
    assert (ran.json["code"], ran.json["detail"], ran.json["limits"]) == ("over_limit", "42 of 40 h.", limits)


@pytest.mark.parametrize(
    "arguments",
    [
        ("book",),
        ("book", "-p", "gpu", "--for", "long"),
        ("book", "-p", "gpu", "--for", "0.1s"),
        ("book", "-p", "gpu", "--units", "0"),
        ("book", "-p", "gpu", "--start", "soon"),
        ("extend", ID, "-1h"),
        ("no-such-command",),
        ("free", "--from", "tomorrow"),
    ],
)
def test_usage_ends_with_2_and_asks_nothing(mlmp: CommandLine, server: StandIn, arguments: tuple[str, ...]) -> None:
    ran = mlmp(*arguments)
    assert ran.status == 2
    assert ran.err
    assert server.asked == []


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (problem(400, "invalid", "No such profile."), 2),
        (problem(403, "over_limit", "Too much."), 1),
        (problem(404, "not_found", "No such booking."), 1),
        (problem(409, "not_now", "Not now."), 1),
        (problem(401, "not_signed_in", "Sign in."), 3),
        (problem(500, "error", "Our side."), 3),
        (Answer(404, "<html>"), 3),
    ],
)
def test_the_exit_status_says_which_kind_of_no_it_is(
    mlmp: CommandLine, server: StandIn, answer: Answer, status: int
) -> None:
    server.on[f"GET {ONE}"] = answer
    assert mlmp("show", ID).status == status


# -- changing -----------------------------------------------------------------------------------------------------


def test_extending_says_the_new_end(mlmp: CommandLine, server: StandIn) -> None:
    longer = reservation(end=at(4 * HOUR))
    server.on[f"GET {ONE}"] = Answer(200, reservation())
    server.on[f"POST {ONE}/extend"] = Answer(200, longer)
    ran = mlmp("extend", ID, "1h")
    assert server.asked[-1].body == {"duration": "1h"}
    assert wall(longer["end"]) in ran.out


def test_a_refused_extension_names_the_longest_one_as_a_command(mlmp: CommandLine, server: StandIn) -> None:
    found = reservation()
    longest = to_iso(from_iso(found["end"]) + 45 * MINUTE)
    server.on[f"GET {ONE}"] = Answer(200, found)
    server.on[f"POST {ONE}/extend"] = problem(409, "no_capacity", "By 45 min.", longest_end=longest)
    ran = mlmp("extend", ID, "2h")
    assert ran.status == 1
    assert f"mlmp extend {ID} 45m" in ran.err


def test_cancel_gives_back_just_what_was_seen(mlmp: CommandLine, server: StandIn) -> None:
    server.on[f"GET {ONE}"] = Answer(200, reservation(state="booked"))
    server.on[f"DELETE {ONE}"] = Answer(200, reservation(state="ended", end_reason="cancelled"))
    ran = mlmp("cancel", ID)
    assert (ran.status, ran.out) == (0, f"Cancelled: 2 x gpu on box ({ID}).\n")
    assert server.asked[-1].headers["if-match"] == '"1-abc"'


@pytest.mark.parametrize(
    ("command", "state", "other"), [("cancel", "active", "release"), ("release", "booked", "cancel")]
)
def test_cancel_and_release_do_not_stand_for_one_another(
    mlmp: CommandLine, server: StandIn, command: str, state: str, other: str
) -> None:
    server.on[f"GET {ONE}"] = Answer(200, reservation(state=state))
    ran = mlmp(command, ID)
    assert ran.status == 1
    assert f"mlmp {other} {ID}" in ran.err
    assert server.times("DELETE", ONE) == 0


def test_release_works_from_scripts_without_a_question(mlmp: CommandLine, server: StandIn) -> None:
    server.on[f"GET {ONE}"] = Answer(200, reservation(server_state="running"))
    server.on[f"DELETE {ONE}"] = Answer(200, reservation(state="ended", end_reason="released"))
    assert mlmp("release", ID).status == 0


# -- looking ------------------------------------------------------------------------------------------------------


def test_ls_lists_ones_own_bookings_that_are_not_over(mlmp: CommandLine, server: StandIn) -> None:
    items = [reservation(server_state="running"), reservation(id="b" * 16, state="ended")]
    server.on["GET me"] = Answer(200, me())
    server.on["GET reservations"] = Answer(200, {"items": items, "next_cursor": None})
    ran = mlmp("ls")
    assert server.asked[-1].query["owner"] == "ann"
    line = next(line for line in ran.out.splitlines() if ID in line)
    assert "● running" in line
    assert wall(items[0]["end"]) in line
    assert "left" in line
    assert "b" * 16 not in ran.out
    assert "times in " in ran.out


def test_ls_all_asks_for_everybodys(mlmp: CommandLine, server: StandIn) -> None:
    hidden = reservation(owner=None, title=None, server=None, mine=False)
    server.on["GET reservations"] = Answer(200, {"items": [hidden], "next_cursor": None})
    ran = mlmp("ls", "--all")
    assert "owner" not in server.asked[-1].query
    assert "(somebody)" in ran.out


def test_no_bookings_is_not_an_empty_table(mlmp: CommandLine, server: StandIn) -> None:
    server.on["GET me"] = Answer(200, me())
    server.on["GET reservations"] = Answer(200, {"items": [], "next_cursor": None})
    assert mlmp("ls").out == "You have no bookings. What is free: mlmp free\n"
    assert mlmp("ls", "--json").json == {"items": [], "next_cursor": None}


def test_free_says_how_many_until_when_and_from_when_for_that_long(mlmp: CommandLine, server: StandIn) -> None:
    steps = [
        {"start": at(0), "end": at(2 * HOUR), "free": 3},
        {"start": at(2 * HOUR), "end": at(9 * HOUR), "free": 1},
    ]
    node = {"node": "box", "capacity": 4, "steps": steps, "first_free": at(9 * HOUR)}
    server.on["GET catalog"] = Answer(200, catalog(simulated=True))
    server.on["GET availability"] = Answer(
        200,
        {"profile": "gpu", "units": 2, "start": at(0), "end": at(48 * HOUR), "nodes": [node], "first_free": None},
    )
    ran = mlmp("free", "--for", "4h", "--units", "2")
    line = next(line for line in ran.out.splitlines() if "box" in line)
    assert "gpu (simulated)" in line
    assert "3 of 4 until" in line
    assert wall(steps[0]["end"]) in line
    assert wall(node["first_free"]) in line
    asked = server.asked[-1].query if server.asked[-1].path == "availability" else server.asked[-2].query
    assert (asked["duration"], asked["units"]) == ("4h", "2")


def test_free_of_an_unknown_profile_names_the_known_ones(mlmp: CommandLine, server: StandIn) -> None:
    server.on["GET catalog"] = Answer(200, catalog("gpu", "cpu"))
    ran = mlmp("free", "--profile", "tpu")
    assert ran.status == 2
    assert "gpu, cpu" in ran.err


def test_show_tells_the_booking_and_its_history(mlmp: CommandLine, server: StandIn) -> None:
    lines = [{"at": at(-HOUR), "actor": "ann", "action": "booked", "details": {"units": 2}}]
    server.on[f"GET {ONE}"] = Answer(200, reservation(title="training", url="/user/ann/", server_state="running"))
    server.on[f"GET {ONE}/history"] = Answer(200, {"items": lines, "next_cursor": None})
    ran = mlmp("show", ID)
    assert "training" in ran.out
    assert f"{server.url}user/ann/" in ran.out
    assert "units 2" in ran.out
    assert mlmp("show", ID, "--json").json["history"] == lines


# -- servers ------------------------------------------------------------------------------------------------------


def test_start_waits_until_the_server_is_there(mlmp: CommandLine, server: StandIn) -> None:
    starting = reservation(server_state="starting")
    server.on[f"POST {ONE}/start"] = Answer(202, starting)
    running = reservation(server_state="running", url="/user/ann/")
    server.on[f"GET {ONE}"] = [Answer(200, starting), Answer(200, running)]
    ran = mlmp("start", ID)
    assert ran.status == 0, ran.err
    assert f"{server.url}user/ann/" in ran.out


def test_a_start_that_is_refused_says_why(mlmp: CommandLine, server: StandIn) -> None:
    server.on[f"POST {ONE}/start"] = problem(409, "not_now", "The booking begins in 2 h.")
    ran = mlmp("start", ID)
    assert (ran.status, ran.err) == (1, "error: The booking begins in 2 h.\n")


def test_stop_keeps_the_booking_and_says_so(mlmp: CommandLine, server: StandIn) -> None:
    server.on[f"POST {ONE}/stop"] = Answer(202, reservation(server_state="none"))
    ran = mlmp("stop", ID)
    assert ran.status == 0
    assert f"mlmp release {ID}" in ran.out


def test_open_prints_the_address_where_there_is_no_browser(mlmp: CommandLine, server: StandIn) -> None:
    mlmp.environment |= {"DISPLAY": None, "WAYLAND_DISPLAY": None, "BROWSER": None}
    server.on[f"GET {ONE}"] = Answer(200, reservation(server_state="running", url="/user/ann/"))
    assert mlmp("open", ID).out == f"{server.url}user/ann/\n"


def test_open_without_a_server_says_how_to_start_it(mlmp: CommandLine, server: StandIn) -> None:
    server.on[f"GET {ONE}"] = Answer(200, reservation())
    ran = mlmp("open", ID)
    assert ran.status == 1
    assert f"mlmp start {ID}" in ran.err


# -- hostile text, colour, help -----------------------------------------------------------------------------------

HOSTILE = "\x1b]0;owned\x07\x1b[2J[bold red]x[/]\u202egnp\x9b31m\r\n"


def test_nothing_from_the_server_steers_the_terminal(mlmp: CommandLine, server: StandIn) -> None:
    nasty = reservation(
        owner=HOSTILE, title=HOSTILE, profile=HOSTILE, mine=False, etag=None, end_reason=HOSTILE,
        allocations=[{"node": HOSTILE, "resource": "r", "units": 1}],
    )  # fmt: skip
    history = {"items": [{"at": at(0), "actor": HOSTILE, "action": HOSTILE, "details": {HOSTILE: HOSTILE}}]}
    server.on["GET me"] = Answer(200, me(name=HOSTILE, groups=[HOSTILE], limits={HOSTILE: HOSTILE}))
    server.on["GET catalog"] = Answer(200, catalog(HOSTILE))
    server.on["GET reservations"] = Answer(200, {"items": [nasty], "next_cursor": None})
    server.on[f"GET {ONE}"] = Answer(200, {**nasty, "mine": True})
    server.on[f"GET {ONE}/history"] = Answer(200, history)
    offered = [{"kind": "later", "request": {"profile": HOSTILE, "duration": HOSTILE, "node": HOSTILE}}]
    server.on["POST reservations"] = problem(409, "no_capacity", HOSTILE, hint=HOSTILE, alternatives=offered)
    for arguments in (("whoami",), ("ls", "--all"), ("show", ID), ("book", "-p", "x"), ("open", ID), ("free",)):
        for extra in ((), ("--json",)):
            ran = mlmp(*arguments, *extra)
            assert not set("\x1b\x07\x9b\r\u202e") & set(ran.out + ran.err), arguments
    assert "[bold red]x[/]" in mlmp("ls", "--all").out


def test_a_pipe_gets_neither_colour_nor_folded_lines(mlmp: CommandLine, server: StandIn) -> None:
    server.on["GET me"] = Answer(200, me())
    server.on["GET reservations"] = Answer(200, {"items": [reservation(title="t" * 60)], "next_cursor": None})
    ran = mlmp("ls")
    assert "\x1b" not in ran.out
    assert len([line for line in ran.out.splitlines() if "t" * 60 in line and ID in line]) == 1


def test_help_lists_every_command_without_importing_what_they_need() -> None:
    script = (
        "import sys; from click.testing import CliRunner; from mlmp_spawner.client.cli import cli\n"
        "result = CliRunner().invoke(cli, ['--help']); assert result.exit_code == 0, result.output\n"
        "print(result.output)\n"
        "heavy = {'httpx', 'rich', 'dateparser', 'sqlalchemy', 'jupyterhub', 'tornado', 'pydantic', 'yaml'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    for command in ("login", "free", "book", "release", "open", "up", "check", "db"):
        assert f"\n  {command} " in ran.stdout
    assert "\n  run " not in ran.stdout


def test_a_command_whose_extra_is_missing_says_how_to_install_it(nobody: CommandLine) -> None:
    script = (
        "import sys; sys.modules['sqlalchemy'] = sys.modules['jupyterhub'] = None\n"
        "sys.argv = ['mlmp', 'db', 'current']\n"
        "from mlmp_spawner.client.cli import main; main()"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 2
    assert "pip install 'mlmp-spawner[hub]'" in ran.stderr
    assert "Traceback" not in ran.stderr
