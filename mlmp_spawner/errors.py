"""The errors of MLMP, as one tree.

Every error that a person may meet is an :class:`MLMPError`. It says what happened (``detail``), under a fixed
``code`` that programs may rely on, with the HTTP ``status`` that fits, a ``hint`` (what to do) and further ``data``
for the answer. The same object becomes the problem document of the API, the sentence on a page and the message of
the command line, so that a refusal reads the same everywhere.

::

    MLMPError
    +-- Invalid            400  the request makes no sense; ``errors`` lists each field
    +-- ConfigurationError      catalog or configuration is wrong; ``problems`` lists everything
    +-- NotAllowed         403  signed in, but without the right
    |   +-- NoAccess       403  the login or token does not reach this far; a scope is missing
    |   +-- OverLimit      403  a rule of sharing; ``limits`` carries the numbers
    +-- NotFound           404
    +-- Conflict           409
    |   +-- NoCapacity     409  nothing is free; ``alternatives`` can be posted as they are
    |   +-- TooLate        409  the stop has begun; ``latest_end`` where an earlier end is possible
    |   +-- NotNow         409  the booking is not in a state that allows this
    |   +-- JobsOff        409  no jobs run on this site
    +-- Changed            412  somebody changed it meanwhile
    +-- TooManyRequests    429
    +-- Unavailable        503  the hub or the database does not answer
        +-- NotTaken       503  it answers, and does not take just this
"""

from __future__ import annotations

from typing import Any


class MLMPError(Exception):
    """Base of all errors that people may see.

    :param detail: one sentence for people: what happened, which value, what is valid.
    :param hint: what to do next, or None.
    :param data: further members of the problem document (RFC 9457), JSON-ready.
    """

    code = "error"
    status = 500
    title = "Something went wrong"

    def __init__(self, detail: str, *, hint: str | None = None, **data: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.hint = hint
        self.data = data

    def problem(self) -> dict[str, Any]:
        """The error as an RFC 9457 problem document."""
        body: dict[str, Any] = {
            "type": f"urn:mlmp:problem:{self.code}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
        }
        if self.hint:
            body["hint"] = self.hint
        return body | self.data


class Invalid(MLMPError):
    """The request makes no sense as it is. ``errors``: ``[{"field", "message"}]``."""

    code, status, title = "invalid", 400, "Invalid request"

    @classmethod
    def field(cls, field: str, message: str, **data: Any) -> Invalid:
        """One wrong field."""
        return cls(f"{field}: {message}", errors=[{"field": field, "message": message}], **data)


class ConfigurationError(MLMPError):
    """Configuration or catalog is wrong. ``problems``: one line each, with file and line where there is one."""

    code, status, title = "configuration", 500, "Wrong configuration"

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class NotAllowed(MLMPError):
    """Signed in, but without the right to do this."""

    code, status, title = "not_allowed", 403, "Not allowed"


class NoAccess(NotAllowed):
    """The login or token does not reach this far: it lacks a scope."""

    code, title = "no_access", "No access"


class OverLimit(NotAllowed):
    """A rule of sharing refuses it. ``limits``: ``[{"limit", "allowed", "used", "asked", "unit"}]``."""

    code, title = "over_limit", "Over a limit"


class NotFound(MLMPError):
    """There is no such thing, or it is not for the caller to see."""

    code, status, title = "not_found", 404, "Not found"


class Conflict(MLMPError):
    """The state of things does not allow it."""

    code, status, title = "conflict", 409, "Conflict"


class NoCapacity(Conflict):
    """Nothing that fits is free then. ``alternatives``: ``[{"kind", "request"}]``, each ready to POST."""

    code, title = "no_capacity", "Nothing free then"


class TooLate(Conflict):
    """The stop has begun, or the booking is over."""

    code, title = "too_late", "Too late"


class NotNow(Conflict):
    """The booking is not in a state that allows this."""

    code, title = "not_now", "Not possible now"


class JobsOff(Conflict):
    """No jobs run on this site: they are switched off, or it has no place for them."""

    code, title = "jobs_off", "No jobs here"


class Changed(MLMPError):
    """Somebody changed it meanwhile (``If-Match`` names an older version)."""

    code, status, title = "changed", 412, "Changed meanwhile"


class TooManyRequests(MLMPError):
    """The caller asks faster than one person can."""

    code, status, title = "too_many_requests", 429, "Too many requests"


class Unavailable(MLMPError):
    """A part that is needed does not answer."""

    code, status, title = "unavailable", 503, "Not reachable just now"


class NotTaken(Unavailable):
    """A part that is needed answers, and does not take what it is told: something else may be taken."""
