"""What the service says of itself: health, figures, description. Without login, so without anything personal."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress

from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError

from mlmp_spawner import __version__
from mlmp_spawner.errors import MLMPError
from mlmp_spawner.operations.node_states import figures as figures_of
from mlmp_spawner.store.transaction import Busy
from mlmp_spawner.web import metrics as figures
from mlmp_spawner.web import models
from mlmp_spawner.web.docs import DOCS_CSP, page
from mlmp_spawner.web.routes import Answer, Call, Route

PATIENCE = 3.0


async def health(call: Call) -> Answer:
    """Whether the database answers, the hub and the cluster did, and the clock ticks."""
    context = call.handler.context
    try:
        database = await asyncio.wait_for(asyncio.to_thread(_answers, context.site.engine), PATIENCE)
    except asyncio.TimeoutError:
        database = False
    state = context.state()
    late = state.clock_age is not None and state.clock_age > 60
    well = state.hub and state.cluster is not False and not late
    body = models.Health(
        status="down" if not database else "ok" if well else "degraded",
        database=database,
        hub=state.hub,
        cluster=state.cluster,
        clock_age=state.clock_age,
        version=__version__,
    )
    return Answer(body, status=200 if database else 503)


def _answers(engine: Engine) -> bool:
    try:
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))
    except SQLAlchemyError:
        return False
    return True


async def metrics(call: Call) -> Answer:
    """Figures for Prometheus."""
    context = call.handler.context
    with suppress(MLMPError, Busy, SQLAlchemyError):  # the others are worth having all the same
        waiting, away = await context.run(figures_of, context.site, now=call.handler.now)
        context.metrics.waiting.set(waiting)
        context.metrics.nodes_away.set(away)
    return Answer(None, text=context.metrics.text(), media_type=figures.CONTENT_TYPE)


async def openapi(call: Call) -> Answer:
    """The OpenAPI document."""
    return Answer(None, text=json.dumps(call.handler.application.settings["openapi"]).encode())


async def docs(call: Call) -> Answer:
    """The OpenAPI document as a page of its own: no scripts, nothing from elsewhere."""
    settings = call.handler.application.settings
    html = page(settings["templates"], settings["openapi"])
    headers = {"Content-Security-Policy": DOCS_CSP}
    return Answer(None, text=html.encode(), media_type="text/html; charset=utf-8", headers=headers)


TABLE: tuple[Route, ...] = (
    Route(
        "GET", "health", "health", "whether the service can do its work", "none", health, answer=models.Health,
        statuses={503: "it can't"},
    ),
    Route("GET", "metrics", "metrics", "figures for Prometheus", "none", metrics, media_type="text/plain"),
    Route("GET", "openapi.json", "openapi", "this document", "none", openapi),
    Route("GET", "docs", "docs", "this document, for people", "none", docs, media_type="text/html"),
)  # fmt: skip
