"""What all benchmarks share: how results are told, and how time is measured."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TypeVar

K = TypeVar("K")


@dataclass(frozen=True)
class Result:
    """One figure. ``versus`` is what it is compared with, in the same unit, ``ratio`` the one by the other.

    ``goal`` is for people only: what was promised.
    """

    bench: str
    value: float
    unit: str
    versus: float | None = None
    ratio: float | None = None
    goal: str = field(default="", compare=False)


@dataclass
class Report:
    """Tells each result as a line of JSON on stdout at once, and all of them as a table on stderr at the end."""

    results: list[Result] = field(default_factory=list)

    def add(self, bench: str, value: float, unit: str, *, versus: float | None = None, goal: str = "") -> None:
        """Adds a figure; the ratio to ``versus`` is computed."""
        ratio = None if versus is None else _rounded(value / versus)
        versus = None if versus is None else _rounded(versus)
        result = Result(bench, _rounded(value), unit, versus, ratio, goal)
        self.results.append(result)
        line = asdict(result)
        del line["goal"]
        print(json.dumps(line), flush=True)

    def table(self) -> None:
        """Prints all results for people."""
        head = ("benchmark", "value", "unit", "versus", "ratio", "goal")
        rows = [
            (r.bench, f"{r.value:g}", r.unit, "" if r.versus is None else f"{r.versus:g}",
             "" if r.ratio is None else f"{r.ratio:g}", r.goal)
            for r in self.results
        ]  # fmt: skip
        widths = [max(len(row[n]) for row in (head, *rows)) for n in range(len(head))]
        for row in (head, tuple("-" * width for width in widths), *rows):
            cells = [cell.rjust(width) if n in (1, 3, 4) else cell.ljust(width)
                     for n, (cell, width) in enumerate(zip(row, widths, strict=True))]  # fmt: skip
            print("  ".join(cells).rstrip(), file=sys.stderr)


def note(text: str) -> None:
    """A word on what goes on, for people."""
    print(f"# {text}", file=sys.stderr, flush=True)


@contextmanager
def noted(text: str) -> Iterator[None]:
    """Says how long something took that is not measured."""
    began = time.perf_counter()
    yield
    note(f"{text}: {time.perf_counter() - began:.1f} s")


def in_turns(works: Mapping[K, Callable[[int], object]], count: int, *, warm_up: int = 10) -> dict[K, list[float]]:
    """Milliseconds of each of ``count`` calls of each work, taking turns, after some that do not count."""
    taken: dict[K, list[float]] = {key: [] for key in works}
    for n in range(warm_up + count):
        for key, work in works.items():
            began = time.perf_counter()
            work(n)
            taken[key].append((time.perf_counter() - began) * 1000)
    return {key: values[warm_up:] for key, values in taken.items()}


def median(values: list[float]) -> float:
    """The median: of latencies on a machine that does other things too, the most telling figure."""
    return statistics.median(values)


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
