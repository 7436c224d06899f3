"""The table of the API: every call there is, in one place.

The handlers, the checks, the OpenAPI document and the tests of who may do what all come from it.
"""

from __future__ import annotations

from typing import Any

from mlmp_spawner.web import calls, models, openapi, own
from mlmp_spawner.web.routes import Route, handlers
from mlmp_spawner.web.stream import StreamHandler

_IF_MATCH = {"If-Match": "the etag of the booking as you saw it; 412 if it changed meanwhile"}
_IF_NONE = {"If-None-Match": "the etag that you have; 304 if it is still that"}
_NOT_MODIFIED = {304: "not modified"}
_CONFLICT = {409: "it does not fit with what there is; `alternatives` can be posted as they are"}
_CHANGED = {412: "it was changed meanwhile"}

TABLE: tuple[Route, ...] = (
    Route("GET", "me", "me", "who you are, what you may, what you use of it", "access", calls.me, answer=models.Me),
    Route(
        "GET", "catalog", "catalog", "nodes, images and profiles that you may use", "access", calls.catalog,
        answer=models.Catalog, headers=_IF_NONE, statuses=_NOT_MODIFIED,
    ),
    Route(
        "GET", "availability", "availability", "free units over a window, node by node", "access",
        calls.availability, query=models.AvailabilityQuery, answer=models.Availability, headers=_IF_NONE,
        statuses=_NOT_MODIFIED,
    ),
    Route(
        "GET", "reservations", "listReservations", "bookings, by start", "access", calls.list_reservations,
        query=models.ReservationsQuery, answer=models.Reservations, headers=_IF_NONE, statuses=_NOT_MODIFIED,
    ),
    Route(
        "POST", "reservations", "book", "book", "book", calls.create_reservation, body=models.Booking,
        answer=models.Reservation, status=201, statuses={202: "it waits for a place", **_CONFLICT},
        headers={"Idempotency-Key": "your own name for this request: repeated within a day, nothing is booked twice"},
    ),
    Route(
        "GET", "reservations/{id}", "getReservation", "one booking", "access", calls.get_reservation,
        answer=models.Reservation, headers=_IF_NONE, statuses=_NOT_MODIFIED,
    ),
    Route(
        "PATCH", "reservations/{id}", "changeReservation", "move, resize or rename a booking", "book",
        calls.change_reservation, body=models.Change, answer=models.Reservation, headers=_IF_MATCH,
        statuses={**_CONFLICT, **_CHANGED},
    ),
    Route(
        "DELETE", "reservations/{id}", "giveBack", "cancel a booking, or release it once it has begun", "book",
        calls.delete_reservation, answer=models.Reservation, headers=_IF_MATCH,
        statuses={409: "it is over already", **_CHANGED},
    ),
    Route(
        "POST", "reservations/{id}/extend", "extend", "extend a booking", "book", calls.extend_reservation,
        body=models.Extension, answer=models.Reservation, statuses={409: "`longest_end` says how far it could go"},
    ),
    Route(
        "POST", "reservations/{id}/start", "startServer", "start the server of a booking", "book",
        calls.start_server, answer=models.Reservation, status=202, statuses={409: "not now"},
    ),
    Route(
        "POST", "reservations/{id}/stop", "stopServer", "stop the server of a booking; the booking stays", "book",
        calls.stop_server, answer=models.Reservation, status=202, statuses={409: "not now"},
    ),
    Route(
        "GET", "reservations/{id}/history", "history", "who did what when", "access", calls.reservation_history,
        answer=models.History, headers=_IF_NONE, statuses=_NOT_MODIFIED,
    ),
    Route(
        "GET", "stream", "stream", "what changes, as it changes (server-sent events)", "access", None,
        handler=StreamHandler, media_type="text/event-stream",
        description="Events `reservation` (as the API shows it, with `action`) and `availability` (`nodes` to look at "
        "again). With a cookie, send the XSRF token as the argument `_xsrf`.",
    ),
    Route(
        "GET", "health", "health", "whether the service can do its work", "none", own.health, answer=models.Health,
        statuses={503: "it can't"},
    ),
    Route("GET", "metrics", "metrics", "figures for Prometheus", "none", own.metrics, media_type="text/plain"),
    Route("GET", "openapi.json", "openapi", "this document", "none", own.openapi),
    Route("GET", "docs", "docs", "this document, for people", "none", own.docs, media_type="text/html"),
)  # fmt: skip


def document(prefix: str) -> dict[str, Any]:
    """The OpenAPI document of the table."""
    return openapi.document(TABLE, prefix)


def routes(prefix: str) -> list[tuple[Any, ...]]:
    """The table as tornado's routes."""
    return handlers(TABLE, prefix)
