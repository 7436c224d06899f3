"""The admin's questions to a Kubernetes cluster, through the official client. They only read."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import urllib3
import yaml
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

from mlmp_spawner.errors import ConfigurationError, NoAccess, Unavailable
from mlmp_spawner.kube.plain import node_of, pod_of
from mlmp_spawner.rules.foreign_pods import ClusterPod
from mlmp_spawner.rules.nodes import ClusterNode

T = TypeVar("T")

PATIENCE = (5, 20)
"""Seconds for the connection, and for an answer."""


class Cluster:
    """The cluster that this account is configured for: inside by the pod's service account, else by ``KUBECONFIG``.

    Every question raises :class:`Unavailable` where nobody answers and :class:`NoAccess` where it is refused.

    :raises ConfigurationError: no cluster is configured.
    """

    def __init__(self) -> None:
        self.inside = bool(os.environ.get("KUBERNETES_SERVICE_HOST"))
        settings = client.Configuration()
        try:
            if self.inside:
                config.load_incluster_config(client_configuration=settings)
            else:  # named, since the library itself looks at the environment only when it is imported
                file = os.environ.get("KUBECONFIG") or "~/.kube/config"
                config.load_kube_config(file, client_configuration=settings)
        except (config.ConfigException, OSError, yaml.YAMLError, ValueError, TypeError, KeyError) as error:
            said = " ".join(str(error).split()).rstrip(".")
            raise ConfigurationError([f"no Kubernetes cluster is configured: {said}; set KUBECONFIG"]) from error
        settings.retries = False
        self.host: str = settings.host
        self._client = client.ApiClient(settings)
        self._core = client.CoreV1Api(self._client)

    def nodes(self) -> list[ClusterNode]:
        """All nodes."""
        return [node_of(one) for one in self._list("list the nodes", self._core.list_node)]

    def pods(self) -> list[ClusterPod] | None:
        """All pods that run, of everybody; None where they may not be seen."""
        try:
            found = self._list("list all pods", self._core.list_pod_for_all_namespaces)
        except NoAccess:
            return None
        return [pod for one in found if (pod := pod_of(one)) is not None]

    def namespace(self, name: str) -> dict[str, str] | None:
        """The labels of a namespace; None where there is none."""
        found = self._get(f"read the namespace {name}", self._core.read_namespace, name)
        return None if found is None else dict((found.get("metadata") or {}).get("labels") or {})

    def quotas(self, namespace: str) -> dict[str, dict[str, str]]:
        """The hard limits of the ResourceQuotas of a namespace, by their name."""
        found = self._list("list the quotas", self._core.list_namespaced_resource_quota, namespace)
        return {str(one["metadata"]["name"]): dict((one.get("spec") or {}).get("hard") or {}) for one in found}

    def has_priority_class(self, name: str) -> bool:
        """Whether there is a PriorityClass of that name."""
        scheduling = client.SchedulingV1Api(self._client)
        return self._get("read priority classes", scheduling.read_priority_class, name) is not None

    def has_claim(self, namespace: str, name: str) -> bool:
        """Whether there is a PersistentVolumeClaim of that name."""
        read = self._core.read_namespaced_persistent_volume_claim
        return self._get("read volume claims", read, name, namespace) is not None

    def serves(self, group: str, version: str) -> bool:
        """Whether the API server knows that version of a group of objects."""
        custom = client.CustomObjectsApi(self._client)
        return self._get("read what there is in the API", custom.get_api_resources, group, version) is not None

    def all_of(self, group: str, version: str, plural: str) -> list[dict[str, Any]]:
        """All objects of a kind of somebody else's that is in no namespace."""
        custom = client.CustomObjectsApi(self._client)
        return self._list(f"list {plural}", custom.list_cluster_custom_object, group, version, plural)

    def deployments(self, labels: str) -> list[dict[str, Any]]:
        """The Deployments of all namespaces with these labels."""
        listed = partial(client.AppsV1Api(self._client).list_deployment_for_all_namespaces, label_selector=labels)
        return self._list("list deployments", listed)

    def config_map(self, namespace: str, name: str) -> dict[str, str] | None:
        """What a ConfigMap holds; None where there is none."""
        read = self._core.read_namespaced_config_map
        found = self._get(f"read the ConfigMaps of {namespace}", read, name, namespace)
        return None if found is None else dict(found.get("data") or {})

    def mutating_webhooks(self) -> list[dict[str, Any]]:
        """All webhooks that may change what is made, each as its configuration has it."""
        listed = client.AdmissionregistrationV1Api(self._client).list_mutating_webhook_configuration
        found = self._list("list webhook configurations", listed)
        return [webhook for one in found for webhook in one.get("webhooks") or ()]

    def may(self, verb: str, resource: str, *, namespace: str = "") -> bool:
        """Whether this account may do something to ``resource`` (``pods``), in one namespace or ("") everywhere."""
        wanted = client.V1ResourceAttributes(verb=verb, resource=resource, namespace=namespace)
        review = client.V1SelfSubjectAccessReview(
            spec=client.V1SelfSubjectAccessReviewSpec(resource_attributes=wanted)
        )
        with _told("ask what this account may do"):
            api = client.AuthorizationV1Api(self._client)
            answered = _json(
                api.create_self_subject_access_review(review, _preload_content=False, _request_timeout=PATIENCE)
            )
        return bool((answered.get("status") or {}).get("allowed"))

    def _list(self, what: str, call: Callable[..., Any], *where: str) -> list[dict[str, Any]]:
        with _told(what):
            items = _json(call(*where, _preload_content=False, _request_timeout=PATIENCE)).get("items")
        return items if isinstance(items, list) else []

    def _get(self, what: str, call: Callable[..., Any], *where: str) -> dict[str, Any] | None:
        try:
            with _told(what):
                return _json(call(*where, _preload_content=False, _request_timeout=PATIENCE))
        except ApiException as error:
            if error.status == 404:
                return None
            raise


def _json(response: Any) -> dict[str, Any]:
    found = json.loads(response.data)
    return found if isinstance(found, dict) else {}


@contextmanager
def _told(what: str) -> Iterator[None]:
    """:raises Unavailable, NoAccess: what the client's errors mean. :raises ApiException: 404."""
    try:
        yield
    except ApiException as error:
        if error.status == 404:
            raise
        if error.status in (401, 403):
            raise NoAccess(f"The Kubernetes cluster does not let this account {what}.") from error
        raise Unavailable(f"The Kubernetes cluster can't answer ({error.status} {error.reason}).") from error
    except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        raise Unavailable(f"The Kubernetes cluster does not answer: {error}.") from error
