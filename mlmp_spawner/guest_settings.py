"""The settings of guests, part of ``c.MLMP``."""

from __future__ import annotations

from traitlets import Enum, Float
from traitlets.config import Configurable

WHY_NONE = (
    "There can be no guests here: no account of theirs could keep them apart. Guests need `mlmp up --auth pam`, or a "
    "cluster; and one where the login says everybody's account needs a number for guests (users.guestUid)."
)


class GuestSettings(Configurable):
    """What of ``c.MLMP`` is about guests."""

    guest_isolation = Enum(
        ("none", "account", "pod"),
        "none",
        help="""What keeps a guest's server and files apart from those of others: an ``account`` of the system for each
        guest, or each server's ``pod``. ``mlmp up --auth pam`` and the Helm chart set it; with ``none`` there are no
        guests.""",
    ).tag(config=True)
    guest_erase_after = Float(
        3 * 86_400,
        min=0,
        help="""Seconds from the end of a guest's time, which ends servers and login, until files and account are
        erased. Guests are told of it when they come.""",
    ).tag(config=True)

    @property
    def guest_erase_after_ms(self) -> int:
        """:attr:`guest_erase_after` in ms."""
        return round(self.guest_erase_after * 1000)
