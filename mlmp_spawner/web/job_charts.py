"""From what jobs measured and used to charts: which metric, over what, with which line of which job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mlmp_spawner.rules.job_metrics import Series
from mlmp_spawner.web import job_plots
from mlmp_spawner.web.job_plots import Chart, chart

Measured = Mapping[str, Series]
"""What a job measured, by name."""

USED: Mapping[str, tuple[str, str]] = {
    "gpu": ("GPU", "percent"),
    "gpu_memory": ("GPU memory", "bytes"),
    "cpu": ("Processor cores", "amount"),
    "memory": ("Memory", "bytes"),
}
"""What is sampled: its title, and how its values are said."""


def of_job(measured: Measured) -> list[Chart]:
    """A chart for each metric, by its name."""
    return _charts([("it", measured)], by_time=False)


def compared(jobs: Sequence[tuple[str, Measured]], *, by_time: bool) -> list[Chart]:
    """A chart for each metric with a line for each of the jobs (label, what it measured) that has it.

    :param by_time: over the time since its first number, where that is known, not over steps.
    """
    return _charts(jobs, by_time=by_time)


def of_usage(used: Measured) -> list[Chart]:
    """A chart for each thing that was used, over the time since its start."""
    made = []
    for name in [*(name for name in USED if name in used), *sorted(set(used) - set(USED))]:
        title, kind = USED.get(name, (name, "number"))
        line = job_plots.Series("it", _since(used[name]), _numbers(used[name].values))
        made.append(chart(title, [line], timed=True, kind=kind))
    return [one for one in made if one is not None]


def _charts(jobs: Sequence[tuple[str, Measured]], *, by_time: bool) -> list[Chart]:
    made = []
    for name in sorted({name for _, measured in jobs for name in measured}):
        lines = [(label, found[name], n) for n, (label, found) in enumerate(jobs) if name in found]
        timed = all(_has(one.at) for _, one, _ in lines)
        timed = timed and (by_time or not all(_has(one.steps) for _, one, _ in lines))
        series = [_line(label, one, number, timed=timed) for label, one, number in lines]
        made.append(chart(name, series, timed=timed))
    return [one for one in made if one is not None]


def _line(label: str, one: Series, number: int, *, timed: bool) -> job_plots.Series:
    """By time, else by steps, else by their order. What was tried again goes on where its checkpoint was."""
    at = _since(one) if timed else _numbers(one.steps) if _has(one.steps) else list(range(len(one.values)))
    pairs = sorted(zip(at, _numbers(one.values), strict=True), key=lambda pair: pair[0])
    return job_plots.Series(label, [x for x, _ in pairs], [y for _, y in pairs], number)


def _has(found: Sequence[int | None]) -> bool:
    return all(one is not None for one in found)


def _since(one: Series) -> list[float]:
    """Since the first number, ms; NaN where the time is not known."""
    start = min((at for at in one.at if at is not None), default=0)
    return [value - start for value in _numbers(one.at)]


def _numbers(found: Sequence[float | None]) -> list[float]:
    return [float("nan") if value is None else float(value) for value in found]
