"""The end of guests, step by step, with a hub that fails and a service that is killed between any two steps."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import func, insert, select

from mlmp_spawner.errors import Conflict, Unavailable
from mlmp_spawner.hub import HubClient
from mlmp_spawner.jobs.files import JobFiles
from mlmp_spawner.operations import booking, guest_ends, history
from mlmp_spawner.operations.courses import guests
from mlmp_spawner.operations.guest_ends import NOT_IN, GuestEnds
from mlmp_spawner.operations.requests import BookingRequest
from mlmp_spawner.operations.site import Actor, Site
from mlmp_spawner.store import courses as course_store
from mlmp_spawner.store import guests as store
from mlmp_spawner.store.tables import reservation, users
from mlmp_spawner.store.transaction import read, transaction
from mlmp_spawner.units import DAY, HOUR
from tests.operations.conftest import NOW, ann
from tests.operations.courses.test_courses import apply, roles

DELAY = DAY
END = NOW + 2 * HOUR


class PlayedHub(HubClient):
    """A hub that keeps what it was asked. ``slow``: whose servers take their time; ``away``: it does not answer."""

    def __init__(self) -> None:
        self.ended: list[str] = []
        self.erased: list[str] = []
        self.slow: set[str] = set()
        self.away = False

    async def end_guest(self, name: str) -> bool:
        if self.away:
            raise Unavailable("The hub does not answer just now.")
        self.ended.append(name)
        return name not in self.slow

    async def erase_guest(self, name: str) -> bool:
        if self.away:
            raise Unavailable("The hub does not answer just now.")
        self.erased.append(name)
        return name not in self.slow


@pytest.fixture
def hub() -> PlayedHub:
    return PlayedHub()


@pytest.fixture
def files(tmp_path: Path) -> JobFiles:
    made = JobFiles(tmp_path / "jobs")
    made.prepare()
    return made


@pytest.fixture
def ends(site: Site, hub: PlayedHub, files: JobFiles) -> GuestEnds:
    apply(site, guests=5)
    return GuestEnds(lambda: site, hub, DELAY, files)


def come(site: Site, *, enter: bool = True, until: int = END) -> str:
    """A guest, and their name."""
    (code,) = guests.new_codes(site.engine, "ml", 1, until=until, actor=ann, now=NOW)
    guest = guests.redeem(site.engine, code, erase_after=DELAY, now=NOW)
    assert guest is not None
    if enter:
        guests.entered(site.engine, guest.name, now=NOW)
        with transaction(site.engine) as connection:
            known = connection.execute(select(func.max(users.c.id))).scalar_one()
            connection.execute(insert(users).values(id=known + 1, name=guest.name))
    return guest.name


def found(site: Site, name: str) -> store.Guest | None:
    with read(site.engine) as connection:
        return store.find(connection, name)


def told(site: Site, name: str) -> list[str]:
    """What the history has of a guest."""
    return [one.action for one in history.since(site.engine, 0) if one.owner == name and one.reservation is None]


async def test_before_the_end_nothing_is_done(site: Site, ends: GuestEnds, hub: PlayedHub) -> None:
    name = come(site)
    await ends.look(END - 1)
    assert (hub.ended, hub.erased) == ([], [])
    assert name in roles(site)


async def test_at_the_end_nobody_is_in_and_the_files_stay_for_the_stated_delay(
    site: Site, ends: GuestEnds, hub: PlayedHub
) -> None:
    name = come(site)
    await ends.look(END)
    await ends.look(END + DELAY - 1)
    assert (hub.ended, hub.erased) == ([name], [])
    assert name not in roles(site)
    await ends.look(END + DELAY)
    await ends.look(END + 2 * DELAY)
    assert (hub.ended, hub.erased) == ([name], [name])
    assert told(site, name) == ["guest_invited", "guest_left", "guest_erased"]
    guest = found(site, name)
    assert guest is not None and guest.erased_at == END + DELAY


async def test_bookings_are_given_back_and_what_they_were_called_is_forgotten(site: Site, ends: GuestEnds) -> None:
    name = come(site)
    actor = guests.as_known(site, Actor(name))
    for start in (NOW, END + HOUR):
        request = BookingRequest(profile="gpu", start=start, duration=4 * HOUR, title="Karl's thesis", server=None)
        booking.book(site, request, actor=actor, now=NOW)
    await ends.look(END)
    await ends.look(END + DELAY)
    with read(site.engine) as connection:
        rows = connection.execute(select(reservation).where(reservation.c.owner == name)).all()
    assert sorted(row.end_reason for row in rows) == ["cancelled", "released"]
    assert {row.title for row in rows} == {""}


async def test_what_takes_its_time_is_asked_again_and_recorded_when_it_is_done(
    site: Site, ends: GuestEnds, hub: PlayedHub
) -> None:
    name, other = come(site), come(site)
    hub.slow = {name}
    await ends.look(END + DELAY)
    assert told(site, name) == ["guest_invited"]
    assert "guest_erased" in told(site, other)
    hub.slow = set()
    await ends.look(END + DELAY + 1)
    assert told(site, name) == ["guest_invited", "guest_left", "guest_erased"]


async def test_a_hub_that_is_away_is_asked_again(site: Site, ends: GuestEnds, hub: PlayedHub) -> None:
    name = come(site)
    hub.away = True
    await ends.look(END + DELAY)
    assert told(site, name) == ["guest_invited"]
    hub.away = False
    await ends.look(END + DELAY + 1)
    assert told(site, name)[-1] == "guest_erased"


@pytest.mark.parametrize("step", ["_cancel_jobs", "_give_back", "_ended", "_erase_jobs", "_erased"])
async def test_a_service_that_is_killed_anywhere_goes_on_where_it_was(
    site: Site, ends: GuestEnds, hub: PlayedHub, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = come(site)

    def killed(*_: object) -> None:
        raise MemoryError("killed here")

    with monkeypatch.context() as broken:
        broken.setattr(guest_ends, step, killed)
        await ends.look(END + DELAY)
    assert "guest_erased" not in told(site, name)
    await ends.look(END + DELAY + 1)
    assert told(site, name) == ["guest_invited", "guest_left", "guest_erased"]


async def test_who_never_came_in_leaves_nothing_and_the_code_is_good_again(
    site: Site, ends: GuestEnds, hub: PlayedHub
) -> None:
    (code,) = guests.new_codes(site.engine, "ml", 1, until=END, actor=ann, now=NOW)
    lost = guests.redeem(site.engine, code, erase_after=DELAY, now=NOW)
    assert lost is not None
    await ends.look(NOW + NOT_IN)
    assert guests.redeem(site.engine, code, erase_after=DELAY, now=NOW + NOT_IN) is None
    await ends.look(NOW + NOT_IN + 1)
    assert hub.erased == [lost.name]
    assert found(site, lost.name) is None
    assert lost.name not in roles(site)
    again = guests.redeem(site.engine, code, erase_after=DELAY, now=NOW + NOT_IN + 1)
    assert again is not None and again.name != lost.name


async def test_a_code_that_is_withdrawn_while_somebody_comes_is_not_good_again(
    site: Site, ends: GuestEnds, hub: PlayedHub
) -> None:
    first, second = guests.new_codes(site.engine, "ml", 2, until=END, actor=ann, now=NOW)
    lost = guests.redeem(site.engine, first, erase_after=DELAY, now=NOW)
    assert lost is not None and guests.withdraw(site.engine, "ml", actor=ann, now=NOW) == 1
    await ends.look(NOW + NOT_IN + 1)
    assert hub.erased == [lost.name] and found(site, lost.name) is None
    assert guests.redeem(site.engine, first, erase_after=DELAY, now=NOW + NOT_IN + 2) is None
    assert guests.redeem(site.engine, second, erase_after=DELAY, now=NOW + NOT_IN + 2) is None


async def test_a_guest_who_is_ended_while_coming_does_not_get_in_nor_come_again(site: Site, ends: GuestEnds) -> None:
    (code,) = guests.new_codes(site.engine, "ml", 1, until=END, actor=ann, now=NOW)
    coming = guests.redeem(site.engine, code, erase_after=DELAY, now=NOW)
    assert coming is not None
    guests.end(site.engine, "ml", coming.name, erase_after=DELAY, actor=ann, now=NOW + 1)
    with pytest.raises(Conflict):
        guests.entered(site.engine, coming.name, now=NOW + 2)
    await ends.look(NOW + NOT_IN + 1)
    assert guests.redeem(site.engine, code, erase_after=DELAY, now=NOW + NOT_IN + 2) is None


async def test_who_was_given_up_can_t_come_in_any_more(site: Site, ends: GuestEnds, hub: PlayedHub) -> None:
    name = come(site, enter=False)
    hub.slow = {name}
    await ends.look(NOW + NOT_IN + 1)
    with pytest.raises(Conflict):
        guests.entered(site.engine, name, now=NOW + NOT_IN + 1)
    hub.slow = set()
    await ends.look(NOW + NOT_IN + 2)
    assert found(site, name) is None


async def test_who_came_in_at_the_last_moment_stays(site: Site, ends: GuestEnds, hub: PlayedHub) -> None:
    name = come(site)
    await ends.look(NOW + NOT_IN + 1)
    assert hub.erased == []
    assert guests.is_let_in(site.engine, name, now=NOW + NOT_IN + 1)


async def test_guests_of_a_course_that_is_gone_are_over(site: Site, ends: GuestEnds, hub: PlayedHub) -> None:
    name = come(site)
    with transaction(site.engine) as connection:
        course_store.delete_course(connection, "ml")
    await ends.look(NOW + 1)
    assert hub.ended == [name]
    await ends.look(NOW + DELAY)
    assert hub.erased == []
    await ends.look(NOW + 1 + DELAY)
    assert told(site, name)[-1] == "guest_erased"
