"""Requests and answers: what may be repeated is, politely; what comes back is JSON or an error of our tree."""

from __future__ import annotations

import random
import ssl
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any
from urllib.parse import urlsplit

import httpx

from mlmp_spawner import __version__
from mlmp_spawner.client.config import SERVICE, Access
from mlmp_spawner.client.problems import NotReachable, NotSignedIn, error_from
from mlmp_spawner.errors import MLMPError

API = SERVICE + "api/v1/"

PATIENCE = 20.0
"""Seconds for which a server that restarts or is busy is asked again."""

CONNECT_PATIENCE = 4.0
"""Seconds for which an address is tried again where nobody listens."""

LONGEST_WAIT = 10.0
"""Seconds up to which a ``Retry-After`` is honoured; beyond it the person is told instead."""

SILENCE = 60.0
"""Seconds after which a stream from which nothing comes, no sign of life either, is taken for lost."""

PIECE = 1 << 17
"""Bytes of a file that are sent at once."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a stream. ``name``: its kind; ``data``: its text."""

    name: str
    data: str


class Transport:
    """Speaks to one hub with one token.

    :param notice: is told, once for each request, that an answer is being waited for.
    :param patience: seconds, as :data:`PATIENCE`. :param timeout: seconds for one answer.
    """

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
        self._notice = notice
        self._patience = patience
        self._sleep = sleep
        self._http = httpx.Client(
            base_url=access.url + API,
            timeout=httpx.Timeout(timeout, connect=min(timeout, 10.0)),
            headers={
                "Authorization": f"Bearer {access.token}",
                "Accept": "application/json",
                "User-Agent": f"mlmp/{__version__}",
            },
            # To read the authorities takes as long as all else of a short command; without TLS nobody asks them.
            verify=not access.url.startswith("http:"),
        )

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def json(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str | int | None] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        repeatable: bool = False,
    ) -> Any:
        """The decoded answer; None for an empty one.

        :param repeatable: doing it twice is the same as doing it once (a GET always is).
        :raises MLMPError: what the server says. :raises NotReachable: nothing of use came back.
        """
        request = self._http.build_request(
            method,
            path,
            params={name: value for name, value in (query or {}).items() if value is not None},
            json=body,
            headers=dict(headers or {}),
        )
        return self._decode(self._send(request, repeatable or method == "GET"))

    def text(self, path: str, *, query: Mapping[str, str | int | None], media_type: str) -> str:
        """What a GET answers as text of that kind; raises as :meth:`json`."""
        params = {name: value for name, value in query.items() if value is not None}
        answer = self._send(self._http.build_request("GET", path, params=params, headers={"Accept": media_type}), True)
        if answer.is_success and answer.headers.get("content-type", "").startswith(media_type):
            return answer.content.decode("utf-8-sig", "replace")
        self._decode(answer)
        raise self._stranger(answer)

    def there(self, path: str) -> bool:
        """Whether there is such a thing (HEAD); raises as :meth:`json`."""
        answer = self._send(self._http.build_request("HEAD", path), True)
        if answer.status_code == 404:
            return False
        self._decode(answer)
        return True

    def upload(self, path: str, file: IO[bytes], size: int) -> Any:
        """Puts the ``size`` bytes of ``file`` there, once more from its beginning where that is lost; raises as
        :meth:`json`."""
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        request = self._http.build_request("PUT", path, content=_Content(file), headers=headers)
        return self._decode(self._send(request, True))

    def events(self, path: str, *, query: Mapping[str, str | int | None]) -> Iterator[Event]:
        """The events of a stream, as they come, until its other side ends it.

        :raises MLMPError: what the server says. :raises NotReachable: nothing of use came, or no more does.
        """
        request = self._http.build_request(
            "GET",
            path,
            params={name: value for name, value in query.items() if value is not None},
            headers={"Accept": "text/event-stream"},
            timeout=httpx.Timeout(SILENCE, connect=10.0),
        )
        try:
            answer = self._http.send(request, stream=True)
            try:
                if answer.headers.get("content-type", "").startswith("text/event-stream") and answer.is_success:
                    yield from _events(answer.iter_bytes())
                    return
                answer.read()
            finally:
                answer.close()
        except httpx.TransportError as error:
            raise self._lost(error, True) from error
        self._decode(answer)
        raise self._stranger(answer)

    def _send(self, request: httpx.Request, repeatable: bool) -> httpx.Response:
        waited = 0.0
        pause = 0.25
        while True:
            try:
                answer = self._http.send(request)
            except httpx.TransportError as error:
                unsent = isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout))
                allowed = min(self._patience, CONNECT_PATIENCE) if unsent else self._patience
                if waited + pause > allowed or _hopeless(error) or not (repeatable or unsent):
                    raise self._lost(error, unsent or request.method == "GET") from error
                wait = pause
            else:
                asked = _asked_to_wait(answer, repeatable, pause)
                if asked is None or waited + asked > self._patience:
                    return answer
                wait = asked
            if not waited:
                self._notice(f"waiting for {self.access.url} …")
            self._sleep(wait * (1 + random.random() / 4))  # noqa: S311 only spreads clients out
            waited += wait
            pause = min(pause * 2, 4.0)

    def _lost(self, error: httpx.TransportError, harmless: bool) -> NotReachable:
        reason = "it took too long" if isinstance(error, httpx.TimeoutException) else str(error) or "connection lost"
        if harmless:
            return NotReachable(f"{self.access.url} does not answer ({reason}).", hint="Is the address right?")
        return NotReachable(
            f"{self.access.url} did not answer ({reason}); whether it was done is not known.", hint="Look: mlmp ls"
        )

    def _decode(self, answer: httpx.Response) -> Any:
        if answer.is_success and not answer.content:
            return None
        body = _json(answer)
        if answer.is_success and body is not None:
            return body
        if answer.is_error and isinstance(body, dict) and "code" in body:
            raise self._with_hint(error_from(answer.status_code, body))
        raise self._stranger(answer)

    def _with_hint(self, error: MLMPError) -> MLMPError:
        if isinstance(error, NotSignedIn):
            error.hint = f"mlmp login {self.access.url}"
        return error

    def _stranger(self, answer: httpx.Response) -> MLMPError:
        """What did not come from MLMP: the hub's proxy, the hub, a login page before it, another site."""
        url = self.access.url
        if answer.status_code == 401:
            return self._with_hint(NotSignedIn(f"{url} does not take this token."))
        if answer.status_code in (502, 503, 504):
            return NotReachable(f"MLMP at {url} is not running just now.", hint="Try again in a minute.")
        if answer.is_redirect:
            target = urlsplit(answer.headers.get("location", "")).hostname or "another page"
            return NotReachable(f"{url} leads to {target} instead of MLMP.", hint="Is the address right?")
        return NotReachable(
            f"There is no MLMP at {url} (it answers {answer.status_code}).",
            hint="Give the address of the hub as in your browser.",
        )


class _Content:
    """A file as the body of a request, from its beginning as often as it is sent."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def __iter__(self) -> Iterator[bytes]:
        self._file.seek(0)
        while piece := self._file.read(PIECE):
            yield piece


def _events(pieces: Iterable[bytes]) -> Iterator[Event]:
    """Server-sent events, from bytes that end anywhere; one that is cut off at the end is dropped."""
    rest, name, data = b"", "message", list[str]()
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            field, _, value = line.rstrip(b"\r").decode("utf-8", "replace").partition(":")
            if field == "event":
                name = value.removeprefix(" ")
            elif field == "data":
                data.append(value.removeprefix(" "))
            elif not field and not value:
                if data:
                    yield Event(name, "\n".join(data))
                name, data = "message", []


def _asked_to_wait(answer: httpx.Response, repeatable: bool, pause: float) -> float | None:
    """Seconds after which to ask again; None: this is the answer.

    Our own 429 and 503 come before anything was done. Those of a proxy may come after.
    """
    refused = answer.status_code in (429, 503) and isinstance(_json(answer), dict)
    if not refused and not (repeatable and answer.status_code in (429, 502, 503, 504)):
        return None
    try:
        wait = max(float(answer.headers.get("retry-after", pause)), 0.05)
    except ValueError:  # a date: nobody here sends one
        wait = pause
    return wait if wait <= LONGEST_WAIT else None


def _json(answer: httpx.Response) -> Any:
    try:
        return answer.json()
    except (ValueError, RecursionError):
        return None


def _hopeless(error: BaseException | None) -> bool:
    """A certificate that does not fit, or an address of no known kind, will not be right in a second."""
    seen = error
    while seen is not None:
        if isinstance(seen, (ssl.SSLError, httpx.UnsupportedProtocol, httpx.LocalProtocolError)):
            return True
        seen = seen.__cause__ or seen.__context__
    return False
