"""``make bench-cluster``: all of them, or those named. JSON lines on stdout, a table on stderr.

On the cluster that KUBECONFIG names, else on this machine's own test cluster.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
import uuid
from pathlib import Path

from benchmarks.cluster.place import Place
from benchmarks.common import Report, note
from tests.cluster.rig import cluster as clusters

NAMES = ("spawn", "image", "stops", "many", "classes")


def main() -> None:
    """Runs each module of this folder by its ``run(report, place, quick)``, in a namespace of its own."""
    parser = argparse.ArgumentParser(prog="make bench-cluster", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*NAMES, []], help=f"which ones; all: {', '.join(NAMES)}")
    parser.add_argument("--quick", action="store_true", help="small numbers: shows that they run, measures nothing")
    arguments = parser.parse_args()
    cluster = clusters.find()
    if cluster is None:
        sys.exit("no cluster: `make bench-cluster` makes one, or KUBECONFIG names one")
    report, core = Report(), cluster.core()
    try:
        for name in arguments.names or NAMES:
            note(name)
            namespace = f"bench-{name}-{uuid.uuid4().hex[:6]}"
            core.create_namespace({"metadata": {"name": namespace}})
            try:
                with tempfile.TemporaryDirectory(prefix="mlmp-bench-") as folder:
                    place = Place(cluster, core, namespace, Path(folder))
                    importlib.import_module(f"benchmarks.cluster.{name}").run(report, place, quick=arguments.quick)
            finally:
                core.delete_namespace(namespace)
    finally:
        report.table()


if __name__ == "__main__":
    main()
