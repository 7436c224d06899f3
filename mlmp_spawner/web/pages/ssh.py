"""SSH: how to connect, and which keys open one's servers."""

from __future__ import annotations

from typing import Any

from mlmp_spawner.errors import Invalid, MLMPError, Unavailable
from mlmp_spawner.operations import ssh_authority, ssh_keys
from mlmp_spawner.rules.ssh_names import host_of, principal_of
from mlmp_spawner.store.ssh_keys import Key
from mlmp_spawner.web.api.ssh import check_enabled, check_herself
from mlmp_spawner.web.auth import Right
from mlmp_spawner.web.pages.base import Page

LONGEST_TITLE = 200


class SSH(Page):
    """The caller's keys, and what to type."""

    right: Right = "book"
    here = "ssh"

    async def get(self) -> None:
        """Shows them."""
        await self.show()

    async def post(self) -> None:
        """Adds or removes a key."""
        check_herself(self.me)
        step = self.field("step")
        try:
            if step == "add":
                added = await self._add()
                self.go("ssh", added=added.id)
            elif step == "remove":
                # Not by a redirect: what undoes it is on this answer alone.
                await self.show(removed=await self._remove())
            else:
                raise Invalid.field("step", "valid: add, remove")
        except MLMPError as error:
            await self.refuse(error)

    async def _add(self) -> Key:
        title = self.field("title").strip()
        if len(title) > LONGEST_TITLE or not title.isprintable():
            raise Invalid.field("title", f"at most {LONGEST_TITLE} printable characters in one line")
        return await self.context.run(
            ssh_keys.add, self.site, self.person, self.field("key"), title, actor=self.me.actor(), now=self.now
        )

    async def _remove(self) -> Key:
        return await self.context.run(
            ssh_keys.remove, self.site, self.person, self.field("id"), actor=self.me.actor(), now=self.now
        )

    async def show(self, *, problem: MLMPError | None = None, removed: Key | None = None) -> None:
        """The page; ``removed``: the key that was just now, to be had again at a click."""
        check_enabled(self.site)
        keys = await self.context.run(ssh_keys.of_owner, self.site, self.person)
        added = self.get_query_argument("added", "")
        live = await self.live()
        running = [(one, host_of(one.booking.owner, one.booking.server)) for one in live["active"] if one.live]
        again = problem is not None and self.field("step") == "add"
        self.render_page(
            "ssh.html",
            keys=keys,
            added=next((key for key in keys if key.id == added), None),
            removed=removed,
            running=running,
            principal=principal_of(self.person),
            pasted={"title": self.field("title"), "key": _public(self.field("key"))} if again else {},
            hub_address=f"{self.request.protocol}://{self.request.host}{self.context.base_url}",
            problem=problem.problem() if problem else None,
            **await self._by_hand(running[0][1] if running else principal_of(self.person)),
            **live,
        )

    async def _by_hand(self, target: str) -> dict[str, Any]:
        """What OpenSSH needs to reach a host of the caller's by the gateway."""
        ssh, me = self.site.ssh, self.person
        if ssh.gateway is None:
            return {"gateway": None}
        try:
            authority = await self.context.run(ssh_authority.public_line, self.site)
        except Unavailable:
            return {"gateway": None}
        host, port = ssh.gateway
        name = principal_of(me)
        jump = f"{name}@{f'[{host}]' if ':' in host else host}{'' if port == 22 else f':{port}'}"
        # All servers of a person have one host key, whatever host stands for them.
        alias = "" if target == name else f"-o HostKeyAlias={name} "
        return {
            "gateway": jump,
            "known_hosts": f"@cert-authority {name},{host} {authority}",
            "jump": f"ssh -J {jump} {alias}{ssh.login_of(me)}@{target}",
        }


def _public(text: str) -> str:
    """What of a refused paste is shown again: nothing that may be a secret."""
    return "" if "PRIVATE" in text.upper() or "PUTTY" in text.upper() else text[:2000]
