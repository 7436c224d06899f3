"""A server starts under a booking only, knows it, ends with it, and survives the hub."""

from __future__ import annotations

import html
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from mlmp_spawner import processes, units
from mlmp_spawner.spawners import local
from tests.live import Person, Site, wait_for

API = "/services/mlmp/api/v1"


def states(person: Person) -> dict[str, Any]:
    """The person's bookings by id."""
    items = person.api.get(f"{API}/reservations", params={"owner": person.name}).json()["items"]
    return {item["id"]: item for item in items}


def test_a_server_knows_its_booking(site: Site) -> None:
    ann = site.person("ann")
    booking = ann.book(120, units=2)
    assert ann.start(reservation=booking["id"]).status_code == 201
    environment = ann.environment()
    assert environment["MLMP_RESERVATION_ID"] == booking["id"]
    assert environment["MLMP_RESERVATION_ENDS_AT"] == booking["end"]
    assert environment["MLMP_NODE"] == booking["allocations"][0]["node"]
    assert environment["MLMP_PROFILE"] == "gpu"
    assert environment["MLMP_URL"] == site.url
    assert len(environment["CUDA_VISIBLE_DEVICES"].split(",")) == 2
    assert int(environment["OMP_NUM_THREADS"]) >= 1
    home = Path(environment["HOME"])
    assert home.stat().st_mode & 0o777 == 0o700
    assert not {"JUPYTERHUB_CRYPT_KEY", "CONFIGPROXY_AUTH_TOKEN", "MLMP_UP"} & set(environment)
    assert states(ann)[booking["id"]]["server_state"] == "running"
    assert ann.stop().status_code in (202, 204)
    wait_for(lambda: states(ann)[booking["id"]]["server_state"] == "none")
    ann.api.delete(f"{API}/reservations/{booking['id']}")


def test_two_servers_never_share_a_unit_and_one_without_gpus_sees_none(site: Site) -> None:
    people = [site.person(name) for name in ("two-a", "two-b")]
    seen = []
    for person in people:
        booking = person.book(60, units=2)
        assert person.start(reservation=booking["id"]).status_code == 201
        seen += person.environment()["CUDA_VISIBLE_DEVICES"].split(",")
    assert len(seen) == len(set(seen)) == 4
    third = site.person("two-c")
    third.book(60, profile="cpu")
    assert third.start().status_code == 201
    assert third.environment()["CUDA_VISIBLE_DEVICES"] == ""
    for person in (*people, third):
        person.stop()
        for booking_id in states(person):
            person.api.delete(f"{API}/reservations/{booking_id}")


def test_its_own_token_may_book_and_no_more(site: Site) -> None:
    person = site.person("tokened")
    person.book(60, profile="cpu")
    person.start()
    headers = {"Authorization": f"token {person.environment()['MLMP_TOKEN']}"}
    me = person.browser.get("/hub/api/user", headers=headers).json()
    allowed = {"access:servers!server=tokened/", "access:services!service=mlmp", "custom:mlmp:book"}
    activity = {"users:activity!user=tokened", "read:users:activity!user=tokened"}
    identity = {"read:users:groups!user=tokened", "read:users:name!user=tokened"}
    assert set(me["scopes"]) <= allowed | activity | identity
    assert allowed <= set(me["scopes"])
    person.stop()


def test_a_refusal_reads_the_same_in_form_progress_page_api_and_command_line(site: Site) -> None:
    ann, ben = site.person("refuser"), site.person("refused")
    booking = ann.book(120, units=3)
    asked = {"profile": "gpu", "units": 3, "duration": "10m"}
    said = ben.start(**asked)
    assert said.status_code == 409
    detail = said.json()["message"]
    booked = ben.api.post(f"{API}/reservations", json=asked)
    assert booked.status_code == 409
    assert booked.json()["detail"] == detail

    command = [sys.executable, "-m", "mlmp_spawner.client.cli", "book", "--profile", "gpu", "--units", "3",
               "--for", "10m"]  # fmt: skip
    signed_in = os.environ | {"MLMP_URL": site.url, "MLMP_TOKEN": ben.token, "COLUMNS": "300"}
    told = subprocess.run(command, env=signed_in, capture_output=True, text=True, timeout=60)
    assert told.returncode == 1
    assert detail in told.stdout + told.stderr

    form = ben.browser.get("/hub/spawn")
    action = html.unescape(form.text.partition('id="spawn_form" action="')[2].partition('"')[0])
    refused = ben.browser.post(action, data={"duration:gpu": "600s", "units:gpu": "3"})
    assert refused.status_code == 409
    assert html.escape(detail) in refused.text

    progress = ben.api.get(f"{ben.server_path()}/progress").text
    event = json.loads(progress.strip().removeprefix("data: ").splitlines()[0])
    assert event["failed"]
    assert event["message"] == f"Spawn failed: {detail}"
    page = ben.browser.get("/hub/spawn-pending/refused")
    assert html.escape(detail) in page.text
    ann.api.delete(f"{API}/reservations/{booking['id']}")


@pytest.mark.parametrize(
    "options",
    [
        {"profile": "<script>alert(1)</script>"},
        {"profile": "gpu", "units": 10**40},
        {"profile": "gpu", "node": "../x"},
        {"cmd": ["rm", "-rf", "/"]},
        {"reservation": "' OR 1=1 --"},
        {"reservation": "neverexisted"},
    ],
)
def test_nothing_starts_from_hostile_options(site: Site, options: dict[str, Any]) -> None:
    eve = site.person("eve")
    answer = eve.start(**options)
    assert 400 <= answer.status_code < 500, answer.text
    assert not [record for record in site.servers() if record.owner == "eve"]
    page = eve.browser.get("/hub/spawn-pending/eve")
    assert "<script>alert(1)" not in page.text


def test_nobody_starts_the_booking_of_another(site: Site) -> None:
    ann, eve = site.person("robbed"), site.person("robber")
    booking = ann.book(60)
    assert eve.start(reservation=booking["id"]).status_code == 404
    ann.api.delete(f"{API}/reservations/{booking['id']}")


def test_a_remembered_booking_that_is_over_starts_nothing(site: Site) -> None:
    person = site.person("forgetful")
    booking = person.book(60)
    assert person.start(reservation=booking["id"]).status_code == 201
    person.stop()
    person.api.delete(f"{API}/reservations/{booking['id']}")
    again = person.api.post(person.server_path())  # the hub remembers the options of the last start
    assert again.status_code == 409
    assert "over" in again.json()["message"]
    new = person.book(60)
    assert person.api.post(person.server_path()).status_code == 201
    assert person.environment()["MLMP_RESERVATION_ID"] == new["id"]
    person.stop()
    person.api.delete(f"{API}/reservations/{new['id']}")


@pytest.mark.parametrize("name", ["../x", "a/b", "x\ny", "a\u202eb", "n" * 300])
def test_names_that_could_mislead_do_not_get_in(site: Site, name: str) -> None:
    person = site.person(name)
    assert person.token == ""
    assert "/hub/login" in str(person.landed.url)


@pytest.mark.parametrize("name", ["ünï code@x.org", "n" * 255, "a b", "$(touch x)", "-rf", "'; drop table users; --"])
def test_any_other_name_has_a_home_of_its_own(site: Site, name: str) -> None:
    person = site.person(name)
    booking = person.book(60, profile="cpu")
    assert person.start().status_code == 201
    environment = person.environment()
    home = Path(environment["HOME"])
    assert home.parent == site.data / "homes"
    assert home.is_dir()
    assert environment["JUPYTERHUB_USER"] == name
    person.stop()
    person.api.delete(f"{API}/reservations/{booking['id']}")


def test_a_server_is_stopped_in_time_and_leaves_nothing(site: Site) -> None:
    site.stays.touch()
    try:
        stopped_in_time(site)
    finally:
        site.stays.unlink()


def stopped_in_time(site: Site) -> None:
    ann = site.person("timely")
    booking = ann.book(12)
    end, stops_at = units.from_iso(booking["end"]), units.from_iso(booking["stops_at"])
    assert ann.start().status_code == 201
    home = Path(ann.environment()["HOME"])
    start = json.loads((home / "starts.jsonl").read_text())
    wait_for(lambda: not any(record.owner == "timely" for record in site.servers()), 30)
    assert units.now() <= end + 1000
    stop = json.loads((home / "stops.jsonl").read_text())
    assert stops_at <= stop["at"] <= end
    assert processes.identity(start["left"]) is None
    wait_for(lambda: ann.servers() == {})
    next_one = site.person("after")
    wait_for(lambda: units.now() >= end)
    after = next_one.try_to_book(10, units=4)
    assert after.status_code == 201, after.text


@pytest.mark.faults
def test_a_restart_of_the_hub_ends_nobody_and_a_servers_token_still_ends_with_its_server(site: Site) -> None:
    ann = site.person("patient")
    booking = ann.book(120, profile="cpu")
    assert ann.start().status_code == 201
    pid = json.loads((Path(ann.environment()["HOME"]) / "starts.jsonl").read_text())["pid"]
    before = site.pid_of("hub")
    site.kill("hub")
    wait_for(lambda: site.pid_of("hub") not in (None, before))
    wait_for(lambda: healthy(ann), 60)
    wait_for(lambda: ann.servers().get("", {}).get("ready"), 30)
    assert ann.environment()["MLMP_RESERVATION_ID"] == booking["id"]
    assert processes.identity(pid) is not None
    token = {"Authorization": f"token {ann.environment()['MLMP_TOKEN']}"}
    assert httpx.get(f"{site.url}hub/api/user", headers=token).status_code == 200
    assert ann.stop().status_code in (202, 204)
    wait_for(lambda: processes.identity(pid) is None)
    wait_for(lambda: httpx.get(f"{site.url}hub/api/user", headers=token).status_code == 403, 20, "the token's end")
    ann.api.delete(f"{API}/reservations/{booking['id']}")


def healthy(person: Person) -> bool:
    """Whether the hub answers."""
    try:
        return person.api.get("/hub/api/").status_code == 200
    except (httpx.HTTPError, OSError):
        return False


@pytest.mark.faults
def test_a_hub_killed_in_the_middle_of_a_start_finds_the_server_again(tmp_path: Path) -> None:
    site = Site(tmp_path, lab=True, settings="c.MLMP.tick = 0.5")
    try:
        site.start()
        ann = site.person("ann")
        booking = ann.book(300)
        browser = ann.browser
        form = browser.get("/hub/spawn")
        action = html.unescape(form.text.partition('id="spawn_form" action="')[2].partition('"')[0])
        browser.post(action, data={"reservation": booking["id"]}, follow_redirects=False)
        wait_for(site.servers, 10)
        assert not ann.servers()[""]["ready"]
        site.kill("hub")
        wait_for(lambda: healthy(ann), 60)
        wait_for(lambda: ann.servers().get("", {}).get("ready"), 60)
        wait_for(lambda: ann.api.get("/user/ann/api/status").status_code == 200, 20, "its route")
        wait_for(lambda: states(ann)[booking["id"]]["server_state"] == "running", 20)
        (record,) = site.servers()
        assert record.id == booking["id"]
        assert ann.stop().status_code in (202, 204)
        wait_for(lambda: not site.servers())
    finally:
        site.close()


@pytest.mark.faults
def test_waits_visibly_for_a_former_server_that_hangs_and_ends_it(site: Site) -> None:
    """Back to back: the next one's start waits until the units are really free, and the hub looks after a `mlmp run`
    that somebody stopped."""
    ann, ben = site.person("first"), site.person("second")
    now = units.now()
    first = {"profile": "gpu", "units": 4, "start": units.to_iso(now), "end": units.to_iso(now + 9_000)}
    second = {"profile": "gpu", "units": 4, "start": first["end"], "end": units.to_iso(now + 60_000)}
    assert ann.api.post(f"{API}/reservations", json=first).status_code == 201
    booked = ben.api.post(f"{API}/reservations", json=second)
    assert booked.status_code == 201, booked.text
    assert ann.start().status_code == 201
    (record,) = [record for record in site.servers() if record.owner == "first"]
    assert processes.send(record.identity, signal.SIGSTOP)
    wait_for(lambda: units.now() >= now + 9_100, 12)
    assert processes.alive(record.identity)

    answers: list[httpx.Response] = []
    starting = threading.Thread(target=lambda: answers.append(ben.start(reservation=booked.json()["id"])))
    starting.start()
    wait_for(lambda: ben.servers().get("", {}).get("pending") == "spawn")
    with ben.api.stream("GET", f"{ben.server_path()}/progress") as stream:
        events = [json.loads(line.removeprefix("data: ")) for line in stream.iter_lines() if line.startswith("data:")]
    starting.join()
    assert answers[0].status_code in (201, 202), answers[0].text
    assert any(event["message"].startswith("Waiting for first's server to end.") for event in events)
    assert events[-1]["ready"]
    assert not processes.alive(record.identity)
    assert len(ben.environment()["CUDA_VISIBLE_DEVICES"].split(",")) == 4
    ben.stop()


def test_of_an_output_only_the_end_is_read_however_long_it_was_made(tmp_path: Path) -> None:
    path = tmp_path / "server.log"
    with path.open("wb") as file:
        file.truncate(1 << 38)  # what a server can do to its own output in no time
        file.seek(0, os.SEEK_END)
        file.write(b"\nport taken\nbye\n")
    assert local._last_lines(path)[-2:] == ["port taken", "bye"]
    path.write_text("short")
    assert local._last_lines(path) == ["short"]
