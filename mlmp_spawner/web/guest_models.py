"""What the API takes and gives of guests, as types."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

from mlmp_spawner.operations.courses.guests import MOST_AT_ONCE
from mlmp_spawner.web.models import Duration, Instant, InstantIn, Request


class CodesBody(Request):
    """How many guests are invited, until when."""

    count: Annotated[int, Field(strict=True, ge=1, le=MOST_AT_ONCE)]
    until: InstantIn = Field(description="when the codes, and the time of the guests who came by them, are over")


class Code(BaseModel):
    """An invitation for one person. It is shown this once."""

    code: str = Field(description="to be typed at `address`")
    link: str = Field(description="the same as a link")


class Codes(BaseModel):
    """New invitations."""

    items: list[Code]
    next_cursor: str | None = None
    address: str = Field(description="where codes are entered")
    until: Instant
    erased_after: Duration = Field(description="from the end of a guest's time until files and account are erased")


class Guest(BaseModel):
    """Somebody who came by a code."""

    name: str
    came_at: Instant
    until: Instant
    ended_at: Instant | None = Field(description="since when servers and login are gone")
    erased_from: Instant = Field(description="when files and account are erased")


class Guests(BaseModel):
    """The guests of a course who are not erased."""

    items: list[Guest]
    next_cursor: str | None = None
    open_codes: int = Field(description="invitations that nobody used yet")


class Withdrawn(BaseModel):
    """How many invitations are useless now."""

    withdrawn: int
