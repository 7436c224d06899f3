"""The real application over HTTP, in a thread of its own; only the hub is played by small subclasses of our seams."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

import httpx
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets

from mlmp_spawner.errors import MLMPError, NotFound
from mlmp_spawner.hub import HubClient, HubServer, HubUser
from mlmp_spawner.operations.courses.groups import GroupKeeper
from mlmp_spawner.operations.image_states import Look, Preloading
from mlmp_spawner.operations.site import Site
from mlmp_spawner.throttle import Throttle
from mlmp_spawner.web.app import HARD_BODY_LIMIT, make_app
from mlmp_spawner.web.auth import HubAuthentication
from mlmp_spawner.web.context import Context, WebSettings
from mlmp_spawner.web.feed import Feed
from mlmp_spawner.web.metrics import Metrics
from mlmp_spawner.web.pages import routes as pages

T = TypeVar("T")

PREFIX = "/services/mlmp/"
API = PREFIX + "api/v1/"
ACCESS = "access:services!service=mlmp"
GUEST = "guest-0000000000"


def user(name: str, *scopes: str, admin: bool = False, groups: tuple[str, ...] = ()) -> dict[str, Any]:
    """What ``/hub/api/user`` answers to a token of ``name`` with ``scopes``."""
    return {"kind": "user", "name": name, "admin": admin, "groups": list(groups), "scopes": list(scopes)}


TOKENS = {
    "ann-token": user("ann", ACCESS, "custom:mlmp:book"),
    "ben-token": user("ben", ACCESS, "custom:mlmp:book", groups=("lab",)),
    "eve-token": user("eve", ACCESS, "custom:mlmp:book"),
    "teacher-token": user("ben", ACCESS, "custom:mlmp:book", "custom:mlmp:courses"),
    "reader-token": user("ann", ACCESS),
    "outsider-token": user("eve", "custom:mlmp:book"),
    "admin-token": user("root", ACCESS, "custom:mlmp:book", "custom:mlmp:admin", admin=True),
    "hub-admin-token": user("root", "access:services", "admin-ui", admin=True),
    "narrow-admin-token": user("root", ACCESS, admin=True),
    "filtered-admin-token": user("root", ACCESS, "admin-ui!user=root", "custom:mlmp:admin!group=lab", admin=True),
    "server-token": user("ann", ACCESS, "custom:mlmp:book!server=ann/"),
    "foreign-token": user("eve", ACCESS, "custom:mlmp:book!user=ann"),
    "guest-token": user(GUEST, ACCESS, "custom:mlmp:book", groups=("course-ml",)),
    "service-token": {"kind": "service", "name": "robot", "scopes": ["access:services", "custom:mlmp:admin"]},
}


def until(condition: Callable[[], object], within: float = 30) -> None:
    """Returns when the condition holds."""
    end = time.monotonic() + within
    while not condition():
        assert time.monotonic() < end, "it did not come to be"
        time.sleep(0.02)


class KnownTokens(HubAuthentication):
    """Knows a few tokens by heart. ``down``: the hub does not answer; ``forgetful``: it has lost its database."""

    down = False
    forgetful = False

    async def ask_hub(self, token: str, use_cache: bool, session_id: str) -> dict[str, Any] | None:
        if self.down:
            raise OSError("no hub")
        known = TOKENS | {self.api_token: {"kind": "service", "name": "mlmp", "scopes": []}}
        return None if self.forgetful else known.get(token)


class ObedientHub(HubClient):
    """Does what it is told and remembers it; ``refusal`` is raised instead."""

    def __init__(self) -> None:
        super().__init__("http://127.0.0.1:1/hub/api", "none")
        self.asked: list[tuple[str, str, str]] = []
        self.refusal: MLMPError | None = None
        self.members: dict[str, frozenset[str]] = {"lab": frozenset({"ben"})}

    async def group_members(self) -> dict[str, frozenset[str]]:
        return self.members

    async def get_user(self, name: str) -> HubUser:
        if name not in {"ann", "ben", "eve", "root"}:
            raise NotFound(f"There is no user {name!r} on this hub.")
        return HubUser(name, frozenset(), {"": HubServer("", True, None, False)})

    async def groups(self) -> dict[str, frozenset[str]]:
        return {"ann": frozenset(), "ben": frozenset({"lab"}), "eve": frozenset(), "root": frozenset()}

    async def start_server(self, user: str, server: str, options: Any) -> bool:
        self.asked.append(("start", user, server))
        if self.refusal:
            raise self.refusal
        return False

    async def stop_server(self, user: str, server: str, *, remove: bool = False) -> bool:
        self.asked.append(("stop", user, server))
        return True


class PlayedImages(Preloading):
    """A cluster's images: each is asked for on the nodes that are named, and remembered. ``refusal`` is raised
    instead; ``last`` is what a test says it is."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, list[str] | None, str]] = []
        self.refusal: MLMPError | None = None
        self.seen = Look()

    @property
    def last(self) -> Look:
        return self.seen

    async def ask(self, image: str, nodes: Sequence[str] | None, *, asked_by: str) -> Look:
        return self._done("ask", image, nodes, asked_by)

    async def cancel(self, image: str, nodes: Sequence[str] | None, *, asked_by: str) -> Look:
        return self._done("cancel", image, nodes, asked_by)

    def _done(self, what: str, image: str, nodes: Sequence[str] | None, by: str) -> Look:
        if self.refusal:
            raise self.refusal
        self.asked.append((what, image, None if nodes is None else list(nodes), by))
        return self.seen


class RunningApp:
    """The application on a free port of an ``address``. ``now`` is its time; tests set it.

    Use as a context manager.
    """

    def __init__(
        self, site: Site, now: int, settings: WebSettings | None = None, *, address: str = "127.0.0.1"
    ) -> None:
        self.site, self.now, self.address = site, now, address
        self.settings = settings or WebSettings(rate=0, poll=0.05)
        self.hub = ObedientHub()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> RunningApp:
        self._thread.start()
        self.call(self._begin())
        return self

    def __exit__(self, *_: object) -> None:
        self.call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs a coroutine in the application's loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _begin(self) -> None:
        self.feed = Feed(lambda: self.site, poll=self.settings.poll, now=lambda: self.now)
        self.auth = KnownTokens(
            api_url="http://127.0.0.1:1/hub/api",
            api_token="own-token",
            base_url=PREFIX,
            hub_prefix="/hub/",
            oauth_client_id="service-mlmp",
            oauth_redirect_uri=PREFIX + "oauth_callback",
            access_scopes={"access:services", ACCESS},
        )
        self.context = Context(
            site=self.site,
            hub=self.hub,
            groups=GroupKeeper(lambda: self.site, self.hub),
            auth=self.auth,
            feed=self.feed,
            throttle=Throttle(self.settings.rate, self.settings.burst),
            metrics=Metrics(),
            settings=self.settings,
            now=lambda: self.now,
        )
        self.app = make_app(self.context, pages=pages.routes())
        self._server = HTTPServer(self.app, max_body_size=HARD_BODY_LIMIT)
        sockets = bind_sockets(0, self.address)
        self._server.add_sockets(sockets)
        self.url = f"http://{self.address}:{sockets[0].getsockname()[1]}"
        self._following = asyncio.create_task(self.feed.run())

    async def go_away(self) -> None:
        """Answers nobody any more."""
        self._server.stop()
        await self._server.close_all_connections()

    async def come_back(self) -> None:
        """After :meth:`go_away`, at the same address."""
        port = int(self.url.rpartition(":")[2])
        self._server = HTTPServer(self.app, max_body_size=HARD_BODY_LIMIT)
        self._server.add_sockets(bind_sockets(port, self.address))

    async def _end(self) -> None:
        self._server.stop()
        self.feed.end()
        self._following.cancel()
        await asyncio.gather(self._following, return_exceptions=True)
        await self._server.close_all_connections()
        await self.hub.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await self._loop.shutdown_default_executor()

    def client(self, token: str | None = "ann-token", **headers: str) -> httpx.Client:
        """An HTTP client with a token; addresses are relative to the API."""
        given = {"Authorization": f"Bearer {token}"} if token else {}
        # To read the authorities that nobody asks here takes longer than most tests.
        return httpx.Client(
            base_url=self.url + API, headers={**given, **headers}, timeout=20, trust_env=False, verify=False
        )
