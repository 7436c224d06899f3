"""What notices say: each kind in words that hold whatever is in it."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlmp_spawner.rules.notices import KINDS
from mlmp_spawner.rules.wording import at_length, one_line, what, words
from mlmp_spawner.units import HOUR

START = 1_800_000_000_000
FACTS = {
    "profile": "gpu",
    "units": 2,
    "node_count": 1,
    "title": "",
    "start": START,
    "end": START + HOUR,
    "nodes": ["a"],
}

MORE = ("target", "source", "node", "reason", "idle_since", "release_at", "longest_end", "series", "by",
        "outcome", "exit_status", "message")  # fmt: skip


def said(kind: Any, action: str, **details: object) -> tuple[str, str]:
    zone = ZoneInfo("Europe/Zurich")

    def clock(ms: int) -> str:
        return at_length(ms, zone)[-5:]

    found = words(kind, {**FACTS, "action": action, "by": "root", **details}, titles={"gpu": "A100"}, when=clock)
    return found.headline, found.text


@pytest.mark.parametrize(
    ("kind", "action", "details", "headline", "text"),
    [
        ("booked", "booked", {}, "Booked: 2 × A100, 09:00", "2 × A100 on a is yours from 09:00 until 10:00."),
        ("booked", "waitlisted", {"nodes": []}, "On the waitlist: 2 × A100, 09:00", "waits for a place"),
        ("starts_soon", "announced", {}, "Starts soon: 2 × A100, 09:00", "If nobody starts it"),
        ("ends_soon", "warned", {}, "Ends soon: 2 × A100, 10:00", "Save your work"),
        (
            "ends_soon", "offered", {"longest_end": START + 2 * HOUR},
            "You may extend: 2 × A100, as far as 11:00", "until 11:00",
        ),
        ("promoted", "promoted", {}, "You got a place: 2 × A100, 09:00", "is yours"),
        ("moved", "moved", {"target": "b"}, "Moved: 2 × A100, to b", "on b"),
        ("moved", "moved", {"target": ["b", "c"]}, "Moved: 2 × A100, to b, c", "on b, c"),
        ("moved", "capacity_lost", {"source": ["a"]}, "Lost its place: 2 × A100, 09:00", "on the waitlist"),
        ("moved", "capacity_lost", {}, "Ended early: 2 × A100", "not there any more"),
        ("moved", "changed", {}, "Changed by root: 2 × A100", "from 09:00 until 10:00 on a."),
        ("released", "no_show", {}, "Given back: 2 × A100, 09:00", "Nobody started it"),
        ("released", "idle", {}, "Given back: 2 × A100, 09:00", "did nothing"),
        ("released", "cancelled", {}, "Cancelled: 2 × A100, 09:00", "root cancelled it"),
        ("released", "released", {}, "Given back: 2 × A100, 09:00", "until 10:00"),
        ("idle", "idle_warned", {"idle_since": START}, "Idle: 2 × A100", "done nothing since 09:00. Use it"),
        ("idle", "idle_warned", {"release_at": START + HOUR}, "Idle: 2 × A100", "given back at 10:00"),
        ("maintenance", "maintenance", {"node": "a", "reason": "new driver"}, "Maintenance: a, 09:00", "(new driver)"),
        ("job_ended", "job_ended", {"title": "train"}, "Done: train", "2 × A100: it ended as it should."),
        ("job_ended", "job_ended", {"title": "t", "outcome": "cancelled"}, "Cancelled: t", "root cancelled it"),
        ("job_ended", "job_ended", {"outcome": "cancelled", "message": "gone"}, "Cancelled: 2 × A100", "A100. gone"),
        ("job_ended", "job_ended", {}, "Done: 2 × A100", "as it should"),
        ("job_failed", "job_failed", {"title": "train", "reason": "exit_status", "exit_status": 3}, "Failed: train",
         "It ended with exit status 3."),
        ("job_failed", "job_failed", {"reason": "start", "message": "train.py: not found", "by": "clock"},
         "Failed: 2 × A100", "2 × A100: Its program can't be started. train.py: not found"),
        ("job_requeued", "job_requeued", {"title": "train", "reason": "preempted"}, "Waits again: train",
         "made way for a booking. It starts again, with its checkpoints"),
        ("message", "class_message", {"title": "ML", "message": "Back at ten"}, "ML: Back at ten", "root says to"),
        ("test", "test", {}, "This is a test", "Notices arrive here"),
    ],
)  # fmt: skip
def test_each_kind_in_words(kind: str, action: str, details: dict[str, Any], headline: str, text: str):
    found = said(kind, action, **details)
    assert found[0] == headline and text in found[1]


anything = (
    st.none() | st.booleans() | st.integers(-(2**40), 2**42) | st.text(max_size=50) | st.lists(st.text(max_size=9))
)


@given(st.sampled_from(KINDS), st.text(max_size=15), st.dictionaries(st.sampled_from([*FACTS, *MORE]), anything))
def test_whatever_is_in_it_stays_in_its_line(kind: Any, action: str, details: dict[str, Any]):
    found = words(kind, {**details, "action": action}, titles={}, when=str)
    for text in (found.headline, found.text):
        assert text and text.isprintable() and len(text) <= 600


def test_what_was_booked():
    assert what({"profile": "gpu", "units": 1}, {"gpu": "A100"}) == "A100"
    assert what({"profile": "gone", "units": 4, "node_count": 2}, {}) == "4 × gone on each of 2 nodes"


def test_one_line():
    assert one_line("a\r\nb\tc\u2028d\x00e\u202ef") == "a  b c d\ufffde\ufffdf"
    assert one_line("x" * 400, 10) == "x" * 9 + "…"
