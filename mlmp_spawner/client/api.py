"""The service's REST API, typed.

::

    with Client(access) as client:
        booked = client.book(profile="gpu", duration="4h")
        client.start(booked.id)

A refusal raises the same error as on the server (:mod:`mlmp_spawner.errors`), with its ``detail`` and
``alternatives``. What may be repeated without harm is repeated while the server restarts or is busy.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urljoin, urlsplit

from mlmp_spawner.client.config import Access
from mlmp_spawner.client.models import Availability, Me, Profile, Reservation, Ssh
from mlmp_spawner.client.problems import NotReachable
from mlmp_spawner.client.transport import PATIENCE, Transport

if TYPE_CHECKING:
    from mlmp_spawner.client.classes import ClassApi
    from mlmp_spawner.client.courses import CourseApi
    from mlmp_spawner.client.guest_api import GuestApi
    from mlmp_spawner.client.job_api import JobApi
    from mlmp_spawner.client.scans import ScanApi

T = TypeVar("T")
PAGE = 100


class Client:
    """One hub, one token. Close it, or use it in ``with``. The parameters are those of :class:`.Transport`."""

    def __init__(
        self,
        access: Access,
        *,
        notice: Callable[[str], None] = lambda text: None,
        patience: float = PATIENCE,
        timeout: float = 30.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.access = access
        self._http = Transport(access, notice=notice, patience=patience, timeout=timeout, sleep=sleep)
        self._sleep = sleep

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    @cached_property
    def jobs(self) -> JobApi:
        """Training jobs."""
        from mlmp_spawner.client.job_api import JobApi

        return JobApi(self._http, self._parse, self._sleep)

    @cached_property
    def courses(self) -> CourseApi:
        """Courses."""
        from mlmp_spawner.client.courses import CourseApi

        return CourseApi(self._http, self._parse)

    @cached_property
    def classes(self) -> ClassApi:
        """Classes of courses."""
        from mlmp_spawner.client.classes import ClassApi

        return ClassApi(self._http, self._parse)

    @cached_property
    def guests(self) -> GuestApi:
        """Guests of courses."""
        from mlmp_spawner.client.guest_api import GuestApi

        return GuestApi(self._http, self._parse)

    @cached_property
    def scans(self) -> ScanApi:
        """Scans of parameters."""
        from mlmp_spawner.client.scans import ScanApi

        return ScanApi(self._http, self._parse, self._sleep)

    # -- what there is -----------------------------------------------------------------------------------------

    def me(self) -> Me:
        """Whose token this is.

        :raises NotSignedIn: nobody's. :raises NotReachable: no MLMP there.
        """
        return self._parse(Me.parse, self._http.json("GET", "me"))

    def profiles(self) -> list[Profile]:
        """What may be booked."""
        body = self._http.json("GET", "catalog")
        return self._parse(lambda found: [Profile.parse(item) for item in found["profiles"]], body)

    def node_names(self) -> list[str]:
        """The machines that may be booked."""
        body = self._http.json("GET", "catalog")
        return self._parse(lambda found: [str(node["name"]) for node in found["nodes"]], body)

    def image_names(self) -> dict[str, str]:
        """The images that a server may run, each with what is in it."""
        body = self._http.json("GET", "catalog")
        return self._parse(
            lambda found: {str(one["name"]): str(one.get("description") or "") for one in found["images"]}, body
        )

    def availability(self, profile: str, **query: str | int | None) -> Availability:
        """What is free for ``profile``: ``start``, ``end``, ``node``, ``units``, ``duration`` as the API has them."""
        body = self._http.json("GET", "availability", query={"profile": profile, **query})
        return self._parse(Availability.parse, body)

    def reservations(self, **query: str | int | None) -> Iterator[Reservation]:
        """Bookings by start, fetched page after page: ``start``, ``end``, ``owner``, ``state`` narrow them."""
        cursor: str | None = None
        while True:
            body = self._http.json("GET", "reservations", query={**query, "limit": PAGE, "cursor": cursor})
            yield from self._parse(lambda found: [Reservation.parse(item) for item in found["items"]], body)
            cursor = body.get("next_cursor")
            if not cursor:
                return

    def reservation(self, id: str) -> Reservation:
        """One booking. :raises NotFound: no such, or not for the caller to see."""
        return self._reservation("GET", _path(id))

    def history(self, id: str) -> list[dict[str, Any]]:
        """Who did what when, oldest first: ``at, actor, action, details``."""
        body = self._http.json("GET", f"{_path(id)}/history")
        return self._parse(lambda found: [dict(item) for item in found["items"]], body)

    def series(self, id: str) -> list[Reservation]:
        """The bookings of a series, by start; cancelled ones too."""
        body = self._http.json("GET", f"series/{quote(id, safe='').replace('.', '%2E')}")
        return self._parse(lambda found: [Reservation.parse(item) for item in found["items"]], body)

    def all_limits(self) -> list[dict[str, Any]]:
        """The limits that concern the caller; all of them for an admin."""
        return self._parse(lambda found: [dict(item) for item in found["items"]], self._http.json("GET", "limits"))

    def limits(self, subject: str) -> dict[str, Any]:
        """Limits of ``everybody``, ``group:NAME`` or ``user:NAME``: what is said, what holds, what is used."""
        return self._parse(dict, self._http.json("GET", _limits(subject)))

    def usage(self, **query: str | None) -> dict[str, Any]:
        """What was booked and used, as the API tells it: ``from``, ``to``, ``by``, ``zone``, ``resource``."""
        return self._parse(_usage, self._http.json("GET", "usage", query=query))

    def usage_csv(self, **query: str | None) -> str:
        """The same as a table."""
        return self._http.text("usage", query={**query, "format": "csv"}, media_type="text/csv")

    # -- changes -----------------------------------------------------------------------------------------------

    def book(self, **request: Any) -> Reservation:
        """Books; ``request`` as ``POST reservations`` takes it.

        :raises NoCapacity: with ``alternatives``. :raises OverLimit: with ``limits``.
        """
        body = {name: value for name, value in request.items() if value is not None}
        headers = {"Idempotency-Key": str(uuid.uuid4())}  # so that repeating it books once
        return self._reservation("POST", "reservations", body=body, headers=headers, repeatable=True)

    def extend(self, id: str, duration: str) -> Reservation:
        """Moves the end back by ``duration``. Not repeated when the answer is lost: it would add up."""
        return self._reservation("POST", f"{_path(id)}/extend", body={"duration": duration})

    def give_back(self, found: Reservation, *, which: str = "this") -> Reservation:
        """Cancels what has not begun, releases what has. :raises Changed: it is not as ``found`` any more.

        :param which: of a series: ``this`` booking, it and those ``following``, or ``all`` that have not begun;
            ``raw["cancelled"]`` then has the ids of all that were cancelled.
        """
        headers = {"If-Match": found.etag} if found.etag else None
        query = None if which == "this" else {"which": which}
        return self._reservation("DELETE", _path(found.id), headers=headers, query=query)

    def start(self, id: str) -> Reservation:
        """Starts the server of a booking; it can be used once ``server_state`` is ``running``."""
        return self._reservation("POST", f"{_path(id)}/start", repeatable=True)

    def stop(self, id: str) -> Reservation:
        """Stops the server of a booking and keeps the booking."""
        return self._reservation("POST", f"{_path(id)}/stop", repeatable=True)

    def nodes(self) -> list[dict[str, Any]]:
        """The state of every node: ``name, units, outage, planned``."""
        return self._parse(lambda found: [dict(item) for item in found["items"]], self._http.json("GET", "nodes"))

    def outages(self, node: str) -> dict[str, Any]:
        """When a node takes no bookings: ``items, etag``. :raises NotFound: it names the nodes that there are."""
        return self._parse(dict, self._http.json("GET", _outages(node)))

    def set_outages(self, node: str, body: dict[str, Any], *, etag: str | None = None) -> dict[str, Any]:
        """Sets them (admins), or only says whom it would hit. :raises Changed: they are not as ``etag`` says."""
        headers = {"If-Match": etag} if etag else None
        return self._parse(dict, self._http.json("PUT", _outages(node), body=body, headers=headers))

    def set_limits(self, subject: str, said: dict[str, Any], *, etag: str | None = None) -> dict[str, Any]:
        """Sets limits (admins). :raises Changed: they are not as ``etag`` says any more."""
        headers = {"If-Match": etag} if etag else None
        return self._parse(dict, self._http.json("PUT", _limits(subject), body=said, headers=headers))

    def reset_limits(self, subject: str) -> dict[str, Any]:
        """Back to the catalog's limits (admins)."""
        return self._parse(dict, self._http.json("DELETE", _limits(subject)))

    def images(self) -> dict[str, Any]:
        """Which image is on which node (who runs courses): ``items, nodes, seen_at, problem``."""
        return self._parse(dict, self._http.json("GET", "images"))

    def preload_image(self, name: str, nodes: list[str] | None = None) -> dict[str, Any]:
        """Has an image pulled to these nodes; None: to all that may run it. Answers as :meth:`images`."""
        return self._parse(dict, self._http.json("POST", _image(name), body={"nodes": nodes}, repeatable=True))

    def cancel_preload(self, name: str, node: str | None = None) -> dict[str, Any]:
        """Ends the pulls of an image on a node; None: on all."""
        query = None if node is None else {"node": node}
        return self._parse(dict, self._http.json("DELETE", _image(name), query=query, repeatable=True))

    def notices(self, **query: str | int | None) -> dict[str, Any]:
        """A page of what the caller was told, newest first: ``items, unread, zone, next_cursor``."""
        return self._parse(dict, self._http.json("GET", "me/notices", query=query))

    def read_notices(self, up_to: int, *, only: bool = False) -> int:
        """Marks as read all up to this id, or this one only; how many are left unread."""
        said = {"up_to": up_to, "only": True} if only else {"up_to": up_to}
        body = self._http.json("POST", "me/notices/read", body=said, repeatable=True)
        return self._parse(lambda found: int(found["unread"]), body)

    def preferences(self) -> dict[str, Any]:
        """What the caller is told, and how."""
        return self._parse(dict, self._http.json("GET", "me/preferences"))

    def make_calendar(self) -> dict[str, Any]:
        """Makes an address of the calendar feed: ``url, since``. The one that there was is dead."""
        return self._parse(dict, self._http.json("POST", "calendar-token"))

    def revoke_calendar(self) -> dict[str, Any]:
        """Ends the address of the calendar feed."""
        return self._parse(dict, self._http.json("DELETE", "calendar-token", repeatable=True))

    def ssh(self) -> Ssh:
        """How SSH reaches the caller's servers."""
        return self._parse(Ssh.parse, self._http.json("GET", "ssh"))

    def ssh_keys(self) -> list[dict[str, Any]]:
        """The caller's public keys: ``id, title, algorithm, fingerprint, key, added_at, used_at``."""
        return self._parse(lambda found: [dict(item) for item in found["items"]], self._http.json("GET", "ssh-keys"))

    def add_ssh_key(self, key: str, title: str = "") -> dict[str, Any]:
        """Registers a public key, as in a ``.pub`` file. :raises Conflict: it is there already, as ``id``."""
        return self._parse(dict, self._http.json("POST", "ssh-keys", body={"key": key, "title": title}))

    def remove_ssh_key(self, id: str) -> None:
        """Removes a public key. :raises NotFound: there is no such."""
        self._http.json("DELETE", f"ssh-keys/{quote(id, safe='').replace('.', '%2E')}")

    def ssh_certificate(self, public_key: str) -> str:
        """A certificate for a registered key, for minutes, in one line."""
        body = self._http.json("POST", "ssh-certificates", body={"public_key": public_key}, repeatable=True)
        return self._parse(lambda found: _line(found["certificate"]), body)

    def server_url(self, found: Reservation) -> str | None:
        """Where the server of a booking answers, whole; None while there is none.

        :raises NotReachable: the service names something that is not a web address.
        """
        if not found.url:
            return None
        url = urljoin(self.access.url, found.url)
        if urlsplit(url).scheme not in ("http", "https"):
            raise NotReachable("The address of the server is not a web address.")
        return url

    def _reservation(self, method: str, path: str, **options: Any) -> Reservation:
        return self._parse(Reservation.parse, self._http.json(method, path, **options))

    def _parse(self, parse: Callable[[Any], T], body: Any) -> T:
        try:
            return parse(body)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            hint = "Is this client older than the server? pip install --upgrade mlmp-spawner"
            raise NotReachable(f"The answer of {self.access.url} can't be understood.", hint=hint) from error


def _path(id: str) -> str:
    """The path of a booking; whatever was typed stays one component."""
    return f"reservations/{quote(id, safe='').replace('.', '%2E')}"


def _outages(node: str) -> str:
    return f"nodes/{quote(node, safe='').replace('.', '%2E')}/outages"


def _image(name: str) -> str:
    return f"images/{quote(name, safe='').replace('.', '%2E')}/preload"


def _limits(subject: str) -> str:
    return f"limits/{quote(subject, safe=':').replace('.', '%2E')}"


def _line(value: Any) -> str:
    """One line of text. :raises ValueError: it is not."""
    text = str(value).strip()
    if not text or not text.isprintable():
        raise ValueError("not one line")
    return text


def _usage(found: Any) -> dict[str, Any]:
    """Checked as far as it is used."""
    for row in [*found["items"], found["total"]]:
        for name in ("booked", "used", "idle", "not_started"):
            float(row[name])
    return dict(found)
