"""Recurrence rules: the days they give, and what the clock of a zone makes of them."""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta, timezone
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from dateutil.rrule import rrulestr
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mlmp_spawner.errors import Invalid
from mlmp_spawner.rules.recurrence import MOST, Occurrence, day_of, instant, local, occurrences, parse_rule, zone_of
from mlmp_spawner.units import DAY, HOUR, MINUTE, to_iso

ZURICH = ZoneInfo("Europe/Zurich")
ZONES = [
    ZoneInfo(name) for name in ("Europe/Zurich", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia", "UTC")
]
FAR = int(datetime(2100, 1, 1, tzinfo=timezone.utc).timestamp() * 1000)
SOON = instant(datetime(2032, 1, 1, tzinfo=timezone.utc))
DAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")


def given_by(
    rule: str, first: str, *, zone: ZoneInfo = ZURICH, length: int = HOUR, **more: object
) -> list[Occurrence]:
    more = {"horizon": FAR} | more
    return occurrences(parse_rule(rule), zone, datetime.fromisoformat(first), length, **more)  # type: ignore[arg-type]


def utc(found: list[Occurrence]) -> list[str]:
    return [to_iso(one.interval.start)[:16] for one in found]


class TestClocks:
    def test_a_quarter_past_eight_stays_that_over_both_changes(self):
        found = given_by("FREQ=WEEKLY;UNTIL=20271231", "2027-01-04T08:15")
        assert len(found) == 52
        assert {f"{local(one.interval.start, ZURICH):%a %H:%M}" for one in found} == {"Mon 08:15"}
        assert {to_iso(one.interval.start)[11:16] for one in found} == {"07:15", "06:15"}

    def test_a_start_in_the_missing_hour_moves_on_by_what_is_missing(self):
        found = given_by("FREQ=DAILY;COUNT=3", "2027-03-27T02:30")
        assert utc(found) == ["2027-03-27T01:30", "2027-03-28T01:30", "2027-03-29T00:30"]
        assert [f"{local(one.interval.start, ZURICH):%H:%M}" for one in found] == ["02:30", "03:30", "02:30"]

    def test_a_start_in_the_doubled_hour_is_the_first_of_the_two(self):
        found = given_by("FREQ=DAILY;COUNT=3", "2027-10-30T02:30")
        assert utc(found) == ["2027-10-30T00:30", "2027-10-31T00:30", "2027-11-01T01:30"]

    def test_unless_the_first_booking_itself_was_to_begin_in_the_second(self):
        second = datetime(2027, 10, 31, 2, 30, tzinfo=ZURICH, fold=1)
        found = occurrences(parse_rule("FREQ=DAILY;COUNT=2"), ZURICH, second, HOUR, horizon=FAR)
        assert utc(found) == ["2027-10-31T01:30", "2027-11-01T01:30"]

    def test_its_length_is_time_that_passes(self):
        over_the_gap = given_by("FREQ=DAILY;COUNT=1", "2027-03-28T01:00", length=3 * HOUR)[0].interval
        assert over_the_gap.length == 3 * HOUR
        assert f"{local(over_the_gap.end, ZURICH):%H:%M}" == "05:00"

    def test_a_gap_of_half_an_hour_moves_by_half_an_hour(self):
        zone = ZoneInfo("Australia/Lord_Howe")
        found = given_by("FREQ=DAILY;COUNT=2", "2027-10-03T02:15", zone=zone)
        assert [f"{local(one.interval.start, zone):%H:%M}" for one in found] == ["02:45", "02:15"]

    def test_a_day_that_a_zone_left_out_counts_once_with_the_next(self):
        zone = ZoneInfo("Pacific/Apia")  # went from the 29th to the 31st of December 2011
        found = given_by("FREQ=DAILY;COUNT=4", "2011-12-29T08:15", zone=zone)
        assert [f"{local(one.interval.start, zone):%d %H:%M}" for one in found] == ["29 08:15", "31 08:15", "01 08:15"]

    @settings(max_examples=40, deadline=None)
    @given(
        zone=st.sampled_from(ZONES),
        first=st.datetimes(datetime(2011, 1, 1), datetime(2040, 1, 1)).map(
            lambda t: t.replace(second=0, microsecond=0)
        ),
        every=st.sampled_from(["FREQ=DAILY", "FREQ=WEEKLY", "FREQ=WEEKLY;BYDAY=MO,SU", "FREQ=MONTHLY;BYDAY=-1SU"]),
        length=st.integers(1, 22 * 60).map(lambda minutes: minutes * MINUTE),
    )
    def test_each_shows_the_time_of_day_of_the_first_or_that_after_the_gap(self, zone, first, every, length):
        found = occurrences(parse_rule(f"{every};COUNT=60"), zone, first, length, horizon=FAR)
        for one in found:
            shown = local(one.interval.start, zone).replace(tzinfo=None)
            wanted = datetime.combine(one.day, first.time())
            assert one.interval.length == length
            if shown != wanted:  # there is no such time on that day: the offset before the gap held
                before = (wanted - timedelta(days=2)).replace(tzinfo=zone).utcoffset()
                assert before is not None
                assert instant((wanted - before).replace(tzinfo=timezone.utc)) == one.interval.start
                assert shown > wanted
            else:
                again = instant(shown.replace(tzinfo=zone, fold=1))
                assert again >= one.interval.start  # of two, the first
        assert all(a.interval.end <= b.interval.start for a, b in pairwise(found))


class TestDays:
    def test_29_february_skips_other_years(self):
        found = given_by("FREQ=YEARLY;COUNT=4", "2028-02-29T12:00")
        assert [one.day.isoformat() for one in found] == ["2028-02-29", "2032-02-29", "2036-02-29", "2040-02-29"]

    def test_the_31st_skips_shorter_months(self):
        found = given_by("FREQ=MONTHLY;COUNT=4", "2027-01-31T12:00")
        assert [one.day.month for one in found] == [1, 3, 5, 7]

    def test_a_start_on_another_day_leads_to_the_next_that_is_given(self):
        assert given_by("FREQ=WEEKLY;BYDAY=FR;COUNT=1", "2027-01-04T08:15")[0].day == date(2027, 1, 8)

    def test_until_a_day_includes_it_and_until_an_instant_what_begins_by_then(self):
        assert len(given_by("FREQ=DAILY;UNTIL=20270106", "2027-01-04T23:00")) == 3
        assert len(given_by("FREQ=DAILY;UNTIL=20270106T220000Z", "2027-01-04T23:00")) == 3
        assert len(given_by("FREQ=DAILY;UNTIL=20270106T215959Z", "2027-01-04T23:00")) == 2

    def test_days_that_are_left_out_are_counted(self):
        found = given_by("FREQ=DAILY;COUNT=3", "2027-01-04T08:00", without=[date(2027, 1, 5)])
        assert [one.day.day for one in found] == [4, 6]
        with pytest.raises(Invalid, match="2027-01-07 is none of its days"):
            given_by("FREQ=DAILY;COUNT=3", "2027-01-04T08:00", without=[date(2027, 1, 7)])

    @settings(max_examples=40, deadline=None)
    @given(st.data())
    def test_the_days_are_those_of_dateutil(self, data: st.DataObject):
        frequency = data.draw(st.sampled_from(["DAILY", "WEEKLY", "MONTHLY", "YEARLY"]))
        parts = [f"FREQ={frequency}", f"COUNT={data.draw(st.integers(1, 12))}"]
        parts.append(f"INTERVAL={data.draw(st.integers(1, 4))}")
        months = [] if frequency == "MONTHLY" else data.draw(st.lists(st.integers(1, 12), max_size=3, unique=True))
        weekdays = data.draw(st.lists(st.sampled_from(DAYS), max_size=3, unique=True))
        numbered = frequency in ("MONTHLY", "YEARLY") and data.draw(st.booleans())
        if months:
            parts.append(f"BYMONTH={','.join(map(str, months))}")
        if weekdays:
            numbers = data.draw(st.lists(st.sampled_from([-2, -1, 1, 2, 4]), min_size=3, max_size=3))
            parts.append(
                "BYDAY=" + ",".join(f"{n if numbered else ''}{d}" for n, d in zip(numbers, weekdays, strict=False))
            )
        if frequency != "WEEKLY" and data.draw(st.booleans()):
            month_days = data.draw(
                st.lists(st.integers(1, 28) | st.sampled_from([-1, -2, 31]), min_size=1, max_size=3)
            )
            parts.append(f"BYMONTHDAY={','.join(map(str, month_days))}")
        if data.draw(st.booleans()):
            parts.append(f"WKST={data.draw(st.sampled_from(DAYS))}")
        text = ";".join(data.draw(st.permutations(parts)))
        first = datetime(2026, 1, 1, 9) + timedelta(days=data.draw(st.integers(0, 800)))
        endless = re.sub(r"(^|;)COUNT=\d+", "", text).strip(";")
        theirs = list(rrulestr(f"{endless};UNTIL={first + timedelta(days=1500):%Y%m%dT%H%M%S}", dtstart=first))
        count = parse_rule(text).count or 0
        assume(len(theirs) >= count)
        found = occurrences(parse_rule(text), ZoneInfo("UTC"), first, HOUR, horizon=FAR)
        assert [one.day for one in found] == [day.date() for day in theirs[:count]]


class TestRefusals:
    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("FREQ=SECONDLY;COUNT=3", "valid: DAILY, WEEKLY, MONTHLY, YEARLY"),
            ("FREQ=HOURLY;COUNT=3", "valid: DAILY"), ("", "not part of a rule"), ("COUNT=3", "valid: DAILY"),
            ("FREQ=DAILY", "say when it ends"), ("FREQ=DAILY;COUNT=2;UNTIL=20270101", "say when it ends"),
            ("FREQ=DAILY;COUNT=0", "valid is 1 to 100"), ("FREQ=DAILY;COUNT=101", "valid is 1 to 100"),
            ("FREQ=DAILY;COUNT=99999999999", "valid is 1 to 100"), ("FREQ=DAILY;COUNT=2;COUNT=3", "twice"),
            ("FREQ=DAILY;INTERVAL=0;COUNT=2", "valid is 1 to 100"), ("FREQ=DAILY;BYHOUR=3;COUNT=2", "BYHOUR"),
            ("FREQ=DAILY;BYSETPOS=1;COUNT=2", "not part of a rule"), ("FREQ=DAILY;COUNT=2;X", "not part of a rule"),
            ("FREQ=WEEKLY;BYDAY=XX;COUNT=2", "MO, TU"), ("FREQ=WEEKLY;BYDAY=1MO;COUNT=2", "MONTHLY or YEARLY"),
            ("FREQ=MONTHLY;BYDAY=6MO;COUNT=2", "at most five"), ("FREQ=YEARLY;BYDAY=54MO;COUNT=2", "MO, TU"),
            ("FREQ=MONTHLY;BYDAY=0MO;COUNT=2", "MO, TU"), ("FREQ=WEEKLY;BYMONTHDAY=1;COUNT=2", "take MONTHLY"),
            ("FREQ=MONTHLY;BYMONTHDAY=32;COUNT=2", "1 to 31"), ("FREQ=MONTHLY;BYMONTHDAY=0;COUNT=2", "1 to 31"),
            ("FREQ=YEARLY;BYMONTH=13;COUNT=2", "1 to 12"), ("FREQ=YEARLY;BYMONTH=-1;COUNT=2", "1 to 12"),
            ("FREQ=DAILY;UNTIL=tomorrow", "write 20261218"), ("FREQ=DAILY;UNTIL=20270231", "write 20261218"),
            ("FREQ=DAILY;UNTIL=20270101T000000", "with a Z"), ("FREQ=DAILY;WKST=XX;COUNT=2", "MO, TU"),
            ("FREQ=DAILY;COUNT=2;" * 100, "longer than 300"), ("FREQ=DAILY;COUNT=٣", "valid is 1 to 100"),
        ],
    )  # fmt: skip
    def test_what_is_wrong_is_said_with_what_is_valid(self, text: str, said: str):
        with pytest.raises(Invalid, match=re.escape(said)) as refusal:
            parse_rule(text)
        assert refusal.value.data["errors"][0]["field"] == "recurrence.rrule"

    @settings(max_examples=40, deadline=None)
    @given(st.text(max_size=80) | st.from_regex(r"(FREQ|COUNT|UNTIL|BYDAY|INTERVAL)=[A-Z0-9,+-]{0,12}(;[A-Z]+=\w+)*"))
    def test_whatever_comes_is_a_rule_or_refused(self, text: str):
        try:
            rule = parse_rule(text)
            occurrences(rule, ZURICH, datetime(2027, 1, 1, 8), HOUR, horizon=SOON)
        except Invalid:
            pass

    @pytest.mark.parametrize(
        ("rule", "said"),
        [
            ("FREQ=DAILY;UNTIL=20280101", f"more than {MOST}"), ("FREQ=DAILY;UNTIL=20260101", "no date at all"),
            ("FREQ=YEARLY;COUNT=90", "longer than one can book ahead"),
            ("FREQ=WEEKLY;INTERVAL=20;UNTIL=21500101", "longer than one can book ahead"),
            ("FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30;COUNT=1", "longer than one can book ahead"),
            ("FREQ=DAILY;INTERVAL=7;BYDAY=TU;UNTIL=20281231", "no date at all"),
        ],
    )  # fmt: skip
    def test_what_it_gives_is_bounded(self, rule: str, said: str):
        with pytest.raises(Invalid, match=said):
            given_by(rule, "2027-01-04T08:00", horizon=SOON)

    def test_they_may_not_overlap(self):
        with pytest.raises(Invalid, match="each lasts 25 h, but two of them begin 24 h apart"):
            given_by("FREQ=DAILY;COUNT=3", "2027-01-04T08:00", length=DAY + HOUR)
        assert len(given_by("FREQ=DAILY;COUNT=3", "2027-01-04T08:00", length=DAY)) == 3

    @pytest.mark.parametrize("text", ["2026-13-01", "2026-1-1", "today", "", "20261201", "2026-02-30", "٢٠٢٦-01-01"])
    def test_a_day_is_written_as_one(self, text: str):
        with pytest.raises(Invalid, match="2026-12-25"):
            day_of(text)

    @pytest.mark.parametrize("text", ["", "Mars", "Europe", "../UTC", "a" * 100, "UTC\x00", "Zürich"])
    def test_a_zone_is_one_of_the_iana(self, text: str):
        with pytest.raises(Invalid, match="Europe/Zurich"):
            zone_of(text)


def test_another_end_is_all_that_changes():
    rule = parse_rule("RRULE:freq=weekly;BYDAY=MO;COUNT=5")
    assert rule.text == "FREQ=WEEKLY;BYDAY=MO;COUNT=5"
    ended = rule.ending(until=date(2027, 3, 1))
    assert (ended.text, ended.count) == ("FREQ=WEEKLY;BYDAY=MO;UNTIL=20270301", None)
    assert parse_rule(ended.text) == ended
