"""Durations, times and sizes: what is read, what is written, what is refused and how."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlmp_spawner import units
from mlmp_spawner.units import DAY, HOUR, MINUTE, SECOND

YEAR_1, YEAR_9999 = units.from_iso("0001-01-01T00:00:00Z"), units.from_iso("9999-12-31T23:59:59Z")


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("90m", 90 * MINUTE),
        ("4h", 4 * HOUR),
        ("2d", 2 * DAY),
        ("30s", 30 * SECOND),
        ("1h30m", 90 * MINUTE),
        ("1 h 12 min", 72 * MINUTE),
        ("1.5h", 90 * MINUTE),
        ("4H", 4 * HOUR),
        (" 4h ", 4 * HOUR),
        ("0m", 0),
    ],
)
def test_a_duration_is_read_as_people_write_it(text: str, ms: int) -> None:
    assert units.parse_duration(text) == ms


@pytest.mark.parametrize(
    "text", ["", "4", "h", "-4h", "4x", "4h4h", "30m1h", "1e9h", "٤h", "4h\n5", "4h;rm", "9" * 400]
)
def test_what_is_no_duration_is_refused_with_the_valid_forms(text: str) -> None:
    with pytest.raises(ValueError, match="90m, 4h, 2d, 30s or 1h30m"):
        units.parse_duration(text)


def test_a_duration_beyond_ten_years_is_refused() -> None:
    with pytest.raises(ValueError, match="at most 3660d"):
        units.parse_duration("100000d")


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (72 * MINUTE, "1 h 12 min"),
        (45 * SECOND, "45 s"),
        (90 * SECOND, "1 min 30 s"),
        (40 * HOUR, "40 h"),
        (2 * DAY, "2 d"),
        (3 * DAY + 4 * HOUR, "3 d 4 h"),
        (HOUR + 999, "1 h"),
        (0, "0 s"),
        (-5 * MINUTE, "-5 min"),
    ],
)
def test_a_duration_is_written_for_people(ms: int, text: str) -> None:
    assert units.format_duration(ms) == text


@given(st.integers(0, units.LONGEST_DURATION // MINUTE))
def test_a_written_duration_can_be_read_back(minutes: int) -> None:
    assert units.parse_duration(units.format_duration(minutes * MINUTE)) == minutes * MINUTE


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-21T10:00:00Z",
        "2026-11-21T10:00Z",
        "2026-11-21t10:00:00z",
        "2026-11-21 10:00:00Z",
        "2026-11-21T11:00:00+01:00",
        "2026-11-21T11:00:00 01:00",
        "2026-11-21T11:00:00+0100",
        "2026-11-21T11:00:00+01",
        "2026-11-21T05:30:00-04:30",
        "2026-11-21T10:00:00.000999Z",
    ],
)
def test_a_time_is_read_with_any_offset(text: str) -> None:
    assert units.from_iso(text) == 1795255200000
    assert units.to_iso(units.from_iso(text)) == "2026-11-21T10:00:00Z"


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-21T10:00:00",
        "2026-11-21",
        "14:00",
        "",
        "2026-13-21T10:00Z",
        "2026-02-30T10:00Z",
        "2026-11-21T10:00+25:00",
    ],
)
def test_a_time_without_offset_or_outside_the_calendar_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="2026-11-21T10:00:00Z or"):
        units.from_iso(text)


@given(st.integers(YEAR_1, YEAR_9999))
def test_a_written_time_can_be_read_back(ms: int) -> None:
    assert units.from_iso(units.to_iso(ms)) == ms


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("64GiB", 64 << 30),
        ("512 MiB", 512 << 20),
        ("1.5TiB", 3 << 39),
        ("64Gi", 64 << 30),
        ("10GB", 10**10),
        ("7B", 7),
    ],
)
def test_a_size_is_read(text: str, size: int) -> None:
    assert units.parse_size(text) == size


@pytest.mark.parametrize("text", ["", "64", "64G", "64gib", "-1GiB", "many"])
def test_what_is_no_size_or_ambiguous_is_refused_with_the_valid_forms(text: str) -> None:
    with pytest.raises(ValueError, match=r"512MiB, 64GiB or 1\.5TiB"):
        units.parse_size(text)


@pytest.mark.parametrize(("size", "text"), [(64 << 30, "64 GiB"), (3 << 39, "1.5 TiB"), (500, "500 B"), (0, "0 B")])
def test_a_size_is_written_for_people(size: int, text: str) -> None:
    assert units.format_size(size) == text


@given(st.integers(0, 1 << 59) | st.integers(0, 1 << 22).map(lambda number: number << 40))
def test_a_compact_size_is_read_back_exactly(size: int) -> None:
    assert units.parse_size(units.compact_size(size)) == size


@pytest.mark.parametrize(("size", "text"), [(64 << 30, "64GiB"), (1536 << 20, "1536MiB"), (500, "500B"), (0, "0B")])
def test_a_compact_size_has_the_largest_unit_of_which_it_is_a_multiple(size: int, text: str) -> None:
    assert units.compact_size(size) == text


def test_now_is_in_milliseconds_of_this_century() -> None:
    assert units.from_iso("2020-01-01T00:00:00Z") < units.now() < units.from_iso("2100-01-01T00:00:00Z")


@given(st.integers(0, units.LONGEST_DURATION))
def test_a_compact_duration_is_read_back_to_the_second(ms: int) -> None:
    assert units.parse_duration(units.compact_duration(ms)) == ms // SECOND * SECOND
