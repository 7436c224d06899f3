"""The calls that make, change and show courses and who is in them."""

from __future__ import annotations

from pydantic import TypeAdapter, ValidationError

from mlmp_spawner.errors import Conflict, Invalid, NotFound
from mlmp_spawner.operations.courses import courses, roster
from mlmp_spawner.operations.courses.courses import Applied, Seen
from mlmp_spawner.operations.courses.roster import Wish
from mlmp_spawner.operations.site import Site
from mlmp_spawner.rules import course_yaml
from mlmp_spawner.rules.course_yaml import CourseFile
from mlmp_spawner.rules.courses import CourseName, Role
from mlmp_spawner.rules.roster import NotUnderstood, Outcome
from mlmp_spawner.web import answers
from mlmp_spawner.web import course_models as types
from mlmp_spawner.web.auth import Caller
from mlmp_spawner.web.context import Context
from mlmp_spawner.web.csv_text import MEDIA_TYPE, csv_text
from mlmp_spawner.web.routes import Answer, Call, Route

LARGEST_BODY = 768 << 10

_NAME = TypeAdapter(CourseName)


async def list_courses(call: Call) -> Answer:
    """Those that the caller is in."""
    context, caller = call.handler.context, call.handler.me
    found = await context.run(courses.mine, context.site, actor=caller.actor())
    return Answer(types.Courses(items=[answer(one, context.site, caller) for one in found]))


async def own_courses(call: Call) -> Answer:
    """Those that the caller is on the roster of, with what they bring into a server."""
    context, caller = call.handler.context, call.handler.me
    found = await context.run(courses.of_member, context.site.engine, caller.actor().name)
    return Answer(types.OwnCourses(items=[
        types.OwnCourse(
            name=course.name, title=course.title, role=member.role, data=course.data, hand_in=course.hand_in,
            files=types.Files(**course.files.model_dump()) if course.files else None,
        )
        for course, member in found
    ]))  # fmt: skip


async def apply_course(call: Call) -> Answer:
    """Makes or changes one, or says what would change."""
    context, caller, headers = call.handler.context, call.handler.me, call.handler.request.headers
    wanted = course_yaml.parse(call.body.course)
    dry_run = call.query.dry_run
    if caller.kind != "user" and not wanted.instructors:
        raise Invalid.field("instructors", "a service makes a course for somebody: say who runs it")
    done = await apply(
        context, caller, wanted, now=call.handler.now, dry_run=dry_run,
        if_match=answers.version_of(headers.get("If-Match")), only_new=headers.get("If-None-Match") == "*",
    )  # fmt: skip
    body = types.Applied(
        created=done.created,
        changes=[types.Difference(field=one.field, old=one.old, new=one.new) for one in done.differences],
        roster=roster_change(done.roster, done.unknown, (), dry_run=dry_run),
        dry_run=dry_run,
        course=answer(Seen(done.course, None, runs=True), context.site, caller),
    )
    if not done.created or dry_run:
        return Answer(body, etag=body.course.etag)
    where = {"Location": f"{context.api_prefix}courses/{done.course.name}"}
    return Answer(body, status=201, headers=where, etag=body.course.etag)


async def apply(
    context: Context,
    caller: Caller,
    wanted: CourseFile,
    *,
    now: int,
    dry_run: bool = False,
    if_match: int | None = None,
    only_new: bool = False,
) -> Applied:
    """See :func:`courses.apply`. :raises Conflict: also where the hub has such a group that is none of ours."""
    group = f"course-{wanted.name}"
    if caller.can_teach and not await context.groups.is_free(group):
        raise Conflict(f"The hub has a group {group!r} that is no course's.", hint="Choose another name.")
    done: Applied = await context.run(
        courses.apply, context.site, wanted, actor=caller.actor(), now=now, dry_run=dry_run, if_match=if_match,
        only_new=only_new, may_make=caller.can_teach,
    )  # fmt: skip
    if not dry_run:
        tell(context)
    return done


async def get_course(call: Call) -> Answer:
    """One course."""
    context, caller = call.handler.context, call.handler.me
    found = await context.run(courses.get, context.site, name_of(call), actor=caller.actor())
    body = answer(found, context.site, caller)
    return Answer(body, etag=body.etag)


async def remove_course(call: Call) -> Answer:
    """Removes one with its roster."""
    context, caller = call.handler.context, call.handler.me
    seen = answers.version_of(call.handler.request.headers.get("If-Match"))
    await context.run(
        courses.remove, context.site, name_of(call), actor=caller.actor(), now=call.handler.now, if_match=seen
    )
    tell(context)
    return Answer(None, status=204)


async def get_roster(call: Call) -> Answer:
    """Who is in it."""
    context, caller = call.handler.context, call.handler.me
    _, members, known = await context.run(roster.look, context.site, name_of(call), actor=caller.actor())
    if call.query.format == "csv":
        rows = csv_text(("name", "role"), [(one.name, one.role) for one in members])
        return Answer(None, text=rows, media_type=f"{MEDIA_TYPE}; charset=utf-8; header=present")
    items = [
        types.Member(name=one.name, role=one.role, added_at=one.added_at, known=one.name in known,
                     agreed=one.agreed_at is not None)
        for one in members
    ]  # fmt: skip
    return Answer(types.Roster(items=items))


async def change_roster(call: Call) -> Answer:
    """Puts people on it and takes people off, or says what would change."""
    body: types.RosterBody = call.body
    context, caller, dry_run = call.handler.context, call.handler.me, call.query.dry_run
    wish = Wish(body.text, tuple(body.add), tuple(body.remove), body.role, body.whole,
                None if body.domains is None else tuple(body.domains))  # fmt: skip
    done = await context.run(
        roster.change, context.site, name_of(call), wish, actor=caller.actor(), now=call.handler.now, dry_run=dry_run
    )
    if not dry_run:
        tell(context)
    return Answer(roster_change(done.outcome, done.unknown, done.not_understood, dry_run=dry_run))


def tell(context: Context) -> None:
    """A course was changed: the hub's groups follow at once."""
    context.feed.wake()
    context.groups.wake()


def name_of(call: Call) -> str:
    """The name in the address. :raises NotFound: no course can have it."""
    return checked_name(call.path["name"])


def checked_name(name: str) -> str:
    """The same. :raises NotFound: no course can have it."""
    try:
        return _NAME.validate_python(name)
    except ValidationError:
        raise NotFound("There is no such course.") from None


def answer(seen: Seen, site: Site, caller: Caller) -> types.Course:
    """A course as ``caller`` may see it: all of it only with a token that may change it."""
    course, runs = seen.course, seen.runs and caller.can_run
    fields = {name: getattr(course, name) for name in (
        "name", "title", "profile", "image", "seats", "setup", "grace", "data", "hand_in", "self_study", "guests",
        "guest_jobs", "look_in", "group", "created_at",
    )}  # fmt: skip
    files = types.Files(**course.files.model_dump()) if course.files else None
    return types.Course(
        **fields, units=course.units_of(site.catalog), nodes=list(course.nodes), files=files,
        role=seen.member.role if seen.member else None, runs=runs, members=seen.counts if runs else None,
        yaml=course_yaml.as_yaml(course) if runs else None, etag=f'"{course.version}"',
    )  # fmt: skip


def roster_change(
    outcome: Outcome, unknown: frozenset[str], not_understood: tuple[NotUnderstood, ...], *, dry_run: bool
) -> types.RosterChange:
    """What was done to a roster, or would be."""

    def put(name: str, role: Role) -> types.Put:
        return types.Put(name=name, role=role, known=name not in unknown)

    return types.RosterChange(
        added=[put(*one) for one in outcome.added.items()],
        changed=[put(*one) for one in outcome.changed.items()],
        removed=list(outcome.removed),
        kept=outcome.kept,
        not_understood=[types.NotUnderstood(line=one.line, text=one.text, why=one.why)
                        for one in not_understood[: types.MOST_TOLD]],
        not_understood_count=len(not_understood),
        dry_run=dry_run,
    )  # fmt: skip


_IF_MATCH = {"If-Match": "the etag of the course as you saw it; 412 if it changed meanwhile"}
_CHANGED = {412: "it was changed meanwhile"}

TABLE: tuple[Route, ...] = (
    Route(
        "GET", "courses", "listCourses", "the courses that you are in", "access", list_courses, answer=types.Courses,
    ),
    Route(
        "GET", "me/courses", "ownCourses", "what the courses that you are in bring into your server", "access",
        own_courses, answer=types.OwnCourses,
    ),
    Route(
        "POST", "courses", "applyCourse", "make a course, or change one to what is wanted", "run", apply_course,
        query=types.ApplyQuery, body=types.CourseBody, answer=types.Applied, status=201, body_limit=LARGEST_BODY,
        headers={**_IF_MATCH, "If-None-Match": "*: only make a new one"},
        statuses={
            200: "it was there, or with dry_run: it would be so",
            409: "there is one already, or a group of the hub of that name, or nobody would run it", **_CHANGED,
        },
        description="To make one takes the scope `custom:mlmp:courses`; its instructors change one. Applied again it "
        "changes nothing. The lists `instructors` and `students` are the whole roster; left out they change nothing.",
    ),
    Route(
        "GET", "courses/{name}", "getCourse", "one course", "access", get_course, answer=types.Course,
        headers={"If-None-Match": "the etag that you have; 304 if it is still that"}, statuses={304: "not modified"},
    ),
    Route(
        "DELETE", "courses/{name}", "removeCourse", "remove a course with its roster", "run", remove_course,
        status=204, headers=_IF_MATCH, statuses={409: "classes of it are not over, or it has guests", **_CHANGED},
        description="People keep their accounts and files.",
    ),
    Route(
        "GET", "courses/{name}/roster", "getRoster", "who is in a course", "run", get_roster,
        query=types.RosterQuery, answer=types.Roster, also=(MEDIA_TYPE,),
    ),
    Route(
        "POST", "courses/{name}/roster", "changeRoster", "put people on a roster, take people off", "run",
        change_roster, query=types.ApplyQuery, body=types.RosterBody, answer=types.RosterChange,
        body_limit=LARGEST_BODY, statuses={409: "nobody would run the course, or too many would be in it"},
        description="Lines of a list that name nobody are told, the others done.",
    ),
)  # fmt: skip
