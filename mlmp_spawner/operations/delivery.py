"""The way of notices out of the house: planned with the person's choices, claimed, sent, written down.

Each step is a transaction of its own. A delivery is claimed before it is sent, so that two services never send the
same; who is killed between sending and writing that down sends it once more later (*at least once*), and a mail that
comes twice has the same Message-ID. What fails is tried again ever later, and given up after
:attr:`Outbox.keep_trying`; the last error is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timezone, tzinfo
from typing import Any, Literal

from sqlalchemy import Connection, and_, insert, or_, select, update

from mlmp_spawner.errors import ConfigurationError
from mlmp_spawner.operations import notices, people, webhook
from mlmp_spawner.operations.mail import Letter, MailServer
from mlmp_spawner.operations.notices import Notice
from mlmp_spawner.operations.people import Person, Ways
from mlmp_spawner.operations.site import Site
from mlmp_spawner.rules import wording
from mlmp_spawner.rules.notices import Kind, Shape, next_try, useless_after
from mlmp_spawner.settings import MLMP as Settings
from mlmp_spawner.store.tables import delivery, notice
from mlmp_spawner.store.transaction import read, transaction
from mlmp_spawner.units import DAY, MINUTE

Way = Literal["mail", "webhook", "site"]
"""``site``: a webhook of the site, for a team's channel."""

CLAIM = 4 * MINUTE
"""How long a claim holds; longer than the slowest round of sending may take."""

PLANNED_AT_ONCE = 500
SENT_AT_ONCE = 50
TOO_LATE = "too late to matter"


@dataclass(frozen=True, slots=True)
class SiteHook:
    """A webhook for a team's channel."""

    url: str
    kinds: frozenset[Kind]
    shape: Shape = "slack"


@dataclass(frozen=True, slots=True)
class Outbox:
    """How the site sends notices. ``pages``: where MLMP's pages are, with a slash at the end ("": not known, so no
    links); ``zone``: of times in mails; ``keep_trying`` and ``keep`` (how long notices are kept) in ms."""

    mail: MailServer | None = None
    ways: Ways = field(default_factory=Ways)
    hooks: tuple[SiteHook, ...] = ()
    pages: str = ""
    zone: tzinfo = timezone.utc
    keep_trying: int = 2 * DAY
    keep: int = 60 * DAY
    show_owners: bool = True


@dataclass(frozen=True, slots=True)
class Delivery:
    """One claimed delivery. ``claim`` names the claim: until when it holds (ms UTC)."""

    notice: Notice
    person: Person
    way: Way
    address: str
    tries: int
    claim: int


def outbox_of(settings: Settings, pages: str, zone: tzinfo) -> Outbox:
    """What the settings say. :param pages: where MLMP's pages are. :param zone: the site's.

    :raises ConfigurationError: mail is to be sent, but nobody says from whom.
    """
    if settings.mail_server and not settings.mail_from:
        raise ConfigurationError(["c.MLMP.mail_server is set: say in c.MLMP.mail_from whom mails are from"])
    server = MailServer(
        settings.mail_server, settings.mail_from, settings.mail_port, settings.mail_security, settings.mail_user,
        settings.mail_password_file,
    )  # fmt: skip
    ways = Ways(
        mail=bool(settings.mail_server), template=settings.mail_address, choose=settings.mail_choose,
        webhook_hosts=settings.webhook_hosts,
    )  # fmt: skip
    return Outbox(
        mail=server if settings.mail_server else None,
        ways=ways,
        hooks=tuple(
            SiteHook(hook["url"], frozenset(hook["kinds"]), hook.get("shape", "slack")) for hook in settings.webhooks
        ),
        pages=pages,
        zone=zone,
        keep_trying=round(settings.notice_keep_trying * 1000),
        keep=settings.notice_keep * DAY,
        show_owners=settings.show_owners,
    )


def plan(site: Site, outbox: Outbox, *, now: int) -> int:
    """Writes down what of the new notices is to be sent where; how many notices were new."""
    with transaction(site.engine) as connection:
        new = select(notice.c.id).where(notice.c.planned_at.is_(None)).order_by(notice.c.id).limit(PLANNED_AT_ONCE)
        ours = update(notice).where(notice.c.id.in_(new.scalar_subquery()), notice.c.planned_at.is_(None))
        rows = connection.execute(ours.values(planned_at=now).returning(notice)).all()
        found = [notices.of_row(row._mapping) for row in rows]
        if not found:
            return 0
        persons = people.by_id(connection, {one.user_id for one in found})
        values = []
        for one in found:
            late = _useless(one, now)  # noted, not sent
            fate = {"due_at": now, "given_up_at": now if late else None, "error": TOO_LATE if late else None}
            if (person := persons.get(one.user_id)) is not None:
                values += [
                    {"notice": one.id, "channel": way, "address": address, **fate}
                    for way, address in _ways(outbox, one, person)
                ]
        if values:
            connection.execute(insert(delivery), values)
        return len(found)


def _useless(one: Notice, now: int) -> bool:
    until = useless_after(one.kind, one.at, one.details)
    return until is not None and now > until


def _ways(outbox: Outbox, one: Notice, person: Person) -> Iterable[tuple[Way, str]]:
    """Where a notice goes, by the choices as they are now."""
    channels = person.channels(one.kind)
    if "mail" in channels and (address := person.mail_address(outbox.ways)):
        yield "mail", address
    if "webhook" in channels and (address := person.webhook_address(outbox.ways)):
        yield "webhook", address
    for url in sorted({hook.url for hook in outbox.hooks if one.kind in hook.kinds}):
        yield "site", url


def claim(site: Site, outbox: Outbox, ways: Iterable[Way], *, now: int) -> list[Delivery]:
    """Claims what is due, oldest first. What is too late, or not wished any more, is given up instead."""
    c = delivery.c
    free = and_(c.sent_at.is_(None), c.given_up_at.is_(None), c.due_at <= now)
    free = and_(free, or_(c.claimed_until.is_(None), c.claimed_until <= now), c.channel.in_(list(ways)))
    with read(site.engine) as connection:
        query = select(c.notice, c.channel, c.address).where(free).order_by(c.due_at, c.notice)
        due = connection.execute(query.limit(SENT_AT_ONCE)).all()
    if not due:
        return []
    claimed: list[Delivery] = []
    with transaction(site.engine) as connection:
        numbers = {row.notice for row in due}
        found = connection.execute(select(notice).where(notice.c.id.in_(numbers))).all()
        known = {row.id: notices.of_row(row._mapping) for row in found}
        persons = people.by_id(connection, {one.user_id for one in known.values()})
        for row in due:
            one = known.get(row.notice)
            person = persons.get(one.user_id) if one else None
            if one is None or person is None:
                continue
            mine = and_(c.notice == row.notice, c.channel == row.channel, c.address == row.address, free)
            if _useless(one, now) or (row.channel, row.address) not in set(_ways(outbox, one, person)):
                reason = TOO_LATE if _useless(one, now) else "not wished any more"
                connection.execute(update(delivery).where(mine).values(given_up_at=now, error=reason))
                continue
            values = {"claimed_until": now + CLAIM, "tries": c.tries + 1}
            won = connection.execute(update(delivery).where(mine).values(**values).returning(c.tries)).scalar()
            if won is not None:
                claimed.append(Delivery(one, person, row.channel, row.address, won, now + CLAIM))
    return claimed


def record(site: Site, outbox: Outbox, results: Iterable[tuple[Delivery, str | None, bool]], *, now: int) -> None:
    """Writes down how sending went.

    :param results: each delivery, what went wrong (None: nothing), and whether trying again is pointless.
    """
    with transaction(site.engine) as connection:
        for one, error, final in results:
            _record(connection, one, error, final, outbox.keep_trying, now)


def _record(connection: Connection, one: Delivery, error: str | None, final: bool, keep_trying: int, now: int) -> None:
    c = delivery.c
    mine = and_(c.notice == one.notice.id, c.channel == one.way, c.address == one.address, c.sent_at.is_(None))
    values: dict[str, Any] = {"claimed_until": None, "sent_at": now, "error": None}
    if error is not None:
        again = None if final else next_try(one.tries, now, at=one.notice.at, keep_trying=keep_trying)
        values = {"claimed_until": None, "error": wording.one_line(error, 500)}
        values |= {"given_up_at": now} if again is None else {"due_at": again}
        mine = and_(mine, c.claimed_until == one.claim)
    connection.execute(update(delivery).where(mine).values(**values))


# -- what is sent ----------------------------------------------------------------------------------------------


def letter(one: Delivery, outbox: Outbox, titles: Mapping[str, str]) -> Letter:
    """The mail of a delivery: what happened, when in the site's zone, where to go on."""
    told, details = one.notice, one.notice.details
    said = wording.words(told.kind, details, titles=titles, when=lambda ms: wording.at_length(ms, outbox.zone))
    lines = [said.headline, "", said.text]
    if told.kind != "test":
        lines += ["", *_facts(details, outbox, titles)]
    if link := _link(told, outbox):
        lines += ["", link]
    preferences = f"{outbox.pages}preferences" if outbox.pages else ""
    lines += ["", "-- ", f"For {wording.one_line(one.person.name, 80)}. Times are in {outbox.zone}."]
    lines += [f"What you are told, and how: {preferences}"] if preferences else []
    subject = wording.one_line(said.headline, 150)
    return Letter(one.address, subject, "\n".join(lines) + "\n", told.id, told.at, preferences)


def _facts(details: Mapping[str, Any], outbox: Outbox, titles: Mapping[str, str]) -> list[str]:
    found = [("What", wording.what(details, titles))]
    for name, label in (("start", "From"), ("end", "Until")):
        if isinstance(details.get(name), int):
            found.append((label, wording.at_length(details[name], outbox.zone)))
    if details.get("nodes"):
        found.append(("On", ", ".join(wording.one_line(node, 80) for node in details["nodes"][:8])))
    if details.get("title"):
        found.append(("Title", wording.one_line(details["title"], 200)))
    return [f"  {label:<6} {text}" for label, text in found]


def payload(one: Delivery, outbox: Outbox, titles: Mapping[str, str]) -> dict[str, Any]:
    """What a webhook is sent. A team's channel sees no titles, and owners only where everybody sees them."""
    for_team = one.way == "site"
    title = None if for_team else one.notice.details.get("title")
    said = wording.words(
        one.notice.kind,
        {**one.notice.details, "title": title},
        titles=titles,
        when=lambda ms: f"{wording.at_length(ms, outbox.zone)} ({outbox.zone})",
        named=not for_team or outbox.show_owners,
    )
    if for_team:
        what = "Job" if one.notice.job else "Booking"
        text = f"{what} of {wording.one_line(one.person.name, 80)}." if outbox.show_owners else ""
        return webhook.payload(_shape(one, outbox), said.headline, text, "")
    text = f"{said.text} ({wording.one_line(title, 200)})" if title else said.text
    return webhook.payload(_shape(one, outbox), said.headline, text, _link(one.notice, outbox))


def _shape(one: Delivery, outbox: Outbox) -> Shape:
    if one.way == "site":
        return next((hook.shape for hook in outbox.hooks if hook.url == one.address), "slack")
    return people.shape_of(one.address, outbox.ways)


def _link(told: Notice, outbox: Outbox) -> str:
    if not outbox.pages:
        return ""
    if told.job:
        return f"{outbox.pages}jobs/{told.job}"
    return f"{outbox.pages}bookings/{told.reservation}" if told.reservation else f"{outbox.pages}notices"
