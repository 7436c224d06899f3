"""When who teaches may look into the server of a seat, and that a share never outlives that."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from sqlalchemy import delete, update

from mlmp_spawner.errors import MLMPError, NotAllowed, NotFound, NotNow, Unavailable
from mlmp_spawner.operations import admission, changes, history
from mlmp_spawner.operations.courses import courses, looking_in, roster
from mlmp_spawner.operations.courses.looking_in import LookIns
from mlmp_spawner.operations.courses.roster import Wish
from mlmp_spawner.operations.site import Actor, Site
from mlmp_spawner.rules import course_yaml
from mlmp_spawner.rules.reservations import Reservation
from mlmp_spawner.store import look_in as store
from mlmp_spawner.store.tables import reservation, users
from mlmp_spawner.store.transaction import read, transaction
from mlmp_spawner.units import MINUTE
from tests.operations.courses.term import TEACHER, course, opened, seats

S1, S2 = Actor("s1"), Actor("s2")
OTHER = Actor("other")


@dataclass
class Hub:
    """Shares, played. ``away``: it does not answer; ``dies``: it does what it is asked to, and does not answer."""

    shares: set[tuple[str, str, str]] = field(default_factory=set)
    away: bool = False
    dies: bool = False

    async def share_server(self, user: str, server: str, viewer: str) -> None:
        self._answer()
        self.shares.add((user, server, viewer))
        self._die()

    async def unshare_server(self, user: str, server: str, viewer: str) -> None:
        self._answer()
        self.shares.discard((user, server, viewer))
        self._die()

    def _answer(self) -> None:
        if self.away:
            raise Unavailable("The hub does not answer just now.")

    def _die(self) -> None:
        if self.dies:
            raise Unavailable("The hub does not answer just now.")


@dataclass
class Room:
    """A class under way; s1 and s2 have seats whose servers run."""

    site: Site
    row: Reservation
    hub: Hub
    look_ins: LookIns

    @property
    def now(self) -> int:
        return self.row.start + 20 * MINUTE

    def seat(self, name: str = "s1") -> Reservation:
        return seats(self.site, self.row.id, self.now)[name]

    def agree(self, who: Actor = S1) -> None:
        looking_in.agree(self.site, self.seat(who.name).id, actor=who, now=self.now)

    def begin(self, person: str = "s1", actor: Actor = TEACHER) -> None:
        asyncio.run(self.look_ins.begin("ml", self.row.id, person, actor=actor, now=self.now))

    def look(self, now: int | None = None) -> None:
        asyncio.run(self.look_ins.look(now or self.now))

    def rows(self) -> list[store.Looking]:
        with read(self.site.engine) as connection:
            return store.looking(connection)


@pytest.fixture
def room(site: Site) -> Room:
    allowed = replace(site, look_in=True)
    course(allowed, students=("s1", "s2"), look_in=True)
    row = opened(allowed)
    hub = Hub()
    made = Room(allowed, row, hub, LookIns(lambda: made.site, hub))
    for seat in seats(allowed, row.id).values():
        with transaction(allowed.engine) as connection:
            same = reservation.c.id == seat.id
            connection.execute(update(reservation).where(same).values(starting_at=row.start))
        admission.started(allowed, seat.id, now=row.start + MINUTE)
    return made


def test_nobody_looks_in_before_the_student_agreed_and_only_who_teaches_does_then(room: Room):
    with pytest.raises(NotNow, match="has not agreed"):
        room.begin()
    room.agree()
    for who, refusal in ((S2, NotAllowed), (OTHER, NotFound), (Actor("root", admin=True), NotAllowed)):
        with pytest.raises(refusal):
            room.begin(actor=who)
    with pytest.raises(NotNow, match="has not agreed"):
        room.begin("s2")
    assert room.hub.shares == set()
    room.begin()
    room.begin()
    assert room.hub.shares == {("s1", room.seat().server, "teacher")} and len(room.rows()) == 1
    room.look()
    assert room.hub.shares, "it holds"
    told = [entry.action for entry in history.of(room.site.engine, room.seat().id) if "look" in entry.action]
    assert told == ["look_in_agreed", "looked_in"]
    seen = looking_in.of_seat(room.site, room.seat().id, actor=S1, now=room.now)
    assert (seen.agreed_at, seen.teachers) == (room.now, ("teacher",))
    assert [(one.viewer, one.since) for one in seen.looking] == [("teacher", room.now)]


def test_nobody_but_whose_seat_it_is_agrees_or_withdraws(room: Room):
    seat = room.seat().id
    for who in (S2, TEACHER, Actor("root", admin=True)):
        for call in (looking_in.agree, looking_in.withdraw, looking_in.of_seat):
            with pytest.raises(NotAllowed):
                call(room.site, seat, actor=who, now=room.now)
    with pytest.raises(NotFound):
        looking_in.agree(room.site, "nonexistent1", actor=S1, now=room.now)


def _withdrawn(room: Room) -> None:
    looking_in.withdraw(room.site, room.seat().id, actor=S1, now=room.now)


def _released(room: Room) -> None:
    changes.cancel(room.site, room.seat().id, actor=S1, now=room.now)


def _teaches_no_more(room: Room) -> None:
    admin = Actor("root", admin=True)
    roster.change(room.site, "ml", Wish(add=("s2",), role="instructor"), actor=admin, now=room.now)
    roster.change(room.site, "ml", Wish(add=("teacher",), role="student"), actor=admin, now=room.now)


def _course_says_no(room: Room) -> None:
    written = {"name": "ml", "title": "Deep Learning", "profile": "gpu", "seats": 4}
    courses.apply(room.site, course_yaml.parse(written), actor=TEACHER, now=room.now)


def _hub_says_no(room: Room) -> None:
    room.site = replace(room.site, look_in=False)


def _user_made_again(room: Room) -> None:
    with transaction(room.site.engine) as connection:
        connection.execute(update(reservation).where(reservation.c.owner == "s1").values(owner_id=None))
        connection.execute(delete(users).where(users.c.name == "s1"))
        connection.execute(users.insert().values(id=99, name="s1"))


ENDS = [_withdrawn, _released, _teaches_no_more, _course_says_no, _hub_says_no, _user_made_again]


@pytest.mark.parametrize("ends", ENDS)
def test_the_share_is_revoked_when_it_does_not_hold_any_more(room: Room, ends: Any):
    room.agree()
    room.begin()
    ends(room)
    room.look()
    assert room.hub.shares == set() and room.rows() == []
    with pytest.raises(MLMPError):
        room.begin()
    assert room.hub.shares == set()


def test_it_ends_with_the_class_and_who_agreed_then_is_forgotten(room: Room):
    room.agree()
    room.begin()
    room.look(room.row.end)
    assert room.hub.shares == set() and room.rows() == []
    with read(room.site.engine) as connection:
        assert store.agreements(connection) == {}


@pytest.mark.parametrize("how", ["away", "dies"])
def test_what_a_hub_that_does_not_answer_left_half_done_is_finished(room: Room, how: str):
    room.agree()
    setattr(room.hub, how, True)
    with pytest.raises(Unavailable):
        room.begin()
    assert len(room.rows()) == 1, "the share may be there"
    _withdrawn(room)
    with pytest.raises(Unavailable):
        room.look()
    assert len(room.rows()) == 1
    setattr(room.hub, how, False)
    after = LookIns(lambda: room.site, room.hub)  # as a service that was started again
    asyncio.run(after.look(room.now))
    assert room.hub.shares == set() and room.rows() == []


def test_one_who_withdraws_while_the_share_is_being_made_is_not_looked_into(room: Room):
    room.agree()
    making, may_go_on = asyncio.Event(), asyncio.Event()
    share = room.hub.share_server

    class Slow(Hub):
        async def share_server(self, user: str, server: str, viewer: str) -> None:
            making.set()
            await may_go_on.wait()
            await share(user, server, viewer)

        async def unshare_server(self, user: str, server: str, viewer: str) -> None:
            await room.hub.unshare_server(user, server, viewer)

    async def race() -> None:
        look_ins = LookIns(lambda: room.site, Slow())
        begins = asyncio.create_task(look_ins.begin("ml", room.row.id, "s1", actor=TEACHER, now=room.now))
        await making.wait()
        await asyncio.to_thread(_withdrawn, room)
        ends = asyncio.create_task(look_ins.look(room.now))
        may_go_on.set()
        await asyncio.gather(begins, ends)

    asyncio.run(race())
    assert room.hub.shares == set() and room.rows() == []


def test_a_server_that_does_not_run_is_not_shared(room: Room):
    room.agree()
    with transaction(room.site.engine) as connection:
        same = reservation.c.id == room.seat().id
        connection.execute(update(reservation).where(same).values(starting_at=None, started_at=None))
    with pytest.raises(NotNow, match="does not run"):
        room.begin()
    assert room.rows() == []


def test_it_is_offered_for_seats_of_courses_that_have_it_alone(room: Room):
    seat = room.seat().id
    assert looking_in.of_seat(room.site, seat, actor=S1, now=room.now).why == ""
    assert looking_in.of_seat(room.site, seat, actor=S1, now=room.row.end).why == looking_in.NOT_NOW
    _course_says_no(room)
    assert looking_in.of_seat(room.site, seat, actor=S1, now=room.now).why == looking_in.NOT_THIS_COURSE
    _hub_says_no(room)
    assert looking_in.of_seat(room.site, seat, actor=S1, now=room.now).why == looking_in.NOT_HERE
    with pytest.raises(NotNow):
        looking_in.agree(room.site, seat, actor=S1, now=room.now)
    with pytest.raises(NotNow):
        looking_in.agree(room.site, room.row.id, actor=Actor(room.row.owner), now=room.now)
