"""Spark on one machine: how soon a session computes, and what its executors cost beside Spark without MLMP.

*To the first task*: from the call of ``spark_session`` until a task's result is there; cold in a new Python, whose
Java has to start as well, warm in one that has had a session before.

*The same training* (a random forest, after one that warms all up) with 1, 2 and 4 executors of one core each of
a real ``mlmp up``, beside ``spark-submit`` on a standalone cluster that was started by hand with as many workers, in
turns. MLMP's sessions ask for a secret, the other cluster does not, as Spark comes. On a machine with fewer
cores than executors both share what there is, and only the ratio means something.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.common import Report, median, note
from tests.live import Person, Site, wait_for

PROGRAM = """\
import json, sys, time
executors, rows, rounds = map(int, sys.argv[1:])

def begin():
    if executors:
        from mlmp_spawner.client import spark_session
        environment = {"OMP_NUM_THREADS": "1"}
        return spark_session(executors, "gpu", memory="512m", progress=False, environment=environment)
    from pyspark.sql import SparkSession
    return SparkSession.builder.getOrCreate()

def first_task():
    began = time.perf_counter()
    spark = begin()
    assert spark.sparkContext.parallelize([1, 2], 2).map(lambda x: 2 * x).sum() == 6
    return spark, time.perf_counter() - began

def train(data):
    from pyspark.ml.classification import RandomForestClassifier
    began = time.perf_counter()
    RandomForestClassifier(numTrees=20, maxDepth=8, seed=1).fit(data)
    return time.perf_counter() - began

spark, cold = first_task()
spark.stop()
spark, warm = first_task()
from pyspark.ml.feature import VectorAssembler
from pyspark.sql import functions as f
data = spark.range(0, rows, 1, 24).select(*(f.rand(n).alias(f"x{n}") for n in range(10)), f.randn(99).alias("noise"))
data = data.withColumn("label", (f.col("x0") + f.col("x1") + f.col("noise") > 1).cast("double"))
data = VectorAssembler(inputCols=[f"x{n}" for n in range(10)], outputCol="features").transform(data).cache()
data.count()
train(data)
print(json.dumps({"cold": cold, "warm": warm, "training": [train(data) for _ in range(rounds)]}), flush=True)
spark.stop()
"""
EXECUTORS = (1, 2, 4)
MASTER = re.compile(r"Starting Spark master at (spark://\S+)")
PATIENCE = 300.0
PROGRAMS = Path(sys.prefix) / "bin"


@dataclass(frozen=True)
class Took:
    """Seconds."""

    cold: float
    warm: float
    training: tuple[float, ...]


def run(report: Report, *, quick: bool) -> None:
    """Both. ``quick``: one executor, and few rows."""
    executors, rows, rounds, pairs = ((1,), 2_000, 1, 1) if quick else (EXECUTORS, 400_000, 3, 2)
    with tempfile.TemporaryDirectory(prefix="mlmp-bench-") as made:
        folder = Path(made)
        program = folder / "program.py"
        program.write_text(PROGRAM)
        site = Site(folder / "site")
        try:
            eve = site.start().person("eve")
            for count in executors:
                arguments = [str(rows), str(rounds)]
                ours, theirs = [], []
                for number in range(pairs):
                    ours.append(_by_mlmp(eve, program, count, arguments))
                    theirs.append(_by_hand(folder / f"by-hand-{count}-{number}", program, count, arguments))
                    note(f"{count} executors, pair {number + 1}: {ours[-1]}; by hand {theirs[-1]}")
                _tell(report, count, ours, theirs)
        finally:
            site.close()


def _tell(report: Report, count: int, ours: Sequence[Took], theirs: Sequence[Took]) -> None:
    what = f"{count} executors"
    report.add(f"{what}: call to first task, cold", median([one.cold for one in ours]), "s")
    report.add(f"{what}: call to first task, warm", median([one.warm for one in ours]), "s", goal="< 20 s")
    trained, by_hand = ([second for one in all_of for second in one.training] for all_of in (ours, theirs))
    report.add(
        f"{what}: a training, beside spark-submit", median(trained), "s", versus=median(by_hand), goal="ratio <= 1.05"
    )


def _by_mlmp(eve: Person, program: Path, count: int, arguments: Sequence[str]) -> Took:
    environ = _environ() | {"HOME": str(eve.site.data / "homes" / "eve"), "MLMP_URL": eve.site.url}
    environ |= {"MLMP_TOKEN": eve.token, "VIRTUAL_ENV": sys.prefix}
    Path(environ["HOME"]).mkdir(parents=True, exist_ok=True)
    return _took([sys.executable, str(program), str(count), *arguments], environ)


def _by_hand(folder: Path, program: Path, count: int, arguments: Sequence[str]) -> Took:
    folder.mkdir()
    environ = _environ() | {"SPARK_LOCAL_IP": "127.0.0.1", "SPARK_CONF_DIR": str(folder)}
    with _cluster(folder, count, environ) as master:
        settings = ("spark.executor.memory=512m", "spark.scheduler.minRegisteredResourcesRatio=1.0")
        options = ["--master", master, *(word for one in settings for word in ("--conf", one))]
        return _took([str(PROGRAMS / "spark-submit"), *options, str(program), "0", *arguments], environ)


@contextmanager
def _cluster(folder: Path, count: int, environ: dict[str, str]) -> Iterator[str]:
    """A master and workers of one core each, as Spark comes; the master's address."""
    with ExitStack() as running:

        def start(name: str, *arguments: str) -> Path:
            log = folder / f"{name}.log"
            with log.open("w") as output:
                command = [str(PROGRAMS / "spark-class"), f"org.apache.spark.deploy.{arguments[0]}", *arguments[1:]]
                process = subprocess.Popen(command, env=environ, stdout=output, stderr=output)
            running.callback(process.wait, PATIENCE)
            running.callback(process.terminate)
            return log

        log = start("master", "master.Master", "--host", "127.0.0.1", "--port", "0", "--webui-port", "0")
        master = wait_for(lambda: MASTER.search(log.read_text()), PATIENCE, "the master")[1]
        for number in range(count):
            place = ("--work-dir", str(folder / str(number)), "--host", "127.0.0.1", "--webui-port", "0")
            of = start(f"worker-{number}", "worker.Worker", "--cores", "1", "--memory", "512m", *place, master)
            wait_for(partial(_says, of, "registered with master"), PATIENCE, "a worker")
        yield master


def _says(log: Path, text: str) -> bool:
    return text in log.read_text()


def _environ() -> dict[str, str]:
    here = {name: value for name, value in os.environ.items() if not name.startswith(("MLMP_", "SPARK_"))}
    return here | {"PATH": f"{PROGRAMS}:{os.environ['PATH']}"}


def _took(command: Sequence[str], environ: dict[str, str]) -> Took:
    done = subprocess.run(command, env=environ, stdout=subprocess.PIPE, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    return Took(found["cold"], found["warm"], tuple(found["training"]))
