"""A class as who teaches sees it: who is in, who is stuck and why, more time, a word to everybody, their servers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from mlmp_spawner.errors import Invalid, MLMPError, NotFound
from mlmp_spawner.operations.courses import running
from mlmp_spawner.operations.courses.running import Room
from mlmp_spawner.rules import class_tiles
from mlmp_spawner.rules.class_servers import What
from mlmp_spawner.rules.class_tiles import Status
from mlmp_spawner.rules.reservations import Reservation
from mlmp_spawner.units import MINUTE, SECOND
from mlmp_spawner.web.api.class_room import status_of, tell
from mlmp_spawner.web.api.courses import checked_name
from mlmp_spawner.web.auth import Right
from mlmp_spawner.web.pages.base import Page

LONGER = 15 * MINUTE
"""How much longer a class goes on at one click (ms)."""

LOOKS_EVERY = 10 * SECOND
"""Who comes into a server leaves no line in the history: so often (ms) the page looks by itself."""

DID = {
    "booked": "It is booked, with all dates that you asked for.",
    "extended": "The class goes on longer, and so do the seats in it.",
    "said": "Everybody with a seat is told.",
    "start": "Servers are being started, one after another.",
    "stop": "Servers are being stopped.",
    "restart": "Servers are being stopped, and started again.",
    "none": "There was nothing to start: all run, or are about to.",
}


@dataclass(frozen=True, slots=True)
class Tile:
    """A seat that somebody has, how it is, and why where it is stuck."""

    seat: Reservation
    status: Status
    why: str


class OneClass(Page):
    """For those who run the course."""

    here = "courses"
    right: Right = "run"

    @property
    def address(self) -> str:
        """Below the course, also as the answer of a form."""
        return f"courses/{self.path_args[0]}/classes/{self.path_args[1]}"

    async def get(self, name: str, class_id: str) -> None:
        """Shows it as it is now."""
        await self.show()

    async def show(self, *, problem: MLMPError | None = None) -> None:
        """The class. :param problem: why something was refused."""
        name, now = checked_name(self.path_args[0]), self.now
        room = await self.context.run(running.look, self.site, name, self.path_args[1], actor=self.me.actor(), now=now)
        tiles = self._tiles(room)
        only, search = self._wanted()
        live = await self.live()
        changes = [at for at in (room.row.start, room.one.begins, room.row.end) if at > now]
        if room.row.state(now) == "active":
            changes.append(now + LOOKS_EVERY)
        self.render_page(
            "course_class.html", wide=True, course=room.course, one=room.one, row=room.row, state=room.row.state(now),
            counts=class_tiles.counts(tile.status for tile in tiles), many=len(tiles),
            tiles=[tile for tile in tiles if only in ("", tile.status) and search.lower() in tile.seat.owner.lower()],
            only=only, search=search, free=room.free, without=room.without, longer=LONGER,
            problems=self._problems(room), done=DID.get(self.query().get("did", "")),
            problem=problem.problem() if problem else None, longest_message=running.LONGEST_MESSAGE,
            said=self.field("text") if problem and "text" in self.request.body_arguments else "",
            **{**live, "next": min([*changes, *filter(None, [live["next"]])], default=None)},
        )  # fmt: skip

    def _tiles(self, room: Room) -> list[Tile]:
        """Those who are stuck first, then by name."""
        servers = self.context.classes.servers if self.context.classes else None
        active = [seat for seat in room.seats if seat.state(self.now) == "active"]
        found = [Tile(seat, *status_of(seat, self.now, servers, room.wishes.get(seat.id))) for seat in active]
        return sorted(found, key=lambda tile: (tile.status != "stuck", tile.seat.owner))

    def _problems(self, room: Room) -> list[str]:
        return self.context.classes.watch.last.get(room.row.id, []) if self.context.classes else []

    def _wanted(self) -> tuple[str, str]:
        """Which tiles are shown: of which status, with what in the name; a form brings it back."""
        said: Mapping[str, str] = self.query()
        if self.request.method == "POST":
            said = {"show": self.field("show"), "q": self.field("q")}
        only = said.get("show", "")
        return (only if only in class_tiles.STATUSES else ""), said.get("q", "")[:100]


class ClassAction(OneClass):
    """A form of a class."""

    async def get(self, name: str, class_id: str, action: str) -> None:  # type: ignore[override]
        """There is nothing to see here: a reload after a refusal leads to the class."""
        self.go(self.address)

    async def post(self, name: str, class_id: str, action: str) -> None:
        """Does it, and shows the class."""
        try:
            did = await self._do(checked_name(name), class_id, action)
        except NotFound:
            raise
        except MLMPError as error:
            await self.refuse(error)
            return
        only, search = self._wanted()
        kept = {key: value for key, value in (("show", only), ("q", search)) if value}
        self.go(self.address, did=did, **kept)

    async def _do(self, course: str, class_id: str, action: str) -> str:
        context, site = self.context, self.site
        by: dict[str, Any] = {"actor": self.me.actor(), "now": self.now}
        if action == "extend":
            _, seats = await context.run(running.extend, site, course, class_id, LONGER, **by)
            await tell(context, seats)
            return "extended"
        if action == "message":
            await context.run(running.say, site, course, class_id, self.field("text"), **by)
            context.feed.wake()
            return "said"
        what, person = self.field("what"), self.field("person")
        if what not in get_args(What):
            raise Invalid.field("what", f"valid: {', '.join(get_args(What))}")
        done = await context.run(running.servers, site, course, class_id, what, [person] if person else None, **by)
        context.feed.wake()
        return what if done else "none"
