"""The way of notices out of the house: planned with the person's choices, claimed, sent, written down.

Each step is a transaction of its own. A delivery is claimed before it is sent, so that two services never send the
same; who is killed between sending and writing that down sends it once more later (*at least once*), and a mail that
comes twice has the same Message-ID. What fails is tried again ever later, and given up after
:attr:`Outbox.keep_trying`; the last error is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timezone, tzinfo
from typing import Any, Literal
from urllib.parse import urlencode

from sqlalchemy import ColumnElement, Connection, and_, insert, or_, select, update

from mlmp_spawner.errors import ConfigurationError
from mlmp_spawner.operations import batches, notices, people, webhook
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
LISTED = 30
"""Jobs in one mail."""


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
    """One claimed delivery. ``claim`` names the claim: until when it holds (ms UTC); ``others``: what is told with it,
    of jobs that were submitted together."""

    notice: Notice
    person: Person
    way: Way
    address: str
    tries: int
    claim: int
    others: tuple[Notice, ...] = ()


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
    batches_seen: set[tuple[object, ...]] = set()
    with transaction(site.engine) as connection:
        known = _notices(connection, {row.notice for row in due})
        persons = people.by_id(connection, {one.user_id for one in known.values()})
        for row in due:
            one = known.get(row.notice)
            person = persons.get(one.user_id) if one else None
            if one is None or person is None:
                continue
            to = _To(outbox, person, row.channel, row.address)
            if (batch := batches.batch_of(one)) is None:
                claimed += _claim(connection, to, [one], free, now)
            elif (key := (one.user_id, batch, row.channel, row.address)) not in batches_seen:
                batches_seen.add(key)
                claimed += _claim_batch(connection, to, one, now)
    return claimed


@dataclass(frozen=True, slots=True)
class _To:
    """Where a delivery goes."""

    outbox: Outbox
    person: Person
    way: Way
    address: str

    def wished(self, one: Notice) -> bool:
        return (self.way, self.address) in set(_ways(self.outbox, one, self.person))


def _notices(connection: Connection, numbers: Iterable[int]) -> dict[int, Notice]:
    found = connection.execute(select(notice).where(notice.c.id.in_(numbers))).all()
    return {row.id: notices.of_row(row._mapping) for row in found}


def _claim(
    connection: Connection, to: _To, told: Iterable[Notice], free: ColumnElement[bool], now: int
) -> list[Delivery]:
    """Claims those of ``told`` that are still ``free``; the others are somebody else's, or given up."""
    c = delivery.c
    claimed = []
    for one in told:
        mine = and_(c.notice == one.id, c.channel == to.way, c.address == to.address, free)
        if _useless(one, now) or not to.wished(one):
            reason = TOO_LATE if _useless(one, now) else "not wished any more"
            connection.execute(update(delivery).where(mine).values(given_up_at=now, error=reason))
            continue
        values = {"claimed_until": now + CLAIM, "tries": c.tries + 1}
        won = connection.execute(update(delivery).where(mine).values(**values).returning(c.tries)).scalar()
        if won is not None:
            claimed.append(Delivery(one, to.person, to.way, to.address, won, now + CLAIM))
    return claimed


def _claim_batch(connection: Connection, to: _To, one: Notice, now: int) -> list[Delivery]:
    """Claims all that is to be said of jobs that were submitted together, as one; or puts it off."""
    free = batches.free(one, to.way, to.address, now)
    until = batches.waits_until(connection, one, now)
    if until is not None:
        connection.execute(update(delivery).where(free).values(due_at=until))
        return []
    numbers = connection.execute(select(delivery.c.notice).where(free)).scalars().all()
    told = [each for _, each in sorted(_notices(connection, numbers).items(), reverse=True)]
    claimed = _claim(connection, to, told, free, now)
    return [replace(claimed[0], others=tuple(each.notice for each in claimed[1:]))] if claimed else []


def record(site: Site, outbox: Outbox, results: Iterable[tuple[Delivery, str | None, bool]], *, now: int) -> None:
    """Writes down how sending went.

    :param results: each delivery, what went wrong (None: nothing), and whether trying again is pointless.
    """
    with transaction(site.engine) as connection:
        for one, error, final in results:
            _record(connection, one, error, final, outbox.keep_trying, now)


def _record(connection: Connection, one: Delivery, error: str | None, final: bool, keep_trying: int, now: int) -> None:
    c = delivery.c
    told = [one.notice.id, *(other.id for other in one.others)]
    mine = and_(c.notice.in_(told), c.channel == one.way, c.address == one.address, c.sent_at.is_(None))
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
    if one.others:
        said = _said_together(one)
        lines = [said.headline, "", *_each(one, outbox)]
    else:
        said = wording.words(told.kind, details, titles=titles, when=lambda ms: wording.at_length(ms, outbox.zone))
        lines = [said.headline, "", said.text]
        if told.kind != "test":
            lines += ["", *_facts(details, outbox, titles)]
    if link := _link(one, outbox):
        lines += ["", link]
    preferences = f"{outbox.pages}preferences" if outbox.pages else ""
    lines += ["", "-- ", f"For {wording.one_line(one.person.name, 80)}. Times are in {outbox.zone}."]
    lines += [f"What you are told, and how: {preferences}"] if preferences else []
    subject = wording.one_line(said.headline, 150)
    return Letter(one.address, subject, "\n".join(lines) + "\n", told.id, told.at, preferences)


def _said_together(one: Delivery, *, named: bool = True) -> wording.Words:
    told = [one.notice, *one.others]
    return wording.together([(each.kind, each.details) for each in told], named=named)


def _each(one: Delivery, outbox: Outbox) -> list[str]:
    """A line for each of several jobs, those that failed first."""
    told = sorted([one.notice, *one.others], key=lambda each: (each.kind != "job_failed", each.id))
    lines = [
        f"  {wording.one_line(each.details.get('title') or each.job, 80)}: {wording.why_it_ended(each.details)}"
        + (f" {outbox.pages}jobs/{each.job}" if outbox.pages else "")
        for each in told[:LISTED]
    ]
    return lines + ([f"  and {len(told) - LISTED} more"] if len(told) > LISTED else [])


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
    if one.others:
        said, title = _said_together(one, named=not for_team), None
    else:
        said = wording.words(
            one.notice.kind,
            {**one.notice.details, "title": title},
            titles=titles,
            when=lambda ms: f"{wording.at_length(ms, outbox.zone)} ({outbox.zone})",
            named=not for_team or outbox.show_owners,
        )
    if for_team:
        what = "Jobs" if one.others else "Job" if one.notice.job else "Booking"
        text = f"{what} of {wording.one_line(one.person.name, 80)}." if outbox.show_owners else ""
        return webhook.payload(_shape(one, outbox), said.headline, text, "")
    text = f"{said.text} ({wording.one_line(title, 200)})" if title else said.text
    return webhook.payload(_shape(one, outbox), said.headline, text, _link(one, outbox))


def _shape(one: Delivery, outbox: Outbox) -> Shape:
    if one.way == "site":
        return next((hook.shape for hook in outbox.hooks if hook.url == one.address), "slack")
    return people.shape_of(one.address, outbox.ways)


def _link(one: Delivery, outbox: Outbox) -> str:
    told = one.notice
    if not outbox.pages:
        return ""
    if one.others:
        return f"{outbox.pages}jobs?{urlencode({'state': 'all', 'batch': batches.batch_of(told) or ''})}"
    if told.job:
        return f"{outbox.pages}jobs/{told.job}"
    return f"{outbox.pages}bookings/{told.reservation}" if told.reservation else f"{outbox.pages}notices"
