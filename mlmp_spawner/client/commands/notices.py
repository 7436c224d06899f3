"""``mlmp notices``, ``calendar``: what you were told, and your bookings in other calendars."""

from __future__ import annotations

import click

from mlmp_spawner.client import show
from mlmp_spawner.client.session import Session, command
from mlmp_spawner.errors import Conflict
from mlmp_spawner.units import from_iso


@command()
@click.option("--unread", is_flag=True, help="Only what you have not read.")
@click.option("--read", "mark", is_flag=True, help="Mark what is shown as read.")
@click.option(
    "--limit", type=click.IntRange(1, 200), default=20, show_default=True, help="At most so many, the newest."
)
def notices(session: Session, unread: bool, mark: bool, limit: int) -> None:
    """What you were told, newest first."""
    clock = session.clock()
    found = session.client.notices(zone=clock.zone_name, limit=limit, unread="true" if unread else None)
    items = found["items"]
    if mark and items:
        found["unread"] = session.client.read_notices(max(int(item["id"]) for item in items))
    if session.json:
        show.print_json(found)
        return
    if not items:
        session.say("Nothing that you have not read." if unread else "Nothing yet.")
        return
    rows = [
        (clock.time(from_iso(str(one["at"]))), "" if one["read"] else "new", one["headline"], one["reservation"] or "")
        for one in items
    ]
    caption = f"{found['unread']} unread; times in {clock.zone_name}"
    show.table(session.out, ("when", "", "what", "booking"), rows, caption=caption)


@command()
@click.option("--new", is_flag=True, help="Make another address; the one that there is ends.")
@click.option("--revoke", is_flag=True, help="End the address that there is.")
def calendar(session: Session, new: bool, revoke: bool) -> None:
    """Make an address by which Thunderbird, Google or Apple calendars show your bookings, and print it.

    It is said once, and who has it can read your bookings.
    """
    if revoke:
        session.client.revoke_calendar()
        answer: dict[str, object] = {"url": None, "since": None}
    else:
        since = session.client.preferences().get("calendar_since")
        if since and not new:
            raise Conflict(
                f"You made an address on {session.clock().time(from_iso(str(since)))}; it can't be said again.",
                hint="mlmp calendar --new makes another and ends that one; mlmp calendar --revoke ends it.",
            )
        answer = session.client.make_calendar()
    if session.json:
        show.print_json(answer)
    else:
        session.say(str(answer["url"]) if answer["url"] else "The address of your calendar is dead.")
