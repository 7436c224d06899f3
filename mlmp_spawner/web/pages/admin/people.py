"""People: what each uses of the limits, and the limits themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from mlmp_spawner.errors import MLMPError
from mlmp_spawner.operations import limit_settings, listing
from mlmp_spawner.operations.limit_settings import Setting, Subject
from mlmp_spawner.operations.site import Site
from mlmp_spawner.rules.catalog import Limits
from mlmp_spawner.rules.policy import Usage
from mlmp_spawner.store import people, reservations
from mlmp_spawner.store.transaction import read
from mlmp_spawner.web.api.limits import Said
from mlmp_spawner.web.pages.admin.base import AdminPage
from mlmp_spawner.web.problems import as_error

WORDS = {
    "units_at_once": ("Units at once", "4"),
    "hours_per_week": ("Unit-hours in any 7 days", "40"),
    "open_bookings": ("Open bookings", "10"),
    "max_duration": ("Longest booking", "12h"),
    "min_duration": ("Shortest booking", "10m"),
    "ahead": ("How far ahead", "14d"),
    "no_show_grace": ("Given back if unused for", "30m"),
    "extension": ("Longest extension", "4h"),
    "job_units": ("Units of jobs at once", "8"),
    "open_jobs": ("Open jobs", "1000"),
    "job_logs": ("Logs and code of jobs", "5GiB"),
}
"""The limits, in words, each with an example."""

NO_LIMIT = "no limit"
WHOLE = frozenset({"units_at_once", "open_bookings", "job_units", "open_jobs"})


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody, what they may and what they have of it."""

    name: str
    groups: tuple[str, ...]
    rules: Limits
    used: Usage


def all_people(site: Site, *, now: int) -> tuple[list[Person], list[Setting]]:
    """Everybody who has or lately had a booking or has limits of their own, and all limits that are said."""
    used = listing.used_by_all(site, now=now)
    holding, settings = limit_settings.look(site)
    names = sorted({*used, *(one.subject.name for one in settings if one.subject.kind == "user")})
    found = []
    with read(site.engine) as connection:
        for name in names:
            groups = people.groups_of(connection, reservations.user_id(connection, name))
            found.append(Person(name, tuple(sorted(groups)), holding.of(name, groups), used.get(name, Usage())))
    return found, settings


class People(AdminPage):
    """Who uses what, and which limits are said for whom."""

    tab = "admin/people"

    async def get(self) -> None:
        """Shows them."""
        await self.show()

    def saved(self, done: str) -> str | None:
        """Whose limits, and which hold now."""
        step, _, whom = done.partition(":")
        try:
            subject = Subject.parse(whom)
        except MLMPError:
            return None
        name = f"{'the group ' if subject.kind == 'group' else ''}{subject.name or 'everybody'}"
        if step == "reset":
            return f"For {name} the catalog's limits hold again."
        return f"These limits hold for {name} now."

    async def show(self, *, problem: MLMPError | None = None) -> None:
        """Everybody."""
        found, settings = await self.context.run(all_people, self.site, now=self.now)
        await self.render_admin(
            "admin_people.html", problem=problem, people=found, settings=settings, words=WORDS, said=said_in_words
        )


class LimitsOf(AdminPage):
    """The form for the limits of everybody, a group or somebody."""

    tab = "admin/people"

    @property
    def address(self) -> str:
        """With whom they are for."""
        return "admin/limits"

    async def get(self) -> None:
        """Shows it."""
        await self.show()

    async def post(self) -> None:
        """Sets them, or goes back to the catalog's."""
        try:
            subject = Subject.parse(self.field("name"))
            said = None if self.field("step") == "reset" else self._limits()
            await self.context.run(
                limit_settings.put, self.site, subject, said, actor=self.me.actor(), now=self.now,
                if_match=self.field("version") or None,
            )  # fmt: skip
        except (MLMPError, ValidationError) as error:
            await self.refuse(as_error(error))
            return
        self.context.feed.wake()
        self.go("admin/people", done=f"{'reset' if said is None else 'set'}:{subject}")

    async def show(self, *, problem: MLMPError | None = None) -> None:
        """What is said for the subject that the query or the form names."""
        sent = self.request.method == "POST"
        kind, name = self.query().get("kind", ""), self.query().get("name", "").strip()
        named = self.field("name") if sent else f"{kind}:{name}" if kind in ("group", "user") else name
        subject = Subject.parse(named or "everybody")
        _, setting = await self.context.run(limit_settings.look_at, self.site, subject)
        fields = {limit: self.field(limit) for limit in WORDS} if sent else as_fields(setting.set or setting.catalog)
        await self.render_admin(
            "admin_limits.html", problem=problem, subject=subject, setting=setting, fields=fields, words=WORDS,
            no_limit=NO_LIMIT,
        )  # fmt: skip

    def _limits(self) -> Limits:
        """What the form says.

        :raises ValidationError: see the API's model.
        """
        given: dict[str, Any] = {}
        for name in WORDS:
            text = self.field(name).strip()
            if text.casefold() in (NO_LIMIT, "none"):
                given[name] = None
            elif text:
                given[name] = _number(name, text)
        said = Said.model_validate(given)
        return Limits(**{name: getattr(said, name) for name in said.model_fields_set})


def as_fields(said: Limits | None) -> dict[str, str]:
    """What the form shows: "" where nothing is said."""
    written = limit_settings.as_written(said) if said else {}
    return {name: "" if name not in written else _text(written[name]) for name in WORDS}


def said_in_words(said: Limits | None) -> list[str]:
    """What is said, a line for each limit."""
    return [f"{words}: {value}" for name, (words, _) in WORDS.items() if (value := as_fields(said)[name])]


def _text(value: object) -> str:
    return NO_LIMIT if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _number(name: str, text: str) -> object:
    """A number where one is wanted; what is none is left for the model to refuse."""
    try:
        return int(text) if name in WHOLE else float(text) if name == "hours_per_week" else text
    except ValueError:
        return text
