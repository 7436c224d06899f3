"""Templates: ours, over the hub's, with what the hub's ``page.html`` needs."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jupyterhub
from jinja2 import ChoiceLoader, Environment, FileSystemLoader, PrefixLoader
from jupyterhub._data import DATA_FILES_PATH

from mlmp_spawner.rules.guests import is_guest
from mlmp_spawner.web.context import Context

PACKAGE = Path(__file__).resolve().parent.parent
STATIC = PACKAGE / "web" / "static"


@dataclass(frozen=True)
class PageUser:
    """A user as the hub's templates know one."""

    name: str
    groups: frozenset[str] = field(default=frozenset())
    admin: bool = False

    @property
    def json_escaped_name(self) -> str:
        """The name for use between quotes in a script."""
        return json.dumps(self.name)[1:-1].replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")

    @property
    def is_guest(self) -> bool:
        """Whether they came by a code."""
        return is_guest(self.name)

    @property
    def escaped_name(self) -> str:
        """The name for use in an address."""
        return quote(self.name, safe="@~")


def make_templates(extra: tuple[str, ...] = ()) -> Environment:
    """The template environment: ``page.html`` and ``templates/page.html`` both name the hub's own."""
    hub_templates = str(Path(DATA_FILES_PATH) / "templates")
    ours = [str(PACKAGE / "web" / "templates"), str(PACKAGE / "spawners" / "templates")]
    loader = ChoiceLoader(
        [
            FileSystemLoader([*extra, *ours, hub_templates]),
            PrefixLoader({"templates": FileSystemLoader([hub_templates])}),
        ]
    )
    return Environment(loader=loader, autoescape=True, auto_reload=False)


@lru_cache(maxsize=256)
def _version(path: str) -> str:
    """A short hash of one of our static files, so that browsers keep it until it changes."""
    try:
        return hashlib.sha256((STATIC / path).read_bytes()).hexdigest()[:12]
    except OSError:
        return "0"


def page_namespace(
    context: Context, *, user: PageUser | None, scopes: frozenset[str], xsrf_token: str
) -> dict[str, Any]:
    """What the hub's ``page.html`` and our templates need."""

    def static_url(path: str, include_version: bool = True) -> str:
        version = f"?v={jupyterhub.__version__}" if include_version else ""
        return f"{context.hub_prefix}static/{path}{version}"

    def mlmp_static(path: str) -> str:
        return f"{context.prefix}static/{path}?v={_version(path)}"

    return {
        "base_url": context.hub_prefix,
        "prefix": context.base_url,
        "user": user,
        "login_url": f"{context.hub_prefix}login",
        "logout_url": f"{context.hub_prefix}logout",
        "static_url": static_url,
        "mlmp_static": mlmp_static,
        "mlmp_url": lambda path="": f"{context.prefix}{path}",
        "api_url": context.api_prefix,
        "version_hash": "",
        "services": [],
        "parsed_scopes": {scope.partition("!")[0] for scope in scopes},
        "expanded_scopes": scopes,
        "xsrf_token": xsrf_token,
        "xsrf": xsrf_token,
        "no_spawner_check": True,
        "zone": context.settings.zone,
    }
