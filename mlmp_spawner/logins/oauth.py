"""Logins by OAuth: OpenID Connect and GitHub. Groups come along at each login and at each later question."""

from __future__ import annotations

import json
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from jupyterhub.user import User
from oauthenticator.generic import GenericOAuthenticator
from oauthenticator.github import GitHubOAuthenticator
from oauthenticator.oauth2 import OAuthenticator
from tornado.httpclient import HTTPClientError, HTTPResponse
from traitlets import default

from mlmp_spawner.errors import Unavailable
from mlmp_spawner.logins.watched import MLMPLogin

NO = {400, 401, 403}
"""What a provider answers when it takes back what it gave. Any other failure is a failure of the question."""
NOT_ABOUT_THE_PERSON = {
    "invalid_client", "unauthorized_client", "temporarily_unavailable", "server_error",
    "incorrect_client_credentials",  # GitHub's word for the first
}  # fmt: skip
"""Values of ``error`` (RFC 6749) that say something of this hub or of the provider."""


@dataclass(slots=True)
class Heard:
    """What came back in the question under way."""

    silences: list[str] = field(default_factory=list)
    """What happened instead of answers."""
    no: bool | None = None
    """Whether the last answer was a no; None: nothing was asked."""


_heard: ContextVar[Heard] = ContextVar("heard")  # tasks get a copy of the context, which holds the same object


class OAuthLogin(MLMPLogin, OAuthenticator):
    """What both have in common."""

    @default("manage_groups")
    def _default_manage_groups(self) -> bool:
        return True

    @default("enable_auth_state")
    def _default_enable_auth_state(self) -> bool:
        return True  # what was learnt at the login is what is asked with later

    async def came_from_here(self, user: User) -> bool:
        """Somebody of whom nothing is kept never logged in by this, or lost all already."""
        return await super().came_from_here(user) and bool(await user.get_auth_state())

    async def ask(self, user: User, handler: Any = None) -> bool | dict[str, Any]:
        """Asks with the tokens of the last login, renewed where they have to be.

        :raises Unavailable: the provider does not answer, or not in a way that can be understood. OAuthenticator takes
            that for a no in some places.
        """
        heard = Heard()
        _heard.set(heard)
        said = await super().ask(user, handler)
        if not said and heard.no is False:
            raise Unavailable((heard.silences or ["What the provider answers can't be understood."])[-1])
        return said

    async def check_allowed(self, username: str, auth_model: dict[str, Any] | None) -> bool:
        """Whether what is said of somebody lets them in.

        :raises Unavailable: that could not be found out.
        """
        heard = Heard()
        _heard.set(heard)
        allowed = bool(await super().check_allowed(username, auth_model))
        if not allowed and heard.silences:
            raise Unavailable(heard.silences[-1])
        return allowed

    async def httpfetch(self, url: str, label: str = "fetching", **kwargs: Any) -> Any:
        """Asks the provider, and remembers what kind of answer that was."""
        heard = _heard.get(Heard())
        heard.no = False
        try:
            answer = await super().httpfetch(url, label, **kwargs)
        except HTTPClientError as error:
            heard.no = is_no(error.code, error.response)
            if not heard.no:
                heard.silences.append(f"{label}: {error}")
            raise
        except Exception as error:
            heard.silences.append(f"{label}: {error}")
            raise
        if isinstance(answer, HTTPResponse) and _says_nothing(answer):
            heard.silences.append(f"{label}: {answer.code}")
        if isinstance(answer, dict) and "error" in answer:  # GitHub's refusals come with 200
            heard.no = str(answer["error"]) not in NOT_ABOUT_THE_PERSON
            if not heard.no:
                heard.silences.append(f"{label}: {answer['error']}")
        return answer


def is_no(code: int, answer: HTTPResponse | None) -> bool:
    """Whether a failed request says that what was given to a person is not valid any more.

    A 400 or 403 that is no JSON is of somebody in between: a proxy, a firewall.
    """
    if code not in NO or answer is None or _says_nothing(answer):
        return False
    try:
        said = json.loads(answer.body or b"{}")
    except ValueError:
        return code == 401
    return not isinstance(said, dict) or str(said.get("error")) not in NOT_ABOUT_THE_PERSON


def _says_nothing(answer: HTTPResponse) -> bool:
    """Broken, or asked too often."""
    asked_too_often = "Retry-After" in answer.headers or answer.headers.get("X-RateLimit-Remaining") == "0"
    return answer.code >= 500 or answer.code == 429 or (answer.code in NO and asked_too_often)


class OIDCLogin(OAuthLogin, GenericOAuthenticator):
    """Log in with OpenID Connect. The claim ``groups`` becomes the groups of the hub."""

    @default("auth_state_groups_key")
    def _default_auth_state_groups_key(self) -> str:
        return "oauth_user.groups"


class GitHubLogin(OAuthLogin, GitHubOAuthenticator):
    """Log in with GitHub. The team ``students`` of ``our-lab`` becomes the group ``our-lab:students``."""

    @default("scope")
    def _default_scope(self) -> list[str]:
        return ["read:org"]

    @default("populate_teams_in_auth_state")
    def _default_populate_teams(self) -> bool:
        return True

    async def get_user_groups(self, auth_state: dict[str, Any]) -> set[str]:
        """Teams, with the organisation before them, unless the admin says otherwise."""
        if self.auth_state_groups_key:
            return set(await super().get_user_groups(auth_state))
        return {f"{team['organization']['login']}:{team['slug']}" for team in auth_state.get("teams") or ()}
