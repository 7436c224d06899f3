"""A listener in the test's own process, with a real sshd behind it and OpenSSH's own client before it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.lab.server import Server, why_not


@pytest.fixture(autouse=True)
def _openssh() -> None:
    """Skips where there is no OpenSSH."""
    if reason := why_not():
        pytest.skip(reason)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    """A server of ann, with one key that is registered."""
    made = Server(tmp_path)
    made.service.register(made.key("laptop"))
    await made.start()
    yield made
    await made.stop()
