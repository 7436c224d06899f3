"""Book's sentence: what a query says, and what would come of it."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo

import pytest

from mlmp_spawner.operations.availability import NodeAvailability
from mlmp_spawner.rules.catalog import Profile
from mlmp_spawner.rules.reservations import Interval, Step
from mlmp_spawner.units import DAY, HOUR, MINUTE, from_iso, to_iso
from mlmp_spawner.web import sentence
from mlmp_spawner.web.sentence import Sentence

ZURICH = ZoneInfo("Europe/Zurich")
NOW = from_iso("2026-11-21T11:30:00Z")
GPU = Profile(name="gpu", title="A100", resource="nvidia.com/gpu", max_units=4)
CPU = Profile(name="cpu", title="CPU", resource="mlmp.dev/slot", max_units=8)
NODES = {"gpu": ["gpu-1", "gpu-2"], "cpu": ["gpu-1"]}


def read(**query: str) -> Sentence:
    found = sentence.read(query, [GPU, CPU], NODES, zone=ZURICH, now=NOW)
    assert found is not None
    return found


def node(*steps: tuple[int, int, int], name: str = "gpu-1") -> NodeAvailability:
    """Steps in hours from now: (from, to, free)."""
    made = tuple(Step(NOW + start * HOUR, NOW + end * HOUR, free) for start, end, free in steps)
    return NodeAvailability(name, 4, made, None)


def outlook(said: Sentence, *nodes: NodeAvailability) -> sentence.Outlook:
    return sentence.outlook(said, nodes, zone=ZURICH, now=NOW)


def test_nothing_said_is_the_usual_of_the_first_profile_from_now():
    said = read()
    assert (said.profile, said.units, said.duration, said.when, said.node) == (GPU, 1, 4 * HOUR, "now", None)


def test_all_of_it_can_be_said():
    said = read(profile="cpu", units="2", duration="90m", when="at", at="2026-11-24T08:15", node="gpu-1", title="x")
    assert said == Sentence(CPU, 2, 90 * MINUTE, "at", from_iso("2026-11-24T07:15:00Z"), "gpu-1", "x")


def test_an_alternative_of_a_refusal_is_a_sentence():
    said = read(profile="gpu", units="2", start="2026-11-22T08:00:00Z", end="2026-11-22T10:30:00Z", node="gpu-2")
    assert (said.when, said.at, said.duration) == ("at", from_iso("2026-11-22T08:00:00Z"), 150 * MINUTE)
    assert read(end=to_iso(NOW + 2 * HOUR)).duration == 2 * HOUR


@pytest.mark.parametrize("when", ["now", "first", "at"])
def test_a_sentence_survives_its_own_query(when: str):
    said = read(units="3", duration="2h", when=when, at="2026-11-24T08:15", node="gpu-2", title="a&b=c")
    again = read(**said.query())
    assert (again.query(), again.units, again.duration, again.when, again.node, again.title) == (
        said.query(), 3, 2 * HOUR, when, "gpu-2", "a&b=c",
    )  # fmt: skip


@pytest.mark.parametrize(
    "query",
    [
        {"profile": "none"}, {"units": "0"}, {"units": "99"}, {"units": "²"}, {"units": "9" * 5000},
        {"duration": "soon"},
        {"duration": "9999d"}, {"when": "never"}, {"when": "at", "at": "never"}, {"node": "../x"}, {"end": "x"},
        {"at": "2199-12-31T23:59:59Z", "end": "2000-01-01T00:00:00Z"}, {"title": "\x00\n"},
    ],
)  # fmt: skip
def test_what_makes_no_sense_becomes_what_is_usual(query: dict[str, Any]):
    said = read(**query)
    assert (said.profile, said.units, said.duration, said.node) == (GPU, 1, 4 * HOUR, None)


def test_a_start_in_the_past_moves_to_the_next_quarter():
    assert read(start="2026-11-21T09:00:00Z").at == NOW


def test_now_is_booked_by_duration_and_anything_else_from_moment_to_moment():
    free = node((0, 60, 4))
    now = read(units="2", duration="1h")
    later = read(units="2", duration="1h", start="2026-11-22T08:00:00Z", node="gpu-1", title="t")
    assert sentence.request_of(now, Interval(NOW, NOW + HOUR)) == {
        "profile": "gpu", "units": "2", "duration": "3600s",
    }  # fmt: skip
    wanted = outlook(later, free).wanted
    assert wanted is not None
    assert sentence.request_of(later, wanted) == {
        "profile": "gpu", "units": "2", "start": "2026-11-22T08:00:00Z", "end": "2026-11-22T09:00:00Z",
        "node": "gpu-1", "title": "t",
    }  # fmt: skip


def test_it_fits_only_where_one_node_has_enough_all_the_time():
    two = read(units="2", duration="4h")
    assert outlook(two, node((0, 9, 2))).fits
    dip = outlook(two, node((0, 2, 3), (2, 9, 1)), node((0, 9, 1), name="gpu-2"))
    assert (dip.fits, dip.most) == (False, 1)


def test_as_soon_as_it_is_free_is_the_earliest_stretch_that_is_long_enough():
    said = read(units="2", duration="4h", when="first")
    found = outlook(said, node((0, 1, 0), (1, 3, 4), (3, 5, 1), (5, 60, 2)), node((0, 7, 0), (7, 60, 4), name="gpu-2"))
    assert found.wanted == Interval(NOW + 5 * HOUR, NOW + 9 * HOUR)
    assert outlook(said, node((0, 60, 1))).wanted is None


def test_the_strip_tells_what_fits_from_what_is_too_short_and_what_is_taken():
    said = read(units="2", duration="4h")
    (row,) = outlook(said, node((0, 2, 3), (2, 6, 1), (6, 20, 4), (20, 40, 2), (40, 60, 0))).rows
    assert [(one.kind, one.start, one.end, one.free) for one in row.segments] == [
        ("short", NOW, NOW + 2 * HOUR, 3),
        ("taken", NOW + 2 * HOUR, NOW + 6 * HOUR, 1),
        ("fits", NOW + 6 * HOUR, NOW + 40 * HOUR, 2),
        ("taken", NOW + 40 * HOUR, NOW + 60 * HOUR, 0),
    ]
    assert row.segments[2].starts == ((NOW + 6 * HOUR, NOW + 36 * HOUR),)
    assert row.segments[0].at == 0
    assert sum(one.width for one in row.segments) == pytest.approx(100)


def test_the_scale_has_the_viewers_midnights_also_when_clocks_change():
    before = from_iso("2026-10-24T12:00:00Z")  # in the night of the 25th a day of 25 hours begins
    ticks = sentence._ticks(Interval(before, before + 2 * DAY), ZURICH)
    assert [tick.label for tick in ticks if tick.midnight] == ["Sun 25", "Mon 26"]
    first, second = (tick.at for tick in ticks if tick.midnight)
    assert (second - first) * 48 / 100 == pytest.approx(25, abs=0.01)


def test_several_nodes_are_a_choice_where_a_node_could_stand():
    assert [read(node=node).node_count for node in ("*2", "*3", "*0", "*x", "gpu-1", "")] == [2, 1, 1, 1, 1, 1]
    assert read(node="*2").query()["node_count"] == "2"
    assert read(node_count="2", node="gpu-1").node_count == 1


def test_several_nodes_must_be_free_together():
    said = read(units="2", duration="4h", node="*2", when="first")
    one, other = node((0, 6, 2), (6, 9, 0), (9, 60, 4)), node((0, 3, 0), (3, 60, 2), name="gpu-2")
    found = outlook(said, one, other)
    assert found.first == NOW + 9 * HOUR
    assert [(one.kind, one.starts[:1]) for one in found.rows[1].segments] == [
        ("taken", ()), ("fits", ((NOW + 9 * HOUR, NOW + 48 * HOUR),)),
    ]  # fmt: skip
    assert [one.kind for one in found.rows[0].segments] == ["short", "taken", "fits"]
    assert sentence.request_of(said, Interval(NOW, NOW + HOUR))["node_count"] == "2"
