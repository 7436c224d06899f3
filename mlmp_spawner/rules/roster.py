"""Rosters as people have them: pasted names and mail addresses, CSV, exports of Moodle and Canvas. What is in them is
not trusted: each line is understood, or named with the reason.

And what a change of a roster does, before it is done.
"""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from mlmp_spawner.errors import Conflict, Invalid
from mlmp_spawner.rules.courses import MOST_MEMBERS, Member, Role, person
from mlmp_spawner.rules.values import quoted
from mlmp_spawner.units import format_size

LARGEST = 512 << 10
"""Bytes of a list that is imported."""
MOST_LINES = 20_000
LONGEST_LINE = 20_000

_AROUND = re.compile(r"[\s<>,;:\"'()\[\]\\]+")
"""What may stand around a mail address."""
_SEPARATORS = re.compile(r"[,;\t]")

# By how sure it is that they hold what the hub calls people. Moodle, Canvas, Ilias; English and German.
_LOGINS = (
    "username",
    "user name",
    "login",
    "sis login id",
    "login id",
    "benutzername",
    "anmeldename",
    "user",
    "netid",
)
_MAILS = ("email address", "e-mail address", "email", "e-mail", "mail", "e-mail-adresse", "mailadresse")
_NAMES = ("name",)  # often what people are called
_ROLES = ("role",)
_CANVAS = "student"
_NOBODY = {"", "points possible", "student, test"}
"""Rows of a gradebook of Canvas, whose first column that is, that are nobody's."""


class NotUnderstood(NamedTuple):
    """A line of a list that names nobody, counted from 1, and why."""

    line: int
    text: str
    why: str


@dataclass(frozen=True, slots=True)
class Listed:
    """Who is in a list, in its order: of each name the role, where the list says it."""

    people: Mapping[str, Role | None]
    not_understood: tuple[NotUnderstood, ...] = ()


def read(text: str, domains: Collection[str] = ()) -> Listed:
    """Who is in a list: one that was pasted, or a table with a header.

    :param domains: of mail addresses; of theirs the part before the ``@`` is the name, of others all of it.
    :raises Invalid: it is too large.
    """
    if len(text.encode("utf-8", "surrogatepass")) > LARGEST:
        raise Invalid.field("list", f"is too large; at most {format_size(LARGEST)}")
    lines = unicodedata.normalize("NFC", text.removeprefix("\ufeff")).splitlines()
    if len(lines) > MOST_LINES:
        raise Invalid.field("list", f"has {len(lines)} lines; at most {MOST_LINES}")
    reading = _Reading(frozenset(domain.strip().lower().removeprefix("@") for domain in domains))
    header = next((number for number, line in enumerate(lines) if line.strip()), 0)
    delimiter = _delimiter(lines[header]) if lines else None
    if delimiter is None:
        reading.pasted(lines)
    else:
        reading.table(lines[header:], delimiter, header)
    return Listed(reading.people, tuple(reading.wrong))


class _Reading:
    """What was found so far. ``domains``: see :func:`read`."""

    def __init__(self, domains: frozenset[str]) -> None:
        self.domains = domains
        self.people: dict[str, Role | None] = {}
        self.wrong: list[NotUnderstood] = []
        self._addresses: dict[str, str] = {}

    def pasted(self, lines: Sequence[str]) -> None:
        """One or several to a line; words beside an address are what somebody is called."""
        for number, line in enumerate(lines, 1):
            if len(line) > LONGEST_LINE:
                self._not(number, line, f"is longer than {LONGEST_LINE} characters")
                continue
            parts = [part.strip() for part in _SEPARATORS.split(line) if part.strip()]
            if "@" in line and "<" not in line:  # as mail programs write it: Smith, Ann <ann@uni.org>
                beside = [part for part in parts if "@" not in part]
                if beside:
                    self._not(number, ", ".join(beside), "is beside a mail address; logins go on other lines")
            for one in _addresses(line) if "@" in line else parts:
                if len(one.split()) > 1:
                    self._not(number, one, "is what somebody is called; write the login or the mail address")
                else:
                    self._add(number, one, None)

    def table(self, lines: Sequence[str], delimiter: str, before: int) -> None:
        """A row for each. :param before: lines above its header."""
        rows = csv.reader(io.StringIO("\n".join(lines)), delimiter=delimiter, strict=True)
        number = before + 1
        try:
            header = [_plain(cell) for cell in next(rows)]
            wanted = [name for name in (*_LOGINS, *_MAILS) if name in header] or _NAMES
            columns = [header.index(name) for name in wanted if name in header]
            role = next((header.index(name) for name in _ROLES if name in header), None)
            number = before + rows.line_num + 1
            for row in rows:
                if header[0] != _CANVAS or not row or _plain(row[0]) not in _NOBODY:
                    self._row(number, row, columns, role)
                number = before + rows.line_num + 1
        except csv.Error as error:
            self._not(number, "", f"is no CSV from here on: {error}")

    def _row(self, number: int, row: Sequence[str], columns: Sequence[int], role: int | None) -> None:
        if not any(cell.strip() for cell in row):
            return
        cells = [cell for at in columns if (cell := row[at].strip() if at < len(row) else "")]
        if not cells:
            self._not(
                number, ", ".join(cell for cell in row if cell.strip()), "has neither a login nor a mail address"
            )
            return
        said = _plain(row[role]) if role is not None and role < len(row) else ""
        if said and said not in ("student", "instructor"):
            self._not(number, cells[0], f"has the role {quoted(said)}; valid: student, instructor")
            return
        self._add(number, cells[0], "instructor" if said == "instructor" else "student" if said else None)

    def _add(self, number: int, text: str, role: Role | None) -> None:
        written = text.strip().lower()
        local, at, domain = written.partition("@")
        try:
            name = person(local if at and domain in self.domains else written)
        except ValueError as error:
            self._not(number, text, str(error))
            return
        other = self._addresses.setdefault(name, written)
        if other != written and "@" in other and at:
            self._not(number, text, f"would be {quoted(name)}, as {quoted(other)} is")
            return
        former = self.people.get(name)
        if role and former and role != former:
            self._not(number, text, f"is on the list as {former} already")
            return
        self.people[name] = role or former

    def _not(self, number: int, text: str, why: str) -> None:
        self.wrong.append(NotUnderstood(number, _shown(text[:100]).strip(), _shown(why)))


def _shown(text: str) -> str:
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def _delimiter(first: str) -> str | None:
    """What is between the cells of a table whose header this is; None: it is no header."""
    known = {*_LOGINS, *_MAILS, *_NAMES}
    for delimiter in (",", ";", "\t"):
        try:
            cells = next(csv.reader([first[:LONGEST_LINE]], delimiter=delimiter), [])
        except csv.Error:
            continue
        if any(_plain(cell) in known for cell in cells):
            return delimiter
    return None


def _addresses(line: str) -> list[str]:
    return [word.strip(".") for word in _AROUND.split(line) if "@" in word]


def _plain(cell: str) -> str:
    return " ".join(cell.split()).lower()


# -- what a change does ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Change:
    """What is to be done to a roster: whom to put on it (role None: as a student, who is on it stays what they are)
    and whom to take off; ``only``: whoever of these roles is not put on it is taken off."""

    put: Mapping[str, Role | None] = field(default_factory=dict)
    remove: frozenset[str] = frozenset()
    only: frozenset[Role] = frozenset()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a change does. ``changed``: whose role changes, to which; ``kept``: how many stay as they are."""

    added: Mapping[str, Role]
    changed: Mapping[str, Role]
    removed: tuple[str, ...]
    kept: int

    @property
    def nothing(self) -> bool:
        """Whether it does nothing."""
        return not (self.added or self.changed or self.removed)


def plan(now: Iterable[Member], change: Change) -> Outcome:
    """What ``change`` does to the roster ``now``. Guests come and go by invitation only.

    :raises Invalid: somebody is to be put on it and taken off, or is a guest, or is not on it.
    :raises Conflict: nobody would run the course any more, or there would be too many.
    """
    roles = {member.name: member.role for member in now}
    for mistake in _mistakes(roles, change):
        raise mistake
    gone = {name for name, role in roles.items()
            if name in change.remove or (role in change.only and name not in change.put)}  # fmt: skip
    added: dict[str, Role] = {}
    changed: dict[str, Role] = {}
    for name, role in change.put.items():
        if name not in roles:
            added[name] = role or "student"
        elif role is not None and role != roles[name]:
            changed[name] = role
    after = {name: role for name, role in {**roles, **changed, **added}.items() if name not in gone}
    if "instructor" not in after.values():
        raise Conflict("Nobody would run this course any more.", hint="Put another instructor on its roster first.")
    if len(after) > MOST_MEMBERS:
        raise Conflict(f"A course has {MOST_MEMBERS} people at most; these would be {len(after)}.")
    kept = sum(1 for name, role in roles.items() if after.get(name) == role)
    return Outcome(added, changed, tuple(name for name in roles if name in gone), kept)


def _mistakes(roles: Mapping[str, Role], change: Change) -> Iterator[Invalid]:
    both = sorted(change.remove & set(change.put))
    if both:
        yield Invalid.field("remove", f"{quoted(both[0])} is to be put on the roster, too")
    missing = sorted(change.remove - set(roles))
    if missing:
        yield Invalid.field("remove", f"{quoted(missing[0])} is not on the roster")
    guests = sorted(name for name in {*change.remove, *change.put} if roles.get(name) == "guest")
    if guests:
        yield Invalid.field("roster", f"{quoted(guests[0])} is a guest; those come and go by invitation")
