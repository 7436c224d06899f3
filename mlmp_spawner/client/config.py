"""Where the hub is and the token for it: the environment, else a file that only the user can read."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from mlmp_spawner import private_files
from mlmp_spawner.client.problems import NotSignedIn
from mlmp_spawner.errors import ConfigurationError, Invalid

SERVICE = "services/mlmp/"
LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Access:
    """``url``: the hub's address, with a slash at its end. ``source``: where this was found, for people."""

    url: str
    token: str
    source: str = ""

    def __repr__(self) -> str:
        """Never with the token."""
        return f"Access({self.url!r}, source={self.source!r})"


def config_path() -> Path:
    """The file, which need not exist."""
    from platformdirs import user_config_path

    return user_config_path("mlmp") / "access.json"


def hub_url(text: str) -> str:
    """The hub's own address from any address of it that people copy from their browser.

    :raises Invalid: not an http(s) address.
    """
    text = text.strip()
    example = "write it as in your browser: https://hub.example.org/"
    try:
        parts = urlsplit(text if "://" in text else f"https://{text}")
        port = parts.port
    except ValueError as error:
        raise Invalid.field("URL", f"{text[:80]!r} is not an address ({error}); {example}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Invalid.field("URL", f"{text[:80]!r} is not an http(s) address; {example}")
    if parts.username is not None or parts.password is not None:
        raise Invalid.field("URL", f"an address with a name or a password in it is not taken; {example}")
    path = f"{parts.path}/"
    for inner in ("/hub/", "/user/", "/services/"):
        path = path.partition(inner)[0] + "/" if inner in path else path
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    netloc = host if port is None else f"{host}:{port}"
    return urlunsplit((parts.scheme, netloc, path.rstrip("/") + "/", "", ""))


def checked_token(token: str) -> str:
    """The token, if it can be one. :raises Invalid: it is empty, or has characters that no token has."""
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise Invalid.field("token", "this is no token of the hub: one word of letters and digits")
    return token


def in_the_clear(url: str) -> bool:
    """Whether a token to this address could be read on the way."""
    parts = urlsplit(url)
    return parts.scheme == "http" and parts.hostname not in LOOPBACK


def load(environ: Mapping[str, str] = os.environ, path: Path | None = None) -> Access:
    """The access to use: ``MLMP_URL`` and ``MLMP_TOKEN`` win over what ``mlmp login`` has kept.

    A kept token goes to no other hub than its own, whatever ``MLMP_URL`` says.

    :raises NotSignedIn: there is none. :raises ConfigurationError: the file can't be used.
    """
    url, token = environ.get("MLMP_URL", ""), environ.get("MLMP_TOKEN", "")
    if url and token:
        return Access(hub_url(url), checked_token(token), "MLMP_URL and MLMP_TOKEN")
    path = path or config_path()
    kept = _read(path)
    if url:
        if kept is None or kept.url != hub_url(url):
            raise NotSignedIn(f"There is no token for {hub_url(url)}.", hint=f"mlmp login {hub_url(url)}")
        return kept
    if kept is None:
        hint = "mlmp login URL, with the address of your hub"
        raise NotSignedIn("Nobody is signed in here.", hint=hint)
    return Access(kept.url, checked_token(token), f"MLMP_TOKEN and {path}") if token else kept


def save(access: Access, path: Path | None = None) -> Path:
    """Keeps it in the user's configuration directory: the directory for the user alone, the file with mode 0600."""
    path = path or config_path()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    private_files.write(path, json.dumps({"url": access.url, "token": access.token}).encode())
    return path


def forget(path: Path | None = None) -> bool:
    """Removes what :func:`save` has kept; whether there was anything."""
    path = path or config_path()
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    return True


def _read(path: Path) -> Access | None:
    again = f"remove it and sign in again: rm {path}"
    try:
        with path.open(encoding="utf-8") as file:
            if os.fstat(file.fileno()).st_mode & 0o077:
                raise ConfigurationError(
                    [f"{path} can be read by others, and holds your token; make it yours: chmod 600 {path}"]
                )
            body = json.load(file)
            return Access(hub_url(str(body["url"])), str(body["token"]), str(path))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, Invalid) as error:
        raise ConfigurationError([f"{path} can't be used ({type(error).__name__}); {again}"]) from None
