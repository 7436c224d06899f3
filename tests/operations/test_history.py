"""The history: reading it where the database is away."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Engine

from mlmp_spawner.errors import Unavailable
from mlmp_spawner.operations import history
from mlmp_spawner.store.engine import make_engine

QUESTIONS: dict[str, Callable[[Engine], object]] = {
    "one booking's": lambda engine: history.of(engine, "abcdefgh1234"),
    "the newest line": history.latest,
    "what is new": lambda engine: history.since(engine, 0),
    "the audit log": lambda engine: history.audit(engine, history.Filter()),
}


@pytest.mark.parametrize("question", QUESTIONS.values(), ids=QUESTIONS)
def test_a_database_that_is_away_is_said_to_be(question: Callable[[Engine], object], tmp_path: Path):
    engine = make_engine(f"postgresql://nobody@/x?host={tmp_path}")
    with pytest.raises(Unavailable, match="The database does not answer"):
        question(engine)
