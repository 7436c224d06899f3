"""The connection to the cluster: from inside by the pod's service account, else by ``KUBECONFIG``."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import TypeVar

import aiohttp
from kubernetes_asyncio import client, config
from kubernetes_asyncio.client.exceptions import ApiException

from mlmp_spawner.errors import Unavailable
from mlmp_spawner.kube.creation import message_of
from mlmp_spawner.kube.outcomes import sentence

T = TypeVar("T")

PATIENCE = 10.0
"""Seconds that one answer of the cluster may take."""


async def connect(kubeconfig: str | None = None, *, streams: bool = False) -> client.ApiClient:
    """A client of the cluster; close it when it is no longer needed.

    :param kubeconfig: the file that says where the cluster is, where not the surroundings do.
    :param streams: any number of answers may come at the same time, and for hours; else they wait for each other.
    :raises Unavailable: neither a service account nor a kubeconfig says where the cluster is.
    """
    configuration = client.Configuration()
    try:
        if kubeconfig is None and os.environ.get("KUBERNETES_SERVICE_HOST"):
            config.load_incluster_config(client_configuration=configuration)
        else:
            file = kubeconfig or os.environ.get("KUBECONFIG")
            await config.load_kube_config(config_file=file, client_configuration=configuration)
    except (config.ConfigException, OSError) as error:
        raise Unavailable(f"No Kubernetes cluster is configured: {error}.", hint="Set KUBECONFIG.") from error
    if streams:
        configuration.connection_pool_maxsize = 0
    return client.ApiClient(configuration)


async def answer(question: Awaitable[T], *, patience: float = PATIENCE) -> T:
    """Waits for the answer of the cluster.

    :raises Unavailable: it does not answer, or not in time.
    :raises ApiException: it refuses; ``status`` says why.
    """
    try:
        return await asyncio.wait_for(question, patience)
    except asyncio.TimeoutError:
        raise Unavailable(f"The Kubernetes cluster has not answered for {patience:g} seconds.") from None
    except (aiohttp.ClientError, OSError) as error:
        raise Unavailable(f"The Kubernetes cluster does not answer: {error}.") from error
    except ApiException as error:
        if error.status >= 500 or error.status == 429:
            said = sentence(message_of(error.body)) or error.reason
            raise Unavailable(f"The Kubernetes cluster can't answer just now: {said}.") from error
        raise


class Connection:
    """A connection that is opened when it is first needed; one that could not be opened is tried again.

    :param kubeconfig, streams: see :func:`connect`.
    """

    def __init__(self, kubeconfig: str | None = None, *, streams: bool = False) -> None:
        self.kubeconfig = kubeconfig
        self.streams = streams
        self._client: client.ApiClient | None = None
        self._opening = asyncio.Lock()

    async def ask(self, question: Callable[[client.ApiClient], Awaitable[T]], *, patience: float = PATIENCE) -> T:
        """The answer of the cluster: see :func:`answer`.

        :raises Unavailable, ApiException: as there, and as :func:`connect`.
        """
        async with self._opening:
            if self._client is None:
                self._client = await connect(self.kubeconfig, streams=self.streams)
        return await answer(question(self._client), patience=patience)

    async def close(self) -> None:
        """Closes it; the next question would open it again."""
        former, self._client = self._client, None
        if former is not None:
            await former.close()
