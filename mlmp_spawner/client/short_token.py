"""A token for one connection to one server.

What is sent to a server, whatever runs in it can keep; one's own token may do far more than reach it, and for long.
"""

from __future__ import annotations

from urllib.parse import quote

import httpx

from mlmp_spawner import __version__
from mlmp_spawner.client.config import Access
from mlmp_spawner.client.problems import NotReachable

SECONDS = 60
"""How long it opens new connections; those that are open stay."""


def short_token(access: Access, user: str, server: str) -> str:
    """A token that opens this server alone. Where one's own may make no others, as a server's own, it is that one.

    :raises NotReachable: the hub does not answer.
    """
    asked = {"scopes": [f"access:servers!server={user}/{server}"], "expires_in": SECONDS, "note": "mlmp ssh"}
    headers = {"Authorization": f"token {access.token}", "User-Agent": f"mlmp/{__version__}"}
    transport = httpx.HTTPTransport(retries=2)
    try:
        with httpx.Client(transport=transport, headers=headers, timeout=20) as http:
            answer = http.post(f"{access.url}hub/api/users/{quote(user, safe='@~')}/tokens", json=asked)
            made = answer.json().get("token") if answer.status_code == 201 else None
    except (httpx.HTTPError, ValueError, AttributeError) as error:
        raise NotReachable(f"{access.url} does not answer ({type(error).__name__}).", hint="Try again.") from error
    if answer.status_code >= 500 or answer.status_code == 429:
        raise NotReachable(f"The hub at {access.url} is not running just now.", hint="Try again in a minute.")
    return made if isinstance(made, str) and made else access.token
