"""``mlmp check --kubernetes``: what is wrong between catalog, settings and cluster, asked of the cluster itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from traitlets.config import Config

from mlmp_spawner.admin import check_kueue
from mlmp_spawner.admin.cluster import Cluster
from mlmp_spawner.errors import ConfigurationError, NoAccess
from mlmp_spawner.kube.plain import quantity
from mlmp_spawner.operations.check import Finding, overbooked
from mlmp_spawner.rules import cluster_compare as compare
from mlmp_spawner.rules import storage
from mlmp_spawner.rules.catalog import Catalog
from mlmp_spawner.rules.catalog_yaml import load_catalog
from mlmp_spawner.rules.cluster_compare import Difference
from mlmp_spawner.settings import load_config

CONFIG = Path("/etc/mlmp/jupyterhub_config.py")
"""Where the hub's image has it."""

LEVELS = ("privileged", "baseline", "restricted")
ENFORCED = "pod-security.kubernetes.io/enforce"

_TOO_MUCH = (
    ("patch", "nodes", "change nodes"),
    ("delete", "nodes", "delete nodes"),
    ("create", "pods", "create pods in every namespace"),
    ("delete", "pods", "delete pods in every namespace"),
    ("get", "secrets", "read the secrets of every namespace"),
    ("*", "*", "do everything"),
)
"""What none of MLMP's accounts may do everywhere."""


def load(config: Path | None) -> Config:
    """The admin's configuration; empty where there is none, or it can't be run (which another check tells)."""
    if config is None:
        return Config()
    try:
        return load_config(config)
    except (Exception, SystemExit):  # noqa: BLE001 -- it is a program, it may raise anything
        return Config()


def findings(cluster: Cluster, config: Config, catalog: Path, namespace: str) -> list[Finding]:
    """All at once. What these rights do not let one see is a remark.

    :raises Unavailable: the cluster does not answer.
    """
    found: list[Finding] = []
    known = None
    try:
        known = load_catalog(catalog)
    except ConfigurationError as error:
        found += [Finding("catalog", problem) for problem in error.problems]
    parts: list[Callable[[], Iterator[Finding]]] = [
        lambda: _rights(cluster),
        lambda: _namespace(cluster, namespace),
        lambda: _priority_class(cluster, _of_spawner(config, "priority_class_name")),
        lambda: _claims(cluster, namespace, _of_spawner(config, "volumes")),
        lambda: _files(cluster, namespace, _of_spawner(config, "storage")),
        lambda: _profile_list(config),
    ]
    if known is not None:
        at_hand: Catalog = known
        found += overbooked(at_hand)
        found += [_finding("images", one) for one in compare.images(at_hand)]
        parts += [lambda: _nodes(cluster, at_hand, config), lambda: _quotas(cluster, namespace, at_hand)]
    parts += check_kueue.parts(cluster, config, namespace)
    unseen = []
    for part in parts:
        try:
            found += part()
        except NoAccess as error:
            unseen.append(error.detail.removeprefix("The Kubernetes cluster does not let this account ").rstrip("."))
    if unseen:
        message = f"this account may not {', '.join(dict.fromkeys(unseen))}; what that would show was not looked at"
        hint = "MLMP needs none of it; to see more, run this with an admin's KUBECONFIG"
        found.append(Finding("rights", message, hint, wrong=False))
    return found


def _of_spawner(config: Config, trait: str) -> Any:
    """What the configuration says of users' pods, the more special class first."""
    for name in ("MLMPKubeSpawner", "KubeSpawner"):
        if trait in config.get(name, Config()):
            return config[name][trait]
    return None


def _finding(subject: str, one: Difference) -> Finding:
    return Finding(subject, f"{one.node}: {one.message}" if one.node else one.message, one.hint, wrong=one.wrong)


def _nodes(cluster: Cluster, catalog: Catalog, config: Config) -> Iterator[Finding]:
    """Catalog against nodes; these every one of MLMP's services must see."""
    try:
        nodes = cluster.nodes()
    except NoAccess as error:
        yield Finding("nodes", error.detail, "the service must get, list and watch nodes: see the chart's ClusterRole")
        return
    pods = cluster.pods()
    said = _of_spawner(config, "tolerations")
    tolerations = [one for one in said if isinstance(one, Mapping)] if isinstance(said, list) else []
    for one in compare.compare(catalog, nodes, pods or (), tolerations):
        yield _finding("nodes", one)
    if pods is None:
        message = "the pods of other namespaces may not be listed, so what the nodes' own pods take was not counted"
        yield Finding("nodes", message, wrong=False)


def _rights(cluster: Cluster) -> Iterator[Finding]:
    """Whether MLMP's own account may do more than it should; an admin's may do everything, and is not asked."""
    if not cluster.inside:
        message = "asked with your own account; MLMP's are looked at where this runs in one of its pods"
        yield Finding("rights", message, "kubectl exec deploy/RELEASE-service -- mlmp check --kubernetes", wrong=False)
        return
    for verb, resource, words in _TOO_MUCH:
        if cluster.may(verb, resource):
            yield Finding("rights", f"MLMP's account may {words}", "take that right away: MLMP never needs it")


def _namespace(cluster: Cluster, namespace: str) -> Iterator[Finding]:
    """Whether the users' namespace is there, and what Pod Security makes of their pods."""
    labels = cluster.namespace(namespace)
    if labels is None:
        yield Finding("namespace", f"there is no namespace {namespace}", "make it, or set c.MLMP.namespace")
        return
    level = labels.get(ENFORCED)
    if level != "restricted":
        said = f"enforces {level}" if level in LEVELS else "enforces nothing"
        hint = f"kubectl label --overwrite namespace {namespace} {ENFORCED}=restricted"
        yield Finding("namespace", f"{namespace}: Pod Security {said} for users' pods", hint, wrong=level is None)


def _quotas(cluster: Cluster, namespace: str, catalog: Catalog) -> Iterator[Finding]:
    hard = {
        name: {resource: quantity(amount) for resource, amount in limits.items()}
        for name, limits in cluster.quotas(namespace).items()
    }
    for one in compare.quotas(catalog, hard):
        yield _finding("quota", one)


def _priority_class(cluster: Cluster, name: object) -> Iterator[Finding]:
    if isinstance(name, str) and name and not cluster.has_priority_class(name):
        message = f"there is no PriorityClass {name}, which users' pods ask for: none can start"
        yield Finding("priority class", message, "make it, or c.KubeSpawner.priority_class_name = ''")


def _claims(cluster: Cluster, namespace: str, volumes: object) -> Iterator[Finding]:
    """Whether the claims of users' volumes are there, as far as they have one name for everybody."""
    listed = volumes.values() if isinstance(volumes, Mapping) else volumes if isinstance(volumes, list) else []
    for volume in listed:
        claim = (volume.get("persistentVolumeClaim") or {}).get("claimName") if isinstance(volume, Mapping) else None
        if isinstance(claim, str) and "{" not in claim and not cluster.has_claim(namespace, claim):
            message = f"there is no PersistentVolumeClaim {claim} in {namespace}, which users' pods mount"
            yield Finding("volumes", message, "make it, or name another in users.storage of the chart")


def _files(cluster: Cluster, namespace: str, said: object) -> Iterator[Finding]:
    """Whether users' files can be mounted, and their folders made."""
    try:
        known = storage.parse(said if isinstance(said, Mapping) else {})
    except ConfigurationError as error:
        yield from (Finding("volumes", problem) for problem in error.problems)
        return
    for claim in known.claims:
        if not cluster.has_claim(namespace, claim):
            message = f"there is no PersistentVolumeClaim {claim} in {namespace}, which users' pods mount"
            yield Finding("volumes", message, "make it, or name another in users.storage of the chart")
    folders = known.folders
    if folders is None:
        return
    if folders.namespace != namespace and not cluster.has_claim(folders.namespace, folders.claim):
        message = f"there is no PersistentVolumeClaim {folders.claim} in {folders.namespace}, where folders are made"
        yield Finding("volumes", message, "make it for the same volume as the users' claim")
    if folders.by == "root" and (cluster.namespace(folders.namespace) or {}).get(ENFORCED) == "restricted":
        message = f"{folders.namespace}: Pod Security restricted keeps root from making users' folders there"
        label = f"kubectl label --overwrite namespace {folders.namespace} {ENFORCED}=baseline"
        hint = f"users.storage.folders.by: user; or {label}"
        yield Finding("namespace", message, hint)


def _profile_list(config: Config) -> Iterator[Finding]:
    """What KubeSpawner's profile_list asks for beyond what a booking gives, and does not get."""
    from mlmp_spawner.spawners.choices import beyond

    profiles = _of_spawner(config, "profile_list")
    if isinstance(profiles, list):  # it may be a function, which only the hub can ask
        for said in beyond(profiles):
            yield Finding("profile_list", said, "it is left out of users' pods", wrong=False)
