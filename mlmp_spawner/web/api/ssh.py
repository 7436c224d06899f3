"""The caller's SSH keys, and what SSH clients need to know."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from pydantic import BaseModel, Field

from mlmp_spawner.errors import NotAllowed, NotFound
from mlmp_spawner.operations import ssh_authority, ssh_keys
from mlmp_spawner.operations.site import Site
from mlmp_spawner.rules.ssh_keys import LONGEST
from mlmp_spawner.rules.ssh_names import principal_of
from mlmp_spawner.store.ssh_keys import Key
from mlmp_spawner.web import models
from mlmp_spawner.web.auth import Caller
from mlmp_spawner.web.routes import Answer, Call, Route

Pasted = Annotated[str, Field(max_length=4 * LONGEST)]


class OwnerQuery(models.Request):
    """Whose keys."""

    owner: models.Name | None = Field(None, description="whose, if not one's own (admins)")


class NewKey(models.Request):
    """A key to register."""

    key: Pasted = Field(description="the line of the .pub file: ssh-ed25519 AAAA…")
    title: models.Title = Field("", description="the key's own comment, if left out")


class SSHKey(BaseModel):
    """A registered key. ``key``: base64, as it follows the algorithm in a ``.pub`` file."""

    id: str
    title: str
    algorithm: str
    fingerprint: str
    key: str
    added_at: models.Instant
    used_at: models.Instant | None


class SSHKeys(BaseModel):
    """All keys of a person, the oldest first."""

    items: list[SSHKey]
    next_cursor: str | None = None


class Gateway(BaseModel):
    """The SSH gateway as people reach it."""

    host: str
    port: int


class SSHFacts(BaseModel):
    """How to reach one's servers by SSH."""

    enabled: bool
    login: str = Field(description="the account inside one's servers")
    authority: str = Field(description="the public key of the CA that signs host keys: for @cert-authority")
    gateway: Gateway | None = Field(description="null: there is none; `mlmp ssh` needs none")
    principal: str = Field(description="the name that certificates of one's own carry, and one's hosts")


class KeyToSign(models.Request):
    """The key that is to be signed."""

    public_key: Pasted


class Certificate(BaseModel):
    """A certificate, as the line of a ``-cert.pub`` file."""

    certificate: str
    expires: models.Instant


async def list_keys(call: Call) -> Answer:
    """All of one person."""
    found = await call.handler.context.run(ssh_keys.of_owner, call.handler.site, whose(call))
    return Answer(SSHKeys(items=[shown(key) for key in found]))


async def add_key(call: Call) -> Answer:
    """Registers one."""
    body: NewKey = call.body
    handler, owner = call.handler, person(call)
    check_herself(handler.me)
    made = await handler.context.run(
        ssh_keys.add, handler.site, owner, body.key, body.title, actor=handler.me.actor(), now=handler.now
    )
    return Answer(shown(made), status=201, headers={"Location": f"{handler.context.api_prefix}ssh-keys/{made.id}"})


async def remove_key(call: Call) -> Answer:
    """Removes one."""
    handler, owner = call.handler, whose(call)
    check_herself(handler.me)
    await handler.context.run(
        ssh_keys.remove, handler.site, owner, call.path["id"], actor=handler.me.actor(), now=handler.now
    )
    return Answer(None, status=204)


async def facts(call: Call) -> Answer:
    """What a client needs."""
    handler, owner = call.handler, person(call)
    ssh = handler.site.ssh
    authority = await handler.context.run(ssh_authority.public_line, handler.site) if ssh.enabled else ""
    gateway = Gateway(host=ssh.gateway[0], port=ssh.gateway[1]) if ssh.gateway else None
    return Answer(
        SSHFacts(
            enabled=ssh.enabled, login=ssh.login_of(owner), authority=authority, gateway=gateway,
            principal=principal_of(owner),
        )
    )  # fmt: skip


async def sign_user_key(call: Call) -> Answer:
    """A short certificate for a registered key."""
    return await _sign(call, ssh_authority.for_user)


async def sign_host_key(call: Call) -> Answer:
    """A certificate for the host key of one's servers."""
    return await _sign(call, ssh_authority.for_host)


async def _sign(call: Call, sign: Callable[..., ssh_authority.Certificate]) -> Answer:
    body: KeyToSign = call.body
    handler, owner = call.handler, person(call)
    check_enabled(handler.site)
    made = await handler.context.run(sign, handler.site, owner, body.public_key, now=handler.now)
    return Answer(Certificate(certificate=made.line, expires=made.expires))


def shown(key: Key) -> SSHKey:
    """A key as the API says it."""
    return SSHKey(
        id=key.id, title=key.title, algorithm=key.algorithm, fingerprint=key.fingerprint, key=key.key,
        added_at=key.added_at, used_at=key.used_at,
    )  # fmt: skip


def person(call: Call) -> str:
    """The caller, if it is a person: a service of the same name as somebody is not them.

    :raises NotAllowed: it is none.
    """
    if call.handler.me.kind != "user":
        raise NotAllowed("SSH is for people who are users of the hub.")
    return call.handler.me.name


def whose(call: Call) -> str:
    """Whose keys it is about: the caller's own, or those of whom an admin names.

    :raises NotAllowed: somebody else's.
    """
    query: OwnerQuery = call.query
    caller = call.handler.me
    if query.owner is None or (query.owner == caller.name and caller.kind == "user"):
        return person(call)
    if not caller.is_admin:
        raise NotAllowed("These are somebody else's SSH keys.")
    return query.owner


def check_herself(caller: Caller) -> None:
    """:raises NotAllowed: a program in a server asks, by the token of that server: a key would outlive it."""
    if caller.is_server:
        raise NotAllowed(
            "The token of a server may not change SSH keys: a key would outlive it.",
            hint="Do it on the page SSH, or with `mlmp ssh-key` on your own computer.",
        )


def check_enabled(site: Site) -> None:
    """:raises NotFound: there is no SSH here."""
    if not site.ssh.enabled:
        raise NotFound("SSH is switched off here.", hint="Work in JupyterLab: it has a terminal.")


_NOT_SIGNED = {404: "SSH is switched off here"}

TABLE: tuple[Route, ...] = (
    Route(
        "GET", "ssh", "ssh", "how to reach your servers by SSH", "book", facts, answer=SSHFacts,
    ),
    Route(
        "GET", "ssh-keys", "listSSHKeys", "your public SSH keys", "book", list_keys, query=OwnerQuery, answer=SSHKeys,
    ),
    Route(
        "POST", "ssh-keys", "addSSHKey", "register a public SSH key", "book", add_key, body=NewKey,
        answer=SSHKey, status=201, statuses={409: "it is registered already"},
        description="Not with the token of a server: a key would outlive it.",
    ),
    Route(
        "DELETE", "ssh-keys/{id}", "removeSSHKey", "remove an SSH key", "book", remove_key, query=OwnerQuery,
        status=204, description="Its open sessions end within seconds. Not with the token of a server.",
    ),
    Route(
        "POST", "ssh-certificates", "signSSHKey", "a user certificate for a key of yours, for ten minutes", "book",
        sign_user_key, body=KeyToSign, answer=Certificate, statuses=_NOT_SIGNED,
        description="For a registered key only, with your principal. For keys in hardware there is none.",
    ),
    Route(
        "POST", "ssh-host-certificates", "signSSHHostKey", "a host certificate for your servers, for thirty days",
        "book", sign_host_key, body=KeyToSign, answer=Certificate, statuses=_NOT_SIGNED,
        description="With your principal as the only host name.",
    ),
)  # fmt: skip
