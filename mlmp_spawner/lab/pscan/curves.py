"""What a run measured, out of JSON lines, CSV or TensorBoard's event files, and small plots of it."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape

from mlmp_spawner.lab import tensorboard
from mlmp_spawner.lab.pscan.axes import number

PIECE = 8 << 20
"""Bytes of a file that are read."""
MOST_CURVES = 12
MOST_POINTS = 400
_STEPS = ("step", "global_step", "iteration", "epoch")
_NOT_MEASURED = frozenset((*_STEPS, "at", "time", "timestamp", "wall_time"))
_LONGEST_NAME = 80

Curve = list[tuple[float, float]]
Row = Mapping[str, float]


def of_json_lines(data: bytes) -> dict[str, Curve]:
    """The numbers of each line by their names; what is no JSON object is left out."""
    return _curves(_json_rows(data))


def _json_rows(data: bytes) -> Iterator[Row]:
    for line in data.splitlines():
        try:
            found = json.loads(line) if len(line) < 64 << 10 else None
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict):
            yield {name: float(value) for name, value in found.items() if _is_number(value)}


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and abs(value) < 1e300  # type: ignore[arg-type]


def of_csv(rows: Sequence[Sequence[str]]) -> dict[str, Curve]:
    """The columns of a table that has one for its steps; empty where it has none."""
    if not rows or not set(_STEPS) & set(rows[0]):
        return {}
    return _curves(
        {name: value for name, text in zip(rows[0], row, strict=False) if (value := number(text)) is not None}
        for row in rows[1:]
    )


def of_events(data: bytes) -> dict[str, Curve]:
    """The scalars of an event file, as far as it is one."""
    found: dict[str, Curve] = {}
    try:
        for record in tensorboard.records(data)[0]:
            for one in tensorboard.scalars(record):
                if math.isfinite(one.value):
                    found.setdefault(one.name, []).append((one.step, one.value))
    except tensorboard.Broken:
        pass
    return _thinned(found)


def table_rows(data: bytes, *, tabs: bool, most: int) -> list[list[str]]:
    """The first rows of a CSV file; what a reader of them can't make sense of ends them."""
    reader = csv.reader(io.StringIO(data.decode("utf-8-sig", "replace")), delimiter="\t" if tabs else ",")
    rows: list[list[str]] = []
    try:
        for row in reader:
            rows.append(row)
            if len(rows) >= most:
                break
    except csv.Error:
        pass
    return rows


def _curves(rows: Iterator[Row] | Sequence[Row]) -> dict[str, Curve]:
    found: dict[str, Curve] = {}
    for n, row in enumerate(rows):
        step = next((row[name] for name in _STEPS if name in row), float(n))
        for name, value in row.items():
            if name not in _NOT_MEASURED:
                found.setdefault(name, []).append((step, value))
    return _thinned(found)


def _thinned(found: Mapping[str, Curve]) -> dict[str, Curve]:
    thin: dict[str, Curve] = {}
    for name in sorted(found)[:MOST_CURVES]:
        points = found[name]
        every = math.ceil(len(points) / MOST_POINTS)
        last = points[-1:] if (len(points) - 1) % every else []
        thin[name] = points[::every] + last
    return thin


READERS: Mapping[str, Callable[[bytes], dict[str, Curve]]] = {"jsonl": of_json_lines, "ndjson": of_json_lines}


def drawn(curves: Mapping[str, Curve]) -> str:
    """A small plot for each, as HTML with SVG that needs no style and no script."""
    return "".join(_figure(name, points) for name, points in curves.items() if points)


def _figure(name: str, points: Curve) -> str:
    xs, ys = [x for x, _ in points], [y for _, y in points]
    left, right, low, high = min(xs), max(xs), min(ys), max(ys)
    path = " ".join(f"{_scaled(x, left, right, 200):.1f},{60 - _scaled(y, low, high, 56) - 2:.1f}" for x, y in points)
    said = f"{escape(name[:_LONGEST_NAME])} <b>{ys[-1]:.4g}</b> <small>{low:.4g} … {high:.4g}</small>"
    label = f"{name[:_LONGEST_NAME]}: from {ys[0]:.4g} to {ys[-1]:.4g}, between {low:.4g} and {high:.4g}"
    mark = (
        f'<circle cx="{path.split(",", maxsplit=1)[0]}" cy="30" r="2" fill="currentColor"/>'
        if len(points) == 1
        else f'<polyline points="{path}" fill="none" stroke="currentColor" vector-effect="non-scaling-stroke"/>'
    )
    return (
        f'<figure><figcaption>{said}</figcaption><svg viewBox="0 0 200 60" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(label)}">{mark}</svg></figure>'
    )


def _scaled(value: float, low: float, high: float, length: float) -> float:
    return length / 2 if high == low else (value / 2 - low / 2) / (high / 2 - low / 2) * length
