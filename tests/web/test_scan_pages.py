"""The pages of scans: the best marked, sorted by any column, drawn as lines."""

from __future__ import annotations

from contextlib import ExitStack
from urllib.parse import parse_qs

import httpx
import pytest

from mlmp_spawner.lab.pscan.pattern import compile_pattern
from mlmp_spawner.web.api.job_code import one_of
from mlmp_spawner.web.api.job_logs import NUMBERS
from mlmp_spawner.web.scan_views import ShownRow, plot, pscan_query, sorted_rows
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
        "50.0,30.0 450.0,250.0 850.0,30.0", "50.0,250.0 450.0,30.0 850.0,250.0"
    ]  # fmt: skip
    assert found.left_out == 1
    assert plot(["lr"], [row(0, 1), row(1, 2)]).lines == ()


@pytest.mark.parametrize(
    ("out", "query"),
    [
        ("runs/lr={lr}/bs={bs}", {"root": ["~/runs"], "pattern": ["lr={lr}/bs={bs}/{file}"]}),
        ("{lr}", {"root": ["~"], "pattern": ["{lr}/{file}"]}),
        ("a/b/x-{lr}-{id}/{name}/{lr}", {"root": ["~/a/b"], "pattern": ["x-{lr}-*/*/*/{file}"]}),
        ("runs/{weight-decay}", {"root": ["~/runs"]}),
        ("runs/{file}", {"root": ["~/runs"], "pattern": ["{file}/*"]}),
        ("runs/x", {}),
        (None, {}),
    ],
)
def test_pscan_is_told_the_directories_of_the_rows(out: str | None, query: dict[str, list[str]]):
    found = pscan_query(out, ["lr", "bs", "weight-decay", "file"])
    assert parse_qs(found) == query
    if "pattern" in query:
        compile_pattern(query["pattern"][0])


def test_results_are_browsed_and_downloaded_by_their_owner(app: RunningApp, ann: httpx.Client):
    body = {"manifest": SLEEP, "parameters": {"lr": [0.1, 0.01]}, "out": "runs/{lr}"}
    page = f"{app.url}{PREFIX}scans/{ann.post('scans', json=body).json()['id']}"
    with app.client("ann-token", Accept="text/html") as browser:
        assert (
            'href="/hub/user-redirect/pscan?root=~%2Fruns&amp;pattern=%7Blr%7D%2F%7Bfile%7D"' in browser.get(page).text
        )
        assert "results?format=csv" in browser.get(page).text
    with app.client("root-token", Accept="text/html") as browser:
        assert "user-redirect" not in browser.get(page).text


def test_a_page_that_must_not_read_more_just_now_is_there_without_numbers(app: RunningApp, ann: httpx.Client):
    made = ann.post("scans", json={"manifest": SLEEP, "parameters": {"lr": [0.1]}}).json()["id"]
    assert app.context.jobs
    with app.client("ann-token", Accept="text/html") as browser, ExitStack() as crowd:
        for _ in range(NUMBERS):
            crowd.enter_context(one_of(app.context.jobs, "numbers of ann", NUMBERS))
        answer = browser.get(f"{app.url}{PREFIX}scans/{made}")
        assert answer.status_code == 200 and "it comes by itself" in answer.text


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
