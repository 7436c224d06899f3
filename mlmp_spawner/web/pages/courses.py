"""The pages of courses: those one is in, one with its form and its roster, and a new one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mlmp_spawner.errors import Invalid, MLMPError, NotAllowed, NotFound
from mlmp_spawner.operations.courses import classes, courses, roster
from mlmp_spawner.operations.courses.courses import Seen
from mlmp_spawner.operations.courses.roster import Done, Wish
from mlmp_spawner.operations.requests import HORIZON
from mlmp_spawner.rules import course_yaml
from mlmp_spawner.rules.catalog import fits
from mlmp_spawner.rules.courses import Course, Member
from mlmp_spawner.rules.reservations import Interval
from mlmp_spawner.store.classes import Booked
from mlmp_spawner.web.api.courses import LARGEST_BODY, apply, checked_name, tell
from mlmp_spawner.web.auth import Right
from mlmp_spawner.web.pages.base import Page
from mlmp_spawner.web.routes import check_text

FILES = ("git", "branch", "directory")
TEXTS = ("title", "profile", "image", "setup", "grace", "data", *FILES)
NUMBERS = ("units", "seats", "guests", "guest_jobs", "self_study")
FORM = (*TEXTS, *NUMBERS, "nodes", "files", "hand_in")
"""The keys of a course that the form has; what else a file says stays as it is."""
MOST_SHOWN = 500
"""People of a roster on the page, and lines of a list."""
MOST_CLASSES = 30
"""The next ones on the page."""
DID = {
    "made": "The course is made. Now put people on its roster.",
    "saved": "The course is as you said.",
    "roster": "The roster is changed.",
    "none": "All was so already.",
}
NEW = {"seats": "20", "guests": "0", "setup": "10m", "grace": "15m"}


class Courses(Page):
    """Those that one is in; an admin sees all."""

    here = "courses"

    async def get(self) -> None:
        """Shows them."""
        found = await self.context.run(courses.mine, self.site, actor=self.me.actor())
        gone = checked_or_none(self.query().get("removed", ""))
        saved = f"The course {gone} is removed." if gone else None
        self.render_page(
            "courses.html", found=found, teaches=self.me.can_teach, can_run=self.me.can_run, saved=saved,
            **await self.live(),
        )  # fmt: skip


class CoursePage(Page):
    """A page with the form of a course."""

    here = "courses"

    def choices(self) -> dict[str, Any]:
        """What the form has to choose from."""
        catalog = self.site.catalog
        groups = self.me.groups if not self.me.is_admin else {g for p in catalog.profiles.values() for g in p.groups}
        profiles = catalog.profiles_for(groups)
        nodes = [node.name for node in catalog.nodes.values() if any(fits(profile, node) for profile in profiles)]
        images = {name for profile in profiles for name in profile.images} if self.site.images else set()
        return {"profiles": profiles, "nodes": nodes, "images": sorted(images)}

    def fields(self) -> dict[str, Any]:
        """The form as it was sent."""
        texts = {name: self.field(name) for name in (*TEXTS, *NUMBERS)}
        return texts | {"nodes": self.get_body_arguments("nodes"), "hand_in": self.field("hand_in") == "1"}

    def said(self) -> dict[str, Any]:
        """The same as a course's file has it: what is empty is not said."""
        said = {name: text for name, text in self.fields().items() if text}
        said |= {name: number(said[name]) for name in NUMBERS if name in said}
        files = {name: said.pop(name) for name in FILES if name in said}
        return said | ({"files": files} if files else {})


class NewCourse(CoursePage):
    """The form of one that is not there yet."""

    right: Right = "courses"

    @property
    def address(self) -> str:
        """Beside the list."""
        return "new-course"

    async def get(self) -> None:
        """Shows it."""
        await self.show()

    async def post(self) -> None:
        """Makes it."""
        try:
            wanted = course_yaml.parse({"name": self.field("name").strip(), **self.said()})
            await apply(self.context, self.me, wanted, now=self.now, only_new=True)
        except MLMPError as error:
            await self.refuse(error)
            return
        self.go(f"courses/{wanted.name}", did="made")

    async def show(self, *, problem: MLMPError | None = None) -> None:
        """The empty form, or what was sent."""
        sent = self.request.method == "POST"
        fields = (
            {"name": self.field("name"), **self.fields()}
            if sent
            else {"profile": self.query().get("profile", ""), **NEW}
        )
        self.render_page(
            "course_new.html", fields=fields, problem=problem.problem() if problem else None, **self.choices(),
            **await self.live(),
        )  # fmt: skip


class OneCourse(CoursePage):
    """One course: what it is, and for those who run it its form and its roster."""

    @property
    def address(self) -> str:
        """With its name, also before the page knows whether it may be seen."""
        return f"courses/{self.path_args[0]}"

    @property
    def name(self) -> str:
        """:raises NotFound: no course can have it."""
        return checked_name(self.path_args[0])

    async def get(self, name: str) -> None:
        """Shows it."""
        await self.show()

    async def show(
        self, *, problem: MLMPError | None = None, wish: Wish | None = None, preview: Done | None = None
    ) -> None:
        """The course. :param preview: what ``wish`` would do to its roster."""
        seen = await self.context.run(courses.get, self.site, self.name, actor=self.me.actor())
        runs = seen.runs and self.me.can_run
        members, known = await self._members(runs)
        sent = "step" in self.request.body_arguments and self.field("step") == "settings"
        self.render_page(
            "course.html", course=seen.course, role=seen.member.role if seen.member else None, runs=runs,
            units=seen.course.units_of(self.site.catalog), counts=seen.counts, members=members[:MOST_SHOWN],
            more=len(members) - MOST_SHOWN, known=known, fields=self.fields() if sent else fields_of(seen.course),
            domains=" ".join(self.site.roster_domains), wish=wish, preview=preview,
            saved=DID.get(self.query().get("did", "")), problem=problem.problem() if problem else None,
            yaml=course_yaml.as_yaml(seen.course) if runs else "",
            classes=await self._classes(), **self.choices(), **await self.live(),
        )  # fmt: skip

    async def _classes(self) -> list[Booked]:
        """Those that are not over, the next ones."""
        window = Interval(self.now, self.now + HORIZON)
        found: list[Booked] = await self.context.run(classes.listing, self.site, self.name, window=window)
        return found[:MOST_CLASSES]

    async def _members(self, runs: bool) -> tuple[list[Member], frozenset[str]]:
        if not runs:
            return [], frozenset()
        _, members, known = await self.context.run(roster.look, self.site, self.name, actor=self.me.actor())
        return members, known


class CourseAction(OneCourse):
    """A form of a course: its settings, its roster, or its removal."""

    right: Right = "run"
    body_limit = LARGEST_BODY

    async def get(self, name: str, action: str) -> None:  # type: ignore[override]
        """There is nothing to see here: a reload after a refusal leads to the course."""
        self.go(f"courses/{name}")

    async def post(self, name: str, action: str) -> None:
        """Does it, and shows the course; of a roster first what would change."""
        try:
            if action == "settings":
                await self._settings()
            elif action == "roster":
                await self._roster()
            else:
                await self.context.run(
                    courses.remove, self.site, self.name, actor=self.me.actor(), now=self.now,
                    if_match=self._version(),
                )  # fmt: skip
                tell(self.context)
                self.go("courses", removed=name)
        except MLMPError as error:
            await self.refuse(error)

    async def _settings(self) -> None:
        seen: Seen = await self.context.run(courses.get, self.site, self.name, actor=self.me.actor())
        if not seen.runs:
            raise NotAllowed("Only its instructors change a course.")
        kept = {key: value for key, value in course_yaml.as_written(seen.course).items() if key not in FORM}
        wanted = course_yaml.parse({"name": self.name, **kept, **self.said()})
        done = await apply(self.context, self.me, wanted, now=self.now, if_match=self._version())
        self.go(f"courses/{self.name}", did="none" if done.nothing else "saved")

    async def _roster(self) -> None:
        wish, preview = self._wish(), self.field("step") == "preview"
        done: Done = await self.context.run(
            roster.change, self.site, self.name, wish, actor=self.me.actor(), now=self.now, dry_run=preview
        )
        if preview:
            await self.show(wish=wish, preview=done)
            return
        tell(self.context)
        self.go(f"courses/{self.name}", did="none" if done.outcome.nothing else "roster")

    def _wish(self) -> Wish:
        role, domains = self.field("role"), self.field("domains")
        return Wish(
            text=self._text(),
            remove=tuple(self.get_body_arguments("remove")),
            role="instructor" if role == "instructor" else "student" if role == "student" else None,
            whole=self.field("whole") == "1",
            domains=tuple(domains.replace(",", " ").split()),
        )

    def _text(self) -> str:
        """What was pasted, and the file that was chosen. :raises Invalid: it is no text."""
        found = [check_text(self.get_body_argument("text", "", strip=False))]
        for sent in self.request.files.get("file", []):
            data = sent["body"]
            try:
                found.append(data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"))
            except UnicodeDecodeError:
                raise Invalid.field("file", "it is no text in UTF-8; save it so") from None
        said = [one for one in found if one.strip()]
        if len(said) > 1:
            raise Invalid.field("file", "paste a list or choose a file, not both")
        return said[0] if said else ""

    def _version(self) -> int | None:
        text = self.field("version")
        return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else None


def number(text: str) -> int | float | str:
    """A number as its field sends it; what is none, as it is."""
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,6})?", text.strip()):
        return text
    return float(text) if "." in text else int(text)


def fields_of(course: Course) -> Mapping[str, Any]:
    """A course as its form shows it."""
    written = {**NEW, **course_yaml.as_written(course)}
    return {name: written.get(name, "") for name in FORM} | {"nodes": course.nodes} | written.get("files", {})


def checked_or_none(name: str) -> str | None:
    """A name that a course can have."""
    try:
        return checked_name(name)
    except NotFound:
        return None
