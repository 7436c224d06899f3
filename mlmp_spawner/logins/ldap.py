"""Logins with an LDAP directory, OpenLDAP or Active Directory."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import ldap3
from jupyterhub.user import User
from ldap3.core.exceptions import LDAPBindError, LDAPException
from ldap3.utils.conv import escape_filter_chars
from ldap3.utils.dn import parse_dn
from ldapauthenticator import LDAPAuthenticator
from ldapauthenticator.ldapauthenticator import TlsStrategy
from traitlets import Integer, Set, Unicode, default

from mlmp_spawner.errors import Unavailable
from mlmp_spawner.logins.patience import Patience
from mlmp_spawner.logins.watched import MLMPLogin

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Entry:
    """A person in the directory; ``name``: as the directory has it, whatever was typed to find them."""

    dn: str
    name: str
    groups: list[str]
    attributes: dict[str, Any]


class LDAPLogin(MLMPLogin, LDAPAuthenticator):
    """Log in with a directory. People are looked up by ``user_attribute`` below ``user_search_base``, with the account
    ``lookup_dn_search_user`` (anonymously without one); their password is tried with their own entry.

    The groups below ``group_search_base`` become the groups of the hub. ``search_filter`` narrows who exists at all.
    """

    group_search_base = Unicode(
        help="Below which entry the groups are, such as `ou=groups,dc=example,dc=org`; empty: people have no groups."
    ).tag(config=True)
    group_name_attribute = Unicode("cn", help="The attribute that holds the name of a group.").tag(config=True)
    allowed_groups = Set(Unicode(), help="Names of groups whose members are let in.").tag(config=True)
    admin_groups = Set(Unicode(), help="Names of groups whose members are admins of the hub.").tag(config=True)
    timeout = Integer(10, min=1, help="Seconds that the directory may take to connect, and for each answer.").tag(
        config=True
    )

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._patience = Patience("The directory")

    @default("manage_groups")
    def _default_manage_groups(self) -> bool:
        return True

    @default("lookup_dn")
    def _default_lookup_dn(self) -> bool:
        return True

    @default("lookup_dn_search_password")
    def _default_lookup_dn_search_password(self) -> str | None:
        return os.environ.get("LDAP_PASSWORD")  # a secret comes by the environment, on Kubernetes too

    @default("user_attribute")
    def _default_user_attribute(self) -> str:
        return "uid"

    @default("tls_kwargs")
    def _default_tls_kwargs(self) -> dict[str, Any]:
        return {"validate": ssl.CERT_REQUIRED}  # that of ldap3 takes any certificate

    async def authenticate(self, handler: Any, data: dict[str, str]) -> dict[str, Any] | None:
        """Looks the person up, tries the password with what was found, and reads the groups."""
        name, password = data["username"], data["password"]
        if not name or not password.strip():  # an empty password is an anonymous visit, which many directories allow
            return None
        entry = await self._within(lambda: self._find(name))
        if entry is None or not await self._within(lambda: self._opens(entry.dn, password)):
            self.log.warning("The directory refuses %r", name[:64])
            return None
        return self._model(self.normalize_username(entry.name), entry)

    async def ask(self, user: User, handler: Any = None) -> bool | dict[str, Any]:
        """Whether the directory still has the person, and in which groups."""
        entry = await self._within(lambda: self._find(user.name))
        return False if entry is None else self._model(self.normalize_username(entry.name), entry)

    def get_connection(self, userdn: str | None, password: str | None) -> ldap3.Connection | None:
        """As LDAPAuthenticator has it, with an end to waiting for a directory that says nothing.

        :returns: None where the directory refuses the account.
        """
        at_first = self.tls_strategy == TlsStrategy.on_connect
        after = self.tls_strategy == TlsStrategy.before_bind
        server = ldap3.Server(
            self.server_address, port=self.server_port, use_ssl=at_first, tls=ldap3.Tls(**self.tls_kwargs),
            connect_timeout=self.timeout,
        )  # fmt: skip
        bind = ldap3.AUTO_BIND_TLS_BEFORE_BIND if after else ldap3.AUTO_BIND_NO_TLS
        try:
            return ldap3.Connection(server, userdn, password, auto_bind=bind, receive_timeout=self.timeout)
        except LDAPBindError as error:
            self.log.debug("The directory refuses %s: %s", userdn, error)
            return None

    def _model(self, name: str, entry: Entry) -> dict[str, Any]:
        admin = name in self.admin_users or bool(self.admin_groups & set(entry.groups))
        said = True if admin else False if self.admin_groups else None  # None: not for the directory to say
        state = {"ldap_groups": entry.groups, "user_attributes": entry.attributes}
        return {"name": name, "admin": said, "auth_state": state} | (
            {"groups": entry.groups} if self.manage_groups else {}
        )

    async def check_allowed(self, username: str, auth_model: dict[str, Any] | None) -> bool:
        """Admins, and the members of ``allowed_groups``, besides whom JupyterHub's own settings name."""
        admin = bool(auth_model and auth_model.get("admin"))
        return admin or bool(await super().check_allowed(username, auth_model))

    async def _within(self, question: Callable[[], T]) -> T:
        try:
            return await self._patience.ask(question)
        except (LDAPException, OSError, LookupError) as error:  # ldap3 looks in vain for what a reply lacks
            self.log.warning("The directory does not answer: %r", error)  # addresses and names are for the log only
            raise Unavailable("The directory does not answer.") from error

    def _opens(self, dn: str, password: str) -> bool:
        connection = self.get_connection(dn, password)
        if connection:
            connection.unbind()
        return bool(connection)

    def _find(self, name: str) -> Entry | None:
        """The one entry of this name, None where there is none or several.

        :raises Unavailable: the directory does not let us look.
        """
        connection = self.get_connection(self.lookup_dn_search_user, self.lookup_dn_search_password)
        if not connection:
            self.log.error("The directory refuses the account %r that looks people up", self.lookup_dn_search_user)
            raise Unavailable("The directory refuses the account that looks people up.")
        try:
            wanted = f"({self.user_attribute}={escape_filter_chars(name)})"
            if self.search_filter:
                given = self.search_filter.format(userattr=self.user_attribute, username=escape_filter_chars(name))
                wanted = f"(&{wanted}{given})"
            attributes = [self.user_attribute, *self.auth_state_attributes]
            found = _search(connection, self.user_search_base, wanted, attributes)
            if len(found) != 1:
                return None
            own = self._own_name(found[0])
            if own is None or self.normalize_username(own) != self.normalize_username(name):
                self.log.warning("The directory has %r under another name: %r", name[:64], own)
                return None
            dn = found[0].entry_dn
            return Entry(dn, own, self._groups(connection, dn, own), dict(found[0].entry_attributes_as_dict))
        finally:
            connection.unbind()

    def _own_name(self, entry: ldap3.Entry) -> str | None:
        """The one name of an entry: of several, that which is in its DN. None: it can't be said which one counts.

        :raises Unavailable: names can't be read, so that nobody would have one.
        """
        names = [str(each) for each in entry[self.user_attribute].values] if self.user_attribute in entry else []
        if not names:
            raise Unavailable(f"The directory does not let the account read {self.user_attribute!r}.")
        in_dn = {value.casefold() for _, value, _ in parse_dn(entry.entry_dn)[:1]}
        chosen = names if len(names) == 1 else [each for each in names if each.casefold() in in_dn]
        return chosen[0] if len(chosen) == 1 else None

    def _groups(self, connection: ldap3.Connection, dn: str, name: str) -> list[str]:
        if not self.group_search_base:
            return []
        wanted = self.group_search_filter.format(userdn=escape_filter_chars(dn), uid=escape_filter_chars(name))
        found = _search(connection, self.group_search_base, wanted, [self.group_name_attribute])
        return sorted(
            {str(text) for each in found for text in each.entry_attributes_as_dict[self.group_name_attribute]}
        )


def _search(connection: ldap3.Connection, base: str, wanted: str, attributes: list[str]) -> list[Any]:
    """:raises Unavailable: the directory answers with an error; nothing found is an answer."""
    connection.search(base, wanted, attributes=attributes or [ldap3.NO_ATTRIBUTES])
    if connection.result["result"] not in (0, 32):  # success; no such object
        raise Unavailable(f"The directory could not look below {base}: {connection.result['description']}.")
    return list(connection.entries)
