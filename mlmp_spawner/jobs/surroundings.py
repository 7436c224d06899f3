"""What the pods of a person's jobs need besides the job: asked of the hub, and kept for a while."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from mlmp_spawner.hub import HubClient
from mlmp_spawner.kube.files import Account
from mlmp_spawner.kube.job_pods import Surroundings
from mlmp_spawner.rules import storage

KEPT = 600.0
"""Seconds until the hub is asked again, which looks whether the home is still there."""


class HubSurroundings:
    """Called with an owner's name it gives their surroundings; their home is there then.

    :param image: MLMP's own, of the containers beside a program. :param pull_secrets: by which it can be had.
    :param api_url: of the service's API, as pods reach it. :param closed: network policies keep users' pods apart.
    """

    def __init__(
        self, hub: HubClient, *, image: str, pull_secrets: tuple[str, ...] = (), api_url: str, closed: bool = False
    ) -> None:
        self._hub, self._image, self._pull_secrets, self._api_url = hub, image, pull_secrets, api_url
        self._closed = closed
        self._known: dict[str, tuple[float, Surroundings]] = {}
        self._asking: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def __call__(self, owner: str) -> Surroundings:
        """:raises MLMPError: the hub does not answer, has no such user, or says why there can be no pod of theirs."""
        async with self._asking[owner]:  # many jobs of one person may begin at the same time
            until, known = self._known.get(owner, (float("-inf"), None))
            if known is None or time.monotonic() >= until:
                known = self._read(await self._hub.surroundings(owner))
                self._forget_old()
                self._known[owner] = (time.monotonic() + KEPT, known)
            return known

    def _forget_old(self) -> None:
        now = time.monotonic()
        for owner in [owner for owner, (until, _) in self._known.items() if until <= now]:
            del self._known[owner]
        for owner in [owner for owner, lock in self._asking.items() if owner not in self._known and not lock.locked()]:
            del self._asking[owner]

    def _read(self, said: Mapping[str, Any]) -> Surroundings:
        about = dict(said["account"])
        secrets = (*said["pull_secrets"], *self._pull_secrets)
        return Surroundings(
            namespace=said["namespace"],
            url=said["url"],
            api_url=self._api_url,
            image=self._image,
            storage=storage.parse(said["storage"]),
            folder=said["folder"],
            account=Account(**about | {"groups": frozenset(about["groups"])}),
            pull_policy=said["pull_policy"],
            pull_secrets=tuple(dict.fromkeys(secrets)),
            requested_share=said["requested_share"],
            closed=self._closed,
            priority_class=said["priority_class"],
            runtime_class=said["runtime_class"],
            tolerations=tuple(said["tolerations"]),
        )
