"""From any exception to an error that people may see.

What is unforeseen shows no more than a number, under which the log has the rest.
"""

from __future__ import annotations

import secrets
from typing import Any

from pydantic import ValidationError
from tornado.web import HTTPError

from mlmp_spawner.errors import Invalid, MLMPError, Unavailable
from mlmp_spawner.store.transaction import Busy, Refused


class Unauthenticated(MLMPError):
    """No login and no valid token."""

    code, status, title = "not_signed_in", 401, "Not signed in"


class HTTPProblem(MLMPError):
    """A plain HTTP error (404, 405, 413 …) as a problem document."""

    def __init__(self, status: int, title: str, detail: str, *, code: str | None = None, **data: Any) -> None:
        super().__init__(detail, **data)
        self.status = status
        self.title = title
        self.code = code or title.lower().replace(" ", "_").replace("-", "_")


def as_error(error: BaseException | None) -> MLMPError:
    """Any exception as one that people may see. What is unforeseen shows no more than a number to look up."""
    if isinstance(error, MLMPError):
        return error
    if isinstance(error, ValidationError):
        return invalid_from(error)
    if isinstance(error, HTTPError) and error.status_code < 500:
        text = (error.log_message or "") % error.args if error.args else error.log_message or ""
        known = HTTP_WORDS.get(error.status_code, ("Bad request", "The request can't be understood."))
        return HTTPProblem(error.status_code, known[0], text if error.status_code == 403 and text else known[1])
    if isinstance(error, (Busy, Refused)):
        return Unavailable("The database is too busy just now.", hint="Nothing was changed; try again in a moment.")
    number = secrets.token_hex(6)
    return MLMPError(
        "Something went wrong on our side; the log has the details.",
        hint=f"Tell the people who run this that it is number {number}.",
        instance=f"urn:mlmp:error:{number}",
    )


HTTP_WORDS = {
    400: ("Bad request", "The request can't be understood."),
    403: ("Not allowed", "This is not allowed."),
    404: ("Not found", "There is no such page or call."),
    405: ("Method not allowed", "This address knows no such method."),
    413: ("Too large", "The request is too large."),
    415: ("Unsupported media type", "Send the body as application/json."),
}


def invalid_from(error: ValidationError) -> Invalid:
    """What pydantic found, one line for each field, without repeating what was sent."""
    found = [
        {
            "field": ".".join(str(part) for part in item["loc"]) or "body",
            "message": item["msg"].removeprefix("Value error, "),
        }
        for item in error.errors(include_url=False, include_context=False, include_input=False)
    ][:20]
    text = "; ".join(f"{item['field']}: {item['message']}" for item in found[:5])
    return Invalid(printable(text), errors=[{key: printable(value) for key, value in item.items()} for item in found])


def printable(text: str, longest: int = 500) -> str:
    """Text without anything that could break a line, a header or an encoding."""
    text = text if len(text) <= longest else text[:longest] + "…"
    clean = text.encode("utf-8", "replace").decode()
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in clean)
