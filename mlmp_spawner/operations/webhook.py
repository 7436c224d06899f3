"""Notices by webhook, in the shapes that chat servers take."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx

from mlmp_spawner import __version__
from mlmp_spawner.rules.notices import Shape

PATIENCE = 10.0
"""Seconds that the other side may take in all."""

MOST = 64 * 1024
"""Bytes of an answer that are read."""

_AHEAD = "\N{ZERO WIDTH SPACE}"


class WebhookRefused(Exception):
    """The other side answered, but not with yes. ``final``: trying again would change nothing."""

    def __init__(self, status: int) -> None:
        super().__init__(f"it answered {status}")
        self.final = 400 <= status < 500 and status not in (401, 403, 408, 425, 429)


def plain(text: str) -> str:
    """Text for Slack and Mattermost that mentions nobody and links nowhere, whoever wrote it."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    for sign in ("@", "[", "#", "://", "www.", "`"):
        text = text.replace(sign, sign[0] + _AHEAD + sign[1:])
    return text


def payload(shape: Shape, headline: str, text: str, link: str) -> dict[str, Any]:
    """What is posted: Slack's (also Mattermost's) shape, or an adaptive card for Teams."""
    if shape == "slack":
        return {"text": "\n".join([f"*{plain(headline)}*", plain(text), *([link] if link else [])])}
    # Runs of text, unlike blocks of text, read no Markdown.
    blocks = [{"type": "TextRun", "text": headline, "weight": "bolder"}], [{"type": "TextRun", "text": text}]
    card: dict[str, Any] = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.3",
        "body": [{"type": "RichTextBlock", "inlines": inlines} for inlines in blocks],
    }
    if link:
        card["actions"] = [{"type": "Action.OpenUrl", "title": "Open", "url": link}]
    content = "application/vnd.microsoft.card.adaptive"
    return {"type": "message", "attachments": [{"contentType": content, "contentUrl": None, "content": card}]}


def client() -> httpx.AsyncClient:
    """For all webhooks: follows nothing, keeps no cookies, asks no proxy of the environment."""
    return httpx.AsyncClient(
        timeout=PATIENCE,
        follow_redirects=False,
        trust_env=False,
        headers={"User-Agent": f"mlmp/{__version__}"},
        limits=httpx.Limits(max_connections=20, max_keepalive_connections=5),
    )


async def post(http: httpx.AsyncClient, url: str, body: dict[str, Any], *, patience: float = PATIENCE) -> None:
    """Posts one.

    :raises WebhookRefused: any answer but a 2xx. :raises httpx.HTTPError, asyncio.TimeoutError: none, or not in time.
    """
    await asyncio.wait_for(_post(http, url, body), patience)


async def _post(http: httpx.AsyncClient, url: str, body: dict[str, Any]) -> None:
    async with http.stream("POST", url, json=body) as answer:
        seen = 0
        async for part in answer.aiter_raw():
            seen += len(part)
            if seen > MOST:
                break
        if not answer.is_success:
            raise WebhookRefused(answer.status_code)
    http.cookies.clear()
