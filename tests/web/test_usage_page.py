"""The page of what was used: right numbers, drawn and in words, whole without a script."""

from __future__ import annotations

import re

import pytest

from mlmp_spawner.operations.admission import StartOptions, admit, started
from mlmp_spawner.operations.usage import Day, Spent
from mlmp_spawner.units import DAY, HOUR
from mlmp_spawner.web import plots
from mlmp_spawner.web.pages.usage import hours
from mlmp_spawner.web.times import find_zone
from tests.operations.conftest import ann
from tests.web.harness import PREFIX, RunningApp
from tests.web.test_usage import BEGIN, used

__all__ = ["used"]

ZONE = find_zone("UTC")
assert ZONE is not None


def page(app: RunningApp, token: str, query: str = "") -> str:
    with app.client(token, Accept="text/html") as client:
        answer = client.get(f"{app.url}{PREFIX}usage{query}")
    assert answer.status_code == 200, answer.text
    return re.sub(r"\s+", " ", answer.text)


def test_the_sum_is_a_sentence_before_anything_else(used: dict[str, str], app: RunningApp):
    text = re.sub("<[^>]+>", "", page(app, "admin-token"))
    assert "5 h booked" in text and "Of that 1 h were used (20 %), 1 h idle, 3 h not started." in text


def test_an_admin_has_rows_of_everybody_others_of_themselves(used: dict[str, str], app: RunningApp):
    assert re.findall(r'<th scope="row">(\w+)</th>', page(app, "admin-token", "?by=user")) == ["ann", "ben"]
    bens = page(app, "ben-token", "?by=user")
    assert "Your usage" in bens and "ann" not in re.sub("<[^>]+>", "", bens)
    assert re.findall(r'<th scope="row">([\w-]+)</th>', page(app, "ben-token", "?by=node")) == ["gpu-b"]


def test_the_plot_has_a_name_and_a_table_of_the_same(used: dict[str, str], app: RunningApp):
    text = page(app, "admin-token")
    assert 'role="img" aria-labelledby="per-day usage-summary"' in text
    assert 'id="usage-days"' in text and "<title>" in text
    assert "style=" not in text.partition('id="live"')[2], "the policy would refuse it"
    assert "format=csv" in text


@pytest.mark.parametrize(
    "query", ["?from=2026-02-30", "?from=2027-02-01&to=2027-01-01", "?resource=gold", "?from=2020-01-01"]
)
def test_what_makes_no_sense_is_said_and_this_week_shown(app: RunningApp, query: str):
    with app.client("ann-token", Accept="text/html") as client:
        answer = client.get(f"{app.url}{PREFIX}usage{query}")
    assert answer.status_code == 400 and 'id="refusal"' in answer.text and 'id="usage-choose"' in answer.text


@pytest.mark.parametrize(
    "query", ["?period=month", "?period=last-month", "?period=last-week", "?period=x", "?to=2030-01-01"]
)
def test_empty_times_teach(app: RunningApp, query: str):
    assert 'id="none"' in page(app, "ann-token", query)


def test_bars_are_stacked_to_their_height():
    day = Day(0, DAY, Spent(10 * HOUR, 5 * HOUR, 2 * HOUR))
    drawn = plots.plot([day, Day(DAY, 2 * DAY, Spent())], ZONE)
    assert [line[1] for line in drawn.lines][-1] >= 10
    used_part, idle_part, rest = drawn.bars[0].parts
    assert [part.kind for part in drawn.bars[0].parts] == ["used", "idle", "not_started"]
    assert used_part.at + used_part.size == plots.HEIGHT
    assert idle_part.at + idle_part.size == pytest.approx(used_part.at, abs=0.02)
    assert rest.size / used_part.size == pytest.approx(3 / 5, abs=0.01)
    assert drawn.bars[1].parts == ()


def test_many_days_are_weeks_and_nothing_of_them_is_lost():
    days = [Day(n * DAY, (n + 1) * DAY, Spent(n * HOUR)) for n in range(90)]
    drawn = plots.plot(days, ZONE)
    assert drawn.weekly and len(drawn.bars) == 14
    assert sum(bar.spent.booked for bar in drawn.bars) == sum(day.spent.booked for day in days)


@pytest.mark.parametrize(
    ("ms", "said"),
    [
        (0, "0 h"),
        (HOUR, "1 h"),
        (HOUR // 2, "30 min"),
        (1, "1 min"),
        (HOUR - 1, "59 min"),
        (HOUR * 9 // 2, "4.5 h"),
        (1204 * HOUR, "1,204 h"),
        (9 * HOUR + 1, "9 h"),
    ],
)
def test_hours_as_people_say_them(ms: int, said: str):
    assert hours(ms) == said


def test_a_booking_says_how_busy_it_was(used: dict[str, str], app: RunningApp):
    app.now = BEGIN + HOUR
    admit(app.site, actor=ann, server="", options=StartOptions(), now=app.now)
    started(app.site, used["ann"], now=app.now)
    with app.client("ann-token", Accept="text/html") as client:
        assert "busy 50 % of the last hour" in client.get(f"{app.url}{PREFIX}bookings/{used['ann']}").text
