"""The Java that Spark runs on: whether it is there, and new enough."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from mlmp_spawner.errors import Invalid

OLDEST = 17
"""That Spark 4 runs on."""
_HINT = f"Use the image lab-spark, or: apt-get install openjdk-{OLDEST}-jre-headless"


def check(environ: Mapping[str, str]) -> None:
    """Looks at the Java that Spark would take: that of ``JAVA_HOME``, else the first on the ``PATH``.

    :raises Invalid: there is none, it does not run, or it is too old.
    """
    home = environ.get("JAVA_HOME")
    java = str(Path(home, "bin", "java")) if home else shutil.which("java", path=environ.get("PATH"))
    if java is None:
        raise Invalid(f"There is no Java here, and Spark 4 needs Java {OLDEST}.", hint=_HINT)
    try:
        asked = subprocess.run([java, "-version"], env=dict(environ), capture_output=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise Invalid(f"The Java at {java} does not run: {error}", hint=_HINT) from None
    found = re.search(rb'version "(?:1\.)?(\d+)', asked.stderr)
    if found is None or int(found[1]) < OLDEST:
        version = found[1].decode() if found else "of an unknown version"
        raise Invalid(f"The Java at {java} is {version}; Spark 4 needs {OLDEST} or newer.", hint=_HINT)
