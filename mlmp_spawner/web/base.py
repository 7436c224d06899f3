"""What every request goes through: who asks, may they, how fast; and what every answer carries.

Nothing a client sends may end in a traceback or a 500: each error becomes the problem document of
:mod:`mlmp_spawner.errors` (or, on a page, the same words in the hub's look).
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import re
import traceback
from dataclasses import replace
from functools import cached_property
from typing import Any

from jupyterhub.services.auth import HubOAuthCallbackHandler, HubOAuthenticated
from tornado.web import HTTPError, RequestHandler

from mlmp_spawner.errors import Invalid, MLMPError, NoAccess, NotFound, TooManyRequests, Unavailable
from mlmp_spawner.operations.courses import guests
from mlmp_spawner.operations.jobs.of_guests import none_allowed
from mlmp_spawner.operations.site import Site
from mlmp_spawner.web import guest_rights
from mlmp_spawner.web.auth import SCOPES, Caller, HubAuthentication, Right
from mlmp_spawner.web.context import Context
from mlmp_spawner.web.problems import HTTPProblem, Unauthenticated, as_error, printable
from mlmp_spawner.web.templating import PageUser, page_namespace

log = logging.getLogger("mlmp.web")

SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}
API_CSP = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
PAGE_CSP = (
    "default-src 'none'; script-src 'self'{hashes}; style-src 'self'; img-src 'self' data:; font-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'; object-src 'none'"
)
_INLINE_SCRIPT = re.compile(r"<script(?![^>]*\ssrc=)[^>]*>(.*?)</script>", re.DOTALL)


class Handler(HubOAuthenticated, RequestHandler):
    """Base of all handlers. ``right`` is what the caller's token must give; ``body_limit`` bytes are taken, or where
    it is None what the settings say."""

    right: Right = "access"
    csp = API_CSP
    body_limit: int | None = None
    often = False
    """Whether it is called all the time, so that each call is no news."""
    caller: Caller | None = None
    _xsrf_refused = False

    @property
    def context(self) -> Context:
        """The parts that handlers use."""
        context: Context = self.application.settings["mlmp"]
        return context

    @property
    def site(self) -> Site:
        """The site as it is now."""
        return self.context.site

    @property
    def now(self) -> int:
        """The time in ms UTC, the same during the whole request."""
        if not hasattr(self, "_now"):
            self._now = self.context.now()
        return self._now

    @property
    def hub_auth(self) -> HubAuthentication:
        """The hub's OAuth client."""
        return self.context.auth

    @property
    def me(self) -> Caller:
        """The caller, on routes that ask for a login."""
        if self.caller is None:
            raise Unauthenticated("Sign in first.")
        return self.caller

    def set_default_headers(self) -> None:
        """The headers of every answer, errors too."""
        self.clear_header("Server")
        for name, value in SECURITY_HEADERS.items():
            self.set_header(name, value)
        self.set_header("Content-Security-Policy", self.csp)

    async def prepare(self) -> None:
        """Method, login, rate, right, size: in this order."""
        self.current_user = None
        self.context.under_way.add(self)
        self.check_method()
        if self.right != "none":
            if not await self.sign_in():
                return
            self.context.throttle.take(f"{self.me.kind}:{self.me.name}")
            if self.me.is_guest and not self.for_guests():
                raise NoAccess("This is not for guests.")
            if self.me.is_guest and self.makes_jobs() and not self.me.runs_jobs:
                raise none_allowed()
            if not self.me.has(self.right):
                raise NoAccess(
                    f"Your login or token lacks the scope {SCOPES[self.right]}.",
                    hint="Ask the people who run this for it, or use a token that has it.",
                )
        limit = self.body_limit or self.context.settings.body_limit
        if len(self.request.body or b"") > limit:
            raise HTTPProblem(413, "Too large", f"The body is larger than {limit // 1024} KiB.")

    async def sign_in(self) -> bool:
        """Finds out who asks. False: an answer was sent already (a page sends people to the hub's login)."""
        model = await self.hub_auth.get_user(self, sync=False)
        if model is None:
            if self._xsrf_refused:
                raise HTTPProblem(
                    403,
                    "Not allowed",
                    "The request lacks the XSRF token of this page: send it as X-XSRFToken, or reload the page.",
                    code="xsrf",
                )
            return self.on_stranger()
        caller = Caller.from_model(model)
        if not self.hub_auth.check_scopes(self.hub_auth.access_scopes, model):
            raise NoAccess(
                "Your login or token does not let you in to MLMP.",
                hint="Ask the people who run this for access:services!service=mlmp.",
            )
        if caller.is_guest:
            groups = await self.context.run(guests.groups, self.site.engine, caller.name, caller.groups)
            hours = await self.context.run(guests.job_hours, self.site.engine, caller.name)
            caller = replace(caller, groups=groups, runs_jobs=hours is not None)
        self.current_user = model
        self.caller = caller
        return True

    def for_guests(self) -> bool:
        """Whether guests may come here."""
        return type(self).__name__ in guest_rights.HANDLERS | guest_rights.JOB_HANDLERS

    def makes_jobs(self) -> bool:
        """Whether that is only for guests whose course allows them jobs."""
        return type(self).__name__ in guest_rights.JOB_HANDLERS

    def on_stranger(self) -> bool:
        """What happens to somebody who is not signed in."""
        raise Unauthenticated("Sign in at the hub, or send a valid hub token.", hint="Authorization: Bearer TOKEN")

    def on_finish(self) -> None:
        """The answer is out."""
        self.context.under_way.discard(self)

    def on_connection_close(self) -> None:
        """Nobody waits for the answer any more."""
        self.context.under_way.discard(self)
        super().on_connection_close()

    def check_xsrf_cookie(self) -> None:
        """As the hub does it: cookie requests need the token of a page, token requests don't."""
        try:
            super().check_xsrf_cookie()
        except HTTPError:
            self._xsrf_refused = True
            raise

    def check_method(self) -> None:
        """Refuses methods that the address does not have.

        :raises HTTPProblem: 405, with ``Allow``.
        """
        allowed = self.methods()
        if self.request.method not in allowed:
            self._allow = ", ".join(sorted(allowed))
            raise HTTPProblem(405, "Method not allowed", f"This address knows {self._allow}.")

    def methods(self) -> set[str]:
        """The methods that this handler answers; by default, those that its class defines."""
        base = RequestHandler._unimplemented_method
        found = {m for m in self.SUPPORTED_METHODS if getattr(type(self), m.lower()) is not base}
        return found if "GET" in found else found - {"HEAD"}

    async def head(self, *args: str, **kwargs: str) -> None:
        """The same as GET; tornado leaves out the body."""
        result = self.get(*args, **kwargs)
        if result is not None:
            await result

    # -- errors ------------------------------------------------------------------------------------------------

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Answers with what went wrong, after tornado has logged it."""
        error = getattr(self, "_mlmp_error", None) or as_error(kwargs.get("exc_info", (None, None, None))[1])
        self.set_status(error.status)
        if error.status == 401:
            self.set_header("WWW-Authenticate", 'Bearer realm="MLMP"')
        if isinstance(error, TooManyRequests):
            self.set_header("Retry-After", str(error.data.get("retry_after", 1)))
        if error.status == 503:
            self.set_header("Retry-After", "2")
        if hasattr(self, "_allow"):
            self.set_header("Allow", self._allow)
        self.show_error(error)

    def show_error(self, error: MLMPError) -> None:
        """The error as the client reads it."""
        self.write_problem(error)

    def write_problem(self, error: MLMPError) -> None:
        """The error as a problem document."""
        self.set_header("Content-Type", "application/problem+json")
        self.finish(json.dumps(error.problem(), ensure_ascii=True))

    def log_exception(self, typ: Any, value: BaseException | None, tb: Any) -> None:
        """Logs what was unforeseen, under the number that the answer shows; refusals are part of the day."""
        self._mlmp_error = error = as_error(value)
        if error.status < 500:
            return
        if error is value:
            log.warning("%s %s: %s", self.request.method, shown_path(self), printable(error.detail))
            return
        trace = "".join(traceback.format_exception(typ, value, tb))
        lines = "\n  ".join(printable(line, 2000) for line in trace.splitlines())
        log.error("%s %s: %s\n  %s", self.request.method, shown_path(self), error.data.get("instance", ""), lines)


def shown_path(handler: RequestHandler) -> str:
    """The path for the log: no query (it may hold a token), nothing that breaks a line."""
    path = printable(handler.request.path, 200)
    return path.encode("ascii", "backslashreplace").decode()


def log_request(handler: RequestHandler) -> None:
    """One line for each request; tornado's ``log_function``."""
    caller = getattr(handler, "caller", None)
    who = json.dumps(caller.name) if caller else "-"
    status, method = handler.get_status(), handler.request.method or "?"
    took = handler.request.request_time()
    context: Context | None = handler.application.settings.get("mlmp")
    if context is not None:
        context.metrics.request(method, getattr(handler, "route_name", "page"), status, took)
    news = status >= 400 or (method != "GET" and not getattr(handler, "often", False))
    level = logging.WARNING if status >= 500 else logging.INFO if news else logging.DEBUG
    log.log(level, "%d %s %s %s %.1f ms", status, printable(method, 20), shown_path(handler), who, took * 1000)


class PageHandler(Handler):
    """Base of the pages: signs people in through the hub, renders templates in the hub's look.

    ``await self.render_page("home.html", **values)`` gives the template, besides ``values``, everything that the
    hub's ``page.html`` needs (:func:`mlmp_spawner.web.templating.page_namespace`) and ``mlmp_url(path)`` and
    ``mlmp_static(path)``. Forms post the field ``_xsrf`` with ``{{ xsrf_token }}``; scripts send it as
    ``X-XSRFToken``. No inline script or style: the policy refuses them.
    """

    csp = PAGE_CSP.format(hashes="")

    def on_stranger(self) -> bool:
        """Sends a browser to the hub's login; anything but a plain visit is refused."""
        if self.request.method not in ("GET", "HEAD"):
            raise Unauthenticated("You are signed out.", hint="Sign in and try again.")
        self.redirect(self.get_login_url())
        return False

    @cached_property
    def page_user(self) -> PageUser | None:
        """The caller as the hub's templates know a user."""
        return PageUser(self.caller.name, self.caller.groups, self.caller.is_admin) if self.caller else None

    @property
    def template_namespace(self) -> dict[str, Any]:
        """What every template gets."""
        token = self.xsrf_token
        return page_namespace(
            self.context,
            user=self.page_user,
            scopes=self.caller.scopes if self.caller else frozenset(),
            xsrf_token=token.decode("ascii") if isinstance(token, bytes) else token,
        )

    def render_template(self, name: str, **values: Any) -> str:
        """A template as text."""
        text: str = (
            self.application.settings["templates"].get_template(name).render(**{**self.template_namespace, **values})
        )
        return text

    def render_page(self, name: str, **values: Any) -> None:
        """Answers with a template. The one inline script of the hub's page is allowed by its hash."""
        html = self.render_template(name, **values)
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.set_header("Content-Security-Policy", page_policy(html))
        self.finish(html)

    def show_error(self, error: MLMPError) -> None:
        """An error as a page, for those who want one."""
        if "text/html" not in self.request.headers.get("Accept", ""):
            self.write_problem(error)
            return
        try:
            self.render_page("problem.html", problem=error.problem())
        except Exception:
            log.exception("the error page can't be shown")
            self.write_problem(error)


def page_policy(html: str) -> str:
    """The policy for a page: of all inline scripts only the first one runs, the hub's own, which comes before any
    content of ours."""
    found = _INLINE_SCRIPT.search(html)
    if not found:
        return PAGE_CSP.format(hashes="")
    # Browsers hash the text after line ends were normalised.
    text = found.group(1).replace("\r\n", "\n").replace("\r", "\n")
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return PAGE_CSP.format(hashes=f" 'sha256-{digest}'")


class LoginCallback(PageHandler, HubOAuthCallbackHandler):
    """The end of the hub's login."""

    right: Right = "none"

    async def prepare(self) -> None:
        """Who comes here a second time (the back button) is known already, and is sent on."""
        await super().prepare()
        self.current_user = await self.hub_auth.get_user(self, sync=False)

    async def get(self) -> None:
        """Trades the hub's code for a token.

        :raises Invalid: the hub does not know the code, or the login began before this service did.
        :raises Unavailable: the hub does not answer.
        """
        try:
            await HubOAuthCallbackHandler.get(self)
        except HTTPError as error:
            if error.status_code < 500:
                raise
            if not await self.context.hub.alive():
                raise Unavailable("The hub does not answer just now.", hint="Try again in a few seconds.") from error
            raise Invalid("The login could not be finished.", hint="Go back and sign in again.") from error


class Missing(PageHandler):
    """Every address that does not exist."""

    right: Right = "none"

    def methods(self) -> set[str]:
        """All of them: what does not exist is 404, not 405."""
        return {self.request.method or ""}

    async def prepare(self) -> None:
        """There is nothing here."""
        self.current_user = None
        raise NotFound("There is no such page or call.", hint=f"The API is described at {self.context.api_prefix}docs")
