"""What a notice says, in words: one sentence for a list or a subject, and what to know beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone, tzinfo
from typing import Any

from mlmp_spawner.rules.notices import Kind

LONGEST_LINE = 300

LISTED = 8
"""Names of jobs in a sentence."""

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@dataclass(frozen=True, slots=True)
class Words:
    """``headline``: what happened, in one line. ``text``: one or two sentences more, in one line."""

    headline: str
    text: str


def one_line(text: object, limit: int = LONGEST_LINE) -> str:
    """A text that stays in its line: no line ends, no control characters, nothing that turns the direction of
    writing; at most ``limit`` characters."""
    clean = "".join(
        c if c.isprintable() else " " if c.isspace() else "\N{REPLACEMENT CHARACTER}" for c in str(text)[: limit + 1]
    )
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"


def at_length(ms: int, zone: tzinfo) -> str:
    """An instant for those who read later: "Tue 24 Nov 2026, 09:00"."""
    wall = datetime.fromtimestamp(ms / 1000, timezone.utc).astimezone(zone)
    # Not by strftime: names of days would follow the locale, the sentences around them don't.
    return f"{_DAYS[wall.weekday()]} {wall.day} {_MONTHS[wall.month - 1]} {wall.year}, {wall:%H:%M}"


def what(details: Mapping[str, Any], titles: Mapping[str, str]) -> str:
    """What was booked: "2 × A100 on each of 2 nodes". :param titles: of the profiles, by name."""
    profile = str(details.get("profile", "a booking"))
    units, nodes = details.get("units", 1), details.get("node_count", 1)
    text = one_line(titles.get(profile, profile), 80)
    text = f"{units} × {text}" if isinstance(units, int) and units > 1 else text
    return f"{text} on each of {nodes} nodes" if isinstance(nodes, int) and nodes > 1 else text


def words(
    kind: Kind,
    details: Mapping[str, Any],
    *,
    titles: Mapping[str, str],
    when: Callable[[int], str],
    named: bool = True,
) -> Words:
    """A notice in words.

    :param when: says an instant as its reader wants it. :param named: whether people may be named.
    """
    if kind == "test":
        return Words("This is a test", "Notices arrive here. You asked for this one on the page of your preferences.")
    return _Said(details, what(details, titles), when, named).words(kind)


class _Said:
    def __init__(self, details: Mapping[str, Any], what: str, when: Callable[[int], str], named: bool) -> None:
        self.details, self.what, self.when = details, what, when
        self.action, self.named = str(details.get("action", "")), named
        self.by = one_line(details.get("by", ""), 60) if named else "somebody else"

    def words(self, kind: Kind) -> Words:
        headline, text = getattr(self, f"_{kind}")()
        if kind != "message" and (message := self.names("message")):
            # What is said of a job comes from where it ran, not from a person.
            text = f"{text} {message}" if kind.startswith("job_") else f"{text} {self.by} says: {message}"
        return Words(one_line(headline), one_line(text, 600))

    def time(self, name: str) -> str:
        value = self.details.get(name)
        return self.when(value) if isinstance(value, int) else "then"

    def names(self, name: str) -> str:
        value = self.details.get(name)
        listed = value if isinstance(value, (list, tuple)) else [value] if value else []
        return ", ".join(one_line(one, 80) for one in listed[:8])

    @property
    def title(self) -> str:
        return self.names("title") or self.what

    @property
    def span(self) -> str:
        return f"from {self.time('start')} until {self.time('end')}"

    @property
    def on(self) -> str:
        nodes = self.names("nodes")
        return f" on {nodes}" if nodes else ""

    @property
    def series(self) -> str:
        return " It is of a series: look what else of it is another." if self.details.get("series") else ""

    def _booked(self) -> tuple[str, str]:
        if self.action == "waitlisted":
            return (
                f"On the waitlist: {self.what}, {self.time('start')}",
                f"{self.what}, {self.span}, waits for a place. It is booked as soon as something is free.",
            )
        more = " It is the first of a series." if self.details.get("series") else ""
        return f"Booked: {self.what}, {self.time('start')}", f"{self.what}{self.on} is yours {self.span}.{more}"

    def _starts_soon(self) -> tuple[str, str]:
        return (
            f"Starts soon: {self.what}, {self.time('start')}",
            f"{self.what}{self.on} is yours {self.span}. If nobody starts it, it may be given to others.",
        )

    def _ends_soon(self) -> tuple[str, str]:
        if self.action == "offered":
            return (
                f"You may extend: {self.what}, as far as {self.time('longest_end')}",
                f"Nobody waits for it: your booking that ends at {self.time('end')} can go on until "
                f"{self.time('longest_end')}.",
            )
        return (
            f"Ends soon: {self.what}, {self.time('end')}",
            f"Its server is stopped before {self.time('end')}. Save your work, or extend it.",
        )

    def _promoted(self) -> tuple[str, str]:
        return f"You got a place: {self.what}, {self.time('start')}", f"{self.what}{self.on} is yours {self.span}."

    def _moved(self) -> tuple[str, str]:
        if self.action == "changed":
            return f"Changed by {self.by}: {self.what}", f"It is now {self.span}{self.on}.{self.series}"
        if self.action == "capacity_lost":
            if "missing" in self.details:
                return (
                    f"Seats lost: {self.title}, {self.time('start')}",
                    f"{self.names('source')} can't be had then: {one_line(self.details['missing'], 10)} seats have no "
                    "place now. They get one as soon as something is free, until the class is under way.",
                )
            if "source" in self.details:
                return (
                    f"Lost its place: {self.what}, {self.time('start')}",
                    f"{self.names('source') or 'Its machine'} can't be had then. Your booking is on the waitlist, and "
                    "booked again as soon as something is free.",
                )
            return f"Ended early: {self.what}", "Its machine is not there any more."
        target = self.names("target") or self.names("nodes") or "another node"
        return f"Moved: {self.what}, to {target}", f"It is as before, {self.span}, but on {target}."

    def _released(self) -> tuple[str, str]:
        reasons = {
            "no_show": f"Nobody started it after {self.time('start')}, so that others may have it now.",
            "idle": "Its server did nothing for a long time, so that others may have it now.",
            "preempted": "It gave way to another booking.",
            "cancelled": f"{self.by} cancelled it. It was {self.span}.{self.series}",
            "released": f"{self.by} ended it. It was to last until {self.time('end')}.",
        }
        word = "Cancelled" if self.action == "cancelled" else "Given back"
        return f"{word}: {self.what}, {self.time('start')}", reasons.get(self.action, "It is not yours any more.")

    def _idle(self) -> tuple[str, str]:
        since = f" since {self.time('idle_since')}" if isinstance(self.details.get("idle_since"), int) else ""
        until = self.details.get("release_at")
        then = f"It is given back at {self.when(until)} if that stays so." if isinstance(until, int) else ""
        return (
            f"Idle: {self.what}",
            f"Its server has done nothing{since}. Use it, or release it so that others can. {then}".strip(),
        )

    def _maintenance(self) -> tuple[str, str]:
        if self.action == "class_problem":
            return f"Before class: {self.title}, {self.time('start')}", self.names("problems")
        node = self.names("node") or "Its machine"
        reason = self.names("reason")
        until = self.time("end") if self.details.get("end") else "further notice"
        return (
            f"Maintenance: {node}, {self.time('start')}",
            f"{node} is away from {self.time('start')} until {until}{f' ({reason})' if reason else ''}. Your booking "
            f"of {self.what} lies in that time and stays yours: move it, or ask the people who run this hub.",
        )

    def _message(self) -> tuple[str, str]:
        said = one_line(self.details.get("message") or "nothing", 500)
        by = self.by if self.named else "Who teaches"
        return f"{self.title}: {said}", f"{by} says to everybody in class: {said}"

    @property
    def job(self) -> str:
        return self.names("title") or self.what

    def _job_ended(self) -> tuple[str, str]:
        if self.details.get("outcome") != "cancelled":
            return f"Done: {self.job}", f"{self.what}: it ended as it should."
        return f"Cancelled: {self.job}", f"{self.by} cancelled it. It ran, or waited, as {self.what}."

    def _job_failed(self) -> tuple[str, str]:
        return f"Failed: {self.job}", f"{self.what}: {why_it_ended(self.details)}"

    def _job_requeued(self) -> tuple[str, str]:
        return (
            f"Waits again: {self.job}",
            f"{self.what}: {why_it_ended(self.details)} It starts again, with its checkpoints, as soon as there is "
            "room.",
        )


def together(told: Sequence[tuple[Kind, Mapping[str, Any]]], *, named: bool = True) -> Words:
    """Several jobs in words: how many ended how and, if ``named``, which."""
    found: dict[str, list[str]] = {}
    for kind, details in told:
        how = "cancelled" if details.get("outcome") == "cancelled" else kind
        found.setdefault(how, []).append(one_line(details.get("title") or details.get("job", ""), 80))
    counts: list[str] = []
    lists: list[str] = []
    for outcome, (word, one, many) in _TOGETHER.items():
        if names := found.get(outcome):
            jobs = "" if counts else " job" if len(names) == 1 else " jobs"
            counts.append(f"{len(names)}{jobs} {one if len(names) == 1 else many}")
            more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
            lists.append(f"{word}: {', '.join(names[:LISTED])}{more}.")
    return Words(one_line(", ".join(counts)), one_line(" ".join(lists), 600) if named else "")


_TOGETHER = {
    "job_failed": ("Failed", "failed", "failed"),
    "job_requeued": ("Wait again", "waits again", "wait again"),
    "cancelled": ("Cancelled", "was cancelled", "were cancelled"),
    "job_ended": ("Done", "is done", "are done"),
}

_ENDED = {
    "succeeded": "It ended as it should.",
    "signal": "It was ended by a signal that nobody here sent.",
    "out_of_memory": "It needed more memory than it has.",
    "image": "Its image can't be run.",
    "start": "Its program can't be started.",
    "time_limit": "Its hours were over.",
    "cancelled": "It was cancelled.",
    "preempted": "It made way for a booking.",
    "node_lost": "Its machine was lost.",
    "vanished": "Its processes were gone without a word.",
    "platform": "MLMP itself failed.",
}


def why_it_ended(details: Mapping[str, Any]) -> str:
    """Why a job, or an attempt, ended, as a sentence. :param details: ``reason`` and ``exit_status``."""
    reason = details.get("reason")
    if reason == "exit_status":
        return f"It ended with exit status {one_line(details.get('exit_status', '?'), 20)}."
    return _ENDED.get(reason, "It ended.") if isinstance(reason, str) else "It ended."
