"""What MLMP writes on its pods, so that every enforcer can read it there and needs nothing else.

Labels select; what may hold any characters, or changes, is an annotation. Only the hub and the service may write them:
a user's pod has no token for the cluster's API.
"""

from __future__ import annotations

from collections.abc import Mapping

from mlmp_spawner.deadlines import Deadline
from mlmp_spawner.units import from_iso, to_iso

KIND = "mlmp.dev/kind"
"""Label: what the pod is for, :data:`SERVER`, :data:`PRELOAD`, :data:`HOME` or :data:`JOB`."""
SERVER = "server"
PRELOAD = "preload"
HOME = "home"
JOB = "job"
ATTEMPT = "mlmp.dev/attempt"
"""Label: the attempt of a job, by its id."""
RESERVATION = "mlmp.dev/reservation"
"""Label: the reservation under which the server was started (``Reservation.server_id``)."""
OWNER = "mlmp.dev/owner"
"""Annotation: the user's name, as the hub has it."""
SERVER_NAME = "mlmp.dev/server-name"
"""Annotation: the name of the server, "" for the default one."""
STOPS_AT = "mlmp.dev/stops-at"
"""Annotation: when the stop begins, ISO 8601 in UTC. Changes when the booking is extended."""
ENDS_AT = "mlmp.dev/ends-at"
"""Annotation: when nothing may be left, ISO 8601 in UTC. Changes when the booking is extended."""

ASKED_BY = "mlmp.dev/asked-by"
"""Annotation of a pod that pulls an image: who wanted it by hand."""
PROBLEM = "mlmp.dev/problem"
"""Annotation of a pod that pulls an image: why the pull fails."""


def deadline_annotations(deadline: Deadline) -> dict[str, str]:
    """The annotations that publish a deadline."""
    return {STOPS_AT: to_iso(deadline.stop_at), ENDS_AT: to_iso(deadline.end)}


def deadline_of(annotations: Mapping[str, str] | None) -> Deadline | None:
    """The deadline as published; None where there is none, or none that can be read."""
    try:
        known = annotations or {}
        return Deadline(stop_at=from_iso(known[STOPS_AT]), end=from_iso(known[ENDS_AT]))
    except (KeyError, ValueError):
        return None
