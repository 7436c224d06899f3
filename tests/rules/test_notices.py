"""Which events people are told of, how, until when; and what passes for an address."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlmp_spawner.rules.notices import (
    CHANNELS,
    KINDS,
    address_of,
    channels_of,
    kind_of,
    mail_address,
    next_try,
    useless_after,
    webhook_address,
)
from mlmp_spawner.units import DAY, HOUR, SECOND


@pytest.mark.parametrize(
    ("action", "actor", "kind"),
    [
        ("booked", "ann", "booked"),
        ("booked", "root", "booked"),
        ("waitlisted", "ann", "booked"),
        ("announced", "clock", "starts_soon"),
        ("warned", "clock", "ends_soon"),
        ("offered", "clock", "ends_soon"),
        ("promoted", "clock", "promoted"),
        ("moved", "clock", "moved"),
        ("moved", "ann", "moved"),  # another booking of hers took its place
        ("capacity_lost", "clock", "moved"),
        ("no_show", "clock", "released"),
        ("idle", "clock", "released"),
        ("preempted", "clock", "released"),
        ("idle_warned", "clock", "idle"),
        ("maintenance", "root", "maintenance"),
        ("job_ended", "clock", "job_ended"),
        ("job_failed", "clock", "job_failed"),
        ("job_requeued", "clock", "job_requeued"),
        ("class_message", "ben", "message"),
        ("job_submitted", "ann", None),
        ("job_cancelled", "root", None),  # they are told when it has ended
        # what one did oneself one knows; what somebody else did one is told
        ("released", "ann", None),
        ("cancelled", "ann", None),
        ("changed", "ann", None),
        ("released", "root", "released"),
        ("cancelled", "root", "released"),
        ("changed", "root", "moved"),
        ("starting", "ann", None),
        ("stopped", "clock", None),
        ("anything new", "clock", None),
    ],
)
def test_what_the_owner_is_told(action: str, actor: str, kind: str | None):
    assert kind_of(action, actor=actor, owner="ann") == kind
    assert kind_of(action, actor=actor, owner=None) is None


def test_by_default_mail_says_what_changes_a_booking_and_the_browser_everything():
    for kind in KINDS:
        quiet = kind in ("booked", "starts_soon", "job_ended", "job_requeued", "message")
        assert channels_of(kind, {}) == ({"browser"} if quiet else set(CHANNELS))
    assert channels_of("booked", {"booked": ["mail", "smoke"]}) == {"mail"}
    assert channels_of("moved", {"moved": []}) == set()
    assert channels_of("test", {"test": []}) == set(CHANNELS)


def test_what_is_past_is_not_worth_telling():
    details = {"start": 1000, "end": 2000}
    assert useless_after("starts_soon", 0, details) == 1000
    assert useless_after("ends_soon", 0, details) == 2000
    assert useless_after("released", 0, details) is None
    assert useless_after("moved", 5000, details) == 5000


@given(tries=st.integers(1, 10_000), now=st.integers(0, 3 * DAY))
def test_it_is_tried_again_ever_later_and_not_for_ever(tries: int, now: int):
    found = next_try(tries, now, at=0, keep_trying=2 * DAY)
    assert (found is None) == (now >= 2 * DAY)
    if found is not None:
        assert now < found <= min(now + HOUR, 2 * DAY)


def test_the_first_wait_is_short():
    assert [next_try(tries, 0, at=0, keep_trying=DAY) for tries in (1, 2, 3)] == [
        30 * SECOND, 60 * SECOND, 120 * SECOND,
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text",
    ["", "ann", "@", "ann@", "@example.org", "ann@exa mple.org", "ann@example.org\r\nBcc: eve@example.org", "a" * 300,
     "ann@example.org,eve@example.org", '"ann"@example.org', "ann@-x.org", "änn@example.org", "ann@example..org",
     "<ann@example.org>", "ann@example.org\n", "a\x00@example.org", f"{'a' * 65}@example.org", "ann@[127.0.0.1]"],
)  # fmt: skip
def test_what_is_no_mail_address(text: str):
    if text == "ann@example.org\n":  # white space around it is a slip
        assert mail_address(text) == "ann@example.org"
        return
    with pytest.raises(ValueError, match="mail address"):
        mail_address(text)


@given(st.text())
def test_an_address_never_carries_anything_that_could_end_a_header(text: str):
    for made in (address_of(text, "{username}@example.org"), address_of(text, "{username}")):
        assert made is None or (made.isascii() and made.isprintable() and not set(made) & set(' ,;<>"\\()'))


def test_the_site_s_template_makes_the_address():
    assert address_of("ann.b", "{username}@example.org") == "ann.b@example.org"
    assert address_of("ann@uni.example", "{username}") == "ann@uni.example"
    assert address_of("ann@uni.example", "{username}@example.org") is None
    assert address_of("ann b", "{username}@example.org") is None
    assert address_of("ann", "") is None


@pytest.mark.parametrize(
    "text",
    ["https://evil.example/hook", "https://chat.example.org@evil.example/", "https://evil.example#chat.example.org",
     "https://chat.example.org:8443/x", "ftp://chat.example.org/x", "//chat.example.org/x", "chat.example.org",
     "https://chat.example.org.evil.example/", "https://evil.example\\@chat.example.org/", "https://chat.example.org:x/",
     "https://user:pass@chat.example.org/", "https://chat.example.org/\r\nHost: evil", "http://127.0.0.1/", "http://[::1]/",
     "https://chat.example.org/" + "a" * 500, "https://[chat.example.org/"],
)  # fmt: skip
def test_webhooks_lead_nowhere_but_where_the_admin_allows(text: str):
    with pytest.raises(ValueError, match="webhook"):
        webhook_address(text, ["chat.example.org"])


def test_webhooks_of_one_s_own():
    for text in ("https://chat.example.org/hooks/x?a=b", "HTTPS://Chat.Example.org/x", " https://chat.example.org/ "):
        assert webhook_address(text, ["chat.example.org"]) == text.strip()
    assert webhook_address("http://[::1]:80/x", ["::1:80"])
    assert webhook_address("https://chat.example.org:8443/x", ["chat.example.org:8443"])
    with pytest.raises(ValueError, match="not allowed"):
        webhook_address("https://chat.example.org/", [])
