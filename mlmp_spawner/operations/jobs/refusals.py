"""What a cluster did not take of a job that waits: its owner reads why, and nobody else's job waits for it."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping

from mlmp_spawner.errors import MLMPError
from mlmp_spawner.rules.job_queue import Outlook, Why
from mlmp_spawner.rules.jobs import Job
from mlmp_spawner.rules.wording import one_line

log = logging.getLogger(__name__)


class Refusals:
    """The last refusal of each attempt, or of all that want a resource."""

    def __init__(self) -> None:
        self._said: dict[str, str] = {}

    def note(self, of: str, error: MLMPError) -> None:
        """It was refused. Logged once, not at every look.

        :param of: an attempt, or a resource.
        """
        said = one_line(error.detail)
        if self._said.get(of) != said:
            log.warning("jobs: %s: %s", of, said)
        self._said[of] = said

    def clear(self, of: str) -> None:
        """It was taken."""
        self._said.pop(of, None)

    def keep(self, of: Collection[str]) -> None:
        """Forgets all others: they do not wait any more."""
        self._said = {one: said for one, said in self._said.items() if one in of}

    def outlook(self, waiting: Mapping[str, Job]) -> dict[str, Outlook]:
        """What is to be expected for those that were refused.

        :param waiting: by the attempt that each job waits for.
        """
        said = {job.id: self._said.get(one) or self._said.get(job.resource) for one, job in waiting.items()}
        return {job: Outlook(None, Why("refused", said=why)) for job, why in said.items() if why}
