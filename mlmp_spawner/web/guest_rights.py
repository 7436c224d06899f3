"""What of the service a guest may use: what has to do with their own servers, and none of what shows other people."""

from __future__ import annotations

CALLS = frozenset(
    {
        "GET me", "GET catalog", "GET availability", "GET me/notices", "POST me/notices/read",
        "GET reservations", "GET reservations/{id}", "DELETE reservations/{id}", "POST reservations/{id}/extend",
        "POST reservations/{id}/start", "POST reservations/{id}/stop", "GET courses", "GET courses/{name}",
        "GET me/courses", "GET courses/{name}/classes", "GET courses/{name}/classes/{id}",
        "GET jobs", "GET jobs/{id}", "DELETE jobs/{id}", "GET jobs/{id}/manifest", "GET jobs/{id}/logs",
        "GET jobs/{id}/metrics", "GET scans", "GET scans/{id}", "GET scans/{id}/results", "DELETE scans/{id}",
    }
)  # fmt: skip
"""Of the API, besides what needs no login; names of others are left out of the answers."""
JOB_CALLS = frozenset({"POST jobs", "POST jobs/{id}/resubmit", "POST scans", "POST scans/{id}/retry"})
"""Those that make jobs: for guests whose course allows them some."""
HANDLERS = frozenset(
    {
        "Home", "StartNow", "Bookings", "One", "Action", "Notices", "StreamHandler", "Courses", "OneCourse",
        "Jobs", "CompareJobs", "OneJob", "LogFile", "JobAction", "LogStream", "Scans", "OneScan", "ScanAction",
    }
)  # fmt: skip
"""The pages, and what else has a class of its own. The buttons of jobs ask the operations, which know what the course
allows."""
JOB_HANDLERS = frozenset({"CodeHandler"})
"""For guests whose course allows them jobs."""
