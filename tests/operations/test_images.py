"""Which image a booking's server runs: chosen among its profile's, on a cluster only."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mlmp_spawner.errors import Invalid, NoCapacity, NotNow
from mlmp_spawner.operations import admission, availability, series, series_changes
from mlmp_spawner.operations.admission import StartOptions
from mlmp_spawner.operations.booking import book
from mlmp_spawner.operations.changes import Changes, change
from mlmp_spawner.operations.requests import BookingRequest, Recurrence
from mlmp_spawner.operations.site import Site
from mlmp_spawner.rules.catalog import Image
from mlmp_spawner.rules.reservations import Reservation, chain_end
from mlmp_spawner.units import DAY, HOUR
from tests.operations.conftest import NOW, ann, ben

NAMES = ("lab", "torch")


@pytest.fixture
def pods(site: Site) -> Site:
    """The site on a cluster: its profile has two images, and there is a third."""
    images = {name: Image(name=name, reference=f"example.org/{name}:1") for name in (*NAMES, "old")}
    gpu = site.catalog.profiles["gpu"].model_copy(update={"images": NAMES})
    return replace(
        site, images=True, catalog=site.catalog.model_copy(update={"images": images, "profiles": {"gpu": gpu}})
    )


def booked(site: Site, **fields: object) -> Reservation:
    wanted: dict[str, object] = {"profile": "gpu", "duration": HOUR} | fields
    return book(site, BookingRequest(**wanted), actor=ann, now=NOW)  # type: ignore[arg-type]


def runs(site: Site, row: Reservation) -> str | None:
    image = site.catalog.image_of(row.profile, row.image)
    return image.name if image else None


def test_a_booking_keeps_the_image_that_was_chosen(pods: Site):
    assert booked(pods, image="torch").image == "torch"


def test_without_a_choice_it_is_the_profiles_first(pods: Site):
    row = booked(pods)
    assert row.image is None
    assert runs(pods, row) == "lab"


@pytest.mark.parametrize("name", ["old", "Torch", "", "x" * 255])
def test_another_image_is_refused_with_the_valid_ones(pods: Site, name: str):
    with pytest.raises(Invalid) as refusal:
        booked(pods, image=name)
    (error,) = refusal.value.data["errors"]
    assert error["field"] == "image"
    assert "valid: lab, torch" in error["message"]


def test_on_one_machine_there_is_none_to_choose(pods: Site):
    machine = replace(pods, images=False)
    with pytest.raises(Invalid, match="processes of this machine"):
        booked(machine, image="torch")
    assert machine.choice_of_images(machine.catalog.profiles["gpu"]) == ()
    assert [offer.images for offer in availability.offer(machine, actor=ann, now=NOW).profiles] == [()]


def test_a_choice_is_offered_where_there_is_more_than_one(pods: Site):
    (offer,) = availability.offer(pods, actor=ann, now=NOW).profiles
    assert [image.name for image in offer.images] == ["lab", "torch"]
    one = pods.catalog.profiles["gpu"].model_copy(update={"images": ("lab",)})
    assert pods.choice_of_images(one) == ()


def test_an_image_that_left_the_catalog_gives_way_to_the_first(pods: Site):
    row = booked(pods, image="torch")
    images = {name: image for name, image in pods.catalog.images.items() if name != "torch"}
    assert runs(replace(pods, catalog=pods.catalog.model_copy(update={"images": images})), row) == "lab"


def test_one_that_the_profile_no_longer_offers_is_kept_for_who_booked_it(pods: Site):
    row = booked(pods, image="torch")
    gpu = pods.catalog.profiles["gpu"].model_copy(update={"images": ("lab",)})
    assert runs(replace(pods, catalog=pods.catalog.model_copy(update={"profiles": {"gpu": gpu}})), row) == "torch"


def test_a_walk_up_has_the_image_of_its_form(pods: Site):
    wanted = StartOptions(profile="gpu", duration=HOUR, image="torch")
    assert admission.admit(pods, actor=ann, server="", options=wanted, now=NOW).reservation.image == "torch"


def test_an_image_can_be_changed_until_a_server_runs_in_it(pods: Site):
    row = booked(pods)
    assert change(pods, row.id, Changes(image="torch"), actor=ann, now=NOW).image == "torch"
    admission.admit(pods, actor=ann, server="", options=StartOptions(), now=NOW)
    with pytest.raises(NotNow, match="running"):
        change(pods, row.id, Changes(image=""), actor=ann, now=NOW)
    assert change(pods, row.id, Changes(title="same", image="torch"), actor=ann, now=NOW).title == "same"
    admission.gone(pods, row.id, now=NOW)
    assert change(pods, row.id, Changes(image=""), actor=ann, now=NOW).image is None
    with pytest.raises(Invalid, match="image"):
        change(pods, row.id, Changes(image="old"), actor=ann, now=NOW)


def test_what_follows_on_a_booking_has_its_image_so_that_the_server_goes_on(pods: Site):
    first = booked(pods, image="torch")
    second = booked(pods, start=first.end)
    assert second.image == "torch"
    assert chain_end(first, [first, second]) == second


def test_another_image_is_another_server(pods: Site):
    first = booked(pods, image="torch")
    second = booked(pods, start=first.end, image="lab")
    assert chain_end(first, [first, second]) == first


def test_all_of_a_series_have_the_image_and_it_can_be_had_again(pods: Site):
    rule = Recurrence("FREQ=DAILY;COUNT=3", "UTC")
    request = BookingRequest("gpu", start=NOW + DAY, duration=HOUR, image="torch", recurrence=rule)
    first = series.book(pods, request, actor=ann, now=NOW)
    _, rows = series_changes.look(pods, str(first.series))
    assert {row.image for row in rows} == {"torch"}
    series_changes.change(pods, first.id, Changes(image=""), which="all", actor=ann, now=NOW)
    _, rows = series_changes.look(pods, str(first.series))
    assert {row.image for row in rows} == {None}
    series_changes.change(pods, first.id, Changes(image="torch"), which="all", actor=ann, now=NOW)
    undo = series_changes.cancel(pods, first.id, which="all", actor=ann, now=NOW).undo
    assert undo is not None
    assert undo["image"] == "torch"


def test_alternatives_keep_the_image(pods: Site):
    book(pods, BookingRequest("gpu", duration=HOUR, units=4), actor=ben, now=NOW)
    with pytest.raises(NoCapacity) as refusal:
        booked(pods, units=4, image="torch")
    assert {request["request"]["image"] for request in refusal.value.data["alternatives"]} == {"torch"}
