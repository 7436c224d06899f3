"""The form that moves, resizes or renames a booking."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from mlmp_spawner.errors import Invalid, MLMPError
from mlmp_spawner.operations import changes, series_changes
from mlmp_spawner.operations.changes import Changes
from mlmp_spawner.rules.reservations import Reservation
from mlmp_spawner.units import to_iso
from mlmp_spawner.web import answers, models, views
from mlmp_spawner.web.api.common import tell
from mlmp_spawner.web.auth import Right
from mlmp_spawner.web.pages.bookings import One
from mlmp_spawner.web.problems import as_error
from mlmp_spawner.web.times import from_input, to_input


class Change(One):
    """What the form sends: only what differs from what it showed is changed, and only if nobody else was quicker."""

    right: Right = "book"

    async def get(self, wanted: str) -> None:
        """There is nothing to see here: a reload after a refusal leads to the booking."""
        self.go(f"bookings/{wanted}")

    async def post(self, wanted: str) -> None:
        """Changes it."""
        found = await self.own(wanted)
        try:
            changed, dates = await self._change(found)
            await tell(self.context, changed)
        except (MLMPError, ValidationError) as error:
            await self.refuse(as_error(error))
            return
        self.go(f"bookings/{wanted}", did="changed", id=found.id, **({"dates": str(dates)} if dates > 1 else {}))

    async def _change(self, found: Reservation) -> tuple[Reservation, int]:
        """The booking as it is now, and how many were changed."""
        which, said, seen = self.which(), self._changes(found), answers.version_of(self.field("version") or None)
        who = {"actor": self.me.actor(), "now": self.now, "if_match": seen}
        if which == "this":
            why = self.message(found)
            return await self.context.run(changes.change, self.site, found.id, said, message=why, **who), 1
        done = await self.context.run(series_changes.change, self.site, found.id, said, which=which, **who)
        return done.reservation, len(done.touched)

    def _changes(self, found: Reservation) -> Changes:
        """What the form says beyond what is.

        :raises Invalid: something is not what its field takes. :raises ValidationError: see the API's model.
        """
        given: dict[str, Any] = {}
        for name, is_now in (("start", found.start), ("end", found.end)):
            text = self.field(name)
            if text and text != to_input(is_now, self.zone):  # the field knows no seconds
                given[name] = self._instant(name, text)
        if "start" in given and "end" not in given and self.field("end"):
            given["end"] = found.end
        units = self.field("units")
        if units:
            whole = units.isascii() and units.isdigit() and len(units) < 10
            given["units"] = int(units) if whole else units
        given |= {name: self.field(name) for name in ("title", "node") if name in self.request.body_arguments}
        image = self.field("image") if "image" in self.request.body_arguments else None
        if image is not None and image != self._image(found):
            given["image"] = image or None
        node = given.pop("node", None)
        checked = models.Change.model_validate({**given, "node": node or None} if node is not None else given)
        said = {name: getattr(checked, name) for name in checked.model_fields_set - {"node", "image"}}
        if node is not None and node != views.chosen_node(found):
            said["node"] = node
        if "image" in given:
            said["image"] = checked.image or ""
        return Changes(**said)

    def _image(self, found: Reservation) -> str:
        """The image that the form shows as chosen: "" for the profile's first."""
        profile = self.site.catalog.profiles.get(found.profile)
        first = profile.images[0] if profile and profile.images else None
        return "" if found.image == first else found.image or ""

    def _instant(self, name: str, text: str) -> str:
        """As the API writes it."""
        try:
            return to_iso(from_input(text, self.zone))
        except (ValueError, OverflowError) as error:
            raise Invalid.field(name, "it is not a time") from error
