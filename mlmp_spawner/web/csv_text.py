"""Tables as CSV that spreadsheets open without running anything that is in them."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from typing import Literal

MEDIA_TYPE = "text/csv"

_FORMULA = ("=", "+", "-", "@", "\N{FULLWIDTH EQUALS SIGN}", "\N{FULLWIDTH PLUS SIGN}",
            "\N{FULLWIDTH HYPHEN-MINUS}", "\N{FULLWIDTH COMMERCIAL AT}")  # fmt: skip


def csv_text(header: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    """Rows under a header (RFC 4180), texts always in quotes, in UTF-8 with the mark that spreadsheets know it by."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\r\n")
    writer.writerow(header)
    writer.writerows([harmless(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)
    return buffer.getvalue().encode("utf-8-sig")


def asked_for(accept: str) -> Literal["csv", "json"]:
    """``csv`` where the header ``Accept`` asks for it rather than for JSON."""
    weights = {MEDIA_TYPE: 0.0, "application/json": 0.0, "*/*": 0.0}
    for part in accept.lower().split(","):
        kind, *parameters = [piece.strip() for piece in part.split(";")]
        weight = next((p[2:] for p in parameters if p.startswith("q=")), "1")
        if kind in weights and re.fullmatch(r"[01](\.\d{0,3})?", weight):
            weights[kind] = float(weight)
    return "csv" if weights[MEDIA_TYPE] > max(weights["application/json"], weights["*/*"]) else "json"


def harmless(text: str) -> str:
    """A text that no spreadsheet takes for a formula: what could be one gets an apostrophe before it."""
    bare = text.lstrip()
    return f"'{text}" if bare.startswith(_FORMULA) or text.startswith(("\t", "\r", "\n")) else text
