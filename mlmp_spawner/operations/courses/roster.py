"""Look at and change who is in a course."""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlalchemy import Connection

from mlmp_spawner.errors import Conflict, Invalid
from mlmp_spawner.operations.booking import ATTEMPTS
from mlmp_spawner.operations.courses.courses import busy, own, write_roster
from mlmp_spawner.operations.site import Actor, Site
from mlmp_spawner.rules import roster as rules
from mlmp_spawner.rules.courses import Course, Member, Role, person
from mlmp_spawner.rules.roster import Change, Listed, NotUnderstood, Outcome
from mlmp_spawner.store import courses as store
from mlmp_spawner.store import people
from mlmp_spawner.store.transaction import Busy, lock_owner, read, transaction


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody asks of a roster. ``text``: a list, as :func:`rules.read` takes it; ``add``: names; all are given
    ``role``, None: that which the list says, else students are made of those that are new. ``whole``: students that
    are in neither are taken off. ``domains``: of mail addresses that are cut to the name, None: the site's."""

    text: str = ""
    add: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()
    role: Role | None = None
    whole: bool = False
    domains: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Done:
    """What was done, or would be; ``unknown``: whom of those that are put on it the hub does not know yet."""

    outcome: Outcome
    not_understood: tuple[NotUnderstood, ...] = ()
    unknown: frozenset[str] = field(default_factory=frozenset)


def look(site: Site, name: str, *, actor: Actor) -> tuple[Course, list[Member], frozenset[str]]:
    """A course with its roster, and who of it is a user of the hub.

    :raises NotFound, NotAllowed: see :func:`~mlmp_spawner.operations.courses.courses.own`.
    """
    with read(site.engine) as connection:
        course = own(connection, name, actor, lock=False)
        members = store.members(connection, name)
        return course, members, people.known(connection, [member.name for member in members])


def change(site: Site, name: str, wish: Wish, *, actor: Actor, now: int, dry_run: bool = False) -> Done:
    """Changes who is in a course; again, it changes nothing. Lines of a list that name nobody are told, not refused.

    :raises Invalid: a name that can't be one; see also :func:`rules.plan`. :raises Conflict: see there.
    :raises NotFound, NotAllowed: see :func:`~mlmp_spawner.operations.courses.courses.own`.
    """
    listed = rules.read(wish.text, site.roster_domains if wish.domains is None else wish.domains)
    wanted = _change(wish, listed)
    if wish.whole and listed.not_understood and not dry_run:
        raise Conflict(
            f"{len(listed.not_understood)} lines of the list name nobody; whoever is meant would be taken off.",
            hint="Mend them, or import without taking off those that are not in the list.",
        )
    for _ in range(ATTEMPTS):
        try:
            if dry_run:
                with read(site.engine) as connection:
                    own(connection, name, actor, lock=False)
                    return _done(connection, name, wanted, listed)
            with transaction(site.engine) as connection:
                lock_owner(connection, f"course:{name}")
                course = own(connection, name, actor)
                done = _done(connection, name, wanted, listed)
                write_roster(connection, course, done.outcome, actor=actor, now=now)
                return done
        except Busy:
            continue
    raise busy()


def _done(connection: Connection, name: str, wanted: Change, listed: Listed) -> Done:
    outcome = rules.plan(store.members(connection, name), wanted)
    new = set(outcome.added)
    return Done(outcome, listed.not_understood, frozenset(new - people.known(connection, new)))


def _change(wish: Wish, listed: Listed) -> Change:
    put: dict[str, Role | None] = dict.fromkeys(_names("add", wish.add))
    put |= listed.people
    if wish.role is not None:
        put = dict.fromkeys(put, wish.role)
    if wish.whole and not put:
        raise Invalid.field("list", "names nobody, so that all students would be taken off; say whom to remove")
    only: frozenset[Role] = frozenset({"student"} if wish.whole else ())
    return Change(put, frozenset(_names("remove", wish.remove)), only)


def _names(field: str, given: tuple[str, ...]) -> list[str]:
    try:
        return [person(name) for name in given]
    except ValueError as error:
        raise Invalid.field(field, str(error)) from None
