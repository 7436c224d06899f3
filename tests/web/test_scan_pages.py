"""The pages of scans: the best marked, sorted by any column, drawn as lines."""

from __future__ import annotations

import httpx

from mlmp_spawner.web.scan_views import ShownRow, plot, sorted_rows
from tests.web.harness import PREFIX, RunningApp
from tests.web.job_parts import SLEEP


def row(number: int, *cells: object) -> ShownRow:
    return ShownRow(number, None, "succeeded", cells, tuple(map(str, cells)))  # type: ignore[arg-type]


def test_rows_are_sorted_as_numbers_and_what_has_none_is_last():
    rows = [row(0, 10), row(1, None), row(2, 9.5)]
    assert [one.number for one in sorted_rows(rows, 0, down=False)] == [2, 0, 1]
    assert [one.number for one in sorted_rows(rows, 0, down=True)] == [0, 2, 1]


def test_the_plot_has_an_axis_for_each_column_and_a_line_for_each_whole_row():
    found = plot(["lr", "opt", "loss"], [row(0, 0.1, "a", 3), row(1, 1e-5, "b", 1), row(2, 0.1, True, None)])
    assert [axis.name for axis in found.axes] == ["lr", "opt", "loss"]
    assert [line.points for line in found.lines] == [
        "70.0,30.0 450.0,250.0 830.0,30.0", "70.0,250.0 450.0,30.0 830.0,250.0"
    ]  # fmt: skip
    assert found.left_out == 1
    assert plot(["lr"], [row(0, 1), row(1, 2)]).lines == ()


def test_a_person_sees_scans_and_cancels_one(app: RunningApp, ann: httpx.Client):
    page = f"{app.url}{PREFIX}scans"
    with app.client("ann-token", Accept="text/html") as browser:
        assert "You have no scans yet" in browser.get(page).text
        body = {"manifest": SLEEP, "parameters": {"lr": [0.1, 0.01]}, "name": "rates"}
        made = ann.post("scans", json=body).json()["id"]
        assert f'scans/{made}">rates' in browser.get(page).text
        one = browser.get(f"{page}/{made}?sort=0&down=1").text
        assert "2 queued" in one and "End this scan" in one and 'aria-sort="descending"' in one
        assert one.index('id="row-0"') < one.index('id="row-1"')
