"""``make bench``: all benchmarks, or those named. JSON lines on stdout, a table on stderr."""

from __future__ import annotations

import argparse
import importlib
import pkgutil

import benchmarks
from benchmarks.common import Report, note

# `cluster` needs a Kubernetes: `make bench-cluster`.
HELPERS = {"__main__", "cluster", "common", "demand"}


def main() -> None:
    """Runs each module of this folder by its ``run(report, quick)``."""
    names = sorted({module.name for module in pkgutil.iter_modules(benchmarks.__path__)} - HELPERS)
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*names, []], help=f"which ones; all: {', '.join(names)}")
    parser.add_argument("--quick", action="store_true", help="small numbers: shows that they run, measures nothing")
    arguments = parser.parse_args()
    report = Report()
    try:
        for name in arguments.names or names:
            note(name)
            importlib.import_module(f"benchmarks.{name}").run(report, quick=arguments.quick)
    finally:
        report.table()


if __name__ == "__main__":
    main()
