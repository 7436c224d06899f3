"""What of the service a guest may use: what has to do with their own servers, and none of what shows other people."""

from __future__ import annotations

CALLS = frozenset(
    {
        "GET me", "GET catalog", "GET availability", "GET me/notices", "POST me/notices/read",
        "GET reservations", "GET reservations/{id}", "DELETE reservations/{id}", "POST reservations/{id}/extend",
        "POST reservations/{id}/start", "POST reservations/{id}/stop", "GET courses", "GET courses/{name}",
        "GET me/courses", "GET courses/{name}/classes", "GET courses/{name}/classes/{id}",
    }
)  # fmt: skip
"""Of the API, besides what needs no login; names of others are left out of the answers."""
HANDLERS = frozenset(
    {"Home", "StartNow", "Bookings", "One", "Action", "Notices", "StreamHandler", "Courses", "OneCourse"}
)
"""The pages, and what else has a class of its own."""
