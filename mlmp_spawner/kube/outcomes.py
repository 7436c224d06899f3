"""The three things that a pod which starts can be up to."""

from __future__ import annotations

from dataclasses import dataclass

from mlmp_spawner.errors import Conflict
from mlmp_spawner.rules.wording import one_line

ASK = "Tell the people who run this cluster; your booking stays."
OTHER_IMAGE = "Choose another image, or tell the people who run this cluster; your booking stays."
OTHER_NODE = "Book another node, or ask the people who run this cluster."


@dataclass(frozen=True, slots=True)
class Going:
    """It makes progress, of which this is the step."""

    progress: int
    step: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """It waits for the former servers of these owners to end, or for a job to make way.

    :param until: when that is over at the latest, ms UTC; 0: it is not known.
    :param step: what people read, where it is no server that is waited for.
    """

    owners: tuple[str, ...]
    until: int = 0
    step: str = ""


@dataclass(frozen=True, slots=True)
class Fails:
    """It won't start.

    :param patience: seconds for which this must hold before it counts.
    :param step: what people read until then, where there is something to say.
    """

    code: str
    detail: str
    hint: str = ASK
    patience: float = 0.0
    step: str = ""


class NotStarted(Conflict):
    """The cluster can't start the server; ``code`` says what kind of reason that has."""

    title = "Not started"

    def __init__(self, fails: Fails) -> None:
        super().__init__(fails.detail, hint=fails.hint)
        self.code = fails.code


def sentence(text: object) -> str:
    """What a cluster says, as part of a sentence of ours: one line, no longer than is read, without its full stop."""
    return one_line(" ".join(str(text).split()), 300).rstrip(".")
