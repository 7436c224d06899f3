"""Where a person's files are: from a user name, which may hold anything, to the name of a directory; on a cluster,
which volumes a server has, and whose account is theirs."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from mlmp_spawner.errors import ConfigurationError, NotAllowed
from mlmp_spawner.rules.values import Model, quoted

LONGEST_PLAIN = 60
"""A name is taken as it is up to this length."""
SHARED = "/mnt/shared"
SCRATCH = "/mnt/scratch"
"""Where shared data and scratch are in a server. Not below the home: what makes a place to mount at would have to
follow a path there, which the user can change."""
NOBODY = 65534
LAST_UID = (1 << 32) - 2

_PLAIN = re.compile(r"[a-z0-9][a-z0-9._-]*")
_MARK = "---"
_LONGEST_SLUG = 40


def directory_name(username: str) -> str:
    """One path component for ``username``: safe on every file system, and another for every other name.

    A plain name (``[a-z0-9][a-z0-9._-]*``, at most 60 characters, without ``---``) stays as it is. Of any other, what
    can be read of it is followed by ``---`` and 16 hex digits of its SHA-256, so that no two names share a directory,
    on file systems that don't tell case either.
    """
    if _PLAIN.fullmatch(username) and len(username) <= LONGEST_PLAIN and _MARK not in username:
        return username
    return _marked(username)


def _marked(username: str) -> str:
    digest = hashlib.sha256(username.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"{_slug(username)}{_MARK}{digest}"


def _slug(username: str) -> str:
    """What can be read of a name: letters without their accents, '-' for the rest."""
    ascii_only = unicodedata.normalize("NFKD", username[:200]).encode("ascii", "ignore").decode("ascii")
    slug = re.sub(r"[^a-z0-9]+", "-", ascii_only.lower()).strip("-")
    return slug[:_LONGEST_SLUG].rstrip("-") or "user"


# -- on a cluster ---------------------------------------------------------------------------------------------------

Claim = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$")]
Inside = Annotated[str, Field(pattern=r"^([^/.][^/]*(/[^/.][^/]*)*)?$")]
"""A path within a volume: relative, and no part of it begins with a dot."""


class Folders(Model):
    """How the folder of a user is made in the claim of all homes, before the user's first server starts there."""

    namespace: Claim
    """Of the pod that makes it."""
    claim: Claim
    """The claim of the homes in that namespace; the same volume as the users' claim."""
    image: Annotated[str, Field(min_length=1)]
    """Any that has ``python3``."""
    by: Literal["root", "user"] = "root"
    """Who makes it: root, or the user's own account, which Pod Security ``restricted`` lets run."""
    fs_group: Annotated[int, Field(ge=1)] | None = None
    """The group that the volume is given to (``fsGroup``), for one that is new, of root's alone: one for all users,
    since each other one would make the kubelet change all homes again."""
    pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    pull_secrets: tuple[str, ...] = ()
    node_selector: dict[str, str] = Field(default_factory=dict)
    tolerations: tuple[dict[str, Any], ...] = ()


class Shared(Model):
    """Data that everybody reads and nobody writes."""

    claim: Claim
    path: Inside = ""


class Scratch(Model):
    """Space that is gone with the server."""

    size: Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?([EPTGMk]i?|)$")]
    type: Literal["node", "claim"] = "node"
    """``node``: its disk; whoever takes more than ``size`` is evicted. ``claim``: a volume of its own. The kubelet
    gives it to the pod's group, and homes in one claim with it unless they are on NFS: not together with those."""
    storage_class: str | None = None


class Storage(Model):
    """The volumes of users' servers, as ``c.MLMPKubeSpawner.storage`` names them."""

    claim: Claim | Literal[""] = ""
    """A folder for each user in this claim; empty: homes are elsewhere, or nowhere."""
    home: Annotated[str, Field(pattern=r"^/.+")] = "/home/jovyan"
    folders: Folders | None = None
    """None: the folders are there already."""
    shared: Shared | None = None
    scratch: Scratch | None = None

    @property
    def claims(self) -> tuple[str, ...]:
        """The claims that have to be in the users' namespace."""
        return tuple(name for name in (self.claim, self.shared.claim if self.shared else "") if name)

    @property
    def links(self) -> dict[str, str]:
        """What leads out of the home: the name there, and where to."""
        return ({"shared": SHARED} if self.shared else {}) | ({"scratch": SCRATCH} if self.scratch else {})


def parse(given: Mapping[str, Any]) -> Storage:
    """What is configured.

    :raises ConfigurationError: what of it makes no sense, all at once.
    """
    try:
        known = Storage.model_validate(dict(given))
    except ValidationError as error:
        said = [(".".join(map(str, one["loc"])), one["msg"], quoted(one["input"])) for one in error.errors()]
        raise ConfigurationError(
            [f"c.MLMPKubeSpawner.storage: {where}: {what}; it is {value}" for where, what, value in said]
        ) from None
    if known.claim and known.shared and known.shared.claim == known.claim and not known.shared.path:
        raise ConfigurationError(
            [f"c.MLMPKubeSpawner.storage: shared: {known.claim} is the claim of all homes, which everybody would "
             "read; say in path which folder of it is for everybody"]
        )  # fmt: skip
    return known


def folder_of(storage: Storage, username: str) -> str:
    """A user's folder in the claim of all homes: :func:`directory_name`, but never that of the shared data."""
    name, shared = directory_name(username), storage.shared
    if shared and shared.claim == storage.claim and name == shared.path.partition("/")[0]:
        return _marked(username)
    return name


def volumes(storage: Storage, folder: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Volumes and mounts of a user's server, as Kubernetes writes them.

    :param folder: the user's, of :func:`folder_of`: the only part of the homes that the server sees.
    """
    made: list[dict[str, Any]] = []
    mounts: list[dict[str, Any]] = []
    if storage.claim:
        made.append({"name": "home", "persistentVolumeClaim": {"claimName": storage.claim}})
        mounts.append({"name": "home", "mountPath": storage.home, "subPath": folder})
    if storage.shared:
        source = {"claimName": storage.shared.claim, "readOnly": True}
        within = {"subPath": storage.shared.path} if storage.shared.path else {}
        made.append({"name": "shared", "persistentVolumeClaim": source})
        mounts.append({"name": "shared", "mountPath": SHARED, "readOnly": True, **within})
    if storage.scratch:
        made.append({"name": "scratch", **_space(storage.scratch)})
        mounts.append({"name": "scratch", "mountPath": SCRATCH})
    return made, mounts


def _space(scratch: Scratch) -> dict[str, Any]:
    if scratch.type == "node":
        return {"emptyDir": {"sizeLimit": scratch.size}}
    spec: dict[str, Any] = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": scratch.size}},
    }
    if scratch.storage_class is not None:
        spec["storageClassName"] = scratch.storage_class
    return {"ephemeral": {"volumeClaimTemplate": {"spec": spec}}}


def number_of(about: Mapping[str, Any] | None, path: str, *, user: str) -> int:
    """A uid or gid that the login knows.

    :param about: what it keeps of a user (JupyterHub's ``auth_state``). :param path: where in it, with dots.
    :raises NotAllowed: it is not there, or none that a user may have.
    """
    found: Any = about or {}
    for part in path.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    if isinstance(found, (list, tuple)) and len(found) == 1:
        found = found[0]  # as LDAP answers
    text = str(found).strip() if isinstance(found, (int, str)) and not isinstance(found, bool) else ""
    if not re.fullmatch(r"[0-9]{1,10}", text, re.ASCII):
        said = "nothing" if found is None else quoted(found)
        raise NotAllowed(
            f"The login says no number for {path} of {quoted(user)}: {said}.",
            hint="Ask the people who run this: it is the account that your files belong to.",
        )
    if not 0 < int(text) <= LAST_UID or int(text) == NOBODY:
        raise NotAllowed(
            f"The login says {text} for {path} of {quoted(user)}; no server runs as that account.",
            hint="Ask the people who run this for another number.",
        )
    return int(text)
