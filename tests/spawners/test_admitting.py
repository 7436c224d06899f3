"""A start while the database is away, refused at once, in words that fit; and one whose units are still in use."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mlmp_spawner import units
from mlmp_spawner.operations.admission import WaitingForUnits
from mlmp_spawner.operations.site import Site
from mlmp_spawner.spawners import sites
from mlmp_spawner.spawners.kube import MLMPKubeSpawner
from mlmp_spawner.spawners.mixin import Refusal
from mlmp_spawner.store.transaction import Busy
from mlmp_spawner.units import MINUTE
from tests.spawners.test_kube import kubeconfig, made

__all__ = ["kubeconfig"]

CATALOG = Path(__file__).parents[2] / "profiles" / "examples" / "cluster"


@pytest.fixture
async def spawner(tmp_path: Path) -> AsyncIterator[MLMPKubeSpawner]:
    """One whose database is nowhere."""
    one = made()
    away = f"postgresql://nobody@/x?host={tmp_path}"
    one.config.MLMP.update(db_url=away, catalog=str(CATALOG), backend="kubernetes")
    one._events = []
    yield one
    sites.source(one._settings()).engine.dispose()


async def test_a_start_is_refused_as_not_possible_just_now(spawner: MLMPKubeSpawner):
    with pytest.raises(Refusal) as refused:
        await spawner._admit()
    assert refused.value.status_code == 503
    assert refused.value.jupyterhub_message == "The database does not answer."


async def test_the_form_says_so(spawner: MLMPKubeSpawner):
    assert "The database does not answer." in await spawner.render_offer()


async def test_a_server_that_ended_meanwhile_is_for_the_clock_to_write_down(spawner: MLMPKubeSpawner):
    spawner.server_id = "abcdefgh2345"
    await spawner._report_gone()
    assert spawner.server_id == ""


async def test_a_database_that_is_too_busy_is_no_fault_of_the_hub_either(spawner: MLMPKubeSpawner):
    def busy(_: Site) -> None:
        raise Busy("locked")

    with pytest.raises(Exception, match="too busy just now") as refused:
        await spawner._ask(busy)
    assert getattr(refused.value, "status", None) == 503


class Answers:
    """What the database says, one time after the other."""

    def __init__(self, *said: object) -> None:
        self.said = list(said)

    async def __call__(self, question: object) -> object:
        answer = self.said.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


async def test_a_start_waits_as_long_as_a_job_may_take_to_make_way(
    spawner: MLMPKubeSpawner, monkeypatch: pytest.MonkeyPatch
):
    spawner.units_timeout = 0
    now = units.now()
    waiting = WaitingForUnits("ben", now + 10 * MINUTE, now=now)
    monkeypatch.setattr(spawner, "_ask", Answers(waiting, waiting, "admitted"))
    assert await spawner._admit() == "admitted"
    assert any(event["message"].startswith("Waiting for ben's job to make way") for event in spawner._events)


async def test_for_a_server_it_waits_no_longer_than_it_is_told(
    spawner: MLMPKubeSpawner, monkeypatch: pytest.MonkeyPatch
):
    spawner.units_timeout = 0
    monkeypatch.setattr(spawner, "_ask", Answers(WaitingForUnits("ben"), WaitingForUnits("ben")))
    with pytest.raises(Refusal, match="Waiting for ben's server to end"):
        await spawner._admit()
