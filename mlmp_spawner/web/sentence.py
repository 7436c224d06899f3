"""Book's one sentence, "I need 2 x A100 for 4 h starting at 15:30 on any node": what it says and what comes of it.

The sentence is the query of the page's address, so that a link can say all of it (alternatives do). What can't be read
becomes what is usual: a sentence can't be wrong, only what one then books can be refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from typing import Literal

from mlmp_spawner.operations.availability import NodeAvailability
from mlmp_spawner.rules.catalog import Profile
from mlmp_spawner.rules.reservations import Interval, Step
from mlmp_spawner.units import DAY, HOUR, MINUTE, from_iso, parse_duration, to_iso
from mlmp_spawner.web.times import from_input, local, to_input

SHOWN = 2 * DAY
"""How much of the time ahead the strip shows."""

LENGTHS = tuple(
    n * unit
    for unit, numbers in ((MINUTE, (1, 2, 5, 10, 30)), (HOUR, (1, 2, 4, 8, 12)), (DAY, (1, 2, 3, 7, 14)))
    for n in numbers
)
"""Lengths that are offered where the profile allows them."""

TICK_HOURS = 6

SEVERAL = "*"
"""What stands before a number where a name of a node could stand, which never begins with it: on so many nodes."""

When = Literal["now", "first", "at"]
Span = tuple[int, int]
"""From when to when one could start (ms UTC), both included."""


@dataclass(frozen=True, slots=True)
class Sentence:
    """What the person says. ``duration`` and ``at`` in ms; ``at`` only counts where ``when`` is "at". ``owner``: for
    whom, if not for oneself; ``image``: if not the profile's first."""

    profile: Profile
    units: int
    duration: int
    when: When = "now"
    at: int | None = None
    node: str | None = None
    title: str = ""
    node_count: int = 1
    owner: str = ""
    image: str = ""

    def query(self, *, at: int | None = None) -> dict[str, str]:
        """The sentence as a query; with ``at``, the same but starting then."""
        found = {"profile": self.profile.name, "units": str(self.units), "duration": f"{self.duration // 1000}s"}
        if at is not None:
            found |= {"when": "at", "at": to_iso(at)}
        elif self.when != "now":
            found["when"] = self.when
            if self.when == "at" and self.at is not None:
                found["at"] = to_iso(self.at)
        if self.node:
            found["node"] = self.node
        if self.node_count > 1:
            found["node_count"] = str(self.node_count)
        return found | {name: value for name in ("image", "title", "owner") if (value := getattr(self, name))}


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of the strip. ``at`` and ``width`` in percent; ``kind``: fits, short (free but not for long enough),
    taken. One may start within one of ``starts``, the last instant included."""

    kind: str
    start: int
    end: int
    starts: tuple[Span, ...]
    free: int
    at: float
    width: float


@dataclass(frozen=True, slots=True)
class Row:
    """One node of the strip."""

    node: str
    capacity: int
    segments: tuple[Segment, ...]


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark of the strip's scale, with the day's name at midnight."""

    at: float
    label: str
    midnight: bool


@dataclass(frozen=True, slots=True)
class Outlook:
    """What would come of a sentence. ``wanted`` is what would be booked (None: nothing fits in what was looked at),
    ``fits`` whether that is free as things lie, ``most`` how many units are free all that time on each node."""

    wanted: Interval | None
    fits: bool
    most: int
    first: int | None
    window: Interval
    rows: tuple[Row, ...]
    ticks: tuple[Tick, ...]

    def mark(self) -> tuple[float, float] | None:
        """Where ``wanted`` lies on the strip, in percent: its place and width."""
        if self.wanted is None or not self.wanted.overlaps(self.window):
            return None
        return _place(self.wanted.start, self.wanted.end, self.window)


def read(
    query: Mapping[str, str],
    profiles: Sequence[Profile],
    nodes: Mapping[str, Sequence[str]],
    *,
    zone: tzinfo,
    now: int,
) -> Sentence | None:
    """The sentence that a query says; None where no profile is open to the person.

    :param nodes: the nodes of each profile.
    """
    if not profiles:
        return None
    profile = next((p for p in profiles if p.name == query.get("profile")), profiles[0])
    units = query.get("units", "")
    node, node_count = _places(query, nodes.get(profile.name, ()))
    start = _instant(query.get("start") or query.get("at"), zone)
    when = query.get("when") or ("at" if start is not None else "now")
    if when not in ("now", "first", "at") or (when == "at" and start is None):
        when = "now"
    if start is not None and start < now - MINUTE:
        start = _quarter(now)
    return Sentence(
        profile=profile,
        units=int(units) if units.isdecimal() and 1 <= int(units[:9]) <= profile.max_units else profile.units,
        duration=_duration(query, start if start is not None else now, profile),
        when=when,  # type: ignore[arg-type]
        at=start,
        node=node,
        node_count=node_count,
        title=_line(query.get("title", ""))[:200],
        owner=_line(query.get("owner", ""))[:255],
        image=image if (image := query.get("image", "")) in profile.images[1:] else "",
    )


def lengths(sentence: Sentence) -> list[int]:
    """The lengths to choose from, and the one that was said."""
    profile = sentence.profile
    usual = {length for length in LENGTHS if profile.min_duration <= length <= profile.max_duration}
    return sorted(usual | {sentence.duration, profile.default_duration})


def outlook(sentence: Sentence, nodes: Sequence[NodeAvailability], *, zone: tzinfo, now: int) -> Outlook:
    """What would come of it, from what is free (see :func:`needed`)."""
    length, count = sentence.duration, sentence.node_count
    starts = _together([_starts(one.steps, sentence) for one in nodes], count)
    first = starts[0][0] if starts else None
    start = {"now": now, "first": first, "at": sentence.at}[sentence.when]
    wanted = None if start is None else Interval(max(start, now), max(start, now) + length)
    rooms = sorted((_room(one.steps, wanted) for one in nodes), reverse=True) if wanted else []
    most = rooms[count - 1] if len(rooms) >= count else 0
    window = Interval(now, now + SHOWN)
    rows = tuple(Row(one.node, one.capacity, _segments(one.steps, sentence, starts, window)) for one in nodes)
    return Outlook(wanted, most >= sentence.units, most, first, window, rows, _ticks(window, zone))


def needed(sentence: Sentence, now: int) -> Interval:
    """Over what availability must be known: the strip, and a booking that starts anywhere on it or when was said."""
    end = now + SHOWN + sentence.duration
    if sentence.at is not None:
        end = max(end, min(sentence.at, now + 60 * DAY) + sentence.duration)
    return Interval(now, min(end, now + 92 * DAY))


def request_of(sentence: Sentence, wanted: Interval) -> dict[str, str]:
    """What to post to book exactly this."""
    body = {"profile": sentence.profile.name, "units": str(sentence.units)}
    if sentence.when == "now":
        body["duration"] = f"{sentence.duration // 1000}s"
    else:
        body |= {"start": to_iso(wanted.start), "end": to_iso(wanted.end)}
    if sentence.node_count > 1:
        body["node_count"] = str(sentence.node_count)
    return body | {name: value for name in ("node", "image", "title", "owner") if (value := getattr(sentence, name))}


def input_value(sentence: Sentence, zone: tzinfo, now: int) -> str:
    """What stands in the field for the start."""
    return to_input(sentence.at if sentence.at is not None else _quarter(now + HOUR), zone)


def _places(query: Mapping[str, str], nodes: Sequence[str]) -> tuple[str | None, int]:
    """The node that was chosen, and on how many."""
    node = query.get("node", "")
    if node in nodes:
        return node, 1
    text = node.removeprefix(SEVERAL) if node.startswith(SEVERAL) else query.get("node_count", "")
    count = int(text) if text.isascii() and text.isdecimal() and len(text) < 6 else 1
    return None, count if 1 <= count <= len(nodes) else 1


def _line(text: str) -> str:
    return "".join(c for c in text if c.isprintable())


def _instant(text: str | None, zone: tzinfo) -> int | None:
    try:
        return from_input(text, zone) if text else None
    except (ValueError, OverflowError):
        return None


def _duration(query: Mapping[str, str], start: int, profile: Profile) -> int:
    try:
        if query.get("duration"):
            length = parse_duration(query["duration"])
        elif query.get("end"):
            length = from_iso(query["end"]) - start
        else:
            length = profile.default_duration
    except ValueError:
        length = profile.default_duration
    return length if profile.min_duration <= length <= profile.max_duration else profile.default_duration


def _quarter(now: int) -> int:
    """The next quarter of an hour."""
    return -(-now // (15 * MINUTE)) * 15 * MINUTE


def _room(steps: Sequence[Step], wanted: Interval) -> int:
    """Units free all the time of ``wanted``; none where it is not known."""
    inside = [step.free for step in steps if step.start < wanted.end and wanted.start < step.end]
    known = steps and steps[0].start <= wanted.start and wanted.end <= steps[-1].end
    return min(inside, default=0) if known else 0


def _runs(steps: Sequence[Step], units: int) -> list[tuple[bool, Step]]:
    """The steps put together: whether enough is free, and the least that is."""
    runs: list[tuple[bool, Step]] = []
    for step in steps:
        enough = step.free >= units
        if runs and runs[-1][0] == enough and (enough or runs[-1][1].free == step.free):
            last = runs.pop()[1]
            step = Step(last.start, step.end, min(last.free, step.free))
        runs.append((enough, step))
    return runs


def _starts(steps: Sequence[Step], sentence: Sentence) -> list[Span]:
    """When one could start on this node."""
    length = sentence.duration
    return [
        (run.start, run.end - length)
        for enough, run in _runs(steps, sentence.units)
        if enough and run.end - run.start >= length
    ]


def _together(starts: Sequence[Sequence[Span]], count: int) -> list[Span]:
    """When one could start on ``count`` nodes at once."""
    edges = sorted(
        [(first, 0) for one in starts for first, _ in one] + [(last, 1) for one in starts for _, last in one]
    )
    found: list[Span] = []
    open_ = begun = 0
    for instant, closes in edges:
        if not closes:
            open_ += 1
            begun = instant if open_ == count else begun
        else:
            if open_ == count:
                found.append((begun, instant))
            open_ -= 1
    return found


def _segments(
    steps: Sequence[Step], sentence: Sentence, together: Sequence[Span], window: Interval
) -> tuple[Segment, ...]:
    """Stretches in which one could start or not."""
    found = []
    for enough, run in _runs(steps, sentence.units):
        if run.start >= window.end or run.end <= window.start:
            continue
        first, last = run.start, min(run.end - sentence.duration, window.end)
        common = ((max(first, begin), min(last, end)) for begin, end in together)
        starts = tuple(span for span in common if span[0] <= span[1]) if enough else ()
        kind = "fits" if starts else "short" if enough else "taken"
        at, width = _place(run.start, run.end, window)
        found.append(Segment(kind, run.start, run.end, starts, run.free, at, width))
    return tuple(found)


def _place(start: int, end: int, window: Interval) -> tuple[float, float]:
    left, right = max(start, window.start), min(end, window.end)
    scale = 100 / window.length
    return round((left - window.start) * scale, 3), round((right - left) * scale, 3)


def _ticks(window: Interval, zone: tzinfo) -> tuple[Tick, ...]:
    """Every six hours of the viewer's clock."""
    first = local(window.start, zone).replace(minute=0, second=0, microsecond=0, tzinfo=None)
    found: list[Tick] = []
    moment = first + timedelta(hours=TICK_HOURS - first.hour % TICK_HOURS)
    while True:
        instant = _of(moment, zone)
        if instant >= window.end:
            return tuple(found)
        at, _ = _place(instant, window.end, window)
        midnight = moment.hour == 0
        found.append(Tick(at, f"{moment:%a} {moment.day}" if midnight else f"{moment:%H:%M}", midnight))
        moment += timedelta(hours=TICK_HOURS)


def _of(moment: datetime, zone: tzinfo) -> int:
    return from_input(moment.isoformat(), zone)
