"""Logins with the users of this machine."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pamela
from jupyterhub.auth import Authenticator, PAMAuthenticator
from jupyterhub.user import User
from traitlets import default

from mlmp_spawner.errors import Unavailable
from mlmp_spawner.logins import accounts
from mlmp_spawner.logins.patience import PATIENCE, Patience
from mlmp_spawner.logins.watched import MLMPLogin

NO = {6, 10, 13}
"""PAM_PERM_DENIED, PAM_USER_UNKNOWN, PAM_ACCT_EXPIRED: what PAM says of an account that may not be used."""
NO_UNLESS_CLOSED = 7
"""PAM_AUTH_ERR: a no, or what all are told while the machine is closed."""
CLOSED = (Path("/etc/nologin"), Path("/run/nologin"))
NEW_PASSWORD = 12
"""PAM_NEW_AUTHTOK_REQD: the account may be used, once its password is changed."""


class PAMLogin(MLMPLogin, PAMAuthenticator):
    """Log in with the accounts of the machine. With ``manage_groups``, their groups become the groups of the hub."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._patience = Patience("The machine's list of accounts")

    @default("pam_normalize_username")
    def _default_pam_normalize_username(self) -> bool:
        return True

    async def authenticate(self, handler: Any, data: dict[str, str]) -> dict[str, Any] | None:
        """Checks the password, and reads the groups. Somebody with two names at the directory is one person here."""
        typed = await super().authenticate(handler, data)
        if typed is None:
            return None
        try:
            return await self._patience.ask(lambda: self._model(self._own_name(typed)))
        except KeyError:
            self.log.warning("PAM lets %r in, who has no account on this machine", typed[:64])
            return None

    async def ask(self, user: User, handler: Any = None) -> bool | dict[str, Any]:
        """Whether the account is there and may be used: it is not expired, and PAM's account check lets it in.

        :raises Unavailable: PAM, or what tells of accounts and groups, does not answer.
        """
        model = await self._patience.ask(lambda: self._told(user.name))
        if model is None:
            return False
        model["admin"] = await asyncio.wait_for(self.is_admin(handler, model), PATIENCE)
        return model

    async def check_allowed(self, username: str, authentication: dict[str, Any] | None = None) -> bool:
        """Whether groups or names let somebody in.

        :raises Unavailable: it can't be told; no group is there that lets anybody in, or nobody answers.
        """
        theirs = super().check_allowed
        allowed = await self._patience.ask(lambda: bool(theirs(username, authentication)))
        if not allowed and self.allowed_groups and not await self._patience.ask(self._any_group_is_there):
            raise Unavailable(f"No group of {', '.join(sorted(self.allowed_groups))} is on this machine.")
        return allowed

    def normalize_username(self, username: str) -> str:
        """The account's own name. A name that the configuration speaks of may have no account yet."""
        try:
            return super().normalize_username(username)
        except KeyError:
            return Authenticator.normalize_username(self, username)

    def _own_name(self, typed: str) -> str:
        found = accounts.account(typed)
        if not self.pam_normalize_username:
            return Authenticator.normalize_username(self, typed)
        own = accounts.account_of(found.pw_uid).pw_name
        return self.username_map.get(own, own)

    def _told(self, name: str) -> dict[str, Any] | None:
        """All that is said of an account; None: it is not there, or may not be used."""
        allowed = self._pam_allows(name)
        try:
            model = self._model(name)
        except KeyError:
            return None
        if self.manage_groups or self.allowed_groups:
            accounts.check_that_groups_are_told()
        return model if allowed else None

    def _any_group_is_there(self) -> bool:
        for name in self.allowed_groups:
            try:
                return bool(accounts.group(name))
            except KeyError:
                continue
        return False

    def _pam_allows(self, name: str) -> bool:
        """PAM is asked about missing accounts too: it may know that its source is away, where the system does not."""
        if not self.check_account:
            return True
        try:
            pamela.check_account(name, service=self.service, encoding=self.encoding)
        except pamela.PAMError as error:
            if error.errno in NO or (error.errno == NO_UNLESS_CLOSED and not any(path.exists() for path in CLOSED)):
                return False
            if error.errno != NEW_PASSWORD:
                raise Unavailable(str(error)) from error
        return True

    def _model(self, name: str) -> dict[str, Any]:
        """:raises KeyError: there is no such account."""
        if self.manage_groups:
            return {"name": name, "groups": accounts.groups_of(name)}
        return {"name": accounts.account(name) and name}

    # What JupyterHub asks with, for `allowed_groups` and `admin_groups`.
    _getpwnam = staticmethod(accounts.account)
    _getgrnam = staticmethod(accounts.group)
