"""Files for one account's eyes, such as keys and tokens, that are there as a whole or not at all."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path


def write(path: Path, content: bytes, *, replace: bool = True) -> None:
    """Writes a file with mode 0600 in one step, as far as others see, and a crash.

    :param replace: in place of one that is there; else that one stays, whoever wrote it, at the same moment too.
    :raises OSError: it can't be written; nothing has changed.
    """
    number, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")  # 0600 from the start
    try:
        with open(number, "wb") as new:
            new.write(content)
            new.flush()
            os.fsync(new.fileno())
        if replace:
            os.replace(temporary, path)
        else:
            with suppress(FileExistsError):
                os.link(temporary, path)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
