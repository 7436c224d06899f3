"""What somebody wants to start is hostile input: it is understood, or refused with what is valid."""

from __future__ import annotations

from typing import Any

import pytest

from mlmp_spawner.errors import Invalid
from mlmp_spawner.operations.admission import StartOptions
from mlmp_spawner.operations.start_options import from_form, parse
from mlmp_spawner.units import HOUR, MINUTE


def test_a_booking_is_started_by_its_id() -> None:
    assert from_form({"reservation": ["abcdefgh2345"], "_xsrf": ["x"]}) == {"reservation": "abcdefgh2345"}
    assert parse({"reservation": "abcdefgh2345"}) == StartOptions(reservation="abcdefgh2345")


def test_a_button_names_profile_and_length_and_only_its_own_units_and_image_count() -> None:
    form = {
        "duration:gpu": ["14400s"],
        "units:gpu": ["2"],
        "units:cpu": ["7"],
        "image:gpu": ["lab"],
        "image:cpu": ["x"],
    }
    assert from_form(form) == {"profile": "gpu", "duration": "14400s", "units": "2", "image": "lab"}
    assert parse(from_form(form)) == StartOptions(profile="gpu", units=2, duration=4 * HOUR, image="lab")
    assert parse(from_form(form | {"image:gpu": [""]})) == StartOptions(profile="gpu", units=2, duration=4 * HOUR)


def test_nothing_chosen_is_fine() -> None:
    assert parse({}) == parse({"profile": None, "units": ""}) == StartOptions()


def test_an_api_call_may_say_it_in_json() -> None:
    wanted = StartOptions(profile="gpu", units=2, node="big", duration=90 * MINUTE)
    assert parse({"profile": "gpu", "units": 2, "node": "big", "duration": "90m"}) == wanted


def test_where_a_booking_is_named_nothing_else_counts() -> None:
    """So that options remembered from an old booking never start something else."""
    assert parse({"reservation": "abcdefgh2345", "profile": "gpu"}) == StartOptions(reservation="abcdefgh2345")


@pytest.mark.parametrize(
    "options",
    [
        None,
        [],
        "profile=gpu",
        {"command": "evil"},
        {"image": ["lab"]},
        {"image": "lab\nevil"},
        {"environment": {"LD_PRELOAD": "x"}},
        {1: 2},
        {"reservation": "../../etc/passwd"},
        {"reservation": ["abcdefgh2345"]},
        {"reservation": "ABCDEFGH"},
        {"profile": {"$ne": 1}},
        {"profile": "gpu\nSet-Cookie: x"},
        {"profile": "g" * 100_000},
        {"units": 0},
        {"units": -1},
        {"units": True},
        {"units": 1.5},
        {"units": 10**30},
        {"units": "9" * 5000},
        {"units": "١"},
        {"units": [2]},
        {"node": 7},
        {"duration": 3600},
        {"duration": "forever"},
        {"duration": "9" * 1000 + "h"},
        {"duration": "-1h"},
    ],
)
def test_what_is_not_understood_is_refused(options: Any) -> None:
    with pytest.raises(Invalid) as refused:
        parse(options)
    assert len(refused.value.detail) < 400
    assert refused.value.detail.isprintable()


@pytest.mark.parametrize(
    "form",
    [
        {"reservation": ["abcdefgh2345", "another12345"]},
        {"reservation": [{"filename": "x", "body": b"y"}]},
        {"duration:gpu": ["1h"], "duration:cpu": ["1h"]},
        {"duration:": ["1h"], "evil": ["1"]},
        {"upload_file": [{"filename": "x"}]},
        {f"units:{number}": ["1"] for number in range(10_000)},
        {"x" * 10_000: ["1"]},
    ],
)
def test_what_is_not_our_form_is_refused(form: dict[str, list[Any]]) -> None:
    with pytest.raises(Invalid) as refused:
        from_form(form)
    assert len(refused.value.detail) < 400
