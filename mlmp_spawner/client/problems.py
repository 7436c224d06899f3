"""From an HTTP answer to the error it means: the same tree of errors as on the server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mlmp_spawner.errors import (
    Changed,
    ConfigurationError,
    Conflict,
    Invalid,
    MLMPError,
    NoAccess,
    NotAllowed,
    NotFound,
    TooManyRequests,
    Unavailable,
)


class NotSignedIn(MLMPError):
    """No token, one that is not valid any more, or one that does not let in to MLMP."""

    code, status, title = "not_signed_in", 401, "Not signed in"


class NotReachable(Unavailable):
    """Nothing answers at the address, or something that is not MLMP."""

    code, title = "not_reachable", "Not reachable"


_MEMBERS = {"type", "title", "status", "detail", "code", "hint"}
_BY_STATUS: dict[int, type[MLMPError]] = {
    400: Invalid,
    401: NotSignedIn,
    403: NotAllowed,
    404: NotFound,
    409: Conflict,
    412: Changed,
    429: TooManyRequests,
    503: Unavailable,
}


def error_from(status: int, body: Any) -> MLMPError:
    """The error that a problem document (RFC 9457) describes; codes that are newer than this client count by status.

    :param body: the decoded document; anything else gives the error of the bare status.
    """
    document = body if isinstance(body, dict) else {}
    code = str(document.get("code", ""))
    kind = _BY_CODE.get(code)
    if kind is None:
        kind = _BY_STATUS.get(status, Unavailable if status >= 500 else MLMPError)
    detail = str(document.get("detail") or document.get("title") or f"The server answers {status}.")
    hint = document.get("hint")
    data = {str(k): v for k, v in document.items() if k not in _MEMBERS}
    error = kind(detail, hint=str(hint) if hint else None, **data)
    # As the server said it, also where this client is older.
    error.status = status
    error.code = code or kind.code
    error.title = str(document.get("title") or kind.title)
    return error


def exit_status(error: MLMPError) -> int:
    """The exit status of the command line: 1 refused, 2 usage or configuration, 3 not reachable or not allowed in."""
    if isinstance(error, (Invalid, ConfigurationError)):
        return 2
    return 3 if isinstance(error, (NotSignedIn, NoAccess)) or error.status >= 500 else 1


def _tree(kind: type[MLMPError]) -> Iterator[type[MLMPError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _tree(child)


# Only errors that the client knows: where the server is loaded too, as on a hub, some of its own have the same codes.
_BY_CODE = {
    kind.code: kind
    for kind in _tree(MLMPError)
    if kind.__module__ in (MLMPError.__module__, __name__) and kind not in (MLMPError, ConfigurationError)
}
