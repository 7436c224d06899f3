"""Usage over HTTP: who sees what, and tables that no spreadsheet takes for a program."""

from __future__ import annotations

import csv
import io
import re

import httpx
import pytest
from sqlalchemy import insert

from mlmp_spawner.operations.intruders import Intruder
from mlmp_spawner.operations.sampling import STEP, BookingUse
from mlmp_spawner.operations.watch import Activity, Unit
from mlmp_spawner.store.tables import use
from mlmp_spawner.store.transaction import transaction
from mlmp_spawner.units import HOUR, to_iso
from mlmp_spawner.web.csv_text import csv_text, harmless
from tests.operations.conftest import NOW
from tests.web.harness import RunningApp

BEGIN = NOW - NOW % STEP + STEP
WINDOW = {"from": to_iso(BEGIN), "to": to_iso(BEGIN + 4 * HOUR)}


@pytest.fixture
def used(app: RunningApp, ann: httpx.Client, ben: httpx.Client) -> dict[str, str]:
    """Ann has two units for two hours, of which one was used; ben one unit for an hour, not started."""
    app.now = BEGIN
    anns = ann.post("reservations", json={"profile": "gpu", "duration": "2h", "units": 2, "node": "gpu-a"}).json()[
        "id"
    ]
    bens = ben.post("reservations", json={"profile": "gpu", "duration": "1h", "node": "gpu-b"}).json()["id"]
    rows = [{"reservation": anns, "at": BEGIN + n * STEP, "node": "gpu-a", "watched": 2 * STEP, "busy": STEP,
             "cpu": 0, "memory": 0} for n in range(12)]  # fmt: skip
    with transaction(app.site.engine) as connection:
        connection.execute(insert(use), rows)
    app.now = BEGIN + 4 * HOUR
    return {"ann": anns, "ben": bens}


def table(answer: httpx.Response) -> list[list[str]]:
    assert answer.headers["Content-Type"].startswith("text/csv")
    return list(csv.reader(io.StringIO(answer.content.decode("utf-8-sig"))))


def test_an_admin_sees_everybody(used: dict[str, str], admin: httpx.Client):
    body = admin.get("usage", params=WINDOW).json()
    ann = {"name": "ann", "booked": 4, "used": 1, "idle": 1, "not_started": 2, "jobs": 0}
    ben = {"name": "ben", "booked": 1, "used": 0, "idle": 0, "not_started": 1, "jobs": 0}
    assert body["items"] == [ann, ben]
    assert body["total"] == body["house"] == {"booked": 5, "used": 1, "idle": 1, "not_started": 3, "jobs": 0}
    assert (body["capacity"], body["utilisation"], body["mine"]) == (24, round(5 / 24, 4), False)
    assert sum(day["booked"] for day in body["days"]) == 5


@pytest.mark.parametrize(
    ("by", "names"), [("node", ["gpu-a", "gpu-b"]), ("profile", ["gpu"]), ("group", [None, "lab"])]
)
def test_by_node_profile_and_the_hubs_groups(
    used: dict[str, str], admin: httpx.Client, by: str, names: list[str | None]
):
    assert [row["name"] for row in admin.get("usage", params={**WINDOW, "by": by}).json()["items"]] == names


@pytest.mark.parametrize(("by", "names"), [("user", ["ben"]), ("node", ["gpu-b"]), ("group", ["lab"])])
def test_others_see_their_own_and_the_houses_sum(used: dict[str, str], ben: httpx.Client, by: str, names: list[str]):
    body = ben.get("usage", params={**WINDOW, "by": by}).json()
    assert [row["name"] for row in body["items"]] == names
    assert body["mine"] and body["total"]["booked"] == 1 and body["house"]["booked"] == 5
    assert sum(day["booked"] for day in body["days"]) == 1
    assert "ann" not in str(body)


def test_where_owners_are_not_shown_the_sum_of_others_is_not_either(used: dict[str, str], app: RunningApp):
    app.context.settings = type(app.settings)(rate=0, show_owners=False)
    with app.client("ben-token") as ben:
        body = ben.get("usage", params=WINDOW).json()
    assert (body["house"], body["capacity"], body["utilisation"]) == (None, None, None)


def test_as_a_table_by_the_header_or_by_the_address(used: dict[str, str], admin: httpx.Client):
    expected = [
        ["user", "booked_hours", "used_hours", "idle_hours", "not_started_hours", "jobs_hours"],
        ["ann", "4.0", "1.0", "1.0", "2.0", "0.0"],
        ["ben", "1.0", "0.0", "0.0", "1.0", "0.0"],
    ]
    by_header = admin.get("usage", params=WINDOW, headers={"Accept": "text/csv"})
    assert table(by_header) == expected
    assert by_header.headers["Content-Disposition"].startswith('attachment; filename="usage-by-user-')
    assert table(admin.get("usage", params={**WINDOW, "format": "csv"}, headers={"Accept": "*/*"})) == expected
    for accept in ("text/csv;q=0.5, application/json", "*/*", "text/html", "text/csv;q=nonsense;q=0"):
        assert "items" in admin.get("usage", params=WINDOW, headers={"Accept": accept}).json(), accept


FORMULAS = [
    "=1+1",
    "+1",
    "-1",
    "@A1",
    "\t=1",
    "\r=1",
    "\n=1",
    "  =1",
    '=cmd|"/C calc"!A0',
    "\uff1d1+1",
    "\xa0=1",
    "\u2003@x",
]


@pytest.mark.parametrize("name", FORMULAS)
def test_no_name_is_a_formula(name: str):
    text = csv_text(["a", "b"], [["x", name]]).decode("utf-8-sig")
    _, (_, cell) = csv.reader(io.StringIO(text, newline=""))
    assert cell == f"'{name}"


@pytest.mark.parametrize("name", ["ann", 'a"b', "a,b;c", "a\r\nb", "O'Neil", "1-2", ""])
def test_other_names_stay_as_they_are_and_one_cell(name: str):
    assert harmless(name) == name
    text = csv_text(["a", "b"], [[name, 1.5]]).decode("utf-8-sig")
    assert list(csv.reader(io.StringIO(text, newline="")))[1] == [name, "1.5"]


@pytest.mark.parametrize(
    "query",
    [{"by": "owner"}, {"from": "yesterday"}, {"zone": "Mars/Base"}, {"resource": "gold"}, {"format": "xml"},
     {"from": to_iso(BEGIN - 500 * 24 * HOUR)}, {"from": WINDOW["to"], "to": WINDOW["from"]}, {"begin": WINDOW["to"]}],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(still: RunningApp, query: dict[str, str]):
    with still.client() as ann:
        assert ann.get("usage", params=query).status_code == 400


def test_what_is_to_come_is_empty(ann: httpx.Client):
    body = ann.get("usage", params={"from": to_iso(NOW + HOUR), "to": to_iso(NOW + 2 * HOUR)}).json()
    assert body["items"] == body["days"] == [] and body["start"] == body["end"]


def test_what_goes_on_now(app: RunningApp, admin: httpx.Client):
    assert admin.get("activity").json()["at"] is None
    intruder = Intruder("77:1:boot", "eve", "python", "python train.py", ("GPU-1",), NOW, server_id="eves")
    booking = BookingUse("anns", "ann", "anns", 1, 1, True, 0.5, 1 << 30, None, (("gpu-a", "GPU-0"),))
    unit = Unit("GPU-0", "gpu-a", "nvidia.com/gpu", "A100", False, 40.0, 5, "anns", "ann")
    seen = Activity(NOW, (unit,), (booking,), (intruder,), True, True, {"eves": "eve"})
    app.context.activity = lambda: seen
    body = admin.get("activity").json()
    assert body["units"][0]["utilisation"] == 40 and body["bookings"][0]["busy"] == 1
    assert body["intruders"][0]["owner"] == "eve" and body["intruders"][0]["pid"] == 77
    app.context.metrics.use(seen)
    with app.client(None) as anybody:
        text = anybody.get("metrics").text
    assert 'mlmp_units{state="busy"} 1.0' in text and "mlmp_intruders 1.0" in text
    assert not re.search(r"\b(ann|anns|eve|eves)\b", text)
