"""Codes of guests: each is read as it was meant, and what was mistyped is seen to be."""

from __future__ import annotations

import string

from hypothesis import given
from hypothesis import strategies as st

from mlmp_spawner.rules import guest_codes, guests

LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
codes = st.builds(guest_codes.new)


def test_codes_are_in_four_groups_of_four_and_differ() -> None:
    found = {guest_codes.new() for _ in range(500)}
    assert len(found) == 500
    assert all(len(code) == 19 and code.count("-") == 3 for code in found)


@given(codes)
def test_a_code_is_read_as_it_was_printed(code: str) -> None:
    read = guest_codes.read(code)
    assert read is not None
    assert guest_codes.shown(read) == code


@given(codes, st.sampled_from(["", " ", "-", " - ", "\u2013", "\u00a0"]), st.booleans(), st.data())
def test_what_people_make_of_a_code_is_the_same_code(
    code: str, between: str, small: bool, data: st.DataObject
) -> None:
    typed = code.replace("-", between)
    for printed, alike in (("0", "O"), ("1", data.draw(st.sampled_from("IL")))):
        typed = typed.replace(printed, alike)
    typed = f" {typed.lower() if small else typed}\t"
    assert guest_codes.read(typed) == guest_codes.read(code)


@given(codes, st.integers(0, 15), st.sampled_from(LETTERS))
def test_nearly_every_wrong_letter_is_seen_to_be_one(code: str, at: int, letter: str) -> None:
    plain = code.replace("-", "")
    typed = plain[:at] + letter + plain[at + 1 :]
    read = guest_codes.read(typed)
    assert read in (None, typed)
    if at >= 13 and letter != plain[at]:
        assert read is None


def test_of_many_mistyped_codes_hardly_one_passes() -> None:
    passed = 0
    for _ in range(200):
        plain = guest_codes.new().replace("-", "")
        for at in range(12):
            passed += guest_codes.read(plain[:at] + plain[at + 1] + plain[at] + plain[at + 2 :]) not in (None, plain)
    assert passed <= 3


@given(st.text(max_size=100))
def test_any_text_is_read_or_refused(text: str) -> None:
    read = guest_codes.read(text)
    assert read is None or (len(read) == 16 and set(read) <= set(LETTERS))


@given(st.text(alphabet=string.ascii_letters + string.digits, min_size=65, max_size=3000))
def test_what_is_too_long_is_not_looked_at(text: str) -> None:
    assert guest_codes.read(text) is None


def test_different_codes_have_different_digests_which_do_not_show_them() -> None:
    code = guest_codes.read(guest_codes.new())
    assert code is not None
    digest = guest_codes.digest(code)
    assert len(digest) == 64
    assert code.lower() not in digest
    assert digest == guest_codes.digest(code) != guest_codes.digest("0" * 16)


def test_names_of_guests_are_those_of_accounts_and_tell_guests_from_others() -> None:
    names = {guests.new_name() for _ in range(500)}
    assert len(names) == 500
    assert all(len(name) <= 32 and name == name.lower() and guests.is_guest(name) for name in names)
    assert not any(guests.is_guest(name) for name in ("guest", "guests", "ann", "aguest-1"))
