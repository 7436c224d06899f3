"""Real sites for the tests of the spawner."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.live import Site


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """An MLMP whose servers start at once; its clock ticks every half second, and stops begin 3 s before the end."""
    made = Site(tmp_path_factory.mktemp("site"), settings="c.MLMP.stop_lead = 3\nc.MLMP.tick = 0.5")
    try:
        yield made.start()
    finally:
        made.close()
