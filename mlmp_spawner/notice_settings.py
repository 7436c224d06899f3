"""The settings of notices, part of ``c.MLMP``: mail, webhooks, how long to try and to keep."""

from __future__ import annotations

from email.utils import parseaddr
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from traitlets import Bool, Dict, Enum, Float, Integer, List, TraitError, Unicode, validate
from traitlets.config import Configurable

from mlmp_spawner.rules.notices import KINDS, SHAPES, mail_address


class NoticeSettings(Configurable):
    """What of ``c.MLMP`` is about notices."""

    public_url = Unicode(
        help="""The hub's address as people type it, such as ``https://hub.example.org/``: what mails, webhooks and
        calendars link to. Without it they have no links. `mlmp up` knows its own."""
    ).tag(config=True)
    zone = Unicode(
        help="""The time zone of the site by its IANA name, such as ``Europe/Zurich``: times in mails and webhooks are
        said in it. The machine's own, if empty. Pages say times in each person's zone."""
    ).tag(config=True)
    mail_server = Unicode(help="The SMTP server that notices are sent through. No mail is sent, if empty.").tag(
        config=True
    )
    mail_port = Integer(
        0, min=0, max=65535, help="Its port. 0: the usual one, 587 with starttls, 465 with ssl, 25 with none."
    ).tag(config=True)
    mail_security = Enum(
        ["starttls", "ssl", "none"],
        "starttls",
        help="""How the way to the mail server is encrypted; its certificate must be valid. ``none`` is for a server on
        the same machine.""",
    ).tag(config=True)
    mail_user = Unicode(help="The name to log in at the mail server with. No login, if empty.").tag(config=True)
    mail_password_file = Unicode(
        help="File with the password for it, readable by MLMP's own account only. It is read at each sending."
    ).tag(config=True)
    mail_from = Unicode(help="Whom mails are from, such as ``MLMP <mlmp@example.org>``. Needed with mail_server.").tag(
        config=True
    )
    mail_address = Unicode(
        help="""The address of a user, with ``{username}`` in it, such as ``{username}@example.org``; ``{username}``
        alone where names are addresses. If empty, only
        those get mail who gave an address themselves (mail_choose)."""
    ).tag(config=True)
    mail_choose = Bool(
        False,
        help="""Whether people may give a mail address of their own. It is not verified: among strangers leave it off,
        so that nobody has mail sent to somebody else.""",
    ).tag(config=True)
    webhooks = List(
        Dict(),
        help="""Webhooks of the site, for a team's channel: ``[{"url": "https://…", "kinds": ["maintenance"], "shape":
        "slack"}]``. ``kinds``: any of booked, starts_soon, ends_soon, promoted, moved, released, idle, maintenance.
        ``shape``: ``slack`` (also Mattermost's; the default) or ``teams``. They tell no titles, and owners only with
        show_owners.""",
    ).tag(config=True)
    webhook_hosts = Dict(
        help="""The hosts at which people may have webhooks of their own, and the shape that each takes:
        ``{"hooks.slack.com": "slack", "example.webhook.office.com": "teams"}``. A port other than the usual one is
        written ``host:port``. The service makes the request: name no host inside your own network that trusts it.
        None, if empty."""
    ).tag(config=True)
    notice_keep_trying = Float(
        172800, min=0, help="After how many seconds a mail or webhook that can't be sent is given up."
    ).tag(config=True)
    notice_keep = Integer(60, min=1, help="After how many days notices are deleted.").tag(config=True)

    @validate("public_url")
    def _check_url(self, proposal: Any) -> str:
        text = str(proposal["value"])
        if text and (urlsplit(text).scheme not in ("http", "https") or not urlsplit(text).hostname):
            raise TraitError(f"public_url: {text!r} is not an address; write it like https://hub.example.org/")
        return text

    @validate("zone")
    def _check_zone(self, proposal: Any) -> str:
        text = str(proposal["value"])
        try:
            if text:
                ZoneInfo(text)
        except (KeyError, ValueError, OSError):
            raise TraitError(f"zone: there is no zone {text!r}; write it like Europe/Zurich") from None
        return text

    @validate("mail_from")
    def _check_from(self, proposal: Any) -> str:
        return _address("mail_from", str(proposal["value"]), lambda text: parseaddr(text)[1])

    @validate("mail_address")
    def _check_address(self, proposal: Any) -> str:
        text = str(proposal["value"])
        if text and "{username}" not in text:
            raise TraitError(
                f"mail_address: {text!r} has no {{username}} in it; everybody would have the same address"
            )
        # Where names are addresses themselves, the template is the name alone.
        name = "ann" if "@" in text else "ann@example.org"
        return _address("mail_address", text, lambda text: text.replace("{username}", name))

    @validate("webhooks")
    def _check_webhooks(self, proposal: Any) -> list[dict[str, Any]]:
        for one in proposal["value"]:
            unknown = set(one) - {"url", "kinds", "shape"}
            if unknown:
                raise TraitError(
                    f"webhooks: {', '.join(map(repr, sorted(unknown)))} is unknown; valid: url, kinds, shape"
                )
            url = str(one.get("url", ""))
            if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname or len(url) > 500:
                raise TraitError(f"webhooks: {url[:60]!r} is not an address of at most 500 characters")
            wrong = [kind for kind in one.get("kinds", ()) if kind not in KINDS]
            if wrong or not one.get("kinds"):
                raise TraitError(f"webhooks: kinds {wrong} are unknown or none is given; valid: {', '.join(KINDS)}")
            if one.get("shape", "slack") not in SHAPES:
                raise TraitError(f"webhooks: shape {one['shape']!r} is unknown; valid: {', '.join(SHAPES)}")
        return list(proposal["value"])

    @validate("webhook_hosts")
    def _check_hosts(self, proposal: Any) -> dict[str, str]:
        for host, shape in proposal["value"].items():
            if not isinstance(host, str) or host != host.lower() or "/" in host or not host:
                raise TraitError(f"webhook_hosts: {host!r} is not a host in lower case, such as chat.example.org")
            if shape not in SHAPES:
                raise TraitError(f"webhook_hosts: shape {shape!r} is unknown; valid: {', '.join(SHAPES)}")
        return dict(proposal["value"])


def _address(name: str, text: str, bare: Any) -> str:
    try:
        if text:
            mail_address(bare(text))
            if not text.isprintable():
                raise ValueError("only printable characters in one line")
    except ValueError as error:
        raise TraitError(f"{name}: {text!r}: {error}") from None
    return text
