"""Make, change, look at and remove courses."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from sqlalchemy import Connection, Engine, func, select

from mlmp_spawner.errors import Changed, Conflict, NotAllowed, NotFound, Unavailable
from mlmp_spawner.operations import history
from mlmp_spawner.operations.booking import ATTEMPTS
from mlmp_spawner.operations.site import Actor, Site
from mlmp_spawner.rules import course_yaml, roster, written
from mlmp_spawner.rules.course_yaml import CourseFile, Difference
from mlmp_spawner.rules.courses import ENTRY_FIELDS, Course, Member, Role, misfits
from mlmp_spawner.rules.roster import Change, Outcome
from mlmp_spawner.store import courses as store
from mlmp_spawner.store import people
from mlmp_spawner.store.tables import reservation
from mlmp_spawner.store.transaction import Busy, lock_owner, read, transaction


@dataclass(frozen=True, slots=True)
class Seen:
    """A course as somebody sees it. ``member``: what they are in it, None: nothing, as an admin may be. ``runs``:
    whether they may change it; then ``counts`` has how many there are of each role."""

    course: Course
    member: Member | None
    runs: bool
    counts: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Applied:
    """What was done, or with ``dry_run`` would be: the course as it is then, and what changes; ``unknown``: whom of
    those that are put on its roster the hub does not know yet."""

    course: Course
    created: bool
    differences: tuple[Difference, ...]
    roster: Outcome
    unknown: frozenset[str] = frozenset()

    @property
    def nothing(self) -> bool:
        """Whether all was so already."""
        return not self.created and not self.differences and self.roster.nothing


def apply(
    site: Site,
    wanted: CourseFile,
    *,
    actor: Actor,
    now: int,
    dry_run: bool = False,
    if_match: int | None = None,
    only_new: bool = False,
    may_make: bool = True,
) -> Applied:
    """Makes a course, or changes one to what is wanted; again, it changes nothing.

    :param if_match: the version that the caller saw. :param only_new: refuse to change one.
    :param may_make: whether the caller may make one that is not there; to change one is for its instructors.
    :raises Invalid: it does not fit the catalog.
    :raises NotAllowed: it is others' course, or there is none and the caller may not make one.
    :raises Changed: it has another version by now. :raises Conflict: there is one already, or nobody would run it.
    """
    for _ in range(ATTEMPTS):
        try:
            if dry_run:
                with read(site.engine) as connection:
                    if not may_make:
                        _must_run(connection, wanted.name, actor)
                    return _applied(connection, site, wanted, actor, now, if_match, only_new=only_new, dry_run=True)
            with transaction(site.engine) as connection:
                lock_owner(connection, f"course:{wanted.name}")
                if not may_make:
                    _must_run(connection, wanted.name, actor)
                done = _applied(connection, site, wanted, actor, now, if_match, only_new=only_new, dry_run=False)
                _write(connection, done, actor, now)
                return done
        except Busy:
            continue
    raise busy()


def get(site: Site, name: str, *, actor: Actor) -> Seen:
    """One course.

    :raises NotFound: there is none, or none that the caller is in.
    """
    with read(site.engine) as connection:
        course = store.find(connection, name)
        member = store.member(connection, name, actor.name)
        if course is None or (member is None and not actor.admin):
            raise no_course(name)
        return _seen([course], {name: member} if member else {}, actor, store.counts(connection))[0]


def mine(site: Site, *, actor: Actor) -> list[Seen]:
    """The courses that the caller is in, an admin sees all."""
    with read(site.engine) as connection:
        with_me = store.with_member(connection, actor.name)
        found = store.all_of(connection) if actor.admin else [course for course, _ in with_me.values()]
        return _seen(found, {name: member for name, (_, member) in with_me.items()}, actor, store.counts(connection))


def of_member(engine: Engine, name: str) -> list[tuple[Course, Member]]:
    """The courses that somebody is in, with what they are there; an admin's too are only those."""
    with read(engine) as connection:
        return list(store.with_member(connection, name).values())


def is_in_any(engine: Engine, name: str) -> bool:
    """Whether somebody is in a course."""
    with read(engine) as connection:
        return store.in_any(connection, name)


def remove(site: Site, name: str, *, actor: Actor, now: int, if_match: int | None = None) -> Course:
    """Removes a course with its roster; its group of the hub follows. People keep their accounts and files.

    :raises NotFound, NotAllowed: see :func:`own`. :raises Changed: it has another version by now.
    :raises Conflict: classes of it are booked, or it has guests.
    """
    for _ in range(ATTEMPTS):
        try:
            with transaction(site.engine) as connection:
                lock_owner(connection, f"course:{name}")
                course = own(connection, name, actor)
                _check_version(course, if_match)
                _check_over(connection, course, now)
                store.delete_course(connection, name)
                history.record(connection, "course_removed", actor=actor.name, at=now, course=name)
                return course
        except Busy:
            continue
    raise busy()


def own(connection: Connection, name: str, actor: Actor, *, lock: bool = True) -> Course:
    """A course that the caller may change. :param lock: until the end of the transaction.

    :raises NotFound: there is none that the caller is in. :raises NotAllowed: they do not run it.
    """
    course = store.find(connection, name, lock=lock)
    member = store.member(connection, name, actor.name)
    if course is None or (member is None and not actor.admin):
        raise no_course(name)
    if not actor.admin and (member is None or member.role != "instructor"):
        raise NotAllowed("Only its instructors change a course.")
    return course


def no_course(name: str) -> NotFound:
    """There is none, or none that is for the caller to see."""
    return NotFound(f"There is no course {name[:60]!r} that you are in.")


def busy() -> Unavailable:
    """The database gave up too often."""
    return Unavailable("The database is too busy just now.", hint="Nothing was changed; try again in a moment.")


def _seen(
    found: Iterable[Course], members: dict[str, Member], actor: Actor, counts: dict[str, dict[str, int]]
) -> list[Seen]:
    seen = []
    for course in found:
        member = members.get(course.name)
        runs = actor.admin or (member is not None and member.role == "instructor")
        seen.append(Seen(course, member, runs, counts.get(course.name, {}) if runs else {}))
    return seen


def _applied(
    connection: Connection,
    site: Site,
    wanted: CourseFile,
    actor: Actor,
    now: int,
    if_match: int | None,
    *,
    only_new: bool,
    dry_run: bool,
) -> Applied:
    before = store.find(connection, wanted.name, lock=not dry_run)
    if before is not None and only_new:
        raise Conflict(f"There is a course {wanted.name!r} already.", hint="Choose another name.")
    if before is None and if_match is not None:
        raise _changed()
    if before is not None:
        _may_change(connection, before, actor)
        _check_version(before, if_match)
    _check_fit(site, wanted, before, actor)
    differences = tuple(course_yaml.differences(before, wanted.entry))
    entry = {name: getattr(wanted, name) for name in ENTRY_FIELDS}
    after = Course(name=wanted.name, **entry, created_at=before.created_at if before else now,
                   version=(before.version + bool(differences)) if before else 1)  # fmt: skip
    members = store.members(connection, wanted.name)
    outcome = roster.plan(members, _listed(wanted, before, actor))
    unknown = set(outcome.added) - people.known(connection, set(outcome.added))
    return Applied(after, before is None, differences, outcome, frozenset(unknown))


def _may_change(connection: Connection, course: Course, actor: Actor) -> None:
    if not _runs(connection, course.name, actor):
        raise NotAllowed(f"The course {course.name!r} is somebody else's.", hint="Choose another name.")


def _must_run(connection: Connection, name: str, actor: Actor) -> None:
    """For who may make none: they are not told which there are."""
    if not _runs(connection, name, actor):
        raise NotAllowed(
            f"There is no course {name!r} that you run, and your login or token lacks the scope custom:mlmp:courses.",
            hint="Ask the people who run this for it, or who runs the course to make you an instructor.",
        )


def _runs(connection: Connection, name: str, actor: Actor) -> bool:
    member = store.member(connection, name, actor.name)
    return actor.admin or (member is not None and member.role == "instructor")


def _check_fit(site: Site, wanted: CourseFile, before: Course | None, actor: Actor) -> None:
    catalog = site.catalog
    groups = actor.groups
    if actor.admin or (before is not None and before.profile == wanted.profile):  # what was allowed once stays
        groups = frozenset(group for profile in catalog.profiles.values() for group in profile.groups)
    if found := list(misfits(wanted, catalog, groups)):
        raise written.refusal("course", found)


def _check_version(course: Course, if_match: int | None) -> None:
    if if_match is not None and if_match != course.version:
        raise _changed()


def _changed() -> Changed:
    return Changed("The course was changed meanwhile.", hint="Look at it as it is now and try again.")


def _listed(wanted: CourseFile, before: Course | None, actor: Actor) -> Change:
    """What the lists of a course say of its roster."""
    put: dict[str, Role | None] = dict.fromkeys(wanted.students or (), "student")
    put |= dict.fromkeys(wanted.instructors or (), "instructor")
    if before is None and wanted.instructors is None:
        put[actor.name] = "instructor"
    only: set[Role] = set()
    if wanted.instructors is not None:
        only.add("instructor")
        if not actor.admin and actor.name not in wanted.instructors:
            raise Conflict(
                "You would not run this course any more.", hint=f"Put {actor.name!r} among the instructors."
            )
    if wanted.students is not None:
        only.add("student")
    return Change(put, only=frozenset(only))


def _check_over(connection: Connection, course: Course, now: int) -> None:
    c = reservation.c
    ahead = select(func.count()).where(
        c.owner == course.owner, c.kind == "class", c.end > now, c.cancelled_at.is_(None), c.end_reason.is_(None)
    )
    if number := connection.execute(ahead).scalar():
        raise Conflict(f"{number} of its classes are not over.", hint="Cancel them first.", classes=number)
    if guests := len(store.members(connection, course.name, "guest")):
        raise Conflict(f"It has {guests} guests.", hint="Remove them first, so that their accounts are erased.",
                       guests=guests)  # fmt: skip


def _write(connection: Connection, done: Applied, actor: Actor, now: int) -> None:
    course = done.course
    if done.created:
        store.insert_course(connection, course)
        history.record(connection, "course_made", actor=actor.name, at=now, course=course.name)
    elif done.differences:
        store.update_course(connection, course)
        history.record(connection, "course_changed", actor=actor.name, at=now, course=course.name,
                       changes={one.field: [one.old, one.new] for one in done.differences})  # fmt: skip
    write_roster(connection, course, done.roster, actor=actor, now=now)


def write_roster(connection: Connection, course: Course, outcome: Outcome, *, actor: Actor, now: int) -> None:
    """Does to a roster what was planned. The history keeps who runs a course, and of all others how many."""
    if outcome.nothing:
        return
    before = {member.name: member for member in store.members(connection, course.name)}
    new = [Member(course.name, name, role, now) for name, role in outcome.added.items()]
    new += [replace(before[name], role=role) for name, role in outcome.changed.items()]
    store.put_members(connection, course.name, new)
    store.remove_members(connection, course.name, outcome.removed)
    running = [name for name, role in {**outcome.added, **outcome.changed}.items() if role == "instructor"]
    former = [name for name in (*outcome.removed, *outcome.changed)
              if before[name].role == "instructor" and name not in running]  # fmt: skip
    history.record(
        connection, "roster", actor=actor.name, at=now, course=course.name, added=len(outcome.added),
        removed=len(outcome.removed), changed=len(outcome.changed), instructors=running, former_instructors=former,
    )  # fmt: skip
